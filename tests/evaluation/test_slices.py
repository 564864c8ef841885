from datetime import datetime, timezone

import numpy as np

from recsys.evaluation.ground import common_ground
from recsys.evaluation.slices import slices
from recsys.ranking.lists import Lists
from recsys.ranking.metrics import recall
from recsys.windows import Cut, holdout

AS_OF = datetime(2025, 3, 2, tzinfo=timezone.utc)
DAY = holdout(AS_OF, "1d")

# Item 0 is 10 days old at the cut, item 1 two days, item 2 an hour; user 9 made them so.
EVENTS = {
    1: [(30, 3), (5, 0), (4, 1)],
    2: [(40, 3), (39, 4), (5, 2)],
    3: [(40, 3), (39, 4), (38, 5), (5, 0)],
    9: [(24 * 11, 0), (24 * 3, 1), (25, 2)],
}


def lists_of(codes):
    codes = np.array(codes)
    return Lists(codes, np.zeros(codes.shape, dtype=np.float32), np.zeros(codes.shape, dtype=np.int8))


def test_by_hand(by_hand):
    histories, dictionary = by_hand(EVENTS, 6)
    ground = common_ground(histories, dictionary, DAY, histories.offsets[1:], exclude_seen=True)
    found = {part.name: part for part in slices(ground, dictionary, DAY)}
    assert {name: part.users.tolist() for name, part in found.items()} == {
        "all": [0, 1, 2],
        "1 event": [0],
        "2-4 events": [1, 2],
        "items younger than a day": [1],
        "items of 1 to 7 days": [0],
        "items of 7 days and more": [0, 2],
    }
    assert found["items of 7 days and more"].relevant.tolist() == [0, 0]
    lists = lists_of([[0, 5], [2, 0], [4, 3]])
    assert recall(found["all"].hits(lists), 2).tolist() == [0.5, 1.0, 0.0]
    assert recall(found["items of 7 days and more"].hits(lists), 2).tolist() == [1.0, 0.0]  # of user 1 item 0 alone counts
    assert recall(found["items of 1 to 7 days"].hits(lists), 2).tolist() == [0.0]


def test_items_have_no_age_in_data_with_an_order_only(by_hand):
    histories, dictionary = by_hand(EVENTS, 6)
    ground = common_ground(histories, dictionary, Cut(last=1), histories.offsets[1:], exclude_seen=True)
    assert not [part.name for part in slices(ground, dictionary, Cut(last=1)) if "items" in part.name]


def test_nobody_is_in_all_alone(by_hand):
    histories, dictionary = by_hand({1: [(40, 0)]}, 1)
    ground = common_ground(histories, dictionary, DAY, histories.offsets[1:], exclude_seen=True)
    assert [(part.name, len(part.users)) for part in slices(ground, dictionary, DAY)] == [("all", 0)]
