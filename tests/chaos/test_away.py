"""Server, worker, or the whole machine away while a night runs, and back; and a week of downtime."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.schedules import IntervalSchedule

from recsys import audit, published
from recsys.store import Store
from recsys.windows import midnight
from tests.chaos.machine import AS_JSON, Machine, is_at, kill
from tests.chaos.nights import Night, assert_whole, damaged
from tests.flows.test_deployed import wait_for

pytestmark = pytest.mark.chaos

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def brought_up(server: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    machine = Machine(tmp_path_factory.mktemp("machine"))
    try:
        machine.start_server()
        machine.deploy()
        yield machine
    finally:
        kill(*machine.started)


@pytest.fixture
def machine(brought_up: Machine) -> Iterator[Machine]:
    """With the server up, and no worker."""
    if brought_up.server.poll() is not None:
        brought_up.start_server()
    yield brought_up
    kill(*(process for process in brought_up.started if process is not brought_up.server))


def assert_made(store: Path, undisturbed: Night) -> None:
    """The night, or the next one where it came to its end before."""
    if published.current(Store(store)) is None:
        assert (again := Night(store)).run() == 0, again.said()
    assert_whole(store, undisturbed.store)


@pytest.mark.cases(3)
@pytest.mark.parametrize("step", ["features", "training", "publishing"])
def test_the_server_is_killed(step: str, machine: Machine, undisturbed: Night, tmp_path: Path) -> None:
    """The server killed while a night is at a step, and started again at once: the night goes on, or the next one does"""
    night = Night(tmp_path / "store", api=machine.url)
    process = night.start()
    wait_for(lambda: is_at(night.store, step) or not process.is_alive(), 300, f"the night is at {step}")
    kill(*machine.started)
    machine.start_server()
    night.ended(process)
    assert_made(night.store, undisturbed)


@pytest.mark.cases(1)
def test_the_server_stays_away(machine: Machine, undisturbed: Night, tmp_path: Path) -> None:
    """The server killed while a night trains, and away for longer than it is asked again: the night goes on, or the next one does"""
    night = Night(tmp_path / "store", api=machine.url)
    process = night.start()
    wait_for(lambda: is_at(night.store, "training") or not process.is_alive(), 300, "the night trains")
    kill(*machine.started)
    process.join(100)
    machine.start_server()
    night.ended(process)
    assert_made(night.store, undisturbed)


@pytest.mark.cases(2)
@pytest.mark.parametrize("alone", [True, False], ids=["alone", "with its run"])
def test_the_worker_is_killed(alone: bool, machine: Machine, undisturbed: Night, tmp_path: Path) -> None:
    """The worker killed while its night trains, alone or with it, and another started: the night asked for again is made by that one"""
    store, worker = tmp_path / "store", machine.start_worker()
    first = machine.ask_for_a_night(store)
    wait_for(lambda: is_at(store, "training"), 300, "the night trains")
    kill(worker, alone=alone)
    machine.start_worker()
    second = machine.ask_for_a_night(store)
    assert machine.await_burial(first).is_final()
    assert machine.await_end(second, 300).is_completed(), machine.log.read_text()
    assert_whole(store, undisturbed.store)


@pytest.mark.cases(1)
def test_everything_is_killed(machine: Machine, undisturbed: Night, tmp_path: Path) -> None:
    """Server, worker and night killed at once, and brought up again: the night asked for again goes on where the first was"""
    store, _ = tmp_path / "store", machine.start_worker()
    first = machine.ask_for_a_night(store)
    wait_for(lambda: is_at(store, "training"), 300, "the night trains")
    kill(*machine.started)
    assert published.current(Store(store)) is None and damaged(store) == []
    machine.start_server()
    machine.start_worker()
    second = machine.ask_for_a_night(store)
    assert machine.await_burial(first).is_crashed()
    assert machine.await_end(second, 300).is_completed(), machine.log.read_text()
    assert_whole(store, undisturbed.store)


@pytest.mark.cases(1)
def test_a_week_of_downtime(machine: Machine, server: None, tmp_path: Path) -> None:
    """A night of the schedule after a week of downtime: the missed nights are made once each, oldest first, and then tonight"""
    tonight = midnight(datetime.now(timezone.utc))
    last = Night(tmp_path / "store", given={"as_of": tonight - 8 * DAY})
    assert last.run() == 0, last.said()
    made_on_its_day(last.store)
    with machine.client() as client:
        deployment = machine.nightly(client).id
        client.update_deployment(deployment, DeploymentUpdate(parameters={"store": str(last.store), **AS_JSON, "catch_up": 7}))
        client.create_deployment_schedules(deployment, [(IntervalSchedule(interval=timedelta(minutes=1)), True)])
    machine.start_worker()
    store = Store(last.store)
    wait_for(lambda: published.history(store)[-1].moment == tonight, 500, f"tonight is published: {machine.log.read_text()[-5000:]}")
    assert [line.moment for line in published.history(store)] == [tonight - n * DAY for n in range(8, -1, -1)]
    assert damaged(last.store) == [] and list(audit.audit_pointer(store)) == []


def made_on_its_day(store: Path) -> None:
    """What was put on record today is on record as of its night: nights from before the first record are nobody's."""
    record = store / "promotions.jsonl"
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    record.write_text("".join(json.dumps({**line, "at": line["as_of"]}) + "\n" for line in lines))
