import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recsys.ranking.exclusions import flat, indexed, of_users

SEEN = np.array([0, 2, 2, 5]), np.array([4, 6, 1, 2, 3], dtype=np.int32)
BLOCKED = np.array([0, 0, 1, 2]), np.array([7, 9], dtype=np.int32)


def test_pairs_of_a_tile_by_hand():
    rows, items = of_users([SEEN, BLOCKED], np.array([2, 0]))
    assert sorted(zip(rows.tolist(), items.tolist(), strict=True)) == [(0, 1), (0, 2), (0, 3), (0, 9), (1, 4), (1, 6)]


def test_nothing_to_exclude():
    rows, items = of_users([], np.array([0, 1]))
    assert rows.shape == items.shape == (0,)


def test_items_without_an_index_drop_out():
    rows, items = indexed(np.array([0, 0, 1]), np.array([2, 0, 1]), np.array([5, -1, 3]))
    assert (rows.tolist(), items.tolist()) == ([0, 0], [3, 5])


@given(st.lists(st.integers(0, 4), min_size=1, max_size=8), st.data())
def test_flat_equals_slices(lengths, data):
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    users = np.array(data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=6)), dtype=np.int64)
    rows, positions = flat(offsets, users)
    expected = [(row, p) for row, user in enumerate(users) for p in range(offsets[user], offsets[user + 1])]
    assert list(zip(rows.tolist(), positions.tolist(), strict=True)) == expected
