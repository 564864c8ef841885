"""What a night would do, without doing it: the steps that are there and would be reused, the first that is not, and why."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from flows.run import Run, comparable, winner
from recsys import published
from recsys.promotion.policy import Decision
from recsys.publishing.contracts import keep_contracts
from recsys.rehearsal import NotMade, reasons
from recsys.store import Artifact

STEPS = ("features", "sequences", "training candidate", "evaluation", "promotion", "training refit", "scoring", "publishing")

NOTHING = ("nothing was made for this night yet",)


class _Stops(Exception):
    """The night would stop here."""


@dataclass(frozen=True)
class Line:
    """What would become of a step. A step that "follows" a run is reused where that comes to the same bytes as before.

    Drift has a line only where it "stops" the night.
    """

    step: str
    does: Literal["reused", "runs", "follows", "stops"]
    version: str = ""
    reasons: tuple[str, ...] = ()


def plan(run: Run) -> list[Line]:
    """A line per step of the night `run`, whose store is a Rehearsal; as far as it goes without making more than the demo shop's tables."""
    made = {artifact.step for artifact in run.store.artifacts() if artifact.as_of == run.as_of}
    steps = [step for step in STEPS if step != "training refit" or run.night.training.refit]
    if run.night.data.demo is not None and "features" not in made:  # the shop's tables would have to be made first
        return [Line(step, "runs", reasons=NOTHING if step == "features" else ()) for step in steps]
    lines: list[Line] = []

    def look(step: str, make: Callable[[], Artifact]) -> Artifact:
        try:
            found = make()
        except NotMade as missing:
            why = ("--rebuild",) if run.rebuild else tuple(reasons(run.store, missing)) or NOTHING
            lines.append(Line(step, "runs", missing.artifact.version, why))
            raise
        lines.append(Line(step, "reused", found.version))
        return found

    try:
        _walk(run, look)
    except _Stops as why:
        lines.append(Line("drift", "stops", reasons=why.args))
    except NotMade:
        after = steps[steps.index(lines[-1].step) + 1 :]
        lines += [Line(step, "follows" if step.split()[0] in made and not run.rebuild else "runs") for step in after]
    return lines


def _walk(run: Run, look: Callable[[str, Callable[[], Artifact]], Artifact]) -> None:
    """The steps of `flows.nightly`, in its order."""
    current = published.before(run.store, run.as_of)
    tables = look("features", run.features)
    _check_drift(run, tables)
    histories = look("sequences", lambda: run.sequences(tables))
    rival = comparable(run, current, histories)
    candidate = look("training candidate", lambda: run.training(histories, run.holdout, rival.model))
    comparison = look("evaluation", lambda: run.evaluation(histories, candidate, rival.model))
    decision = Decision.load(look("promotion", lambda: run.promotion(comparison, rival)))

    def refit() -> Artifact:
        epochs = candidate.metrics["best_epoch"]
        return look("training refit", lambda: run.training(histories, run.everything, rival.model, epochs))

    chosen = winner(run, histories, decision, candidate, current, refit)
    lists = look("scoring", lambda: run.scoring(histories, chosen.model, decision))
    night, limits = run.night, run.night.publishing
    look(
        "publishing",
        lambda: keep_contracts(run.store, run.as_of, limits, night.scoring, lists, histories, source=decision.published, last=current),
    )


def _check_drift(run: Run, tables: Artifact) -> None:
    """_Stops where the drift of these tables is known and stops a night; where it is not, the run measures it."""
    with suppress(NotMade):
        if stops := run.drift(tables).metrics["stops"]:
            raise _Stops(*stops)
