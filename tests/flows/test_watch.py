"""The watch: runs that vanished, nights that are late, lists made from old data. Times are given, and never waited for."""

import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from uuid import UUID

import pytest
from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.events import emit_event
from prefect.states import Cancelling, Failed, Pending, Running

from flows import deployments, vanished, watch
from recsys import published
from recsys.errors import ConfigError
from recsys.store import Draft, Store
from recsys.windows import label, midnight, parse_as_of
from tests.flows.conftest import Chat
from tests.flows.test_deployed import wait_for

TEN_MINUTES = timedelta(minutes=10)


@pytest.fixture
def client(prefect_server: None) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def deployed(client: SyncPrefectClient, tmp_path: Path) -> UUID:
    """A deployment of `nightly` whose schedule is on, and whose next run waits for the one before."""
    return client.create_deployment(
        client.create_flow_from_name("nightly"), tmp_path.name, parameters={"store": str(tmp_path / "shop")}, concurrency_limit=1,
        concurrency_options={"collision_strategy": "ENQUEUE"}, schedules=[],
    )  # fmt: skip


def at_work(client: SyncPrefectClient, deployment: UUID) -> FlowRun:
    """A run that its worker has begun."""
    run = client.create_flow_run_from_deployment(deployment, parameters={"as_of": "2026-03-01"})
    client.set_flow_run_state(run.id, Pending())
    client.set_flow_run_state(run.id, Running())
    return client.read_flow_run(run.id)


def slots(client: SyncPrefectClient, deployment: UUID) -> int:
    limit = client.read_deployment(deployment).global_concurrency_limit
    assert limit is not None
    return limit.active_slots


def silent(client: SyncPrefectClient, run: FlowRun, at: datetime) -> bool:
    """Whether the run counts as silent at a moment."""
    return [one.id for one in vanished.silent(client, ["nightly"], at, TEN_MINUTES, among=[run.id])] == [run.id]


def test_a_run_is_silent_where_the_server_has_heard_nothing_for_long(client: SyncPrefectClient, deployed: UUID) -> None:
    run = at_work(client, deployed)
    assert run.state is not None
    assert not silent(client, run, run.state.timestamp + timedelta(minutes=9))
    assert silent(client, run, run.state.timestamp + timedelta(minutes=11))


def test_a_heartbeat_is_a_sign_of_life(client: SyncPrefectClient, deployed: UUID) -> None:
    run = at_work(client, deployed)
    assert run.state is not None
    began, beat = run.state.timestamp, datetime.now(timezone.utc)
    emit_event("prefect.flow-run.heartbeat", resource={"prefect.resource.id": f"prefect.flow-run.{run.id}"}, occurred=beat)
    wait_for(lambda: vanished.last_sign(client, run) == beat, 60, "the server has written the event")
    assert not silent(client, run, began + TEN_MINUTES + (beat - began) / 2), "ten minutes after it began, and not yet after its heartbeat"
    assert silent(client, run, beat + TEN_MINUTES + timedelta(seconds=1))


def test_a_run_that_vanished_is_crashed_and_the_next_night_has_its_slot(client: SyncPrefectClient, deployed: UUID) -> None:
    gone, following = at_work(client, deployed), client.create_flow_run_from_deployment(deployed)
    waits = client.set_flow_run_state(following.id, Pending())
    assert waits.state is not None and waits.state.name == "AwaitingConcurrencySlot", "it waits and is not cancelled"
    state = vanished.mark(client, gone)
    assert state.is_crashed() and "No sign of life since" in str(state.message)
    assert slots(client, deployed) == 0
    begins = client.set_flow_run_state(following.id, Pending())
    assert begins.state is not None and begins.state.is_pending()


def test_the_slot_of_a_run_at_work_is_not_taken_for_that_of_a_vanished_one(client: SyncPrefectClient, deployed: UUID) -> None:
    """Where the lease of the vanished run has run out and another has begun, Prefect frees the other one's slot."""
    run = at_work(client, deployed)
    limit = client.read_deployment(deployed).global_concurrency_limit
    assert limit is not None and vanished.free_slots(client, ["nightly"]) == []
    for wrong in (0, 1):
        client.update_global_concurrency_limit(limit.name, vanished.GlobalConcurrencyLimitUpdate(active_slots=wrong))
        assert len(vanished.free_slots(client, ["nightly"])) == (wrong == 0)
        assert slots(client, deployed) == 1
    vanished.mark(client, run)
    client.update_global_concurrency_limit(limit.name, vanished.GlobalConcurrencyLimitUpdate(active_slots=1))
    assert len(vanished.free_slots(client, ["nightly"])) == 1 and slots(client, deployed) == 0


def test_a_run_that_was_cancelled_before_it_vanished_is_cancelled(client: SyncPrefectClient, deployed: UUID) -> None:
    run = at_work(client, deployed)
    client.set_flow_run_state(run.id, Cancelling())
    assert vanished.mark(client, client.read_flow_run(run.id)).is_cancelled()
    assert slots(client, deployed) == 0


def test_a_silence_that_healthy_runs_keep_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vanished, "heartbeat", lambda: timedelta(seconds=180))
    vanished.check(timedelta(minutes=9))
    with pytest.raises(ConfigError, match="silence is 0:05:00, but a run gives a sign of life every 0:03:00 only: ask for 0:09:00"):
        vanished.check(timedelta(minutes=5))


def night(store: Store, as_of: str, newest_event: str | None, *, published_too: bool = True) -> published.Promotion:
    """A night of a store: its lists, made from a features artifact whose newest event is given."""
    moment = parse_as_of(as_of)

    def features(draft: Draft) -> None:
        draft.profile = {"events": {"event_at": {"max": newest_event}}}

    made = store.ensure("features", moment, {}, {}, features, code="recsys.store")
    lists = store.ensure("scoring", moment, {}, {"features": made}, lambda draft: None, code="recsys.store")
    found = published.promotion(moment, "a configuration", "candidate", {"scoring": lists}, ("It is the best.",))
    return published.publish(store, found) if published_too else published.set_aside(store, found, "backfill")


@pytest.fixture
def shop(tmp_path: Path) -> Store:
    """A store whose last night is of 28 February, with events until an hour before."""
    store = Store(tmp_path / "shop")
    night(store, "2026-02-28", "2026-02-27 23:00:00")
    return store


def causes(client: SyncPrefectClient, deployment: UUID, now: str, max_age: timedelta = timedelta(days=9)) -> list[str]:
    found = watch.found_wrong(client, client.read_deployment(deployment), parse_as_of(now), "06:00", max_age)
    return [alert.cause for alert in found]


def test_a_night_is_late_from_its_hour_until_it_is_decided(client: SyncPrefectClient, deployed: UUID, shop: Store) -> None:
    assert causes(client, deployed, "2026-03-01T05:59") == []
    assert causes(client, deployed, "2026-03-01T06:00") == ["not published by 06:00"]
    night(shop, "2026-03-01", None, published_too=False)
    assert causes(client, deployed, "2026-03-01T06:00") == ["not published by 06:00"], "a backfill publishes nothing"
    night(shop, "2026-03-01", None)
    assert causes(client, deployed, "2026-03-01T06:00") == []
    published.rollback(shop, "half of the lists are empty")
    assert causes(client, deployed, "2026-03-01T06:00") == [], "a person took it back, and knows"
    assert causes(client, deployed, "2026-03-02T06:00") == ["not published by 06:00"]


def test_why_a_night_is_late_is_what_its_run_is_at(client: SyncPrefectClient, deployed: UUID, shop: Store) -> None:
    now = datetime.now(timezone.utc) + timedelta(seconds=5)
    deployment, folder = client.read_deployment(deployed), str(shop.root)

    def why() -> tuple[str, str]:
        alert = watch.late(client, deployment, folder, now, "00:00")
        assert alert.night == label(midnight(now)) and "Published is 2026-02-28." in alert.what
        return alert.why, alert.remedy

    assert why()[0] == "No run of it is on the server's list for today."
    run = client.create_flow_run_from_deployment(deployed, name="tonight")
    assert why() == ("tonight is Scheduled: nobody has begun it.", "Is a worker up, and has it room? Start one.")
    client.set_flow_run_state(run.id, Pending())
    client.set_flow_run_state(run.id, Running())
    assert why()[0].startswith("tonight is Running since ") and why()[1].startswith("Wait for it")
    client.set_flow_run_state(run.id, Failed(message="SourceError: has the data arrived?"))
    assert why()[0].endswith("SourceError: has the data arrived?")
    assert why()[1] == f"Run it again: `prefect deployment run nightly/{deployment.name} -p as_of={label(midnight(now))}`."


def test_lists_are_stale_by_their_newest_event(client: SyncPrefectClient, deployed: UUID, shop: Store) -> None:
    two_days = timedelta(days=2)
    assert causes(client, deployed, "2026-03-01T05:00", two_days) == []
    assert causes(client, deployed, "2026-03-01T23:01", two_days) == ["not published by 06:00", "stale data"]
    (_, stale) = watch.found_wrong(client, client.read_deployment(deployed), parse_as_of("2026-03-01T23:01"), "06:00", two_days)
    assert stale.why == "Their newest event is of 2026-02-27 23:00 UTC, 48 hours ago; 2d are allowed."
    night(shop, "2026-03-01", None)  # of data without times
    assert causes(client, deployed, "2026-03-02T05:00", two_days) == []
    assert causes(client, deployed, "2026-03-03T00:01", two_days) == ["stale data"]


def test_a_store_that_cannot_be_read_is_told(client: SyncPrefectClient, deployed: UUID, shop: Store) -> None:
    history = shop.root / "promotions.jsonl"
    for damage in (b"not what was written\n", b"\xff\xfe\n"):
        history.write_bytes(damage)
        assert causes(client, deployed, "2026-03-01T05:00") == ["store unreadable"]
    history.unlink()
    history.mkdir()  # which only the disk refuses, as it does what nobody may read
    assert causes(client, deployed, "2026-03-01T05:00") == ["store unreadable"]


def test_the_watch_reads_no_tables(client: SyncPrefectClient, deployed: UUID, shop: Store) -> None:
    """Their bytes are for `recsys verify`: it looks every few minutes, at every store."""
    for artifact in shop.artifacts():
        (artifact.path / "not_what_was_written.parquet").write_bytes(b"damage")
    assert watch.newest_event(Store(shop.root)) == parse_as_of("2026-02-27T23:00")


def test_what_was_found_is_told_whatever_becomes_of_the_rest(
    client: SyncPrefectClient, deployed: UUID, shop: Store, chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stale(store: Store) -> datetime:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(watch, "newest_event", stale)
    name = client.read_deployment(deployed).name
    assert watch.watch("00:00", "2d", "10m", (name,), return_state=True).is_failed()
    ours = [message["subject"] for message in chat.messages if f"--store {shop.root}" in message["body"]]
    assert ours == [f"recsys shop {label(midnight(datetime.now(timezone.utc)))}: not published by 00:00"]


def test_all_that_ended_badly_lately_is_found_newest_first(
    client: SyncPrefectClient, deployed: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many they are: the server gives some at a time."""
    monkeypatch.setattr(watch, "PAGE", 2)
    ours = [at_work(client, deployed).id for _ in range(3)]
    for run in ours:
        client.set_flow_run_state(run, Failed(message="no"))
    found = [run.id for run in watch.ended_badly(client, datetime.now(timezone.utc))]
    assert [run for run in found if run in ours] == ours[::-1]


def test_the_timer_looks_between_the_looks_of_the_deployment() -> None:
    """Both tell what was not told yet: at one moment they would tell it twice."""
    (deployment,) = (one for one in deployments.read(deployments.FILE)["deployments"] if one["name"] == "watch")
    timer = (deployments.FILE.parent / "systemd" / "recsys-watch.timer").read_text()
    every = re.fullmatch(r"\*/(\d+) \* \* \* \*", deployment["schedules"][0]["cron"])
    first, then = map(int, re.findall(r"^OnCalendar=\*:(\d+)/(\d+)$", timer, re.MULTILINE)[0])
    assert every is not None and not set(range(0, 60, int(every[1]))) & set(range(first, 60, then))


def test_the_watch_tells_each_thing_once_and_also_what_no_hook_could_tell(
    client: SyncPrefectClient, deployed: UUID, shop: Store, chat: Chat
) -> None:
    """The process of a run that vanished ran no hook, and its worker none for it."""
    name = client.read_deployment(deployed).name
    gone = at_work(client, deployed)
    vanished.mark(client, gone)
    for _ in range(2):
        state = watch.watch("00:00", "2d", "10m", (name,), return_state=True)
        assert state.is_completed() and str(state.message).startswith(f"Deployments: {name}. ")
    tonight = label(midnight(datetime.now(timezone.utc)))
    ours = sorted(message["subject"] for message in chat.messages if f"--store {shop.root}" in message["body"])
    assert ours == sorted([
        "recsys shop 2026-03-01: crashed", f"recsys shop {tonight}: not published by 00:00", f"recsys shop {tonight}: stale data",
    ])  # fmt: skip


def test_only_nights_on_a_schedule_are_looked_after_unless_named(client: SyncPrefectClient, deployed: UUID) -> None:
    name = client.read_deployment(deployed).name
    assert name not in [deployment.name for deployment in watch.scheduled(client, ())]
    assert [deployment.name for deployment in watch.scheduled(client, [name])] == [name]


def test_the_flows_that_are_watched_are_those_that_are_deployed() -> None:
    assert {"nightly", "backtest", "watch"} <= set(deployments.flows())
