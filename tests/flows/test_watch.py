"""The watch: runs that vanished, nights that are late, lists made from old data. Times are given, and never waited for."""

import re
from datetime import datetime, timedelta, timezone
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.events import emit_event
from prefect.states import Cancelling, Failed, Pending, State

from flows import deployments, paging, vanished, watch
from recsys.errors import ConfigError, RecsysError
from recsys.store import Store
from recsys.windows import label, midnight, parse_as_of
from tests.flows.conftest import Chat, at_work, night
from tests.flows.test_deployed import wait_for

TEN_MINUTES = timedelta(minutes=10)


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


def test_a_run_that_was_lost_before_it_began_is_silent_too(client: SyncPrefectClient, deployed: UUID) -> None:
    """Its server went away while the worker submitted it. It never gave a sign of life, and holds the slot all the same."""
    lost = client.create_flow_run_from_deployment(deployed)
    client.set_flow_run_state(lost.id, Pending(name="Submitting"))
    lost = client.read_flow_run(lost.id)
    assert lost.state is not None and slots(client, deployed) == 1
    assert not silent(client, lost, lost.state.timestamp + timedelta(minutes=9))
    assert silent(client, lost, lost.state.timestamp + timedelta(minutes=11))
    assert vanished.mark(client, lost, TEN_MINUTES).is_crashed() and slots(client, deployed) == 0


def test_a_run_that_vanished_is_crashed_and_the_next_night_has_its_slot(client: SyncPrefectClient, deployed: UUID) -> None:
    gone, following = at_work(client, deployed), client.create_flow_run_from_deployment(deployed)
    waits = client.set_flow_run_state(following.id, Pending())
    assert waits.state is not None and waits.state.name == "AwaitingConcurrencySlot", "it waits and is not cancelled"
    state = vanished.mark(client, gone, TEN_MINUTES)
    assert state.is_crashed() and str(state.message).startswith("No sign of life for 10 minutes: its machine went down")
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
    vanished.mark(client, run, TEN_MINUTES)
    client.update_global_concurrency_limit(limit.name, vanished.GlobalConcurrencyLimitUpdate(active_slots=1))
    assert len(vanished.free_slots(client, ["nightly"])) == 1 and slots(client, deployed) == 0


def test_a_run_that_was_cancelled_before_it_vanished_is_cancelled(client: SyncPrefectClient, deployed: UUID) -> None:
    run = at_work(client, deployed)
    client.set_flow_run_state(run.id, Cancelling())
    assert vanished.mark(client, client.read_flow_run(run.id), TEN_MINUTES).is_cancelled()
    assert slots(client, deployed) == 0


def test_a_silence_that_healthy_runs_keep_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vanished, "heartbeat", lambda: timedelta(seconds=180))
    vanished.check(timedelta(minutes=9))
    with pytest.raises(ConfigError, match="silence is 0:05:00, but a run gives a sign of life every 0:03:00 only: ask for 0:09:00"):
        vanished.check(timedelta(minutes=5))


def causes(client: SyncPrefectClient, deployment: UUID, now: str, max_age: timedelta = timedelta(days=9)) -> list[str]:
    found = watch.found_wrong(client, client.read_deployment(deployment), parse_as_of(now), "06:00", max_age)
    return [alert.cause for alert in found]


def test_lists_are_stale_by_their_newest_event(client: SyncPrefectClient, deployed: UUID, shop: Store) -> None:
    two_days = timedelta(days=2)
    assert causes(client, deployed, "2026-03-02T05:59", two_days) == ["not published by 06:00"]
    assert causes(client, deployed, "2026-03-02T06:00", two_days) == ["not published by 06:00", "stale data"]
    (_, stale) = watch.found_wrong(client, client.read_deployment(deployed), parse_as_of("2026-03-02T06:00"), "06:00", two_days)
    told = "Their newest event is of 2026-02-27 23:00 UTC, 49 hours before lists were due last, at 2026-03-02 00:00; 2d are allowed."
    assert stale.why == told
    night(shop, "2026-03-02", None)  # of data without times: as old as its night
    assert causes(client, deployed, "2026-03-04T06:00", two_days) == ["not published by 06:00"]
    assert causes(client, deployed, "2026-03-05T06:00", two_days) == ["not published by 06:00", "stale data"]


def test_lists_of_a_trial_are_not_stale_before_the_first_night_of_the_schedule_is_due(
    client: SyncPrefectClient, deployed: UUID, shop: Store
) -> None:
    """What a person published, of a night of long ago, before the deployment was made: nobody was to make newer lists yet."""
    new = client.read_deployment(deployed).model_copy(update={"created": parse_as_of("2026-06-01T10:00")})

    def causes(now: str) -> list[str]:
        return [alert.cause for alert in watch.found_wrong(client, new, parse_as_of(now), "06:00", timedelta(days=2))]

    assert causes("2026-06-02T05:59") == []
    assert causes("2026-06-02T06:00") == ["not published by 06:00", "stale data"]


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
    """A fault of ours in one thing, and a run whose parameters are none, are told, too."""

    def stale(store: Store) -> datetime:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(watch, "newest_event", stale)
    client.set_flow_run_state(at_work(client, deployed, "in spring").id, Failed(message="no"))
    name, today = client.read_deployment(deployed).name, label(midnight(datetime.now(timezone.utc)))
    assert look(name).is_completed()
    assert of(chat, shop) == {f"{today}: failed", f"{today}: not published by 00:00", f"{today}: store unreadable"}
    odd = next(message["body"] for message in chat.messages if message["subject"].endswith("failed") and str(shop.root) in message["body"])
    assert "look at the run: how it is made again cannot be said (ConfigError: as_of 'in spring' is no date or time" in odd


def look(name: str) -> State[None]:
    """The watch, as at one of its looks, at one deployment whose nights have to be there at midnight."""
    return watch.watch("00:00", "2d", "10m", "6h", (name,), return_state=True)  # type: ignore[no-any-return, call-overload]


def of(chat: Chat, shop: Store) -> set[str]:
    """What was told of a store, each once: night and cause."""
    ours = [message["subject"].removeprefix("recsys shop ") for message in chat.messages if f"--store {shop.root}" in message["body"]]
    assert len(ours) == len(set(ours))
    return set(ours)


def test_the_watch_fails_where_nobody_can_be_told_and_the_next_look_tells(
    client: SyncPrefectClient, deployed: UUID, shop: Store, chat: Chat
) -> None:
    name, tonight = client.read_deployment(deployed).name, label(midnight(datetime.now(timezone.utc)))
    chat.status = 503
    unheard = look(name)
    assert unheard.is_failed() and "Not everybody could be told, and the next look tries it again" in str(unheard.message)
    with pytest.raises(RecsysError, match=r"says why: \d+ alerts could not be sent."):
        unheard.result()
    chat.status = 200
    assert look(name).is_completed()
    assert of(chat, shop) == {f"{tonight}: not published by 00:00", f"{tonight}: stale data"}


def test_the_watch_says_that_nobody_is_told(
    client: SyncPrefectClient, deployed: UUID, shop: Store, prefect_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RECSYS_ALERTS", raising=False)
    state = look(client.read_deployment(deployed).name)
    assert state.is_completed() and str(state.message).endswith("Nobody is told of failures: RECSYS_ALERTS is not set.")


def test_all_that_ended_badly_lately_is_found_newest_first(
    client: SyncPrefectClient, deployed: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many they are: the server gives some at a time."""
    monkeypatch.setattr(paging, "PAGE", 2)
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
    vanished.mark(client, gone, TEN_MINUTES)
    for _ in range(2):
        state = look(name)
        assert state.is_completed() and str(state.message).startswith(f"Deployments: {name}. ")
    tonight = label(midnight(datetime.now(timezone.utc)))
    assert of(chat, shop) == {"2026-03-01: crashed", f"{tonight}: not published by 00:00", f"{tonight}: stale data"}


def test_a_look_is_named_by_its_minute(client: SyncPrefectClient, deployed: UUID, shop: Store) -> None:
    state = look(client.read_deployment(deployed).name)
    assert state.state_details.flow_run_id is not None
    assert re.fullmatch(r"watch-\d{4}-\d\d-\d\dT\d{4}", client.read_flow_run(state.state_details.flow_run_id).name)


def test_only_nights_on_a_schedule_are_looked_after_unless_named(client: SyncPrefectClient, deployed: UUID) -> None:
    name = client.read_deployment(deployed).name
    assert name not in [deployment.name for deployment in watch.scheduled(client, ())]
    assert [deployment.name for deployment in watch.scheduled(client, [name])] == [name]


def test_the_flows_that_are_watched_are_those_that_are_deployed() -> None:
    assert {"nightly", "backtest", "watch"} <= set(deployments.flows())
