"""Missed and late nights: made once each, oldest first, or skipped; and a date that is finished stays so."""

import json
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.states import State

from flows import missed
from flows.nightly import nightly
from flows.run import Run
from recsys import published, turn, windows
from recsys.errors import ContractError
from recsys.store import Store
from tests.flows.conftest import Chat, recorded_at

DAY = timedelta(days=1)
TODAY = windows.midnight(datetime.now(timezone.utc))


def record(store: Store, *nights: datetime, config: str = "c") -> list[published.Promotion]:
    """Nights that were made when they were due."""
    found = []
    for moment in nights:
        with recorded_at(windows.midnight(moment) + timedelta(hours=5)):
            found.append(published.publish(store, published.promotion(moment, config, "popular", {}, ("as always",))))
    return found


class Nights:
    """The flow on a store, as a schedule runs it. In place of its steps a night is put on record; what it was compared with is kept."""

    def __init__(self, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store, self.patch = Store(store), monkeypatch
        self.made: list[tuple[datetime, datetime | None]] = []
        self.broken: set[datetime] = set()
        monkeypatch.setattr("flows.nightly.made", self._make)

    def _make(self, run: Run, current: published.Promotion | None) -> published.Promotion:
        if run.as_of in self.broken:
            raise ContractError("low_day_volume")
        self.made.append((run.as_of, current and current.moment))
        return record(run.store, run.as_of, config=run.configuration)[0]

    def run(self, night: datetime, *, late: int | None, catch_up: int) -> State[published.Promotion | None]:
        """The run of the schedule for a night, when so many newer ones are due."""
        self.patch.setattr(missed, "nights_late", lambda: late)
        self.patch.setattr("flows.nightly.night_of", lambda as_of: night)
        return nightly(store=str(self.store.root), catch_up=catch_up, return_state=True)  # type: ignore[call-overload, no-any-return]


@pytest.fixture
def nights(prefect_server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nights:
    return Nights(tmp_path, monkeypatch)


def test_missed_are_the_nights_since_the_last_on_record(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert missed.nights(store, TODAY, 7) == [], "a store begins with its first night"
    record(store, TODAY - 5 * DAY, TODAY - 4 * DAY)
    assert missed.nights(store, TODAY, 7) == [TODAY - 3 * DAY, TODAY - 2 * DAY, TODAY - DAY]
    assert missed.nights(store, TODAY, 2) == [TODAY - 2 * DAY, TODAY - DAY], "the newest ones"
    assert missed.nights(store, TODAY, 0) == [] and missed.nights(store, TODAY - 3 * DAY, 7) == []
    record(store, TODAY - 2 * DAY + timedelta(hours=6))
    assert missed.nights(store, TODAY, 7) == [TODAY - DAY], "an hour of a day is that day's"


def test_nights_from_before_the_first_record_were_not_missed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with recorded_at(TODAY - 2 * DAY + timedelta(hours=9)):  # a trial, of a night of long ago
        published.publish(store, published.promotion(TODAY - 200 * DAY, "c", "popular", {}, ("as always",)))
    assert missed.nights(store, TODAY - 2 * DAY, 7) == missed.nights(store, TODAY - DAY, 7) == []
    assert missed.nights(store, TODAY, 7) == [TODAY - DAY]


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
    due = datetime.now(timezone.utc) - run["due"] * DAY
    as_read = {"flow_id": uuid4(), "expected_start_time": due, **{name: run[name] for name in ("auto_scheduled", "run_count")}}

    class Client:
        __enter__ = lambda self: self  # noqa: E731
        __exit__ = lambda self, *_: None  # noqa: E731

        def read_flow_run(self, _: object) -> FlowRun:
            """As a client reads it: its times are of a class of their own."""
            return FlowRun.model_validate(as_read)

    monkeypatch.setattr(missed, "get_client", lambda sync_client: Client())
    monkeypatch.setattr(missed, "runtime", SimpleNamespace(flow_run=SimpleNamespace(id="x")))
    assert missed.nights_late() == nights


def test_after_downtime_missed_nights_run_once_each_oldest_first(nights: Nights) -> None:
    record(nights.store, TODAY - 4 * DAY)
    done = nights.run(TODAY, late=0, catch_up=2)
    assert [night for night, _ in nights.made] == [TODAY - 2 * DAY, TODAY - DAY, TODAY], "the one before is older than catch_up"
    assert [before for _, before in nights.made] == [TODAY - 4 * DAY, TODAY - 2 * DAY, TODAY - DAY]
    assert done.result() == published.current(nights.store) and turn.at_work(nights.store.root) is None


def test_runs_that_come_late_keep_their_dates_and_do_nothing_twice(nights: Nights) -> None:
    """Prefect starts every run that was due meanwhile, in whatever order."""
    record(nights.store, TODAY - 4 * DAY)
    nights.run(TODAY - DAY, late=1, catch_up=2)
    assert [night for night, _ in nights.made] == [TODAY - 2 * DAY, TODAY - DAY]
    again = nights.run(TODAY - 2 * DAY, late=2, catch_up=2)
    assert again.message.startswith(f"{TODAY - 2 * DAY:%Y-%m-%d} was published with this configuration: nothing to do")
    skipped = nights.run(TODAY - 3 * DAY, late=3, catch_up=2)
    assert (skipped.name, skipped.result()) == ("Skipped", None) and skipped.is_completed()
    assert skipped.message == f"{TODAY - 3 * DAY:%Y-%m-%d} is skipped: 3 newer nights are due, and catch_up is 2."
    nights.run(TODAY, late=0, catch_up=2)
    assert [night for night, _ in nights.made] == [TODAY - 2 * DAY, TODAY - DAY, TODAY]


def test_by_policy_missed_nights_are_skipped(nights: Nights) -> None:
    record(nights.store, TODAY - 3 * DAY)
    assert [nights.run(TODAY - n * DAY, late=n, catch_up=0).name for n in (2, 1, 0)] == ["Skipped", "Skipped", "Completed"]
    assert nights.made == [(TODAY, TODAY - 3 * DAY)]


def test_a_person_runs_any_night_and_that_night_only(nights: Nights) -> None:
    record(nights.store, TODAY - 9 * DAY)
    nights.run(TODAY - 5 * DAY, late=None, catch_up=3)
    assert nights.made == [(TODAY - 5 * DAY, TODAY - 9 * DAY)]


def test_a_missed_night_that_cannot_be_made_stops_nobody(nights: Nights) -> None:
    record(nights.store, TODAY - 3 * DAY)
    nights.broken.add(TODAY - 2 * DAY)
    assert nights.run(TODAY, late=0, catch_up=3).is_completed()
    assert nights.made == [(TODAY - DAY, TODAY - 3 * DAY), (TODAY, TODAY - DAY)]


def test_what_becomes_of_a_missed_night_is_told_as_of_any_other(nights: Nights, chat: Chat) -> None:
    record(nights.store, TODAY - 4 * DAY)
    nights.broken.add(TODAY - 3 * DAY)
    nights.run(TODAY, late=0, catch_up=3)
    label = [windows.label(TODAY - n * DAY) for n in range(4)]
    rejected = [f"recsys {nights.store.root.name} {label[n]}: candidate rejected" for n in (2, 1, 0)]
    assert chat.subjects == [f"recsys {nights.store.root.name} {label[3]}: failed", *rejected]
    what, why, *_ = chat.messages[0]["body"].split("\n\n")
    assert what.startswith(f"{label[3]}, made up for by nightly-{label[0]}, failed. Published is ")
    assert why == "Why: ContractError: low_day_volume"


def test_after_a_run_that_was_killed_in_a_missed_night_tonight_comes_first(nights: Nights) -> None:
    record(nights.store, TODAY - 3 * DAY)
    (nights.store.root / ".locks").mkdir(exist_ok=True)
    killed = turn.Holder("nightly-before", 1, "here", "then", catching_up=windows.label(TODAY - 2 * DAY))
    (nights.store.root / ".locks" / "runs").write_text(json.dumps(asdict(killed)))
    nights.broken.add(TODAY - DAY)
    with nights.store.at_work("score"):
        assert turn.at_work(nights.store.root) is not None, "another run has its turn in between"
    assert nights.run(TODAY - DAY, late=1, catch_up=3).is_failed()
    nights.run(TODAY, late=0, catch_up=3)
    assert nights.made == [(TODAY, TODAY - 3 * DAY)], "also where a night in between came to nothing"
    with nights.store.at_work("score") as turn_after:
        assert turn_after.killed is None, "what was missed before a night that is done is nobody's any more"
