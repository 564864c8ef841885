"""The gate: the best contender within the limits is published, and the decision says which and why, in sentences.

A model is within the limits when it beats the better popularity baseline and shows enough of the catalogue. The candidate
also must not lose more than a tolerance against a current model that is within them. It comes first, since it knows a
newer day; then the current model, then the better baseline: whatever happens, there are fresh lists tonight.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.config import Promotion
from recsys.errors import StoreError
from recsys.store import Artifact, Draft, Store

MODELS = ("candidate", "current")
BASELINES = ("popular_lately", "popular")  # of equals, the first
NAMES = {"candidate": "the candidate", "current": "the current model", "popular_lately": "popular-lately", "popular": "popular"}
METRICS = {"ndcg": "NDCG", "hit_rate": "HitRate", "recall": "Recall", "map": "MAP", "mrr": "MRR"}

ROUNDING = 1e-9  # of sums of floats: a model at exactly its limit is within it

COLUMNS = pa.schema([("contender", pa.string()), ("published", pa.bool_()), ("reasons", pa.string())])


@dataclass(frozen=True)
class Measured:
    """One contender on all test users. `difference` and its interval are paired, against the evaluation's reference."""

    value: float
    coverage: float
    n_users: int
    difference: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Decision:
    """What is published, and why. `reasons` are the verdicts, one sentence per contender, that of the published one first."""

    published: str  # "candidate", "current", "popular_lately" or "popular"
    reasons: tuple[str, ...]
    verdicts: Mapping[str, str]
    popular_window: str  # that popular-lately was measured with; empty for data without times

    @classmethod
    def load(cls, artifact: Artifact) -> "Decision":
        read = json.loads((artifact.path / "decision.json").read_text())
        return cls(read["published"], tuple(read["reasons"]), read["verdicts"], read["popular_window"])


def decide(store: Store, as_of: datetime, promotion: Promotion, evaluation: Artifact, *, rebuild: bool = False) -> Artifact:
    """The decision on an evaluation: `decision.json`, and `decision.parquet` with one row per contender."""

    def build(draft: Draft) -> None:
        decision = judge(_contenders(evaluation, promotion), promotion, _popular_window(evaluation))
        (draft.path / "decision.json").write_text(json.dumps(asdict(decision), indent=1))
        rows = [{"contender": name, "published": name == decision.published, "reasons": why} for name, why in decision.verdicts.items()]
        pq.write_table(pa.Table.from_pylist(rows, COLUMNS), draft.path / "decision.parquet", compression="zstd")
        draft.metrics = {"published": decision.published}

    config = promotion.versioned()
    return store.ensure("promotion", as_of, config, {"evaluation": evaluation}, build, code="recsys.promotion.policy", rebuild=rebuild)


def judge(contenders: Mapping[str, Measured], policy: Promotion, popular_window: str = "") -> Decision:
    """The policy itself. `contenders` holds the candidate, at least one baseline and, where one can be compared, the current model."""
    baseline = max((name for name in BASELINES if name in contenders), key=lambda name: contenders[name].value)
    n_users = contenders[baseline].n_users
    if n_users < policy.min_users:
        return _inconclusive(contenders, policy, n_users, popular_window)
    problems = {name: _limits_broken(name, baseline, contenders, policy) for name in MODELS if name in contenders}
    if problems.get("current") == []:
        problems["candidate"] = _tolerance_broken(contenders, policy) + problems["candidate"]
    published = next((name for name in MODELS if problems.get(name) == []), baseline)

    verdicts = {published: _accepted(published, baseline, contenders, policy)}
    for name, found in problems.items():
        if name != published:
            verdicts[name] = f"{_name(name)} is rejected: {'; '.join(found)}." if found else _makes_way(name, contenders, policy)
    for name in BASELINES:
        if name in contenders and name != published:
            which = f"the better baseline, which a model has to beat{_by(policy.min_lift)}" if name == baseline else "the other baseline"
            verdicts[name] = f"{_name(name)} is {which}: {_value(name, contenders, policy)}."
    return Decision(published, tuple(verdicts.values()), verdicts, popular_window)


def _inconclusive(contenders: Mapping[str, Measured], policy: Promotion, n_users: int, popular_window: str) -> Decision:
    """Too few users: the current model stays; without one, a baseline, which needs no proof."""
    published = next(name for name in ("current", *BASELINES) if name in contenders)
    there = "stays" if published == "current" else "is published, since there is no current model"
    why = f"Nothing is concluded from {n_users:,} test users, for promotion.min_users is {policy.min_users:,}: {NAMES[published]} {there}."
    others = {name: f"{_name(name)} is not judged." for name in (*MODELS, *BASELINES) if name in contenders and name != published}
    return Decision(published, (why,), {published: why, **others}, popular_window)


def _limits_broken(name: str, baseline: str, contenders: Mapping[str, Measured], policy: Promotion) -> list[str]:
    """What keeps a model from being published whatever the others are like, as parts of a sentence."""
    one, other = contenders[name], contenders[baseline]
    beats = one.value > other.value or policy.min_lift < 0
    problems = []
    if not (beats and one.value >= other.value * (1 + policy.min_lift) - ROUNDING):
        problems.append(f"{_compared(name, baseline, contenders, policy)}, which it has to beat{_by(policy.min_lift)}")
    if not one.coverage >= policy.min_coverage:
        problems.append(f"its lists show {one.coverage:.1%} of the eligible items, and {policy.min_coverage:.1%} are asked for")
    return problems


def _tolerance_broken(contenders: Mapping[str, Measured], policy: Promotion) -> list[str]:
    """Non-inferiority: whether the candidate loses more against the current model than is tolerated."""
    if contenders["candidate"].value >= contenders["current"].value * (1 - policy.tolerance) - ROUNDING:
        return []
    return [f"{_compared('candidate', 'current', contenders, policy)}, and {policy.tolerance:.1%} are tolerated"]


def _accepted(name: str, baseline: str, contenders: Mapping[str, Measured], policy: Promotion) -> str:
    if name in BASELINES:
        return f"{_name(name)} is published, since no model is within the limits: {_value(name, contenders, policy)}."
    compared = [_compared(name, baseline, contenders, policy)]
    if name == "candidate" and "current" in contenders:
        compared.append(_compared(name, "current", contenders, policy, short=True))
    alone = "; there is no current model to compare it with" if "current" not in contenders else ""
    again = " again" if name == "current" else ""
    return f"{_name(name)} is published{again}: on {contenders[name].n_users:,} test users its {' and '.join(compared)}{alone}."


def _makes_way(name: str, contenders: Mapping[str, Measured], policy: Promotion) -> str:
    better = contenders[name].value > contenders["candidate"].value
    because = f", which loses no more than the {policy.tolerance:.1%} that are tolerated" if better else ""
    return f"{_name(name)} makes way for the candidate{because}: {_value(name, contenders, policy)}."


def _compared(name: str, other: str, contenders: Mapping[str, Measured], policy: Promotion, short: bool = False) -> str:
    """`NDCG@10 of 0.1000 is 9.1% below the current model's 0.1100 (difference -0.0100, 95% interval -0.0150 to -0.0050)`."""
    one, two = contenders[name], contenders[other]
    ratio = one.value / two.value - 1 if two.value else 0.0
    side = "equal to" if one.value == two.value else "above" if one.value > two.value else "below"
    relative = f"{abs(ratio):.1%} {side}" if ratio else side
    opening = "" if short else f"{_metric(policy)} of {one.value:.4f} is "
    return f"{opening}{relative} {NAMES[other]}'s {two.value:.4f}{_interval(one, two)}"


def _interval(one: Measured, other: Measured) -> str:
    """The paired interval, where `other` is whom the evaluation paired it with."""
    if one.difference is None or not math.isclose(one.value - other.value, one.difference, abs_tol=1e-6):
        return ""
    return f" (difference {one.difference:+z.4f}, 95% interval {one.low:+z.4f} to {one.high:+z.4f})"


def _value(name: str, contenders: Mapping[str, Measured], policy: Promotion) -> str:
    return f"{_metric(policy)} {contenders[name].value:.4f}"


def _metric(policy: Promotion) -> str:
    return f"{METRICS[policy.metric]}@{policy.k}"


def _by(lift: float) -> str:
    return f" by {lift:.1%}" if lift else ""


def _name(contender: str) -> str:
    name = NAMES[contender]
    return name[0].upper() + name[1:]


def _contenders(evaluation: Artifact, policy: Promotion) -> dict[str, Measured]:
    """Every contender of an evaluation, as the policy's metric and k see it."""
    path = evaluation.path / "metrics.parquet"
    rows = pq.read_table(path, filters=[("slice", "=", "all"), ("k", "=", policy.k)]).to_pylist()
    values = {row["contender"]: row for row in rows if row["metric"] == policy.metric}
    coverage = {row["contender"]: row["value"] for row in rows if row["metric"] == "coverage"}
    _complete(values, coverage, f"{path}: {policy.metric} and coverage at {policy.k}")
    return {
        name: Measured(row["value"], coverage[name], row["n_users"], row["difference"], row["low"], row["high"])
        for name, row in values.items()
    }  # fmt: skip


def _complete(values: Mapping[str, object], coverage: Mapping[str, object], what: str) -> None:
    strangers = set(values) - set(NAMES)
    if set(values) != set(coverage) or "candidate" not in values or not set(values) & set(BASELINES) or strangers:
        raise StoreError(
            f"{what} are needed for the candidate, a baseline and the current model where there is one,"
            f" but stand there for {sorted(values) or 'nobody'} and {sorted(coverage) or 'nobody'}. Run the evaluation again (--rebuild)."
        )


def _popular_window(evaluation: Artifact) -> str:
    """The window of popular-lately that the evaluation chose on the training period."""
    rows: Sequence[dict[str, object]] = pq.read_table(evaluation.path / "baselines.parquet").to_pylist()
    return next((str(row["window"]) for row in rows if row["chosen"]), "")
