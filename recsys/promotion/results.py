"""What the gate knows of tonight's contenders: their rows of an evaluation, by the metric and the k of the policy."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow.parquet as pq

from recsys.config import Promotion
from recsys.contenders import BASELINES, NAMES
from recsys.errors import StoreError
from recsys.ranking.metrics import named
from recsys.store import Artifact

COVERAGE = "CatalogCoverage"


@dataclass(frozen=True)
class Paired:
    """A mean difference by user, and the ends of its interval where there is one."""

    difference: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Measured:
    """One contender on all test users or on a slice; `difference` and its interval are paired, against the evaluation's reference."""

    value: float
    coverage: float
    n_users: int
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    slices: Mapping[str, "Measured"] = field(default_factory=dict)  # those that the policy limits
    lifts: Mapping[str, Paired] = field(default_factory=dict)  # of a model over each baseline


def contenders(evaluation: Artifact, policy: Promotion) -> dict[str, Measured]:
    """Every contender of an evaluation, as the policy's metric and k see it."""
    path = evaluation.path / "metrics.parquet"
    table = pq.read_table(path, filters=[("k", "=", policy.k)]).to_pylist()
    rows = [row for row in table if row["slice"] == "all"]
    values = {row["contender"]: row for row in rows if row["metric"] == metric_of(policy)}
    coverage = {row["contender"]: row["value"] for row in rows if row["metric"] == COVERAGE}
    _check_complete(values, f"{path}: {metric_of(policy)} at {policy.k}")
    if policy.min_coverage:
        _check_complete(coverage, f"{path}: {COVERAGE} at {policy.k}")
    lifts = _lifts(evaluation, policy)
    limited = [row for row in table if row["metric"] == metric_of(policy) and row["slice"].startswith(tuple(policy.slice_tolerance))]
    return {
        name: replace(
            _measured(row, coverage.get(name, math.nan)),
            slices={part["slice"]: _measured(part) for part in limited if part["contender"] == name},
            lifts=lifts.get(name, {}),
        )
        for name, row in values.items()
    }


def _lifts(evaluation: Artifact, policy: Promotion) -> dict[str, dict[str, Paired]]:
    """By model and baseline; none for a metric of all lists together."""
    wanted = [("k", "=", policy.k), ("metric", "=", metric_of(policy))]
    found: dict[str, dict[str, Paired]] = {}
    for row in pq.read_table(evaluation.path / "lifts.parquet", filters=wanted).to_pylist():
        found.setdefault(row["contender"], {})[row["baseline"]] = Paired(row["difference"], row["low"], row["high"])
    return found


def _measured(row: Mapping[str, Any], coverage: float = math.nan) -> Measured:
    return Measured(row["value"], coverage, row["n_users"], row["difference"], row["low"], row["high"])


def metric_of(policy: Promotion) -> str:
    """What tables call the metric that decides."""
    return next(iter(named([policy.metric], "promotion.metric")))


def _check_complete(values: Mapping[str, object], what: str) -> None:
    strangers = set(values) - set(NAMES)
    if "candidate" not in values or not set(values) & set(BASELINES) or strangers:
        raise StoreError(
            f"{what} is needed for the candidate, a baseline and the current model where there is one,"
            f" but stands there for {sorted(values) or 'nobody'}. Run the evaluation again (--rebuild)."
        )


def popular_window(evaluation: Artifact) -> str:
    """The window of popular-lately that the evaluation chose on the training period."""
    rows: Sequence[dict[str, object]] = pq.read_table(evaluation.path / "baselines.parquet").to_pylist()
    return next((str(row["window"]) for row in rows if row["chosen"]), "")
