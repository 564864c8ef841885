"""How matters stand in a store: a grid of nights × steps with versions, ages and disk use, and what failed."""

import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Literal, TypeAlias

from recsys import attempts, published
from recsys.attempts import Attempt
from recsys.errors import StoreError
from recsys.lineage import lineage
from recsys.pruning import size
from recsys.published import Promotion
from recsys.store import Artifact, Store
from recsys.windows import label

STEPS = ("features", "sequences", "training", "evaluation", "promotion", "scoring", "publishing")

State: TypeAlias = Literal["done", "reused", "failed", "running", "missing"]


@dataclass(frozen=True)
class Cell:
    """One step of one night. `at` is when its artifact was made, or its attempt began or failed."""

    state: State
    version: str = ""
    published: bool = False  # it belongs to what is published now
    at: datetime | None = None
    bytes: int = 0  # of all versions
    versions: int = 0  # there are
    error: str = ""


@dataclass(frozen=True)
class Night:
    """A row of the grid. `decision` says what became of it: current, published, held, only made, taken back, or nothing yet."""

    label: str
    steps: Mapping[str, Cell]
    decision: str


def status(store: Store, nights: int) -> list[Night]:
    """The newest nights of which there is anything, newest first."""
    made: dict[tuple[str, str], list[Artifact]] = {}
    for artifact in store.artifacts():
        made.setdefault((label(artifact.as_of), artifact.step), []).append(artifact)
    tried = {(attempt.night, attempt.step): attempt for attempt in attempts.attempts(store.root)}
    known = sorted({night for night, _ in (*made, *tried)}, reverse=True)[:nights]
    return [_night(store, night, made, tried) for night in known]


def began(store: Store) -> datetime | None:
    """When the first line was put on record, whatever its night: nights that were due before were nobody's, and none was missed."""
    lines = published.history(store)
    return datetime.fromisoformat(lines[0].at) if lines else None


def _night(store: Store, night: str, made: Mapping[tuple[str, str], Sequence[Artifact]], tried: Mapping[tuple[str, str], Attempt]) -> Night:
    lines = [p for p in published.history(store) if label(p.moment) == night]
    chosen = _chosen(store, lines, [artifact for step in STEPS for artifact in made.get((night, step), ())])
    last_run = _run(next((chosen[step] for step in reversed(STEPS) if step in chosen), None))
    now = published.current(store)
    current = {(r["step"], r["version"]) for r in now.artifacts.values()} if now else set()
    cells = {}
    for step in STEPS:
        cell = _cell(chosen.get(step), tried.get((night, step)), last_run, current)
        there = made.get((night, step), ())
        if step == "features" and cell.state in ("done", "reused") and (stops := _stops(made.get((night, "drift"), ()))):
            cell = replace(cell, state="failed", error=stops)
        cells[step] = replace(cell, bytes=sum(size(artifact.path) for artifact in there), versions=len(there))
    return Night(night, cells, _decision(lines, now))


def _chosen(store: Store, lines: Sequence[Promotion], made: Sequence[Artifact]) -> dict[str, Artifact]:
    """Of each step what the night's last promotion names or was made from, or else the newest."""
    named: list[Artifact] = []
    with suppress(StoreError):  # damaged: the warning of that is out, and `recsys verify` says more
        named = [a for line in lines[-1:] for a in lineage(store, line.artifacts.values(), line.moment) if a.as_of == line.moment]
    return {artifact.step: artifact for artifact in [*made, *reversed(named)]}


def _cell(chosen: Artifact | None, tried: Attempt | None, last_run: str, current: Collection[tuple[str, str]]) -> Cell:
    if tried is not None and (tried.running or chosen is None or tried.at > _made_at(chosen)):
        error = "" if tried.running else tried.error or "It was killed, or the machine went down."
        return Cell("running" if tried.running else "failed", tried.version, at=tried.at, error=error)
    if chosen is None:
        return Cell("missing")
    state: State = "done" if _run(chosen) == last_run else "reused"
    return Cell(state, chosen.version, (chosen.step, chosen.version) in current, _made_at(chosen))


def _stops(drift: Sequence[Artifact]) -> str:
    """Why the night's tables are not used, where they drifted too far: what the last look at them said."""
    return " ".join(f"Drift: {sentence}." for sentence in drift[-1].metrics["stops"]) if drift else ""


def _decision(lines: Sequence[Promotion], now: Promotion | None) -> str:
    if not lines:
        return ""
    if now is not None and now.moment == lines[-1].moment:
        return "current"
    return {"hold": "held", "rollback": "taken back", "backfill": "made"}.get(lines[-1].action, "published")


def _made_at(artifact: Artifact) -> datetime:
    return datetime.fromtimestamp((artifact.path / "manifest.json").stat().st_mtime, timezone.utc)


def _run(artifact: Artifact | None) -> str:
    """The run that made it; a step whose artifact another run made was reused by the night's last one."""
    if artifact is None:
        return ""
    try:
        return str(json.loads((artifact.path / "run.json").read_text()).get("prefect_flow_run", ""))
    except (OSError, ValueError):  # nothing depends on it
        return ""
