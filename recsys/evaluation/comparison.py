"""The contenders on the common ground, as tables: values per slice with paired intervals, and values per user."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from recsys.contenders import BASELINES, CONTENDERS
from recsys.evaluation.baselines import DIGITS
from recsys.evaluation.ground import Ground
from recsys.evaluation.intervals import paired_intervals
from recsys.evaluation.slices import Slice
from recsys.ranking.lists import Lists
from recsys.ranking.metrics import Floats, Judged, Metric, Past, UserMetric, judge, mean

OTHERS = (*CONTENDERS, "reference")  # whom a metric may name, whether or not there are lists of them

SCHEMA = pa.schema(
    [
        ("contender", pa.string()),
        ("slice", pa.string()),
        ("metric", pa.string()),
        ("k", pa.int32()),
        ("value", pa.float64()),
        ("n_users", pa.int64()),
        ("difference", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
    ]
)

LIFTS = pa.schema(
    [
        ("contender", pa.string()),
        ("baseline", pa.string()),
        ("metric", pa.string()),
        ("k", pa.int32()),
        ("difference", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
    ]
)

Key = tuple[str, int]  # a metric's name and its k
Values = dict[Key, Floats]  # of users (U,)
Pair = tuple[float, float | None, float | None]  # a mean difference, and the ends of its interval where there is one


@dataclass(frozen=True)
class Comparison:
    """Contenders' lists of the test users, by name; what is measured on them, at which k; and how intervals are drawn.

    The first slice is of all users. `against` is whom all are compared with: the current model unless said, and where there
    is none the best of the `baselines`, or of all where there is no baseline either, by the first metric at the first k.
    """

    lists: Mapping[str, Lists]
    ground: Ground
    past: Past
    slices: Sequence[Slice]
    metrics: Mapping[str, Metric]
    k: Sequence[int]
    n_bootstrap: int
    seed: int
    against: str = "current"
    baselines: Sequence[str] = BASELINES

    @cached_property
    def reference(self) -> str:
        """Whom the others are compared with."""
        if self.against in self.lists:
            return self.against
        first = next(iter(self.metrics.values()))
        found = [name for name in self.baselines if name in self.lists] or list(self.lists)
        return max(found, key=lambda name: np.nan_to_num(first.overall(self._judged(name, self._others), self.k[0]), nan=-np.inf))

    def table(self) -> pa.Table:
        """`metrics.parquet`: contender × slice × k × metric.

        `difference`, `low` and `high` are against the reference, over the users for whom both have a value; null for the
        reference itself. There is no interval of fewer than `intervals.MIN_USERS` users, nor of a metric of all lists
        together, since a resample of the users is one of fewer users.
        """
        rows = [row for part in self.slices for row in self._of_slice(part)]
        place = {part.name: number for number, part in enumerate(self.slices)}
        order = {name: number for number, name in enumerate(self.metrics)}
        rows.sort(key=lambda row: (row["contender"], place[row["slice"]], self.k.index(row["k"]), order[row["metric"]]))
        return pa.Table.from_pylist(rows, SCHEMA)

    def lifts(self) -> pa.Table:
        """`lifts.parquet`: model × baseline × k × metric of users, on all users: the paired difference to each baseline, whoever the
        reference is.
        """
        models = [name for name in sorted(self.lists) if name not in self.baselines]
        baselines = [name for name in self.baselines if name in self.lists]
        wanted = [(model, baseline, key) for model in models for baseline in baselines for key in self.everybody[model]]
        rows = [
            {"contender": model, "baseline": baseline, "metric": metric, "k": k, **_rounded(difference=difference, low=low, high=high)}
            for (model, baseline, (metric, k)), (difference, low, high) in self._paired(self.everybody, wanted).items()
        ]
        return pa.Table.from_pylist(rows, LIFTS)

    def users(self, user_id: pa.Array) -> pa.Table:
        """`users.parquet`: contender × test user, with every metric of users at every k."""
        known = {"user_id": user_id, "n_relevant": np.diff(self.ground.offsets), "n_history": self.ground.n_history}
        tables = []
        for name in sorted(self.lists):
            values = {f"{metric}@{k}": found for (metric, k), found in self.everybody[name].items()}
            tables.append(pa.table({"contender": pa.repeat(name, len(user_id)), **known, **values}))
        return pa.concat_tables(tables)

    @cached_property
    def _others(self) -> dict[str, Any]:
        """Lists that a list can be compared with, by name; None of who made none, and of the reference as long as it is sought."""
        return dict.fromkeys(OTHERS) | {name: lists.item_code for name, lists in self.lists.items()}

    @cached_property
    def _all(self) -> dict[str, Judged]:
        others = self._others | {"reference": self._others[self.reference]}
        return {name: self._judged(name, others) for name in self.lists}

    @cached_property
    def everybody(self) -> dict[str, Values]:
        """By contender, what each metric of users at each k is of every test user (U,)."""
        return {name: self._values(judged) for name, judged in self._all.items()}

    def _judged(self, contender: str, others: Mapping[str, Any]) -> Judged:
        return judge(self.lists[contender].item_code, self.ground.offsets, self.ground.relevant, self.past, others)

    @property
    def _of_users(self) -> dict[str, UserMetric]:
        return {name: metric for name, metric in self.metrics.items() if isinstance(metric, UserMetric)}

    @property
    def of_lists(self) -> dict[str, Metric]:
        """The metrics of all lists together, which have no interval."""
        return {name: metric for name, metric in self.metrics.items() if not isinstance(metric, UserMetric)}

    def _values(self, judged: Judged) -> Values:
        return {(name, k): metric.per_user(judged, k) for k in self.k for name, metric in self._of_users.items()}

    def _of_slice(self, part: Slice) -> list[dict[str, Any]]:
        """Rows of every contender. Where all relevant items count, a user's values are those that there are."""
        counted = np.ones(len(self.ground.relevant), dtype=bool) if part.counted is None else part.counted
        of_users: dict[str, Values] = {}
        of_lists: dict[str, dict[Key, float]] = {}
        for name, whole in self._all.items():
            judged = whole.part(part.users, counted)
            everybody = self.everybody[name]
            of_users[name] = self._values(judged) if part.counted is not None else {key: everybody[key][part.users] for key in everybody}
            of_lists[name] = {(metric, k): found.overall(judged, k) for k in self.k for metric, found in self.of_lists.items()}
        return self._rows_of_users(part, of_users) + self._rows_of_lists(part, of_lists)

    def _paired(self, values: Mapping[str, Values], wanted: Sequence[tuple[str, str, Key]]) -> dict[tuple[str, str, Key], Pair]:
        """How much more of a metric one contender has than another, over the users for whom both have a value."""
        if not wanted:
            return {}
        differences = np.column_stack([values[one][key] - values[other][key] for one, other, key in wanted])
        low, high = paired_intervals(differences, self.n_bootstrap, self.seed)
        return {pair: (mean(differences[:, i]), *_ends(low[i], high[i])) for i, pair in enumerate(wanted)}

    def _rows_of_users(self, part: Slice, values: Mapping[str, Values]) -> list[dict[str, Any]]:
        whom = self.reference
        paired = self._paired(values, [(name, whom, key) for name in values if name != whom for key in values[whom]])
        return [
            _row(name, part, key, mean(found), int((~np.isnan(found)).sum()), *paired.get((name, whom, key), (None, None, None)))
            for name, of_contender in values.items()
            for key, found in of_contender.items()
        ]

    def _rows_of_lists(self, part: Slice, values: Mapping[str, Mapping[Key, float]]) -> list[dict[str, Any]]:
        reference = values[self.reference]
        return [
            _row(name, part, key, value, len(part.users), None if name == self.reference else value - reference[key])
            for name, of_contender in values.items()
            for key, value in of_contender.items()
        ]


def _ends(low: float, high: float) -> tuple[float | None, float | None]:
    return (None, None) if np.isnan(low) else (float(low), float(high))


def _row(
    contender: str,
    part: Slice,
    key: Key,
    value: float,
    n_users: int,
    difference: float | None,
    low: float | None = None,
    high: float | None = None,
) -> dict[str, Any]:
    numbers = _rounded(value=value, difference=difference, low=low, high=high)
    return {"contender": contender, "slice": part.name, "metric": key[0], "k": key[1], "n_users": n_users, **numbers}


def _rounded(**numbers: float | None) -> dict[str, float | None]:
    return {name: None if number is None else round(number, DIGITS) for name, number in numbers.items()}
