"""Runs that vanished: their machine is down or their worker was killed with them, and Prefect leaves them Running for ever.

A run at work sends a heartbeat every PREFECT_FLOWS_HEARTBEAT_FREQUENCY seconds, from its first moment on. One that is silent
for longer is marked as crashed. A deployment's slot, for which the next night waits, is then counted anew: Prefect takes a
slot from whoever holds it where the lease of the vanished run has run out before.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.events.filters import EventFilter, EventNameFilter, EventOrder, EventResourceFilter
from prefect.settings import get_current_settings

from flows.paging import every
from recsys.errors import ConfigError

AT_WORK = FlowRunFilterState(  # what holds a slot
    type=FlowRunFilterStateType(any_=[StateType.PENDING, StateType.RUNNING, StateType.CANCELLING])
)
BEATS = 3  # that a run may miss: a busy machine delays one


def heartbeat() -> timedelta:
    """Time between two signs of life, as this process would give them."""
    return timedelta(seconds=get_current_settings().flows.heartbeat_frequency or 0)


def check(silence: timedelta) -> None:
    """ConfigError for a silence that healthy runs keep between their signs of life."""
    if silence < BEATS * heartbeat():
        raise ConfigError(
            f"silence is {silence}, but a run gives a sign of life every {heartbeat()} only: ask for {BEATS * heartbeat()} or more, or "
            "lower PREFECT_FLOWS_HEARTBEAT_FREQUENCY, for the workers too."
        )


def silent(
    client: SyncPrefectClient, flows: Sequence[str], now: datetime, silence: timedelta, among: Collection[UUID] = ()
) -> list[FlowRun]:
    """Runs of these flows that are at work by the server's account, and of which it has heard nothing for so long."""
    at_work = FlowRunFilter(state=AT_WORK)
    if among:
        at_work.id = FlowRunFilterId(any_=list(among))
    ours = FlowFilter(name=FlowFilterName(any_=list(flows)))
    found = every(partial(client.read_flow_runs, flow_filter=ours, flow_run_filter=at_work))
    return [run for run in found if now - last_sign(client, run) > silence]


def last_sign(client: SyncPrefectClient, run: FlowRun) -> datetime:
    """When the server last heard of a run: its newest heartbeat, or when it came into its state."""
    assert run.state is not None
    beats = EventFilter(
        event=EventNameFilter(name=["prefect.flow-run.heartbeat"]), resource=EventResourceFilter(id=[f"prefect.flow-run.{run.id}"]),
        order=EventOrder.DESC,
    )  # fmt: skip
    return max([run.state.timestamp, *(event.occurred for event in client.read_events(beats, limit=1).events)])


def message(silence: timedelta) -> str:
    """What is said of a run that vanished, whoever found it."""
    minutes = f"{silence / timedelta(minutes=1):g} minutes"
    return f"No sign of life for {minutes}: its machine went down, or it was killed with its worker. Finished steps are reused."


def mark(client: SyncPrefectClient, run: FlowRun, silence: timedelta) -> State:
    """Say that a run is over, as its process cannot any more. What it is then, by the server's account."""
    assert run.state is not None
    over = StateType.CANCELLED if run.state.type is StateType.CANCELLING else StateType.CRASHED
    done = client.set_flow_run_state(run.id, State(type=over, message=message(silence)))
    return done.state or run.state


def free_slots(client: SyncPrefectClient, flows: Sequence[str]) -> list[str]:
    """Count the slots of these flows' deployments by who is at work. The names of those that were counted wrongly."""
    wrong, ours = [], FlowFilter(name=FlowFilterName(any_=list(flows)))
    for deployment in every(partial(client.read_deployments, flow_filter=ours)):
        limit = deployment.global_concurrency_limit
        if limit is None:
            continue
        at_work = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment.id]), state=AT_WORK)
        taken = len(list(every(partial(client.read_flow_runs, flow_run_filter=at_work))))
        if limit.active_slots != taken:
            client.update_global_concurrency_limit(limit.name, GlobalConcurrencyLimitUpdate(active_slots=taken))
            wrong.append(deployment.name)
    return wrong
