"""Metrics of how many of the first k places are relevant, in whatever order: h hits, n relevant items, N items to choose from."""

from dataclasses import dataclass

import numpy as np

from recsys.ranking.metrics import Floats, Judged, UserMetric


@dataclass(frozen=True, kw_only=True)
class HitRate(UserMetric):
    """1 where h > 0, else 0."""

    def per_user(self, judged: Judged, k: int) -> Floats:
        return (judged.n_hits(k) > 0).astype(np.float64)


@dataclass(frozen=True, kw_only=True)
class Precision(UserMetric):
    """h / k; R-precision h / min(k, n), which a list can always reach."""

    r_precision: bool = False

    def per_user(self, judged: Judged, k: int) -> Floats:
        return judged.n_hits(k) / (np.minimum(k, judged.n_relevant) if self.r_precision else k)


@dataclass(frozen=True, kw_only=True)
class Recall(UserMetric):
    """h / n."""

    def per_user(self, judged: Judged, k: int) -> Floats:
        return judged.n_hits(k) / judged.n_relevant


@dataclass(frozen=True, kw_only=True)
class F1Beta(UserMetric):
    """(1 + β²) p r / (β² p + r) of precision p and recall r, 0 without a hit; which is (1 + β²) h / (β² n + k)."""

    beta: float = 1.0

    def per_user(self, judged: Judged, k: int) -> Floats:
        return (1 + self.beta**2) * judged.n_hits(k) / (self.beta**2 * judged.n_relevant + k)


@dataclass(frozen=True, kw_only=True)
class Accuracy(UserMetric):
    """Share of the N items that are listed and relevant, or neither: (N − k − n + 2 h) / N."""

    def per_user(self, judged: Judged, k: int) -> Floats:
        n_items = judged.past.n_items
        return (n_items - k - judged.n_relevant + 2 * judged.n_hits(k)) / n_items


@dataclass(frozen=True, kw_only=True)
class MCC(UserMetric):
    """Matthews correlation of being listed and being relevant: (h N − k n) / √(k n (N − k) (N − n)), 0 where that is 0.

    Matthews, Comparison of the predicted and observed secondary structure of T4 phage lysozyme, 1975.
    """

    def per_user(self, judged: Judged, k: int) -> Floats:
        n_items, n_relevant = float(judged.past.n_items), judged.n_relevant.astype(np.float64)
        scale = np.sqrt(k * n_relevant * (n_items - k) * (n_items - n_relevant))
        covered = judged.n_hits(k) * n_items - k * n_relevant
        return np.divide(covered, scale, out=np.zeros_like(scale), where=scale > 0)
