"""Runs that are at work for too long. Times are given, and never waited for."""

from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, State

from flows import stuck
from recsys import turn
from recsys.store import Store
from tests.flows.conftest import at_work

LONGEST = timedelta(hours=6)


@pytest.fixture
def run(client: SyncPrefectClient, deployed: UUID) -> FlowRun:
    return at_work(client, deployed)


def of_a_schedule(run: FlowRun) -> FlowRun:
    return run.model_copy(update={"auto_scheduled": True})


def state(client: SyncPrefectClient, run: FlowRun) -> State:
    now = client.read_flow_run(run.id).state
    assert now is not None
    return now


def test_a_run_is_overlong_by_how_long_it_is_at_work(client: SyncPrefectClient, run: FlowRun) -> None:
    assert run.state is not None
    for minutes, found in ((-1, False), (1, True)):
        now = run.state.timestamp + LONGEST + timedelta(minutes=minutes)
        assert (run.id in [one.id for one in stuck.overlong(client, now, LONGEST)]) == found


def test_one_of_the_schedule_is_cancelled_and_told(client: SyncPrefectClient, run: FlowRun, shop: Store) -> None:
    alert = stuck.end(client, of_a_schedule(run), LONGEST)
    assert state(client, run).is_cancelling() and state(client, run).message == "It was at work for longer than 6h."
    assert alert.subject == "recsys shop 2026-03-01: timed out"
    assert alert.what == f"{run.name} was cancelled after 6h. Published is 2026-02-28."
    assert "then run it again: `prefect deployment run nightly/" in alert.remedy.lower()


def test_one_that_a_person_began_is_told_with_the_command_that_ends_it(client: SyncPrefectClient, run: FlowRun, shop: Store) -> None:
    alert = stuck.end(client, run, LONGEST)
    assert state(client, run).is_running()
    assert alert.subject == "recsys shop 2026-03-01: runs too long"
    assert f"`prefect flow-run cancel {run.id}`" in alert.remedy


def test_one_that_waits_is_not_cancelled_and_says_for_whom(client: SyncPrefectClient, run: FlowRun, shop: Store) -> None:
    with turn.turn(shop.root, "backfill-2026-01-01-2026-02-27"):
        alert = stuck.end(client, of_a_schedule(run), LONGEST)
    assert state(client, run).is_running()
    assert alert.cause == "runs too long" and "It waits for backfill-2026-01-01-2026-02-27 (process " in alert.why
    with turn.turn(shop.root, str(run.name)):
        assert stuck.end(client, of_a_schedule(run), LONGEST).cause == "timed out", "it has the turn itself"


def test_whatever_its_parameters_are_it_is_told(client: SyncPrefectClient, deployed: UUID, tmp_path: Path) -> None:
    odd = at_work(client, deployed, "in spring").model_copy(update={"parameters": {"as_of": "in spring", "store": "${NOT_SET}/shop"}})
    assert stuck.end(client, odd, LONGEST).subject.endswith(": runs too long")
