"""The grid of nights and steps: what is done, reused, at work, failed or missing, and what became of the night."""

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from recsys import attempts, published
from recsys.errors import ContractError, SourceError
from recsys.status import STEPS, Cell, status
from recsys.store import Artifact, Draft, Store

DAYS = [datetime(2017, 10, 15, tzinfo=timezone.utc) + timedelta(days=n) for n in range(3)]


def made(root: Path, run: str, step: str, as_of: datetime, config: str = "", **inputs: Artifact) -> Artifact:
    """An artifact that the run makes or reuses: 100 bytes in a table."""

    def build(draft: Draft) -> None:
        (draft.path / "table.txt").write_text(f"{step} {as_of:%d} {config}".ljust(100))

    return Store(root, {"prefect_flow_run": run}).ensure(step, as_of, {"x": config}, inputs, build, code="recsys.windows")


def night(root: Path, run: str, as_of: datetime, config: str = "") -> published.Promotion:
    """A published night whose configuration says something of scoring only."""
    features = made(root, run, "features", as_of)
    training = made(root, run, "training", as_of, features=features)
    scoring = made(root, run, "scoring", as_of, config, training=training)
    promotion = published.promotion(as_of, config, "candidate", {"training": training, "scoring": scoring}, ("better",))
    return published.publish(Store(root), promotion)


def states(cells: dict[str, Cell]) -> dict[str, str]:
    return {step: cell.state for step, cell in cells.items() if cell.state != "missing"}


def test_a_store_without_nights(tmp_path: Path) -> None:
    assert status(Store(tmp_path), 7) == []


def test_what_another_run_made_was_reused(tmp_path: Path) -> None:
    night(tmp_path, "one", DAYS[0])
    (first,) = status(Store(tmp_path), 7)
    assert list(first.steps) == list(STEPS) and states(first.steps) == dict.fromkeys(("features", "training", "scoring"), "done")
    last = night(tmp_path, "two", DAYS[0], "another rule")
    (again,) = status(Store(tmp_path), 7)
    assert states(again.steps) == {"features": "reused", "training": "reused", "scoring": "done"}
    scoring = again.steps["scoring"]
    assert (scoring.version, scoring.published, scoring.versions) == (last.artifacts["scoring"]["version"], True, 2)
    assert scoring.bytes > again.steps["training"].bytes > 100 and scoring.at is not None
    assert not again.steps["features"].published, "it is not named, only what is made from it"


def test_the_newest_nights_come_first_and_say_what_became_of_them(tmp_path: Path) -> None:
    for day in DAYS:
        night(tmp_path, "one", day)
    published.rollback(Store(tmp_path), "bad lists")
    published.set_aside(Store(tmp_path), published.promotion(DAYS[2] + timedelta(days=1), "c", "candidate", {}, ("held",)), "hold")
    made(tmp_path, "two", "features", DAYS[2] + timedelta(days=1))
    assert [(one.label[-2:], one.decision) for one in status(Store(tmp_path), 3)] == [
        ("18", "held"),
        ("17", "taken back"),
        ("16", "current"),
    ]
    assert status(Store(tmp_path), 9)[-1].decision == "published"


def test_what_failed_says_why_and_what_is_at_work_says_so(tmp_path: Path) -> None:
    night(tmp_path, "one", DAYS[0])
    seen = []

    def fail(draft: Draft) -> None:
        seen.extend(status(Store(tmp_path), 7))
        raise ContractError("3 rows without a user")

    with pytest.raises(ContractError):
        Store(tmp_path).ensure("features", DAYS[1], {}, {}, fail, code="recsys.windows")
    assert states(seen[0].steps) == {"features": "running"}
    failed = status(Store(tmp_path), 7)[0]
    assert states(failed.steps) == {"features": "failed"} and failed.decision == ""
    assert failed.steps["features"].error == "ContractError: 3 rows without a user"
    made(tmp_path, "two", "features", DAYS[1], "the limit is another now")
    assert states(status(Store(tmp_path), 7)[0].steps) == {"features": "done"}


def test_a_night_whose_source_is_not_there_is_on_the_grid(tmp_path: Path) -> None:
    night(tmp_path, "one", DAYS[0])
    with pytest.raises(SourceError), attempts.noted(tmp_path, "features", "2017-10-16"):
        raise SourceError("no file matches events/*.parquet")
    tonight, last = status(Store(tmp_path), 7)
    assert tonight.label == "2017-10-16" and states(tonight.steps) == {"features": "failed"}
    assert tonight.steps["features"].error == "SourceError: no file matches events/*.parquet"
    assert states(last.steps) == dict.fromkeys(("features", "training", "scoring"), "done")
    with attempts.noted(tmp_path, "features", "2017-10-16"):
        made(tmp_path, "two", "features", DAYS[1])
    assert states(status(Store(tmp_path), 7)[0].steps) == {"features": "done"}


def test_a_killed_attempt_failed_without_a_reason(tmp_path: Path) -> None:
    (tmp_path / ".scratch" / "training-2017-10-16-3f9c2a71b0de").mkdir(parents=True)
    (night,) = status(Store(tmp_path), 7)
    assert night.label == "2017-10-16" and night.steps["training"].state == "failed" and "killed" in night.steps["training"].error


def test_a_damaged_manifest_leaves_a_gap_and_stops_nothing(tmp_path: Path) -> None:
    promotion = night(tmp_path, "one", DAYS[0])
    (Store(tmp_path).find("training", version=promotion.artifacts["training"]["version"]).path / "manifest.json").write_text("{")
    (one,) = status(Store(tmp_path), 7)
    assert states(one.steps) == {"features": "done", "scoring": "done"}
