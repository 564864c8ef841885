"""The gate: the best contender within the limits is published, and the decision says which and why, in sentences.

A model is within the limits when it beats the popularity baselines and shows enough of the catalogue. There the values decide:
a baseline is what is left where nothing better is known, and of two that are equally at hand the one with the better value is
the better bet; whether chance may explain it is said. Beside a current model that is within the limits, the candidate also has
to be non-inferior: the interval of their paired difference, by user, ends above what is tolerated; and no slice of users or
items that the policy names may be shown to lose more than its tolerance. The burden of proof differs on purpose: of many slices
some look bad by chance. The candidate comes first, since it knows a newer day; then the current model, then the better
baseline: whatever happens, there are fresh lists tonight. Only where the mode is "held", a candidate within the limits waits for
a person, and last night's lists stay.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.config import Promotion
from recsys.contenders import BASELINES, MODELS, NAMES
from recsys.page import with_decision
from recsys.promotion import results
from recsys.promotion.results import Measured, metric_of
from recsys.store import Artifact, Draft, Store
from recsys.wording import capital, counted, listed

ROUNDING = 1e-9  # of sums of floats: a model at exactly its limit is within it

ALONE = "there is no current model to compare it with"
MAX_UNJUDGED = 3  # slices that are named

COLUMNS = pa.schema([("contender", pa.string()), ("published", pa.bool_()), ("reasons", pa.string())])


@dataclass(frozen=True)
class Decision:
    """What is published, and why. `reasons` are the verdicts, one sentence per contender, that of the published one first."""

    published: str  # "candidate", "current", "popular_lately" or "popular"
    reasons: tuple[str, ...]
    verdicts: Mapping[str, str]
    popular_window: str  # that popular-lately was measured with; empty for data without times
    held: bool = False  # it waits for a person, and what was published stays

    @classmethod
    def load(cls, artifact: Artifact) -> "Decision":
        read = json.loads((artifact.path / "decision.json").read_text())
        return cls(read["published"], tuple(read["reasons"]), read["verdicts"], read["popular_window"], read["held"])


def decide(
    store: Store,
    as_of: datetime,
    promotion: Promotion,
    evaluation: Artifact,
    *,
    alone: str = ALONE,
    stays: bool = False,
    trial: bool = False,
    rebuild: bool = False,
) -> Artifact:
    """The decision on an evaluation: `decision.json`, `decision.parquet` with one row per contender, and the evaluation's page with it.

    `alone` says, as part of a sentence, why an evaluation has no current model; `stays` that there is one all the same, which can
    make tonight's lists; `trial` that nothing is published whatever is decided.
    """

    def build(draft: Draft) -> None:
        decision = judge(results.contenders(evaluation, promotion), promotion, results.popular_window(evaluation), alone, stays)
        (draft.path / "decision.json").write_text(json.dumps(asdict(decision), indent=1))
        rows = [{"contender": name, "published": name == decision.published, "reasons": why} for name, why in decision.verdicts.items()]
        pq.write_table(pa.Table.from_pylist(rows, COLUMNS), draft.path / "decision.parquet", compression="zstd")
        page = (evaluation.path / "report.html").read_text()
        (draft.path / "report.html").write_text(with_decision(page, decision.reasons, decision.held, trial))
        draft.metrics = {"published": decision.published, "held": decision.held}

    config = {**promotion.versioned(), "alone": alone, "stays": stays, "trial": trial}
    return store.ensure("promotion", as_of, config, {"evaluation": evaluation}, build, code=__name__, rebuild=rebuild)


def judge(
    contenders: Mapping[str, Measured], policy: Promotion, popular_window: str = "", alone: str = ALONE, stays: bool = False
) -> Decision:
    """The policy itself. `contenders` holds the candidate, at least one baseline and, where one can be compared, the current model.

    One that cannot be compared `stays` where nothing is concluded.
    """
    contest = _Contest(contenders, policy, alone, stays)
    if contest.n_users < policy.min_users:
        return contest.inconclusive(popular_window)
    problems = {name: contest.limits_broken(name) for name in MODELS if name in contenders}
    if contest.has_rival:
        problems["candidate"] = contest.tolerance_broken() + contest.slices_broken() + problems["candidate"]
    published = next((name for name in MODELS if problems.get(name) == []), contest.baseline)
    verdicts = {published: contest.accepted(published)}
    for name in (*MODELS, *BASELINES):
        if name in contenders and name != published:
            verdicts[name] = contest.passed_over(name, problems.get(name, []))
    return Decision(published, tuple(verdicts.values()), verdicts, popular_window, contest.holds(published))


@dataclass(frozen=True)
class _Contest:
    """Tonight's contenders under a policy: what is wrong with each, and how to say it."""

    contenders: Mapping[str, Measured]
    policy: Promotion
    alone: str
    stays: bool

    @property
    def baseline(self) -> str:
        """The better one."""
        return max((name for name in BASELINES if name in self.contenders), key=lambda name: self.contenders[name].value)

    @property
    def n_users(self) -> int:
        return self.contenders[self.baseline].n_users

    @property
    def lifts(self) -> dict[str, float]:
        """By how much of each baseline a model has to be above it; one lift for all is one over the better."""
        asked = self.policy.min_lift
        if not isinstance(asked, dict):
            return {self.baseline: asked}
        return {name: asked.get(name, 0.0) for name in BASELINES if name in self.contenders}

    @property
    def has_rival(self) -> bool:
        """Whether there is a current model that is itself within the limits."""
        return "current" in self.contenders and not self.limits_broken("current")

    def inconclusive(self, popular_window: str) -> Decision:
        """Too few users: the current model stays, compared with or not; without one, a baseline, which needs no proof."""
        published = "current" if self.stays else next(name for name in ("current", *BASELINES) if name in self.contenders)
        there = "stays" if published == "current" else f"is published, since {self.alone}"
        few = f"Nothing is concluded from {counted(self.n_users, 'test user')}, for promotion.min_users is {self.policy.min_users:,}"
        why = f"{few}: {NAMES[published]} {there}."
        others = {
            name: f"{_capital(name)} is not judged." for name in (*MODELS, *BASELINES) if name in self.contenders and name != published
        }
        return Decision(published, (why,), {published: why, **others}, popular_window)

    def holds(self, name: str) -> bool:
        """Whether this one, chosen, waits for a person."""
        return name == "candidate" and self.policy.mode == "held"

    def limits_broken(self, name: str) -> list[str]:
        """What keeps a model from being published whatever the other one is like, as parts of a sentence."""
        found = [
            f"{self.value(name)} is {self.beside(name, baseline)}, which it has to beat{_by(lift)}"
            for baseline, lift in self.lifts.items()
            if not _beats(self.contenders[name].value, self.contenders[baseline].value, lift)
        ]
        coverage, shown = self.policy.min_coverage, self.contenders[name].coverage
        if coverage and not shown >= coverage:
            found.append(f"its lists show {shown:.1%} of the eligible items, and {coverage:.1%} are asked for")
        return found

    def tolerance_broken(self) -> list[str]:
        """Non-inferiority: whether the candidate may lose more against the current model than is tolerated.

        Piaggio et al. 2012 (CONSORT for non-inferiority trials), figure 1: the whole interval lies above the margin.
        """
        one, current, tolerance = self.contenders["candidate"], self.contenders["current"].value, self.policy.tolerance
        least = one.value - current if one.low is None else one.low  # too few users for an interval: the difference itself
        if least >= -tolerance * current - ROUNDING:
            return []
        lost = f"it may lose {-least / current:.1%}, and " if one.low is not None and current else ""
        return [f"{self.value('candidate')} is {self.beside('candidate', 'current')}: {lost}{tolerance:.1%} are tolerated"]

    @property
    def limits(self) -> Sequence[str]:
        """How the limited slices begin."""
        return list(self.policy.slice_tolerance)

    def slices_broken(self) -> list[str]:
        """The limited slices on which the candidate is shown to lose more against the current model than is tolerated there."""
        found = []
        for name, one in self.contenders["candidate"].slices.items():
            limit = max((start for start in self.limits if name.startswith(start)), key=len, default=None)
            if limit is None or one.difference is None or one.high is None:
                continue
            current, tolerance = one.value - one.difference, self.policy.slice_tolerance[limit]
            if one.high < -tolerance * current - ROUNDING:
                where = f"{metric_of(self.policy)}@{self.policy.k} on {counted(one.n_users, 'user')} of the slice {name!r}"
                interval = f"95% interval {one.low:+z.4f} to {one.high:+z.4f}"
                lost = f"{_times(one.value, current)} the current model's {current:.4f} ({interval})"
                found.append(f"{where} is {lost}, and {tolerance:.1%} are tolerated there")
        return found

    def unjudged(self) -> list[str]:
        """On which limited slices nothing is known of the candidate: part of a sentence, or none."""
        slices = self.contenders["candidate"].slices
        found = [f"{start!r} (no such slice tonight)" for start in self.limits if not any(name.startswith(start) for name in slices)]
        found += [f"{name!r} (no interval of {counted(one.n_users, 'user')})" for name, one in slices.items() if one.high is None]
        more = f" and {len(found) - MAX_UNJUDGED:,} more" if len(found) > MAX_UNJUDGED else ""
        return [f"not judged on {', '.join(found[:MAX_UNJUDGED])}{more}"] if found and self.has_rival else []

    def by_chance(self, name: str) -> list[str]:
        """Which baselines a model may be above by chance only: part of a sentence, or none."""
        one = self.contenders[name]
        above = [baseline for baseline in self.lifts if baseline in one.lifts and one.value > self.contenders[baseline].value]
        found = [NAMES[baseline] for baseline in above if (low := one.lifts[baseline].low) is not None and low <= 0]
        return [f"chance may explain that it is above {listed(found)}"] if found else []

    def accepted(self, name: str) -> str:
        """Why this one is published."""
        if name in BASELINES:
            return f"{_capital(name)} is published, since no model is within the limits: {self.value(name)}."
        rivals = [*self.lifts] + ["current"] * (name == "candidate" and "current" in self.contenders)
        compared = " and ".join(self.beside(name, rival) for rival in rivals)
        notes = self.by_chance(name) + (self.unjudged() if name == "candidate" else [])
        notes += [] if "current" in self.contenders else [self.alone]
        published = "is published again" if name == "current" else "is published"
        done = "is held for a person to `recsys promote` it" if self.holds(name) else published
        found = "; ".join([f"{self.value(name)} is {compared}", *notes])
        return f"{_capital(name)} {done}: on {counted(self.n_users, 'test user')} its {found}."

    def passed_over(self, name: str, problems: Sequence[str]) -> str:
        """Why this one is not."""
        if problems:
            unjudged = self.unjudged() if name == "candidate" else []
            return f"{_capital(name)} is rejected: {'; '.join([*problems, *unjudged])}."
        if name == "current":
            tolerated = self.contenders[name].value > self.contenders["candidate"].value
            loss = f", which loses no more than the {self.policy.tolerance:.1%} that are tolerated" if tolerated else ""
            way = "stays until the candidate is promoted" if self.holds("candidate") else "makes way for the candidate"
            return f"{_capital(name)} {way}{loss}: {self.value(name)}."
        which = "better" if name == self.baseline else "other"
        limit = f", which a model has to beat{_by(self.lifts[name])}" if name in self.lifts else ""
        return f"{_capital(name)} is the {which} baseline{limit}: {self.value(name)}."

    def value(self, name: str) -> str:
        """`NDCG@10 of 0.1000`."""
        return f"{metric_of(self.policy)}@{self.policy.k} of {self.contenders[name].value:.4f}"

    def beside(self, name: str, other: str) -> str:
        """`9.1% below the current model's 0.1100 (difference -0.0100, 95% interval -0.0150 to -0.0050)`."""
        one, two = self.contenders[name], self.contenders[other]
        text = f"{_times(one.value, two.value)} {NAMES[other]}'s {two.value:.4f}"
        paired = one if other == "current" else one.lifts.get(other)
        if paired is None or paired.difference is None or paired.low is None:
            return text
        return f"{text} (difference {paired.difference:+z.4f}, 95% interval {paired.low:+z.4f} to {paired.high:+z.4f})"


def _beats(value: float, baseline: float, lift: float) -> bool:
    """Above the baseline, by the lift; a negative one allows to be below."""
    return (value > baseline or lift < 0) and value >= baseline * (1 + lift) - ROUNDING


def _times(one: float, other: float) -> str:
    """How one value is to another, in words that fit before the other's name."""
    if one == other or not other:
        return "equal to" if one == other else "above"
    if one >= 2 * other:
        return f"{one / other:.1f} times"
    return f"{abs(one / other - 1):.1%} {'above' if one > other else 'below'}"


def _by(lift: float) -> str:
    return f" by {lift:.1%}" if lift else ""


def _capital(contender: str) -> str:
    return capital(NAMES[contender])
