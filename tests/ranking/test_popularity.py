from datetime import datetime, timezone

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.dictionary import Dictionary
from recsys.errors import ConfigError
from recsys.histories import Histories
from recsys.ranking.lists import make_lists
from recsys.ranking.popularity import Popularity
from recsys.schema import Column, Schema
from recsys.windows import Cut

HOUR = 3_600_000_000
NOON = datetime(2025, 3, 1, 12, tzinfo=timezone.utc)
NOON_US = int(NOON.timestamp()) * 10**6
SCHEMA = Schema((Column("country", "users", "categorical", "VARCHAR"),))


@pytest.fixture
def dictionary(tmp_path):
    """Six items, of which the last is not eligible, and two countries."""
    (tmp_path / "values").mkdir()
    pq.write_table(pa.table({"value": ["AT", "CH"]}), tmp_path / "values" / "country.parquet")
    eligible = np.array([True] * 5 + [False])
    return Dictionary(pa.array(range(6)), eligible, None, np.zeros(6, dtype=np.int64), SCHEMA, {}, {}, tmp_path)


def histories(is_target=None):
    """Four users by hours before noon. The first two are of country AT, the third of CH, the fourth of none."""
    events = [
        [(5, 2), (5, 2), (1, 1)],  # item 2 twice five hours ago, item 1 an hour ago
        [(2, 3), (1, 3), (0, 0)],  # item 0 at noon itself, after the cut
        [(4, 1), (1, 4)],
        [(3, 5), (1, 4)],
    ]
    flat = [event for user in events for event in user]
    return Histories(
        user_id=pa.array(range(4)),
        offsets=np.cumsum([0] + [len(user) for user in events]),
        item_code=np.array([item for _, item in flat], dtype=np.int32),
        event_at=np.array([NOON_US - hours * HOUR for hours, _ in flat]),
        session=None,
        is_target=is_target,
        weight=np.ones(len(flat), dtype=np.float32),
        schema=SCHEMA,
        user_columns={"country": np.array([0, 0, 1, -1], dtype=np.int32)},
    )


def test_ever_and_lately_by_hand(dictionary):
    counted = Popularity.count([histories()], dictionary, Cut(at=NOON), "2h")
    assert counted.ever.tolist() == [[0, 2, 2, 2, 2, 1]]
    assert counted.lately is not None and counted.lately.tolist() == [[0, 1, 0, 2, 2, 0]]  # from 10:00, inclusive


def test_shards_add_up(dictionary):
    whole, part = Popularity.count([histories()], dictionary, Cut(at=NOON), "2h", "country"), histories()
    both = Popularity.count([part, part], dictionary, Cut(at=NOON), "2h", "country")
    assert np.array_equal(both.ever, 2 * whole.ever)
    assert np.array_equal(both.lately, 2 * whole.lately)


def test_by_segment_and_everybody_in_the_last_row(dictionary):
    counted = Popularity.count([histories()], dictionary, Cut(at=NOON), None, "country")
    assert counted.ever.tolist() == [[0, 1, 2, 2, 0, 0], [0, 1, 0, 0, 1, 0], [0, 2, 2, 2, 2, 1]]
    assert counted.lately is None


def test_only_targets_count(dictionary):
    target = np.zeros(10, dtype=bool)
    target[[2, 9]] = True
    assert Popularity.count([histories(target)], dictionary, Cut(at=NOON)).ever.tolist() == [[0, 1, 0, 0, 1, 0]]


def test_an_order_only_counts_before_each_users_last(dictionary):
    assert Popularity.count([histories()], dictionary, Cut(last=1)).ever.tolist() == [[0, 1, 2, 2, 0, 1]]


@pytest.mark.parametrize(
    ("segment", "name", "expected"),
    [
        # everybody lately: 3 and 4 twice, 1 once; then ever, ties by code; 0 had no event; 5 is not eligible
        (None, "popular_lately", [[3, 4, 1, 2, 0]] * 4),
        (None, "popular", [[1, 2, 3, 4, 0]] * 4),
        # AT lately 3, 1, CH lately 4, then everybody lately, then ever
        ("country", "popular_lately", [[3, 1, 4, 2, 0], [3, 1, 4, 2, 0], [4, 3, 1, 2, 0], [3, 4, 1, 2, 0]]),
        ("country", "popular", [[2, 3, 1, 4, 0], [2, 3, 1, 4, 0], [1, 4, 2, 3, 0], [1, 2, 3, 4, 0]]),
    ],
)
def test_lists_by_hand(dictionary, segment, name, expected):
    own = histories()
    sources = Popularity.count([own], dictionary, Cut(at=NOON), "2h", segment).sources(own)[name]
    users = np.arange(4)
    assert make_lists(sources, users, 5, [], near=users).item_code.tolist() == expected


def test_what_is_excluded_moves_others_up(dictionary):
    own = histories()
    sources = Popularity.count([own], dictionary, Cut(at=NOON), "2h").sources(own)["popular_lately"]
    seen = np.array([0, 3, 3, 3, 8]), np.array([1, 3, 4, 0, 1, 2, 3, 4], dtype=np.int32)
    lists = make_lists(sources, np.arange(4), 2, [seen], near=np.zeros(4, dtype=np.int64))
    assert lists.item_code.tolist() == [[2, 0], [3, 4], [3, 4], [-1, -1]]
    assert [sources[n].name for n in lists.source[0]] == ["popular", "popular"]
    assert lists.score[1].tolist() == [2.0, 2.0]


def test_equals_a_full_sort_of_random_counts(dictionary):
    rng = np.random.default_rng(4)
    own = histories()
    counted = Popularity(rng.integers(0, 4, (3, 6)), rng.integers(0, 3, (3, 6)), dictionary.eligible, "country")
    for name, counts in (("popular", counted.ever), ("popular_lately", counted.lately)):
        source = counted.sources(own)[name][0]
        _, codes = source.rank(np.arange(4), 3, np.array([0, 2]), np.array([1, 4]))
        for user, row in enumerate([0, 0, 1, 2]):
            order = [
                i for i in np.argsort(-counts[row], kind="stable") if i < 5 and counts[row, i] > 0 and (user, i) not in {(0, 1), (2, 4)}
            ]
            assert codes[user].tolist() == (order[:3] + [-1] * 3)[:3]


def test_a_segment_has_to_be_a_category_of_the_users(dictionary):
    with pytest.raises(ConfigError, match="scoring.segment is 'city', which is no categorical column of the users. There are: country."):
        Popularity.count([histories()], dictionary, Cut(at=NOON), None, "city")
