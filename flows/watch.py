"""The watch: looks every few minutes for what no run can say of itself, and tells whoever is on call.

That is runs that vanished or go on for too long, runs that ended badly while nobody could tell, nights that are not published
by their hour, and lists that are made from old data.
"""

import shlex
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta, timezone
from functools import partial
from itertools import chain
from typing import Annotated

from prefect import flow, get_client, get_run_logger, runtime
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Completed, State
from pydantic import Field

from flows import alerts, channel, deployments, due, stuck, vanished
from flows.alerts import Alert, Log
from flows.paging import every
from recsys import published, windows
from recsys.errors import RecsysError, StoreError
from recsys.lineage import lineage
from recsys.published import Promotion
from recsys.store import Store
from recsys.wording import counted

RECENT = timedelta(days=2)  # runs that ended badly before were told, or are history


def run_name() -> str:
    """`watch-2026-03-01T0410`, of the minute."""
    return f"watch-{runtime.flow_run.scheduled_start_time:%Y-%m-%dT%H%M}"


@flow(name="watch", flow_run_name=run_name, on_failure=[alerts.on_stop], on_crashed=[alerts.on_stop])
def watch(
    published_by: Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")] = "06:00",
    max_age: windows.Duration = "2d",
    silence: windows.Duration = "10m",
    longest: windows.Duration = "6h",
    names: tuple[str, ...] = (),
) -> State[None]:
    """Look after the nights of this server once. It is scheduled every few minutes; each thing is told once a night.

    It fails where something could not be told, which the next look tries again.

    Args:
        published_by: The hour, in UTC, by which a night that is due has to be published.
        max_age: The newest event that the published lists are made from may be this old when lists are due.
        silence: A run that gave no sign of life for so long has vanished, and is marked as crashed.
        longest: A run that is at work for longer is told, and cancelled where a schedule began it.
        names: Deployments of `nightly` to look after; those whose schedule is on unless given.
    """
    log, now = get_run_logger(), datetime.now(timezone.utc)
    with get_client(sync_client=True) as client:
        gone = bury(client, windows.duration(silence), log)
        looked_after = list(scheduled(client, names))
        most = windows.duration(longest)
        found = chain(
            (alerts.stopped(run, run.state) for run in ended_badly(client, now) if run.state is not None),
            (stuck.end(client, run, most) for run in stuck.overlong(client, now, most)),
            *(found_wrong(client, deployment, now, published_by, windows.duration(max_age)) for deployment in looked_after),
        )
        sent = tell(found, log)
    if sent["failed"] and channel.is_set():
        told = "Not everybody could be told, and the next look tries it again. The log of this run of the watch says why"
        raise RecsysError(f"{told}: {counted(sent['failed'], 'alert')} could not be sent.")
    stores = ", ".join(deployment.name for deployment in looked_after) or "none whose schedule is on"
    said = f"Deployments: {stores}. Vanished runs: {len(gone)}. Alerts sent: {sent['sent']}."
    return Completed(message=f"{said} {channel.gap()}".rstrip())


def tell(found: Iterable[Alert], log: Log) -> Counter[str]:
    """Send each as it is found, so that what stops the rest stops none of them. How many were sent, known before, or failed."""
    outcomes = dict[tuple[str, str], str]()
    for alert in found:
        if (once := (alert.store, alert.identity)) not in outcomes:
            outcomes[once] = alerts.send(alert, log)
    return Counter(outcomes.values())


def bury(client: SyncPrefectClient, silence: timedelta, log: Log) -> list[FlowRun]:
    """Mark the runs that vanished, and free what they held.

    A server that was down itself has heard nobody: who is silent is asked once more after the next heartbeat.
    """
    vanished.check(silence)
    flows = deployments.flows()
    suspects = vanished.silent(client, flows, datetime.now(timezone.utc), silence)
    if suspects:
        time.sleep(2 * vanished.heartbeat().total_seconds())
        suspects = vanished.silent(client, flows, datetime.now(timezone.utc), silence, among=[run.id for run in suspects])
    for run in suspects:
        log.warning("%s has vanished: %s", run.name, vanished.mark(client, run, silence).message)
    for name in vanished.free_slots(client, flows):
        log.warning("%s: its slot was not that of a run at work, and is counted anew.", name)
    return suspects


def ended_badly(client: SyncPrefectClient, now: datetime) -> list[FlowRun]:
    """Deployments' runs that failed or crashed lately; a state hook has told of them, unless its process died with them."""
    ended = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.FAILED, StateType.CRASHED])),
        end_time=FlowRunFilterEndTime(after_=now - RECENT), deployment_id=FlowRunFilterDeploymentId(is_null_=False),
    )  # fmt: skip
    ours = FlowFilter(name=FlowFilterName(any_=deployments.flows()))
    return list(every(partial(client.read_flow_runs, flow_filter=ours, flow_run_filter=ended, sort=FlowRunSort.END_TIME_DESC)))


def scheduled(client: SyncPrefectClient, names: Iterable[str]) -> Iterator[DeploymentResponse]:
    """The deployments of `nightly` with these names, or whose schedule is on."""
    wanted = DeploymentFilter(name=DeploymentFilterName(any_=list(names))) if names else None
    nightly = FlowFilter(name=FlowFilterName(any_=["nightly"]))
    for deployment in every(partial(client.read_deployments, flow_filter=nightly, deployment_filter=wanted)):
        is_on = not deployment.paused and any(schedule.active for schedule in deployment.schedules)
        if names or is_on:
            yield deployment


def found_wrong(
    client: SyncPrefectClient, deployment: DeploymentResponse, now: datetime, published_by: str, max_age: timedelta
) -> Iterator[Alert]:
    """What is wrong with what a deployment publishes."""
    folder, night = str(deployment.parameters.get("store", "store")), windows.midnight(now)
    try:
        store = Store(folder)
        if nights := due.missing(deployment, store, now, published_by):
            yield due.late(client, deployment, folder, nights, published_by)
        asked, newest = due.last(deployment, store, now, published_by), newest_event(store)
    except Exception as error:  # of one store, which silences none of the others
        yield unreadable(deployment, folder, night, error)
        return
    if asked is not None and newest is not None and asked - newest > max_age:
        yield stale(deployment, folder, night, asked, newest, max_age)


def unreadable(deployment: DeploymentResponse, store: str, night: datetime, error: Exception) -> Alert:
    """Of a store that nothing can be said of."""
    remedy = f"`recsys verify --store {shlex.quote(store)}` says what is damaged, and what to do."
    look = alerts.places(None, store, "When a night stopped")
    return Alert(store, windows.label(night), "store unreadable", f"{deployment.name}: its store is unreadable.", str(error), remedy, look)


def stale(deployment: DeploymentResponse, store: str, night: datetime, asked: datetime, newest: datetime, max_age: timedelta) -> Alert:
    """Of lists that are made from old data, by when lists were asked for last."""
    hours = (asked - newest) / timedelta(hours=1)
    since = f"{counted(round(hours), 'hour')} before lists were due last, at {asked:%Y-%m-%d %H:%M}"
    why = f"Their newest event is of {newest:%Y-%m-%d %H:%M} UTC, {since}; {windows.spelt(max_age)} are allowed."
    remedy = "Has the data stopped coming in, or are nights not published? Then readers get what was right days ago."
    what = f"{deployment.name}: the published lists are made from old data. {alerts.stays(store)}"
    return Alert(store, windows.label(night), "stale data", what, why, remedy, alerts.places(None, store, "The morning"))


def newest_event(store: Store) -> datetime | None:
    """When the newest event was that the published lists know of; their night where the data has no times. None where there are none."""
    now = published.current(store)
    if now is None:
        return None
    return newest_of(store, now) or now.moment


def newest_of(store: Store, promotion: Promotion) -> datetime | None:
    """By the manifests alone: whether the files are what was written is for `recsys verify`, which reads them all."""
    try:
        lists = store.get(promotion.artifacts["scoring"])
        made_from = lineage(store, [lists.reference], lists.as_of) if lists is not None else []
    except StoreError:  # damaged, which `recsys verify` is for
        return None
    features = next((artifact for artifact in made_from if artifact.step == "features"), None)
    if features is None:  # pruned
        return None
    at = features.manifest["profile"]["events"].get("event_at", {}).get("max")
    return windows.parse_as_of(at) if at else None
