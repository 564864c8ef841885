"""Metrics of how well known what is listed was, before the lists were made. Of users with a list."""

from dataclasses import dataclass

import numpy as np

from recsys.ranking.metrics import Floats, Judged, UserMetric


@dataclass(frozen=True, kw_only=True)
class AvgRecPopularity(UserMetric):
    """Mean number of past events of the listed items; `normalize`: as a share of all past events."""

    normalize: bool = False

    @property
    def more_is_better(self) -> bool:
        return False

    @property
    def unit(self) -> str:
        return "" if self.normalize else "events"

    def per_user(self, judged: Judged, k: int) -> Floats:
        n_events = judged.past.n_events
        popularity = n_events / (n_events.sum() if self.normalize else 1)
        return judged.mean_of_listed(popularity[judged.items[:, :k]], k)


@dataclass(frozen=True, kw_only=True)
class MeanInvUserFreq(UserMetric):
    """Mean over the listed items of −log₂ of the share of past users who had the item; one whom nobody had counts as had by one.

    Zhou et al., Solving the apparent diversity-accuracy dilemma of recommender systems, 2010.
    """

    @property
    def unit(self) -> str:
        return "bits"

    def per_user(self, judged: Judged, k: int) -> Floats:
        past = judged.past
        novelty = -np.log2(np.maximum(past.n_users, 1) / past.n_all_users)
        return judged.mean_of_listed(novelty[judged.items[:, :k]], k)


@dataclass(frozen=True, kw_only=True)
class Serendipity(UserMetric):
    """Mean over the listed items of max(p − q, 0) at hits, 0 elsewhere: relevant and not what anybody would have listed.

    p = (N + 1 − rank) / N; q is the same of the item's rank among the different numbers of past events of the N items that may
    be listed, and 0 of an item without any.
    """

    def per_user(self, judged: Judged, k: int) -> Floats:
        n_events, n_items = judged.past.n_events, judged.past.n_items
        levels = np.unique(n_events[judged.past.eligible])
        popularity_rank = len(levels) - np.searchsorted(levels, n_events)
        obvious = np.where(n_events > 0, (n_items + 1 - popularity_rank) / n_items, 0.0)
        items = judged.items[:, :k]
        own = (n_items + 1 - np.arange(1, items.shape[1] + 1)) / n_items
        return judged.mean_of_listed(np.maximum(own - obvious[items], 0.0) * judged.hit[:, :k], k)
