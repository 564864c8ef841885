"""Missed and late nights: made once each, oldest first, or skipped; and a date that is finished stays so."""

import json
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.states import State

from flows import missed
from flows.nightly import nightly
from recsys import published, turn, windows
from recsys.config import Data, Evaluation, Features, Model, Promotion, Shop, Training
from recsys.published import Promotion as Published
from recsys.store import Store

DAY = timedelta(days=1)
TODAY = windows.midnight(datetime.now(timezone.utc))
TINY: dict[str, Any] = {
    "data": Data(demo=Shop(n_users=100, n_items=40)),
    "model": Model(width=16, max_events=10),
    "training": Training(max_epochs=1, users_per_batch=32, n_validation_users=50, refit=False),
    "evaluation": Evaluation(n_bootstrap=100),
    "promotion": Promotion(min_users=1, min_lift=-1.0, tolerance=1.0),
}


def night(store: Path, **given: Any) -> State[Published | None]:
    return nightly(store=str(store), return_state=True, **{**TINY, **given})  # type: ignore[call-overload, no-any-return]


def late(monkeypatch: pytest.MonkeyPatch, nights: int | None) -> None:
    """As if a schedule had asked for the runs that follow, and so many newer nights were due by now."""
    monkeypatch.setattr(missed, "nights_late", lambda: nights)


def made(store: Path) -> list[datetime]:
    """The nights on record, in the order in which they were made."""
    return [line.moment for line in published.history(Store(store))]


def record(store: Store, *nights: datetime) -> None:
    for moment in nights:
        published.publish(store, published.promotion(moment, "c", "popular", {}, ("as always",)))


def test_missed_are_the_nights_since_the_last_on_record(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert missed.nights(store, TODAY, 7) == [], "a store begins with its first night"
    record(store, TODAY - 5 * DAY, TODAY - 4 * DAY)
    assert missed.nights(store, TODAY, 7) == [TODAY - 3 * DAY, TODAY - 2 * DAY, TODAY - DAY]
    assert missed.nights(store, TODAY, 2) == [TODAY - 2 * DAY, TODAY - DAY], "the newest ones"
    assert missed.nights(store, TODAY, 0) == [] and missed.nights(store, TODAY - 3 * DAY, 7) == []
    record(store, TODAY - 2 * DAY + timedelta(hours=6))
    assert missed.nights(store, TODAY, 7) == [TODAY - DAY], "an hour of a day is that day's"


@pytest.mark.parametrize(
    ("run", "nights"),
    [
        ({"auto_scheduled": True, "run_count": 1, "due": 0.1}, 0),
        ({"auto_scheduled": True, "run_count": 1, "due": 2.5}, 2),
        ({"auto_scheduled": True, "run_count": 1, "due": -0.1}, 0),  # started from the UI before its hour
        ({"auto_scheduled": True, "run_count": 2, "due": 2.5}, None),  # tried again by a person
        ({"auto_scheduled": False, "run_count": 1, "due": 2.5}, None),
    ],
)
def test_how_late_a_run_of_the_schedule_is(monkeypatch: pytest.MonkeyPatch, run: dict[str, Any], nights: int | None) -> None:
    class Client:
        __enter__ = lambda self: self  # noqa: E731
        __exit__ = lambda self, *_: None  # noqa: E731

        def read_flow_run(self, _: object) -> SimpleNamespace:
            return SimpleNamespace(**run, expected_start_time=datetime.now(timezone.utc) - run["due"] * DAY)

    monkeypatch.setattr(missed, "get_client", lambda sync_client: Client())
    monkeypatch.setattr(missed, "runtime", SimpleNamespace(flow_run=SimpleNamespace(id="x")))
    assert missed.nights_late() == nights


@pytest.mark.usefixtures("prefect_server")
def test_after_downtime_missed_nights_run_once_each_oldest_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    night(tmp_path, as_of=TODAY - 4 * DAY)
    late(monkeypatch, 0)
    caught_up = night(tmp_path, catch_up=2)
    assert made(tmp_path) == [TODAY - 4 * DAY, TODAY - 2 * DAY, TODAY - DAY, TODAY], "the one before is older than catch_up"
    assert caught_up.result() == published.current(Store(tmp_path)) and turn.holder(tmp_path) is None
    compared = Store(tmp_path).open(caught_up.result().artifacts["evaluation"]).manifest["inputs"]["current"]
    assert compared["as_of"] == (TODAY - DAY).isoformat(), "each is compared with the one before it"

    late(monkeypatch, 1)  # the run that Prefect had planned for yesterday comes after all
    monkeypatch.setattr("flows.nightly.night_of", lambda as_of: TODAY - DAY)
    monkeypatch.setattr("flows.nightly.run_name", lambda: "nightly")
    again = night(tmp_path, catch_up=2)
    assert again.message == f"{TODAY - DAY:%Y-%m-%d} was published with this configuration: nothing to do." and len(made(tmp_path)) == 4

    monkeypatch.setattr("flows.nightly.night_of", lambda as_of: TODAY - 3 * DAY)
    late(monkeypatch, 3)
    skipped = night(tmp_path, catch_up=2)
    assert (skipped.name, skipped.result()) == ("Skipped", None) and len(made(tmp_path)) == 4
    assert skipped.message == f"{TODAY - 3 * DAY:%Y-%m-%d} is skipped: 3 newer nights are due, and catch_up is 2."


@pytest.mark.usefixtures("prefect_server")
def test_a_missed_night_that_cannot_be_made_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(Store(tmp_path), TODAY - 2 * DAY)
    late(monkeypatch, 0)
    broken = night(tmp_path, catch_up=3, features=Features(min_day_volume=99.0))
    assert broken.is_failed() and made(tmp_path) == [TODAY - 2 * DAY], "tonight's own stops the run"

    killed = turn.Holder("nightly-before", 1, "here", "then", catching_up=windows.label(TODAY - DAY))
    (tmp_path / ".locks" / "runs").write_text(json.dumps(asdict(killed)))
    after = night(tmp_path, catch_up=3)
    assert after.is_completed() and made(tmp_path) == [TODAY - 2 * DAY, TODAY], "after a run that was killed in a missed night"
