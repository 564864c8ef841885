"""Metrics on test pairs of which the most popular items have lost some."""

from dataclasses import dataclass

import numpy as np

from recsys.arrays import Ints
from recsys.errors import ConfigError
from recsys.ranking.metrics import Floats, Judged, UserMetric
from recsys.ranking.metrics.judged import Marks


@dataclass(frozen=True, kw_only=True)
class Debiased(UserMetric):
    """Another metric, with items that are relevant to more users than ⌊Q3 + iqr_coef · (Q3 − Q1)⌋ relevant to that many, drawn by seed.

    Q1 and Q3 are the quartiles of the users per relevant item. Undefined for users to whom nothing is left.
    """

    metric: UserMetric
    iqr_coef: float = 1.5
    seed: int = 1

    def __post_init__(self) -> None:
        if self.iqr_coef < 0:
            raise ConfigError(f"Debiased: iqr_coef is {self.iqr_coef}, and has to be 0 or more.")

    @property
    def more_is_better(self) -> bool:
        return self.metric.more_is_better

    @property
    def unit(self) -> str:
        return self.metric.unit

    def places(self, k: int, n_relevant: int) -> int:
        return self.metric.places(k, n_relevant)

    def per_user(self, judged: Judged, k: int) -> Floats:
        left = judged.part(np.arange(len(judged.items)), self.kept(judged.relevant))
        with np.errstate(divide="ignore", invalid="ignore"):  # of the users without anything relevant
            return np.where(left.n_relevant > 0, self.metric.per_user(left, k), np.nan)

    def kept(self, relevant: Ints) -> Marks:
        """Which of the relevant items (R,) of all users stay relevant."""
        if not len(relevant):
            return np.zeros(0, dtype=bool)
        _, item, n_users = np.unique(relevant, return_inverse=True, return_counts=True)
        first, third = np.quantile(n_users, [0.25, 0.75])
        most = int(third + self.iqr_coef * (third - first))
        shuffled = np.random.default_rng(self.seed).permutation(len(relevant))
        by_item = shuffled[np.argsort(item[shuffled], kind="stable")]
        number = np.arange(len(relevant)) - np.repeat(np.cumsum(n_users) - n_users, n_users)  # within the item
        kept = np.empty(len(relevant), dtype=bool)
        kept[by_item] = number < most
        return kept
