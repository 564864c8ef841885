"""Popular items, overall and lately, of everybody and of segments of users: the baselines of the evaluation, and what fills
the lists of users of whom no model knows anything.

Popularity is the number of events that are targets in a window that ends where histories are cut; ties are in order of
item_code. The lists come from the same `top_k` and exclusions as a model's: the catalogue has one column per segment, and
the hidden vector of a user is 1 at theirs.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.arrays import Codes, Ints
from recsys.dictionary import Dictionary
from recsys.errors import ConfigError
from recsys.histories import Histories
from recsys.model.catalogue import Catalogue
from recsys.ranking import exclusions
from recsys.ranking.topk import top_k
from recsys.schema import Schema
from recsys.windows import Cut, duration, microseconds


def count_events(
    histories: Histories, chosen: NDArray[np.bool_], n_items: int, segment: NDArray[np.integer] | None = None, n_segments: int = 0
) -> Ints:
    """The `chosen` events (n,) by segment and item: (S + 1, V). `segment` is each user's, −1 for none; the last row is everybody's."""
    if segment is None:
        return np.bincount(histories.item_code[chosen], minlength=n_items)[None]
    of_event = np.repeat(np.where(segment < 0, n_segments, segment), np.diff(histories.offsets))[chosen].astype(np.int64)
    flat = np.bincount(of_event * n_items + histories.item_code[chosen], minlength=(n_segments + 1) * n_items)
    counts = flat.reshape(n_segments + 1, n_items)
    counts[-1] = counts.sum(axis=0)
    return counts


@dataclass(frozen=True)
class Popular:
    """Lists by number of events: a source of lists that needs no history.

    `counts` (S, V) by segment and item_code, `segment` (U,) each user's row of it, −1 the last. Items that are not in
    `eligible` (V,) are never listed, nor those counted less than `at_least`. Above 2^24 events counts are those of float32, and items
    that are equal by it come in the order of their codes.
    """

    name: str
    counts: Ints
    segment: NDArray[np.integer]
    eligible: NDArray[np.bool_]
    at_least: int

    def rank(self, users: Ints, k: int, rows: Ints, item_code: Ints) -> tuple[NDArray[np.float32], Ints]:
        """Scores and item codes (B, k) of a tile of users, without the excluded pairs; −inf and −1 at the end of short lists."""
        n_excluded = int(np.bincount(rows, minlength=1).max())
        items = np.unique(self._ordered[:, : k + n_excluded])  # no list reaches further down any segment
        index = np.full(len(self.eligible), -1)
        index[items] = np.arange(len(items))
        catalogue = Catalogue(torch.from_numpy(self.counts[:, items].T.astype(np.float32)))
        hidden = torch.from_numpy(np.eye(len(self.counts), dtype=np.float32)[self.segment[users]])
        excluded = map(torch.from_numpy, exclusions.indexed(rows, item_code, index))
        scores, at = (result.numpy() for result in top_k(hidden, catalogue, k, *excluded))
        listed = (at >= 0) & (scores >= self.at_least)
        return np.where(listed, scores, np.float32(-np.inf)), np.where(listed, np.append(items, -1)[at], -1)

    @cached_property
    def _ordered(self) -> Ints:
        eligible = np.flatnonzero(self.eligible)
        return eligible[np.argsort(-self.counts[:, eligible], axis=1, kind="stable")]


@dataclass(frozen=True)
class Popularity:
    """Events by segment and item, `ever` and `lately` (None: no window): (S + 1, V), the last row is everybody's."""

    ever: Ints
    lately: Ints | None
    eligible: NDArray[np.bool_]
    segment: str | None

    @classmethod
    def count(
        cls, shards: Iterable[Histories], dictionary: Dictionary, cut: Cut, window: str | None = None, segment: str | None = None
    ) -> "Popularity":
        """Counted over the shards, before the cut, and in the window (as "6h") that ends there, by a categorical column of the users."""
        if segment is not None:
            _check_segment(dictionary.schema, segment)
        n_items, n_segments = dictionary.n_items, 0 if segment is None else len(dictionary.values(segment))
        ever = np.zeros((n_segments + 1, n_items), dtype=np.int64)
        lately = np.zeros_like(ever) if window else None
        for histories in shards:
            counted = histories.before(histories.cut(cut)) & histories.targets
            of_user = None if segment is None else _segments(histories, segment)
            ever += count_events(histories, counted, n_items, of_user, n_segments)
            if window and lately is not None:
                assert cut.at is not None and histories.event_at is not None, "data with an order only has no window"
                recent = histories.event_at >= microseconds(cut.at - duration(window))
                lately += count_events(histories, counted & recent, n_items, of_user, n_segments)
        return cls(ever, lately, dictionary.eligible, segment)

    def sources(self, histories: Histories) -> dict[str, list[Popular]]:
        """By name, "popular_lately" and "popular": where lists come from, in this order until they are full.

        Each goes from a user's segment to everybody, and lately goes on with ever. Only the very last, ever by everybody,
        lists items that had no event at all, so that a list is short only where nothing is left to show.
        """
        ever = self._both("popular", self.ever, histories, at_least=0)
        found = {"popular": ever}
        if self.lately is not None:
            found = {"popular_lately": self._both("popular_lately", self.lately, histories, at_least=1) + ever, **found}
        return found

    @staticmethod
    def after_a_model(sources: Mapping[str, list[Popular]]) -> list[Popular]:
        """Of `sources`, what fills the lists that a model leaves open: lately where there is a lately."""
        return sources.get("popular_lately", sources["popular"])

    def _both(self, name: str, counts: Ints, histories: Histories, at_least: int) -> list[Popular]:
        everybody = Popular(name, counts[-1:], np.zeros(len(histories.offsets) - 1, dtype=np.int64), self.eligible, at_least)
        if self.segment is None:
            return [everybody]
        return [Popular(name, counts, _segments(histories, self.segment), self.eligible, at_least=1), everybody]


def _segments(histories: Histories, column: str) -> Codes:
    """Each user's code (U,) in a categorical column of the users."""
    codes = histories.user_columns[column]
    assert isinstance(codes, np.ndarray), "a categorical column has one code per user"
    return codes


def _check_segment(schema: Schema, column: str) -> None:
    known = [c.name for c in schema.select("categorical", table="users")]
    if column not in known:
        raise ConfigError(
            f"scoring.segment is {column!r}, which is no categorical column of the users. There are: {', '.join(known) or 'none'}."
        )
