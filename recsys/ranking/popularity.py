"""Popular items, overall and lately, of everybody or of a segment of users: the baselines of the evaluation, and what fills
the lists of users of whom no model knows anything.

Popularity is the number of events that are to be predicted (of the target types) in a window that ends where a user's
history is cut; ties are in order of item_code. The lists come from the same `top_k` and exclusions as a model's: the
catalogue has one column per segment, and the hidden vector of a user is 1 at their segment.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.model.catalogue import Catalogue
from recsys.ranking import exclusions
from recsys.ranking.topk import top_k

if TYPE_CHECKING:
    from recsys.histories import Histories


def count_events(
    histories: "Histories",
    ends: NDArray[np.int64],
    n_items: int,
    since: int | None = None,
    segment: NDArray[np.integer] | None = None,
    n_segments: int = 1,
    targets_only: bool = True,
) -> NDArray[np.int64]:
    """Events per segment and item, int64 (S, V), before each user's end and at or after the moment `since` (µs, None: ever).

    `segment` (U,) is each user's row of the result, −1 for users who are counted nowhere; without it there is one row of all.
    """
    lengths = np.diff(histories.offsets)
    counted = np.arange(len(histories.item_code)) < np.repeat(ends, lengths)
    if since is not None:
        assert histories.event_at is not None
        counted &= histories.event_at >= since
    if targets_only and histories.is_target is not None:
        counted &= histories.is_target
    rows = np.zeros(1, dtype=np.int64)
    if segment is not None:
        of_event = np.repeat(segment, lengths)
        counted &= of_event >= 0
        rows = of_event[counted].astype(np.int64)
    return np.bincount(rows * n_items + histories.item_code[counted], minlength=n_segments * n_items).reshape(n_segments, n_items)


@dataclass(frozen=True)
class Popular:
    """Lists by number of events: a source of lists that needs no history.

    `counts` int64 (S, V) by segment and item_code, `eligible` bool (V,), `segment` (U,) the row of `counts` of each user (−1:
    of none, so that nothing is listed; None: the only row, of everybody). Items counted less than `at_least` are not listed.
    """

    name: str
    counts: NDArray[np.int64]
    eligible: NDArray[np.bool_]
    segment: NDArray[np.integer] | None = None
    at_least: int = 1

    def rank(
        self, users: NDArray[np.int64], k: int, rows: NDArray[np.int64], item_code: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores and item codes (B, k) of a tile of users, without the excluded pairs; −inf and −1 at the end of short lists."""
        n_excluded = int(np.bincount(rows, minlength=1).max())
        items = self._first(k + n_excluded)
        index = np.full(len(self.eligible), -1)
        index[items] = np.arange(len(items))
        excluded = map(torch.from_numpy, exclusions.indexed(rows, item_code, index))
        scores, at = top_k(self._hidden(users), Catalogue(torch.from_numpy(self.counts[:, items].T.astype(np.float32))), k, *excluded)
        listed = (at >= 0) & (scores >= self.at_least)
        codes = np.where(listed, np.append(items, -1)[at], -1)
        return np.where(listed, scores, -np.inf).astype(np.float32), codes

    def _first(self, n: int) -> NDArray[np.int64]:
        """Items that any segment has among its n most popular, ascending: no list with n − k exclusions reaches further."""
        return np.unique(self._ordered[:, :n])

    @cached_property
    def _ordered(self) -> NDArray[np.int64]:
        eligible = np.flatnonzero(self.eligible)
        return eligible[np.argsort(-self.counts[:, eligible], axis=1, kind="stable")]

    def _hidden(self, users: NDArray[np.int64]) -> torch.Tensor:
        """One-hot (B, S); all zero, so that nothing scores, for a user of no segment."""
        if self.segment is None:
            return torch.ones(len(users), 1)
        return torch.from_numpy((self.segment[users][:, None] == np.arange(len(self.counts))).astype(np.float32))
