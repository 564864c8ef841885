"""Metrics of lists: each is one class in one file of this package, named in a configuration as `"NDCG"` or `"MAP(divide_by_k=true)"`.

Most have a value for each user (`UserMetric`), whose mean is the result; the others are of all lists together. What a metric
may see is in `Judged`; k is how many places of a list it looks at. Names, options and formulas are those of RecTools 0.19,
and so are the values (tests/ranking/test_metrics_of_rectools.py), with two defaults of our own: `NDCG` divides by what is
achievable, as published tables do, and `CatalogCoverage` is a share.

U users, K places of a list, R relevant pairs, V items.

>>> lists = np.array([[7, 3, 9], [1, 2, -1]])  # item codes, best first; −1 where a list is short
>>> judged = judge(lists, offsets=np.array([0, 2, 3]), relevant=np.array([3, 5, 1]))
>>> {name: metric.per_user(judged, 3).tolist() for name, metric in named(["HitRate", "Recall", "MRR"]).items()}
{'HitRate': [1.0, 1.0], 'Recall': [0.5, 1.0], 'MRR': [0.5, 1.0]}
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable

import numpy as np

from recsys.arrays import Floats
from recsys.errors import ConfigError
from recsys.parts import Spec, parse
from recsys.ranking.metrics.judged import Judged, Past, judge
from recsys.schema import Schema

__all__ = ["Floats", "Judged", "Metric", "Past", "UserMetric", "judge", "mean", "named", "specs"]


class Metric(ABC):
    """The contract of the slot `metrics`: of all lists together."""

    @property
    def more_is_better(self) -> bool:
        """Whether contenders can be ordered by it, so that it may decide which of them is published."""
        return True

    @abstractmethod
    def overall(self, judged: Judged, k: int) -> float:
        """The value of all lists; NaN where nothing can be said."""

    def places(self, k: int, n_relevant: int) -> int:
        """How long lists have to be for the metric at k, where nobody has more than `n_relevant` relevant items."""
        return k

    @property
    def unit(self) -> str:
        """Of the value, for people; empty of shares and scores, which have none."""
        return ""

    def misfit(self, schema: Schema) -> str | None:
        """What the metric reads and the data has not, as a sentence; None where nothing is missing."""
        return None

    def check_others(self, contenders: Collection[str]) -> None:
        """ConfigError where the metric compares a list with that of somebody who is none of these."""
        return None


class UserMetric(Metric):
    """A metric with a value for each user, whose mean is that of all."""

    def overall(self, judged: Judged, k: int) -> float:
        return mean(self.per_user(judged, k))

    @abstractmethod
    def per_user(self, judged: Judged, k: int) -> Floats:
        """Values (U,) float64, NaN for a user of whom nothing can be said."""


def mean(values: Floats) -> float:
    """Over the users of whom something can be said; NaN where there are none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def specs(texts: Iterable[str], field: str = "metrics") -> dict[str, Spec[Metric]]:
    """The metrics, not built yet, by the name that tables have of them: their text in one spelling. In order.

    ConfigError names the configuration's `field` with the closest valid names, and a metric that comes twice.
    """
    found: dict[str, Spec[Metric]] = {}
    for text in texts:
        spec = parse(text, Metric, field)  # type: ignore[type-abstract]  # a contract, not a class to make (python/mypy#4717)
        name = str(spec).removesuffix("()")
        if name in found:
            raise ConfigError(f"{field}: {name} is named twice.")
        found[name] = spec
    return found


def named(texts: Iterable[str], field: str = "metrics") -> dict[str, Metric]:
    """The metrics by the name that tables have of them."""
    return {name: spec.build() for name, spec in specs(texts, field).items()}
