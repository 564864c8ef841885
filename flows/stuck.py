"""Runs that go on for too long. Whoever is on call is told of each; one of the schedule is cancelled, since the next night waits for it.

A backfill, a backtest or a night that a person asked for may take days, and is only told.
"""

from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowFilter, FlowFilterName, FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Cancelling

from flows import alerts, deployments
from flows.alerts import Alert
from flows.paging import every
from recsys import turn, windows
from recsys.errors import RecsysError
from recsys.store import Store
from recsys.turn import Holder


def overlong(client: SyncPrefectClient, now: datetime, longest: timedelta) -> list[FlowRun]:
    """Runs of the deployed flows that are at work for longer than that, by the server's account."""
    running = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING])))
    ours = FlowFilter(name=FlowFilterName(any_=deployments.flows()))
    found = every(partial(client.read_flow_runs, flow_filter=ours, flow_run_filter=running))
    return [run for run in found if run.state is not None and now - run.state.timestamp > longest]


def end(client: SyncPrefectClient, run: FlowRun, longest: timedelta) -> Alert:
    """Cancel a run that a schedule began, unless it only waits for another one. The alert of it."""
    before = _waits_for(run)
    if ends := run.auto_scheduled and before is None:
        client.set_flow_run_state(run.id, Cancelling(message=f"It was at work for longer than {windows.spelt(longest)}."))
    return told(run, longest, ends, before)


def told(run: FlowRun, longest: timedelta, cancelled: bool, before: Holder | None) -> Alert:
    """Of a run that is at work for too long, or waits for too long for another one."""
    assert run.state is not None
    store, (night, rest) = alerts.store_of(run), alerts.once_more(run)
    why = f"It began at {run.state.timestamp:%Y-%m-%d %H:%M} UTC; the watch's `longest` is {windows.spelt(longest)}."
    if cancelled:
        remedy = f"Its log says what it did last. Where nights need longer, raise `longest`. Then {rest}"
    elif before is not None:
        why += f" It waits for {before}, which has the turn of {store}."
        remedy = f"Wait for that one, or end it: cancel its run, or `kill {before.process}` on {before.host} where the server knows none."
    else:
        remedy = f"Its log says what it does. Where nothing moves, `prefect flow-run cancel {run.id}`; else let it."
    cause, is_it = ("timed out", "was cancelled") if cancelled else ("runs too long", "is at work still")
    what = f"{run.name} {is_it} after {windows.spelt(longest)}. {alerts.stays(store)}".rstrip()
    return Alert(store or "watch", night, cause, what, why, remedy, alerts.places(run, store, "When a night stopped"))


def _waits_for(run: FlowRun) -> Holder | None:
    """The run that has the turn of the store meanwhile, if it is another one."""
    with suppress(RecsysError, OSError):  # a store that cannot be read here
        store = alerts.store_of(run)
        holder = turn.at_work(Store(store).root) if store else None
        return holder if holder is not None and holder.who != run.name else None
    return None
