"""The contenders on the common ground, as tables: values per slice with paired intervals, and values per user."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.evaluation.baselines import DIGITS
from recsys.evaluation.intervals import paired_intervals
from recsys.evaluation.slices import Slice
from recsys.ranking.lists import Lists
from recsys.ranking.metrics import METRICS, per_user

BASELINES = ("popular_lately", "popular")

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


@dataclass(frozen=True)
class Comparison:
    """Contenders' lists of the test users, by name; the slices to look at; at which k; and how intervals are drawn."""

    lists: Mapping[str, Lists]
    slices: Sequence[Slice]
    k: Sequence[int]
    n_bootstrap: int
    seed: int

    @cached_property
    def reference(self) -> str:
        """Whom the others are compared with: the current model, else the baseline with the better NDCG."""
        if "current" in self.lists:
            return "current"
        k = 10 if 10 in self.k else self.k[0]
        found = [name for name in BASELINES if name in self.lists]
        return max(found, key=lambda name: np.nan_to_num(_mean(self._values(name, self.slices[0])[("ndcg", k)])))

    def metrics(self, eligible: NDArray[np.bool_]) -> pa.Table:
        """`metrics.parquet`: contender × slice × metric × k. `eligible` (items) is what coverage is a share of.

        `difference`, `low` and `high` are against the reference on the same users, null for the reference itself and without
        an interval for coverage, which is no mean over users.
        """
        rows = [row for part in self.slices for row in self._of_slice(part)]
        rows += self._coverage(eligible)
        order = {name: number for number, name in enumerate((*METRICS, "coverage"))}
        place = {part.name: number for number, part in enumerate(self.slices)}
        rows.sort(key=lambda row: (row["contender"], place[row["slice"]], row["k"], order[row["metric"]]))
        return pa.Table.from_pylist(rows, SCHEMA)

    def users(self, user_id: pa.Array, n_history: NDArray[np.int64]) -> pa.Table:
        """`users.parquet`: contender × test user, with every metric at every k."""
        everybody = self.slices[0]
        tables = []
        for name in sorted(self.lists):
            values = {f"{metric}_at_{k}": v for (metric, k), v in self._values(name, everybody).items()}
            n_relevant = np.diff(everybody.offsets)
            known = {"contender": pa.repeat(name, len(user_id)), "user_id": user_id, "n_relevant": n_relevant, "n_history": n_history}
            tables.append(pa.table({**known, **values}))
        return pa.concat_tables(tables)

    def _values(self, contender: str, part: Slice) -> dict[tuple[str, int], NDArray[np.float64]]:
        return per_user(part.hits(self.lists[contender]), self.k)

    def _of_slice(self, part: Slice) -> list[dict[str, Any]]:
        values = {name: self._values(name, part) for name in self.lists}
        reference = values[self.reference]
        others = [name for name in values if name != self.reference]
        columns = [(name, key) for name in others for key in reference]
        differences = np.stack([values[name][key] - reference[key] for name, key in columns], axis=1)
        low, high = paired_intervals(differences, self.n_bootstrap, self.seed)
        paired = {column: (_mean(differences[:, i]), low[i], high[i]) for i, column in enumerate(columns)}
        return [
            _row(name, part.name, *key, _mean(found), len(part.users), *paired.get((name, key), (None, None, None)))
            for name, of_contender in values.items()
            for key, found in of_contender.items()
        ]

    def _coverage(self, eligible: NDArray[np.bool_]) -> list[dict[str, Any]]:
        """Share of the eligible items that a contender shows to anybody."""
        n_users = len(self.slices[0].users)
        shown = {(name, k): _shown(lists.item_code[:, :k], eligible) for name, lists in self.lists.items() for k in self.k}
        differences = {
            (name, k): None if name == self.reference else value - shown[self.reference, k] for (name, k), value in shown.items()
        }
        return [_row(name, "all", "coverage", k, value, n_users, differences[name, k], None, None) for (name, k), value in shown.items()]


def _shown(item_code: NDArray[np.int64], eligible: NDArray[np.bool_]) -> float:
    return len(np.unique(item_code[item_code >= 0])) / max(1, int(eligible.sum()))


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _row(
    contender: str,
    part: str,
    metric: str,
    k: int,
    value: float,
    n_users: int,
    difference: float | None,
    low: float | None,
    high: float | None,
) -> dict[str, Any]:
    numbers = {"value": value, "n_users": n_users, "difference": difference, "low": low, "high": high}
    rounded = {name: round(float(number), DIGITS) if isinstance(number, float) else number for name, number in numbers.items()}
    return {"contender": contender, "slice": part, "metric": metric, "k": k, **rounded}
