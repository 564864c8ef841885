from datetime import datetime, timezone

import numpy as np
import pytest

from recsys.evaluation.baselines import try_windows
from recsys.windows import Cut, holdout

AS_OF = datetime(2025, 3, 2, tzinfo=timezone.utc)
DAY = holdout(AS_OF, "1d")
ASK = {"exclude_seen": True, "segment": None, "max_users": 1000, "seed": 1}

# The rehearsal holds out 48 to 24 hours before as_of. Before it, items 0 … 12 were popular long ago, item 20 of late.
EVENTS = {
    **{100 + user: [(150, item) for item in range(13)] for user in range(5)},
    200: [(50, 20)],
    201: [(50, 20)],
    1: [(60, 21), (30, 20)],
    2: [(60, 21), (40, 20)],
}


def test_the_window_is_chosen_on_the_day_before_the_holdout(by_hand):
    histories, dictionary = by_hand(EVENTS, 22)
    tried = try_windows(histories, dictionary, DAY, "1d", ("6h", "7d"), **ASK)
    assert [(row.window, row.chosen) for row in tried] == [("6h", True), ("7d", False)]
    assert tried[0].ndcg_at_10 == 1.0  # item 20 leads in the last six hours
    assert tried[1].ndcg_at_10 == 0.0  # over a week, thirteen items go before it


def test_what_happens_in_the_holdout_decides_nothing(by_hand):
    histories, dictionary = by_hand(EVENTS, 22)
    later = {**EVENTS, 1: [*EVENTS[1], *((h, 5) for h in range(20, 1, -1))], 300: [(h, 6) for h in range(23, 0, -1)]}
    also, longer = by_hand(later, 22)
    assert try_windows(histories, dictionary, DAY, "1d", ("6h", "7d"), **ASK) == try_windows(also, longer, DAY, "1d", ("6h", "7d"), **ASK)


def test_a_window_without_events_is_not_chosen(by_hand):
    histories, dictionary = by_hand(EVENTS, 22)
    tried = try_windows(histories, dictionary, DAY, "1d", ("1h", "7d"), **ASK)
    assert np.isnan(tried[0].ndcg_at_10) and [row.chosen for row in tried] == [False, True]


def test_without_anybody_to_rehearse_with_the_longest_is_chosen(by_hand):
    histories, dictionary = by_hand({1: [(30, 0), (5, 1)], 2: [(30, 1)]}, 2)
    tried = try_windows(histories, dictionary, DAY, "1d", ("6h", "7d", "1d"), **ASK)
    assert [row.chosen for row in tried] == [False, True, False]
    assert all(np.isnan(row.ndcg_at_10) for row in tried)


def test_data_with_an_order_only_has_no_window(by_hand):
    histories, dictionary = by_hand(EVENTS, 22)
    assert try_windows(histories, dictionary, Cut(last=1), "last-1", ("6h",), **ASK) == []


@pytest.mark.parametrize("windows", [("7d", "6h"), ("6h", "7d")])
def test_rows_are_in_the_order_asked_for(by_hand, windows):
    histories, dictionary = by_hand(EVENTS, 22)
    assert tuple(row.window for row in try_windows(histories, dictionary, DAY, "1d", windows, **ASK)) == windows
