"""Metrics of what the lists show and whether they are whole."""

from dataclasses import dataclass

import numpy as np

from recsys.ranking.metrics import Floats, Judged, Metric, UserMetric


@dataclass(frozen=True, kw_only=True)
class CatalogCoverage(Metric):
    """Different items in the first k places of anybody, as a share of the catalogue or counted."""

    normalize: bool = True

    @property
    def unit(self) -> str:
        return "" if self.normalize else "items"

    def overall(self, judged: Judged, k: int) -> float:
        shown = np.zeros(len(judged.past.eligible), dtype=bool)
        shown[judged.items[:, :k][judged.listed[:, :k]]] = True
        return float(shown.sum() / (max(1, judged.past.n_items) if self.normalize else 1))


@dataclass(frozen=True, kw_only=True)
class CoveredUsers(UserMetric):
    """1 where anything is listed, else 0."""

    def per_user(self, judged: Judged, k: int) -> Floats:
        return (judged.n_listed(k) > 0).astype(np.float64)


@dataclass(frozen=True, kw_only=True)
class SufficientReco(UserMetric):
    """1 where all k places are filled, else 0; `deep`: the share that is. Of users with a list."""

    deep: bool = False

    def per_user(self, judged: Judged, k: int) -> Floats:
        n_listed = judged.n_listed(k)
        filled = n_listed / k if self.deep else (n_listed >= k).astype(np.float64)
        return np.where(n_listed > 0, filled, np.nan)


@dataclass(frozen=True, kw_only=True)
class UnrepeatedReco(UserMetric):
    """1 where no item comes twice, else 0; `deep`: different items as a share of all places that are filled. Of users with a list."""

    deep: bool = False

    def per_user(self, judged: Judged, k: int) -> Floats:
        items = np.sort(judged.items[:, :k], axis=1)
        n_different = (items[:, :1] >= 0).sum(axis=1) + ((items[:, 1:] != items[:, :-1]) & (items[:, 1:] >= 0)).sum(axis=1)
        n_listed = judged.n_listed(k)
        share = np.divide(n_different, n_listed, out=np.full(len(n_listed), np.nan), where=n_listed > 0)
        return share if self.deep else np.where(np.isnan(share), np.nan, share == 1)
