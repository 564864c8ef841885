"""Nights that are due by a deployment's schedules, and those that are not published by their hour."""

import asyncio
from contextlib import suppress
from datetime import datetime, time, timedelta, timezone
from functools import partial

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId, FlowRunFilterExpectedStartTime
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort
from prefect.server.schemas.schedules import SCHEDULE_TYPES
from pydantic import TypeAdapter

from flows import alerts
from flows.alerts import Alert
from flows.paging import every
from recsys import published, windows
from recsys.errors import RecsysError
from recsys.store import Store

DAY = timedelta(days=1)
EVER = datetime.min.replace(tzinfo=timezone.utc)
WEEK = timedelta(days=7)  # the watch was down for no longer: what was due before is history

_schedules: TypeAdapter[SCHEDULE_TYPES] = TypeAdapter(SCHEDULE_TYPES)  # those of the server know their dates


def missing(deployment: DeploymentResponse, store: Store, now: datetime, published_by: str) -> list[datetime]:
    """The nights since the last one that was decided whose hour has come, oldest first.

    A night's hour is the first `published_by` (UTC) from when its run is due. Those count that were due since the deployment
    was made; or before, where the record has nights of its schedule: then it is the server that was lost, and made again.
    """
    decided, since = last_decided(store), max(_at_work_since(deployment, store, now), now - WEEK)
    due = _dates(deployment, since if decided is None else max(since, decided + DAY), now)
    return sorted({windows.midnight(moment) for moment in due if _hour(moment, published_by) <= now})


def _at_work_since(deployment: DeploymentResponse, store: Store, now: datetime) -> datetime:
    """From when on nights that are due are the schedule's to make."""
    made = deployment.created or now
    return EVER if _ran_before(deployment, store, made) else made


def _ran_before(deployment: DeploymentResponse, store: Store, made: datetime) -> bool:
    """Whether the schedule was at work before the deployment was made: lately, two nights running were published on their own days.

    One that is made by hand, as a trial, is no schedule's, nor are those of a backfill, which are all of one day.
    """
    lines = [(line.moment, datetime.fromisoformat(line.at)) for line in published.history(store) if line.action != "backfill"]
    on_time = {night for night, at in lines if night == windows.midnight(at) and made - 2 * WEEK < at < made}
    if not on_time:
        return False
    newest = max(on_time)
    due = {windows.midnight(moment) for moment in _dates(deployment, newest - WEEK, newest + DAY)}
    running = sorted(night for night in due if night <= newest)[-2:]
    return len(running) == 2 and on_time.issuperset(running)


def last(deployment: DeploymentResponse, store: Store, now: datetime, published_by: str) -> datetime | None:
    """When the newest of its nights whose hour has come was due: now, without a schedule. None where none was in five weeks.

    As with `missing`, those count that were due since the deployment was made: what a person published before is a trial.
    """
    if not deployment.schedules:
        return now
    due = _dates(deployment, max(_at_work_since(deployment, store, now), now - 5 * WEEK), now)
    return max((moment for moment in due if _hour(moment, published_by) <= now), default=None)


def last_decided(store: Store) -> datetime | None:
    """The newest night that was published or held, whatever a person made of it since."""
    return max((windows.midnight(line.moment) for line in published.history(store) if line.action != "backfill"), default=None)


def late(client: SyncPrefectClient, deployment: DeploymentResponse, store: str, nights: list[datetime], published_by: str) -> Alert:
    """Of nights that are not published by their hour: of the newest, with those before it that nobody was told of, maybe."""
    label, run = windows.label(nights[-1]), run_of(client, deployment, nights[-1])
    if run is None:
        why = "No run of it is on the server's list."
        remedy = "Is the schedule on? Then `prefect flow-run ls --flow-name nightly --state-type SCHEDULED` lists the runs to come."
    elif run.state is not None and run.state.is_scheduled():
        why, remedy = f"{run.name} is {run.state.name}: nobody has begun it.", "Is a worker up, and has it room? Start one."
    else:
        assert run.state is not None
        why = f"{run.name} is {run.state.name} since {run.state.timestamp:%H:%M} UTC. {run.state.message or ''}".strip()
        remedy = "Wait for it, or look what it is at." if run.state.is_running() else f"See why, then {alerts.once_more(run)[1]}"
    names = ", ".join(map(windows.label, nights))
    what = f"{deployment.name}: {names} {'is' if len(nights) == 1 else 'are'} not published by {published_by} UTC. {alerts.stays(store)}"
    return Alert(store, label, f"not published by {published_by}", what, why, remedy, alerts.places(run, store, "When a night stopped"))


def run_of(client: SyncPrefectClient, deployment: DeploymentResponse, night: datetime) -> FlowRun | None:
    """The last run of a deployment that is for a night and was due by now, whoever asked for it."""
    since = FlowRunFilterExpectedStartTime(after_=night, before_=datetime.now(timezone.utc))
    due = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment.id]), expected_start_time=since)
    newest_first = partial(client.read_flow_runs, flow_run_filter=due, sort=FlowRunSort.EXPECTED_START_TIME_DESC)
    return next((run for run in every(newest_first) if _is_for(run, night)), None)


def _is_for(run: FlowRun, night: datetime) -> bool:
    with suppress(RecsysError, AttributeError, TypeError):  # of one run whose night is none, which hides none of the others
        return alerts.night_of(run) == windows.label(night)
    return False


def _dates(deployment: DeploymentResponse, start: datetime, end: datetime) -> list[datetime]:
    """When runs were due from `start` to `end`, by the schedules that are on; by all of them where none is, as of one that is named."""
    on = [one for one in deployment.schedules if one.active] or deployment.schedules
    schedules = [_schedules.validate_python(one.schedule.model_dump()) for one in on]
    due = [moment for schedule in schedules for moment in asyncio.run(schedule.get_dates(start=start, end=end))]
    return [datetime.fromtimestamp(moment.timestamp(), timezone.utc) for moment in due]  # from Prefect's own type


def _hour(moment: datetime, published_by: str) -> datetime:
    """The first time from a moment on at which the clock, in UTC, says `published_by`."""
    hour = datetime.combine(windows.midnight(moment), time.fromisoformat(published_by), timezone.utc)
    return hour if hour >= moment else hour + DAY
