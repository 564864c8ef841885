"""How good lists are, per user: every metric at every k from one look-up of the listed items among the relevant ones.

Shapes: **U** users, **K** places of a list. Relevant items are a CSR: those of user u are
`relevant[offsets[u]:offsets[u + 1]]`, distinct. Each function takes `Hits` and a k ≤ K and gives float64 (U,) in [0, 1].

>>> hits = find_hits(np.array([[7, 3, 9]]), offsets=np.array([0, 2]), relevant=np.array([3, 5]))
>>> hits.at
array([[False,  True, False]])
>>> hit_rate(hits, 1), hit_rate(hits, 3), recall(hits, 3), mrr(hits, 3)
(array([0.]), array([1.]), array([0.5]), array([0.5]))
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Hits:
    """Which places of the lists hold a relevant item: `at` bool (U, K); `n_relevant` int64 (U,), each at least 1."""

    at: NDArray[np.bool_]
    n_relevant: NDArray[np.int64]

    def of(self, users: NDArray[np.bool_]) -> "Hits":
        """Those of some users, by a mask (U,)."""
        return Hits(self.at[users], self.n_relevant[users])


def find_hits(lists: NDArray[np.integer], offsets: NDArray[np.int64], relevant: NDArray[np.integer]) -> Hits:
    """Look up `lists` (U, K), −1 where a list is short, among each user's relevant items."""
    n_relevant = np.diff(offsets)
    width = int(max(lists.max(initial=0), relevant.max(initial=0))) + 1
    wanted = np.sort(np.repeat(np.arange(len(n_relevant)), n_relevant) * width + relevant)
    listed = np.arange(len(lists))[:, None] * width + lists
    place = np.minimum(np.searchsorted(wanted, listed), max(len(wanted) - 1, 0))
    found = wanted[place] == listed if len(wanted) else np.zeros(lists.shape, dtype=bool)
    return Hits(found & (lists >= 0), n_relevant)


def hit_rate(hits: Hits, k: int) -> Floats:
    """1 where one of the first k is relevant."""
    return np.any(hits.at[:, :k], axis=1).astype(np.float64)


def recall(hits: Hits, k: int) -> Floats:
    """Share of the relevant items that are among the first k."""
    return hits.at[:, :k].sum(axis=1) / hits.n_relevant


def ndcg(hits: Hits, k: int) -> Floats:
    """DCG with gains 1 / log2(rank + 1), over that of the best possible list: all of the first min(k, relevant) places.

    Järvelin and Kekäläinen, Cumulated gain-based evaluation of IR techniques, 2002.
    """
    gains = 1 / np.log2(np.arange(2, k + 2))
    gained: Floats = (hits.at[:, :k] * gains[: hits.at.shape[1]]).sum(axis=1)
    return gained / np.cumsum(gains)[np.minimum(hits.n_relevant, k) - 1]


def average_precision(hits: Hits, k: int) -> Floats:
    """Precision at each of the first k places that holds a relevant item, summed, over the number of relevant items."""
    at = hits.at[:, :k]
    precision = np.cumsum(at, axis=1) / np.arange(1, at.shape[1] + 1)
    return (precision * at).sum(axis=1) / hits.n_relevant


def mrr(hits: Hits, k: int) -> Floats:
    """1 / rank of the first relevant item among the first k, 0 without one."""
    at = hits.at[:, :k]
    return np.where(at.any(axis=1), 1 / (at.argmax(axis=1) + 1), 0.0)


METRICS: dict[str, Callable[[Hits, int], Floats]] = {
    "ndcg": ndcg,
    "hit_rate": hit_rate,
    "recall": recall,
    "map": average_precision,
    "mrr": mrr,
}


def per_user(hits: Hits, ks: Sequence[int]) -> dict[tuple[str, int], Floats]:
    """Every metric at every k: (name, k) → values of the users (U,)."""
    return {(name, k): metric(hits, k) for k in ks for name, metric in METRICS.items()}
