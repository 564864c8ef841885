"""Lists of items for users, from a model and from what is popular: the one path of evaluation and of tonight's lists.

A source ranks items for a tile of users; where its lists are short, the next source continues them, with what is listed
already added to the exclusions. Everything here is in item codes of one *sequences* artifact; −1 means none.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.arrays import Ints
from recsys.ranking.exclusions import Pairs, of_users


class Source(Protocol):
    """Where lists come from."""

    @property
    def name(self) -> str: ...

    def rank(self, users: Ints, k: int, rows: Ints, item_code: Ints) -> tuple[NDArray[np.float32], Ints]:
        """Scores and item codes (B, k) of a tile of users, less the pairs (`rows` of the tile, `item_code`); −inf, −1 where short."""
        ...


@dataclass(frozen=True)
class Lists:
    """(U, K): `item_code` (−1: none), `score`, and `source`, the number of the source that each item comes from."""

    item_code: Ints
    score: NDArray[np.float32]
    source: NDArray[np.int8]


def make_lists(
    sources: Sequence[Source],
    users: Ints,
    k: int,
    excluded: Sequence[Pairs],
    near: Ints,
    users_per_tile: int = 1024,
    progress: Callable[[int], None] | None = None,
) -> Lists:
    """Lists of `users`, rows of the histories, without the `excluded` pairs: in the order of `users`, whatever the tiles.

    Tiles are made of users with `near` values (U,), such as the lengths of their histories, so that little is padded.
    `progress` hears how many users are done.
    """
    lists = Lists(
        np.full((len(users), k), -1), np.full((len(users), k), -np.inf, dtype=np.float32), np.full((len(users), k), -1, dtype=np.int8)
    )
    order = np.argsort(near, kind="stable")
    for start in range(0, len(users), users_per_tile):
        tile = order[start : start + users_per_tile]
        made = _filled(sources, users[tile], k, excluded)
        lists.item_code[tile], lists.score[tile], lists.source[tile] = made.item_code, made.score, made.source
        if progress:
            progress(len(tile))
    return lists


def as_table(user_id: pa.Array, lists: Lists, item_id: pa.Array, sources: Sequence[str]) -> pa.Table:
    """`user_id, rank, item_id, score, source` of the users (U,) in their order, best first: one row per listed item.

    `item_id` are the ids by item code, `sources` the names by the number that lists have of them.
    """
    row, place = np.nonzero(lists.item_code >= 0)
    columns = {
        "user_id": user_id.take(pa.array(row)),
        "rank": pa.array(place + 1, pa.int32()),
        "item_id": item_id.take(pa.array(lists.item_code[row, place])),
        "score": pa.array(lists.score[row, place], pa.float32()),
        "source": pa.array(sources, pa.string()).take(pa.array(lists.source[row, place])),
    }
    return pa.table(columns)


def _filled(sources: Sequence[Source], users: Ints, k: int, excluded: Sequence[Pairs]) -> Lists:
    """The lists of a tile: each source continues those that are still short."""
    codes = np.full((len(users), k), -1)
    scores = np.full((len(users), k), -np.inf, dtype=np.float32)
    made_by = np.full((len(users), k), -1, dtype=np.int8)
    for number, source in enumerate(sources):
        short = np.flatnonzero(codes[:, -1] < 0)
        if not len(short):
            break
        rows, items = of_users(excluded, users[short])
        listed, place = np.nonzero(codes[short] >= 0)
        found_scores, found = source.rank(users[short], k, np.append(rows, listed), np.append(items, codes[short][listed, place]))
        joined = np.concatenate([codes[short], found], axis=1)
        first = np.argsort(joined < 0, axis=1, kind="stable")[:, :k]
        codes[short] = np.take_along_axis(joined, first, axis=1)
        scores[short] = np.take_along_axis(np.concatenate([scores[short], found_scores], axis=1), first, axis=1)
        numbers = np.where(found >= 0, number, -1).astype(np.int8)
        made_by[short] = np.take_along_axis(np.concatenate([made_by[short], numbers], axis=1), first, axis=1)
    return Lists(codes, scores, made_by)


def counting(n_users: int, progress: Callable[[float], None] | None) -> Callable[[int], None]:
    """What `make_lists` tells of its progress, as the share of all users for somebody who watches.

    >>> tell = counting(8, print)
    >>> tell(2), tell(4)
    0.25
    0.75
    (None, None)
    """
    done = 0

    def advance(n: int) -> None:
        nonlocal done
        done += n
        if progress and n_users:
            progress(done / n_users)

    return advance
