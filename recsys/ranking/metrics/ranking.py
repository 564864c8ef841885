"""Metrics that look at the order of the first k places."""

from dataclasses import dataclass

import numpy as np

from recsys.ranking.metrics import Floats, Judged, UserMetric


@dataclass(frozen=True, kw_only=True)
class NDCG(UserMetric):
    """Σ over hits of 1 / log(rank + 1), over the same of the best list: one with min(k, n) hits, or with k whoever the user is.

    The base of the logarithm cancels out. Järvelin and Kekäläinen, Cumulated gain-based evaluation of IR techniques, 2002.
    """

    divide_by_achievable: bool = True

    def per_user(self, judged: Judged, k: int) -> Floats:
        gains = 1 / np.log2(np.arange(2, k + 2))
        hit = judged.hit[:, :k]
        ideal = np.cumsum(gains)
        return hit @ gains[: hit.shape[1]] / (ideal[np.minimum(judged.n_relevant, k) - 1] if self.divide_by_achievable else ideal[-1])


@dataclass(frozen=True, kw_only=True)
class MAP(UserMetric):
    """Σ over hits of the precision down to their rank, over the n relevant items, or over k."""

    divide_by_k: bool = False

    def per_user(self, judged: Judged, k: int) -> Floats:
        hit = judged.hit[:, :k]
        precision = np.cumsum(hit, axis=1) / np.arange(1, hit.shape[1] + 1)
        return (precision * hit).sum(axis=1) / (k if self.divide_by_k else judged.n_relevant)


@dataclass(frozen=True, kw_only=True)
class MRR(UserMetric):
    """1 / rank of the first hit, 0 without one."""

    def per_user(self, judged: Judged, k: int) -> Floats:
        hit = judged.hit[:, :k]
        return np.where(hit.any(axis=1), 1 / (hit.argmax(axis=1) + 1), 0.0)


class _AUC(UserMetric):
    """Share of the pairs of one of the first `n_positives` relevant items and one of the first k others whose order is right.

    Budhiraja et al., Rich-Item Recommendations for Rich-Users, 2020, arXiv:2001.10495.
    """

    def _share(self, judged: Judged, k: int, n_positives: np.ndarray) -> Floats:
        n_hits = np.cumsum(judged.hit, axis=1)
        others_above = np.cumsum(judged.listed & ~judged.hit, axis=1)
        counted = judged.hit & (n_hits <= n_positives[:, None])
        return np.where(counted, np.maximum(k - others_above, 0), 0).sum(axis=1) / (n_positives * k)


@dataclass(frozen=True, kw_only=True)
class PartialAUC(_AUC):
    """AUC of all n relevant items before the first k others: Σ over hits of (k − others above) / (n k), as far as that is > 0.

    It looks at the first k + n places; a relevant item further down counts as last.
    """

    def places(self, k: int, n_relevant: int) -> int:
        return k + n_relevant

    def per_user(self, judged: Judged, k: int) -> Floats:
        return self._share(judged, k, judged.n_relevant)


@dataclass(frozen=True, kw_only=True)
class PAP(_AUC):
    """pAp@k: PartialAUC with the first min(k, n) relevant items only, in the first 2 k places."""

    def places(self, k: int, n_relevant: int) -> int:
        return 2 * k

    def per_user(self, judged: Judged, k: int) -> Floats:
        return self._share(judged, k, np.minimum(judged.n_relevant, k))
