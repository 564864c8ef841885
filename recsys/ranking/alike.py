"""Users who are alike: what is read of them is the same, and so is what is kept from them. One list serves them all."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import Ints

FEW = 8  # users with more of anything are hardly ever alike, and not compared


def alike(n_users: int, parts: Sequence[tuple[Ints, NDArray[np.integer]]]) -> tuple[Ints, Ints]:
    """The first user of each kind, ascending, and the kind of every user (n_users,).

    Each part says whose (ascending) and what: users of one kind have the same in every part, in the same order.

    >>> alike(4, [(np.array([0, 1, 1, 2, 3]), np.array([7, 7, 8, 7, 8]))])
    (array([0, 1, 3]), array([0, 1, 0, 2]))
    """
    n_own = np.stack([np.bincount(rows, minlength=n_users) for rows, _ in parts])
    row = np.flatnonzero((n_own <= FEW).all(axis=0))
    columns = [n[:, None] for n in n_own]
    for n, (rows, values) in zip(n_own, parts, strict=True):
        place = np.arange(len(rows)) - np.repeat(np.cumsum(n) - n, n)
        own = np.zeros((n_users, FEW), dtype=np.int64)
        own[rows[place < FEW], place[place < FEW]] = values[place < FEW]
        columns.append(own)
    everything = np.hstack(columns)[row]
    as_bytes = everything.view(f"V{everything.itemsize * everything.shape[1]}")[:, 0]
    _, first, kind = np.unique(as_bytes, return_index=True, return_inverse=True)
    representative = np.arange(n_users)
    representative[row] = row[first[kind]]
    return np.unique(representative, return_inverse=True)
