"""Means over the folds of a backtest with paired bootstrap intervals, in which a user is drawn with all that they have in any fold."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.arrays import Floats
from recsys.evaluation.baselines import DIGITS
from recsys.evaluation.comparison import Comparison, Key
from recsys.evaluation.intervals import MIN_USERS, ends, resampled_means

SCHEMA = pa.schema(
    [
        ("model", pa.string()),
        ("metric", pa.string()),
        ("k", pa.int32()),
        ("value", pa.float64()),
        ("folds", pa.int64()),
        ("reference", pa.string()),
        ("difference", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
    ]
)

Column = tuple[str, Key]  # a model, and a metric at a k


class Means:
    """Added up fold by fold, so that the users of hundreds of folds need not be in memory together.

    Of every model and metric of users the mean in each of the same resamples of all users is kept: the difference of two models
    in a resample is that of the same people, and whom all are compared with can be chosen in the end.
    """

    def __init__(self, n_users: int, n_bootstrap: int, seed: int) -> None:
        """`n_users` are all that there are in the histories."""
        self.n_users, self.n_bootstrap, self.seed = n_users, n_bootstrap, seed
        self.folds: list[dict[Column, float]] = []  # of all users
        self.newest: dict[Column, dict[str, Any]] = {}  # rows of metrics.parquet, of all users
        self.references: list[str] = []  # of the folds
        self.sums: dict[Column, Floats] = {}  # over folds, in each resample (n_bootstrap,)
        self.counts: dict[Column, Floats] = {}  # folds in which somebody who was drawn has a value
        self.people: dict[Key, NDArray[np.bool_]] = {}  # who has a value in any fold (n_users,)

    def add(self, comparison: Comparison, rows: Iterable[dict[str, Any]]) -> None:
        """Another fold, of the same models and metrics, with the rows of its table."""
        self.newest = {(row["contender"], (row["metric"], row["k"])): row for row in rows if row["slice"] == "all"}
        self.folds.append({column: row["value"] for column, row in self.newest.items()})
        self.references.append(comparison.reference)
        values = {(name, key): found for name, of in comparison.everybody.items() for key, found in of.items()}
        if not values or not len(comparison.ground.users):
            return
        means = resampled_means(np.column_stack([*values.values()]), comparison.ground.users, self.n_users, self.n_bootstrap, self.seed)
        nothing = np.zeros(self.n_bootstrap)
        for column, of_fold in zip(values, means.T, strict=True):
            there = comparison.ground.users[~np.isnan(values[column])]
            self.people.setdefault(column[1], np.zeros(self.n_users, dtype=bool))[there] = True
            self.sums[column] = self.sums.get(column, nothing) + np.nan_to_num(of_fold)
            self.counts[column] = self.counts.get(column, nothing) + ~np.isnan(of_fold)

    def table(self, tested: Sequence[str], baselines: Sequence[str]) -> pa.Table:
        """`means.parquet`, of the models that are `tested`.

        All are compared with whom they are in every fold; where that is not one, with the best baseline by the first metric.
        """
        values = {column: round(mean_of_defined([fold[column] for fold in self.folds]), DIGITS) for column in self.folds[0]}
        first = next(key for _, key in values)
        best = max(baselines or tested, key=lambda name: np.nan_to_num(values[name, first], nan=-np.inf))
        reference = self.references[0] if len(set(self.references)) == 1 else best
        return pa.Table.from_pylist([row for name in tested for row in self._rows(name, values, reference)], SCHEMA)

    def _rows(self, model: str, values: Mapping[Column, float], reference: str) -> Iterator[dict[str, Any]]:
        for metric, k in (key for name, key in values if name == model):
            column, other = (model, (metric, k)), (reference, (metric, k))
            found: dict[str, Any] = dict.fromkeys(("difference", "low", "high"))
            if len(self.folds) == 1:
                found = {name: self.newest[column][name] for name in found}
            elif model != reference:
                found = {"difference": round(values[column] - values[other], DIGITS), **self._interval(column, other)}
            n_folds = sum(not np.isnan(fold[column]) for fold in self.folds)
            yield {"model": model, "metric": metric, "k": k, "value": values[column], "folds": n_folds, "reference": reference, **found}

    def _interval(self, one: Column, other: Column) -> dict[str, float | None]:
        """Of the difference of two means; none of fewer people than a fold's needs, nor of a metric of all lists together."""
        nothing: dict[str, float | None] = {"low": None, "high": None}
        if one not in self.sums or self.people[one[1]].sum() < MIN_USERS:
            return nothing
        with np.errstate(invalid="ignore"):
            differences = self.sums[one] / self.counts[one] - self.sums[other] / self.counts[other]
        (low,), (high,) = ends(differences[:, None])
        return nothing if np.isnan(low) else {"low": round(float(low), DIGITS), "high": round(float(high), DIGITS)}


def mean_of_defined(values: Iterable[float | None]) -> float:
    """NaN where none is: neither None nor NaN."""
    there = [value for value in values if value is not None and value == value]
    return sum(there) / len(there) if there else float("nan")
