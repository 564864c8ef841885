"""Messages to whoever is on call: what happened to which night, why, what to do and where to look. Each is sent once.

What was sent is an artifact in the UI, `{store}-alerts`, by which a later run knows of it. A message that cannot be sent is
logged, and sent by a later look of the watch. Where they go: flows.channel.
"""

import json
import logging
import re
import shlex
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from prefect import Flow, get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.sorting import ArtifactSort
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound
from prefect.logging.loggers import LoggingAdapter, flow_run_logger
from prefect.states import Failed
from prefect.utilities.urls import url_for

from flows import channel, local, ui
from recsys import published, windows
from recsys.errors import RecsysError
from recsys.features.drift import findings_of
from recsys.published import Promotion
from recsys.store import Store

REMEMBERED = 200  # alerts of a store: those before are of nights long past
LONGEST = 2000  # characters of the reason: chats cut more
BY_SCHEDULE = ("nightly", "backtest")  # flows whose night, where none is given, follows from when they are due
OF_PEOPLE = ("users",)  # parameters that do not leave the machine
OF_ITS_REASON = ("failed", "crashed", "timed out", "runs too long")  # causes that are another with another reason

Log = logging.Logger | LoggingAdapter
Sending = Literal["sent", "known", "failed"]


@dataclass(frozen=True)
class Alert:
    """What whoever is on call has to know. Night and cause are what is said once."""

    store: str  # as configured: where its `${NAME}` is not set, that is the trouble
    night: str
    cause: str  # "failed", "stale data", …
    what: str
    why: str
    remedy: str
    look: tuple[str, ...]

    @property
    def subject(self) -> str:
        return f"recsys {Path(self.store).name} {self.night}: {self.cause}"

    @property
    def text(self) -> str:
        """The message, a paragraph each."""
        reason = without_rows(self.why)
        reason = reason if len(reason) <= LONGEST else f"{reason[:LONGEST]} …"
        where = "\n".join(f"- {place}" for place in self.look)
        return f"{self.what}\n\nWhy: {reason}\n\nWhat to do: {self.remedy}\n\nWhere to look:\n{where}"

    @property
    def identity(self) -> str:
        """Equal for the same cause of the same night: a step that fails otherwise than before is another cause."""
        return f"{self.night} {self.cause}: {self.why.partition(chr(10))[0][:100] if self.cause in OF_ITS_REASON else ''}".rstrip(": ")


def send(alert: Alert, log: Log, run: FlowRun | None = None) -> Sending:
    """Send an alert that was not sent yet, and put it among the artifacts of its run. Whether it went out now; nothing is raised."""
    try:
        if _was_sent(alert):
            return "known"
        log.warning("%s\n%s", alert.subject, alert.text)
        if not channel.is_set():
            log.warning("%s docs/operate.md says how to set one up.", channel.gap())
            return "failed"
        channel.by_block(alert.subject, alert.text)
        _note(alert, run)
        return "sent"
    except Exception as error:  # of a network, a chat, or the server: the night goes on whatever it is
        log.error("The alert %r could not be sent: %s", alert.subject, channel.reason(error))
        return "failed"


def stopped(run: FlowRun, state: State) -> Alert:
    """Of a run that failed or crashed."""
    cause, store, (night, rest) = state.type.value.lower(), store_of(run), once_more(run)
    why = re.sub(r"^(Flow run encountered an exception|Task run encountered an exception)[^:]*: ", "", state.message or "Nothing was said.")
    return Alert(
        store or "watch", night, cause, f"{run.name} {cause}. {stays(store)}".rstrip(), why,
        f"Put right what the message names, then {rest}", places(run, store, "When a night stopped"),
    )  # fmt: skip


def decided(run: FlowRun, promotion: object) -> list[Alert]:
    """Of a night that published somebody else than its candidate, or waits for a person; and of the drift of its data."""
    if not isinstance(promotion, Promotion):  # it was skipped
        return []
    store, night = store_of(run), windows.label(promotion.moment)
    look, found, reasons = places(run, store, "The morning"), [], "\n".join(promotion.reasons)
    if promotion.action == "hold":
        what = f"The new model of {night} is within the limits and waits for a person. {stays(store)}"
        remedy = f"Look at its lists, then `recsys promote {promotion.id} --store {shlex.quote(store)} --why …`, or leave it."
        found.append(Alert(store, night, "waits for a person", what, reasons, remedy, look))
    elif promotion.source != "candidate":
        what = f"{night} is published, but not with its new model: with the lists of {promotion.source}."
        remedy = "Readers have lists. Compare the night with one before: is it the data, the training, or the limits of `promotion`?"
        found.append(Alert(store, night, "candidate rejected", what, reasons, remedy, look))
    if drift := [finding.sentence for finding in findings_of(Store(store), promotion.moment)]:
        what = f"The data of {night} differ from those of the last nights. {stays(store)}"
        remedy = "Is the change meant? If not, mend the source and run the night again; its lists are made from these data."
        found.append(Alert(store, night, "data drift", what, "\n".join(drift), remedy, look))
    return found


def on_stop(flow: Flow[..., Any], flow_run: FlowRun, state: State) -> None:
    """State hook of a run that failed or crashed. Of one that was killed, the worker runs it, who knows it as it was submitted."""
    _on_state(flow_run, lambda: [stopped(_as_it_is(flow_run), state)])


def on_decision(flow: Flow[..., Any], flow_run: FlowRun, state: State) -> None:
    """State hook of a completed night."""
    _on_state(flow_run, lambda: decided(flow_run, state.result()))


def on_missed(night: str, outcome: Promotion | Exception) -> None:
    """What these hooks say, of a missed night that the run at work made before its own."""
    context = FlowRunContext.get()
    assert context is not None and context.flow_run is not None
    ours = context.flow_run
    named = {"name": f"{night}, made up for by {ours.name},", "parameters": {**ours.parameters, "as_of": night}}
    run = ours.model_copy(update=named)
    if isinstance(outcome, Promotion):
        _on_state(run, lambda: decided(run, outcome))
    else:
        state: State = Failed(message=f"{type(outcome).__name__}: {outcome}")
        _on_state(run, lambda: [stopped(run, state)])


def _as_it_is(run: FlowRun) -> FlowRun:
    """The run with its name, which it takes when it begins."""
    with get_client(sync_client=True) as client:
        return client.read_flow_run(run.id)


def _on_state(run: FlowRun, alerts: Callable[[], list[Alert]]) -> None:
    if not channel.is_set():  # by hand: the terminal says it all
        return
    log = flow_run_logger(run)
    try:
        found = alerts()
    except Exception as error:  # a hook must not hide what became of its run
        log.error("No alert was made of this run: %s", channel.reason(error))
        return
    for alert in found:
        send(alert, log, run)


def night_of(run: FlowRun) -> str:
    """The night that a run is for, or the nights of a backfill, as labels."""
    asked = run.parameters
    if asked.get("first") and asked.get("last"):
        return f"{windows.label(windows.parse_as_of(asked['first']))} to {windows.label(windows.parse_as_of(asked['last']))}"
    if asked.get("as_of"):
        return windows.label(windows.parse_as_of(asked["as_of"]))
    due = run.expected_start_time or run.start_time
    return windows.label(windows.midnight(due)) if due is not None else "no night"


def stays(store: str) -> str:
    """What readers see meanwhile, in a sentence; nothing where the store cannot be read, which may be the trouble, or is none."""
    if not store:
        return ""
    with suppress(RecsysError, OSError):
        now = published.current(Store(store))
        return f"Published is {windows.label(now.moment)}." if now is not None else "Nothing is published yet."
    return ""


def store_of(run: FlowRun) -> str:
    """The store of a run, as it was given; empty of the watch, which looks after all of them."""
    return str(run.parameters.get("store", ""))


def once_more(run: FlowRun) -> tuple[str, str]:
    """The night of a run, and how it is run again. Where its parameters are such that neither can be said, its day, and why."""
    try:
        return night_of(run), f"run it again: {again(run)}. Finished steps are reused."
    except Exception as error:  # of one run, which silences none of the others
        day = windows.midnight(run.expected_start_time or datetime.now(timezone.utc))
        return windows.label(day), f"look at the run: how it is made again cannot be said ({channel.reason(error)})."


def again(run: FlowRun) -> str:
    """The command that runs the same again: its deployment, the night, and what was given otherwise; or what a person typed."""
    with get_client(sync_client=True) as client:
        flow = client.read_flow(run.flow_id)
        if run.deployment_id is None:
            has_night = flow.name in BY_SCHEDULE or run.parameters.get("as_of")
            typed = local.once_more(flow.name, night_of(run) if has_night else "")
            return f"`{typed}`" if typed else "the same command"
        try:
            deployment = client.read_deployment(run.deployment_id)
        except ObjectNotFound:
            return "its deployment is gone, so deploy first"
    deployed = deployment.parameters
    given = {name: value for name, value in run.parameters.items() if name not in deployed or deployed[name] != value}
    if flow.name in BY_SCHEDULE:
        given = {"as_of": night_of(run), **{name: value for name, value in given.items() if name != "as_of"}}
    options = [option for name, value in given.items() for option in ("-p", f"{name}={'…' if name in OF_PEOPLE else _as_given(value)}")]
    return f"`{shlex.join(['prefect', 'deployment', 'run', f'{flow.name}/{deployment.name}', *options])}`"


def _as_given(value: Any) -> str:
    """A parameter as the shell gives it: JSON, or a text that JSON could not be."""
    if isinstance(value, str):
        with suppress(ValueError):
            json.loads(value)
            return json.dumps(value)
        return value
    return json.dumps(value)


def places(run: FlowRun | None, store: str, section: str) -> tuple[str, ...]:
    """Where to look: the run in the UI, the grid of nights, the runbook."""
    page = url_for(run) if run is not None else None
    grid = [f"recsys status --store {shlex.quote(store)}"] if store else []
    return (*([page] if page else []), *grid, f"docs/operate.md, “{section}”")


def without_rows(text: str) -> str:
    """The message of a broken contract without its sample rows: ids of users do not leave the machine.

    Whoever writes samples into a message writes them as `, as {…}`, in one line.

    >>> without_rows("event_at_missing: 2 of 9 rows, as {user_id: 7}; {user_id: 8}. Write the column.")
    'event_at_missing: 2 of 9 rows. Write the column.'
    """
    return re.sub(r", as \{.*\}", "", text)


def _was_sent(alert: Alert) -> bool:
    of_the_store = ArtifactFilter(key=ArtifactFilterKey(any_=[_key(alert)]))
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=of_the_store, sort=ArtifactSort.CREATED_DESC, limit=REMEMBERED)
    return any(artifact.description == _note_of(alert) for artifact in found)


def _note(alert: Alert, run: FlowRun | None) -> None:
    with get_client(sync_client=True) as client:
        client.create_artifact(
            ArtifactCreate(
                key=_key(alert),
                type="markdown",
                data=f"# {alert.subject}\n\n{alert.text}",
                description=_note_of(alert),
                flow_run_id=run.id if run is not None else None,
            )  # fmt: skip
        )


def _key(alert: Alert) -> str:
    return ui.key(Path(alert.store).name, "alerts")


def _note_of(alert: Alert) -> str:
    return f"{alert.identity} ({alert.store})"
