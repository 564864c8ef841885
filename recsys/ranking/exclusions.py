"""Pairs that must not be recommended: what a user has seen and what is blocked. One path for models and baselines.

Pairs are kept as CSR, one row per user of a *sequences* artifact (`offsets` int64 (U + 1,), `item_code` int32), and become
flat (row, item) pairs for a tile of users, in the index of whatever is ranked.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import Codes, Ints

Pairs = tuple[Ints, Codes]  # offsets, item codes


def flat(offsets: Ints, users: NDArray[np.integer]) -> tuple[Ints, Ints]:
    """Rows 0 … len(users) − 1 and positions in the CSR's values of everything that belongs to `users`, in their order.

    >>> flat(np.array([0, 2, 2, 5]), np.array([2, 0]))
    (array([0, 0, 0, 1, 1]), array([2, 3, 4, 0, 1]))
    """
    lengths = offsets[users + 1] - offsets[users]
    rows = np.repeat(np.arange(len(users)), lengths)
    first = offsets[users] - (np.cumsum(lengths) - lengths)
    return rows, np.arange(len(rows)) + first[rows]


def of_users(pairs: Sequence[Pairs], users: NDArray[np.integer]) -> tuple[Ints, Ints]:
    """(row, item_code) of all `pairs` of a tile of users."""
    found = [(flat(offsets, users), codes) for offsets, codes in pairs]
    rows = [rows for (rows, _), _ in found]
    items = [codes[positions] for (_, positions), codes in found]
    return _joined(rows), _joined(items)


def indexed(rows: Ints, item_code: NDArray[np.integer], index: NDArray[np.integer]) -> tuple[Ints, Ints]:
    """The pairs in another numbering: `index` maps an item_code to it, −1 where it has none, and such pairs drop out."""
    items = index[item_code].astype(np.int64)
    return rows[items >= 0], items[items >= 0]


def by_row(rows: Ints, items: Ints) -> tuple[Ints, Ints]:
    """The pairs in ascending order of their rows, otherwise as they were."""
    if (rows[1:] >= rows[:-1]).all():
        return rows, items
    order = np.argsort(rows, kind="stable")
    return rows[order], items[order]


def _joined(arrays: Sequence[NDArray[np.integer]]) -> Ints:
    return np.concatenate([np.zeros(0, dtype=np.int64), *arrays]).astype(np.int64)
