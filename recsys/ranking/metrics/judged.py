"""Lists beside what was relevant to their users and what was known of the items: what a metric sees."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import Array, Floats, Ints
from recsys.dictionary import Dictionary
from recsys.histories import Histories
from recsys.ranking.exclusions import flat

Marks = NDArray[np.bool_]


@dataclass(frozen=True)
class Past:
    """What was known of the items (V,), by item code, before the lists were made."""

    n_events: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))  # by anybody
    n_users: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))  # who had an event with the item
    n_all_users: int = 0  # who had an event at all
    eligible: Marks = field(default_factory=lambda: np.zeros(0, dtype=bool))  # what may be listed: the catalogue
    columns: Mapping[str, Array] = field(default_factory=dict)  # of the items: codes of categories, or lists of them

    @classmethod
    def of(cls, histories: Histories, ends: Ints, dictionary: Dictionary) -> "Past":
        """Counted over the events of the histories before the ends (U,), of the types that are targets, as popularity is."""
        counted = histories.before(ends) & histories.targets
        user = np.repeat(np.arange(histories.n_users), np.diff(histories.offsets))[counted]
        categories = dictionary.schema.names("categorical", "multi_categorical", table="items")
        columns = {name: dictionary.columns[name] for name in categories}
        return cls.counted(user, histories.item_code[counted], dictionary.eligible, columns)

    @classmethod
    def counted(cls, user: Ints, item_code: NDArray[np.integer], eligible: Marks, columns: Mapping[str, Array] | None = None) -> "Past":
        """Counted from the `user` and the item of each event (n,)."""
        n_items = len(eligible)
        pairs, _ = np.unique(user * n_items + item_code, return_counts=True)  # which sorts: hashing is slow where most are different
        return cls(
            n_events=np.bincount(item_code, minlength=n_items),
            n_users=np.bincount(pairs % n_items, minlength=n_items),
            n_all_users=int(np.count_nonzero(np.bincount(user))),
            eligible=eligible,
            columns=columns or {},
        )

    @property
    def n_items(self) -> int:
        """Size of the catalogue."""
        return int(self.eligible.sum())


@dataclass(frozen=True)
class Judged:
    """Lists of users, each place with the relevant item that it holds.

    The relevant items of user u are `relevant[offsets[u]:offsets[u + 1]]`, ascending. `others` are lists by the name of who
    made them, None of somebody who made none this time; user u's is in row `rows[u]`.
    """

    items: Ints  # (U, K) item codes, best first, −1 where a list is short
    found: Ints  # (U, K) where in `relevant` the item stands, −1 where it is not relevant
    offsets: Ints  # (U + 1,)
    relevant: Ints  # (R,)
    past: Past
    others: Mapping[str, Ints | None]
    rows: Ints  # (U,)

    @cached_property
    def hit(self) -> Marks:
        """Which places (U, K) hold a relevant item."""
        return self.found >= 0

    @cached_property
    def listed(self) -> Marks:
        """Which places (U, K) hold an item at all."""
        return self.items >= 0

    @cached_property
    def n_relevant(self) -> Ints:
        """Relevant items of each user (U,)."""
        return np.diff(self.offsets)

    def n_hits(self, k: int) -> Ints:
        """Relevant items (U,) among the first k."""
        return np.count_nonzero(self.hit[:, :k], axis=1)

    def n_listed(self, k: int) -> Ints:
        """Items (U,) among the first k places."""
        return np.count_nonzero(self.listed[:, :k], axis=1)

    def mean_of_listed(self, values: Floats, k: int) -> Floats:
        """Mean (U,) of a value of each place (U, k or more) over those of the first k that hold an item; NaN of an empty list."""
        n_listed = self.n_listed(k)
        total = np.where(self.listed[:, :k], values[:, :k], 0.0).sum(axis=1)
        return np.divide(total, n_listed, out=np.full(len(total), np.nan), where=n_listed > 0)

    def part(self, users: Ints, counted: Marks) -> "Judged":
        """Some users, by row, and of the relevant items only those that are `counted` (R,)."""
        rows, positions = flat(self.offsets, users)
        kept = counted[positions]
        place = np.full(len(self.relevant) + 1, -1)  # the last is that of no position
        place[positions[kept]] = np.arange(kept.sum())
        return replace(
            self,
            items=self.items[users],
            found=place[self.found[users]],
            offsets=np.concatenate([[0], np.cumsum(np.bincount(rows[kept], minlength=len(users)))]),
            relevant=self.relevant[positions[kept]],
            rows=self.rows[users],
        )


def judge(lists: Ints, offsets: Ints, relevant: Ints, past: Past | None = None, others: Mapping[str, Ints | None] | None = None) -> Judged:
    """Look up the lists (U, K) among the relevant items of their users, ascending. Without a past, nothing is known of the items."""
    width = int(max(lists.max(initial=0), relevant.max(initial=0))) + 1
    wanted = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)) * width + relevant
    listed = np.arange(len(lists))[:, None] * width + lists
    place = np.searchsorted(wanted, listed)
    is_found = (lists >= 0) & (np.append(wanted, -1)[place] == listed)
    return Judged(lists, np.where(is_found, place, -1), offsets, relevant, past or Past(), others or {}, np.arange(len(lists)))
