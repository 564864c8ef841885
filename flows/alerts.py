"""Messages to whoever is on call: what happened to which night, why, what to do and where to look. Each is sent once.

They go through a notification block of Prefect, named in RECSYS_ALERTS as `slack-webhook/on-call`. What was sent is an
artifact in the UI, `{store}-alerts`, by which a later run knows of it. A message that cannot be sent is logged.
"""

import json
import logging
import os
import re
import shlex
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import Flow, get_client
from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.sorting import ArtifactSort
from prefect.exceptions import ObjectNotFound
from prefect.logging.loggers import LoggingAdapter, flow_run_logger
from prefect.utilities.urls import url_for

from flows import ui
from recsys import published, windows
from recsys.errors import ConfigError, RecsysError
from recsys.features.drift import findings_of
from recsys.published import Promotion
from recsys.store import Store

CHANNEL = "RECSYS_ALERTS"
REMEMBERED = 200  # alerts of a store: those before are of nights long past
LONGEST = 2000  # characters of the reason: chats cut more
BY_SCHEDULE = ("nightly", "backtest")  # flows whose night, where none is given, follows from when they are due
OF_PEOPLE = ("users",)  # parameters that do not leave the machine
STOPPED = {"Failed": "failed", "Crashed": "crashed", "TimedOut": "timed out"}  # names of states

Log = logging.Logger | LoggingAdapter

logging.getLogger("httpx").setLevel(logging.WARNING)  # else every address is logged, and that of a webhook is its password


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
        return f"{self.night} {self.cause}: {self.why.splitlines()[0][:100] if self.cause in STOPPED.values() else ''}".rstrip(": ")


def send(alert: Alert, log: Log, run: FlowRun | None = None) -> bool:
    """Send an alert that was not sent yet, and put it among the artifacts of its run. Whether it went out now; nothing is raised."""
    try:
        if _was_sent(alert):
            return False
        log.warning("%s\n%s", alert.subject, alert.text)
        if CHANNEL not in os.environ:
            log.warning("Nobody was told: %s names no channel. docs/operate.md says how to set one up.", CHANNEL)
            return False
        _notify(alert.subject, alert.text)
        _note(alert, run)
        return True
    except Exception as error:  # of a network, a chat, or the server: the night goes on whatever it is
        log.error("The alert %r could not be sent: %s", alert.subject, _without_addresses(f"{type(error).__name__}: {error}"))
        return False


def send_test() -> str:
    """Send a message that asks for nothing, and say where it went; RecsysError where it cannot be sent."""
    if not os.environ.get(CHANNEL):
        raise ConfigError(f"{CHANNEL} names no channel: export {CHANNEL}=slack-webhook/on-call, or the block that there is.")
    try:
        _notify("recsys: a test", f"Alerts of {socket.gethostname()} arrive here. There is nothing to do.")
    except Exception as error:  # of a network, a chat, or the server
        raise RecsysError(f"The test could not be sent: {_without_addresses(f'{type(error).__name__}: {error}')}") from None
    return f"Sent to {os.environ[CHANNEL]}. Has it arrived?"


def stopped(run: FlowRun, state: State) -> Alert:
    """Of a run that failed, crashed or timed out."""
    cause = STOPPED.get(state.name or "", state.type.value.lower())
    why = re.sub(r"^(Flow run encountered an exception|Task run encountered an exception)[^:]*: ", "", state.message or "Nothing was said.")
    store = str(run.parameters.get("store", "store"))
    return Alert(
        store, night_of(run), cause, f"{run.name} {cause}. {stays(store)}", why,
        f"Put right what the message names, then run it again: {again(run)}. Finished steps are reused.",
        places(run, store, "When a night stopped"),
    )  # fmt: skip


def decided(run: FlowRun, promotion: object) -> list[Alert]:
    """Of a night that published somebody else than its candidate, or waits for a person; and of the drift of its data."""
    if not isinstance(promotion, Promotion):  # it was skipped
        return []
    store, night = str(run.parameters["store"]), windows.label(promotion.moment)
    look, found, reasons = places(run, store, "The morning"), [], "\n".join(promotion.reasons)
    if promotion.action == "hold":
        what = f"The new model of {night} is within the limits and waits for a person. {stays(store)}"
        remedy = f"Look at its lists, then `recsys promote {promotion.id} --store {store} --why …`, or leave it."
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
    """State hook of a run that failed, timed out or crashed. Of one that was killed, the worker runs it."""
    _on_state(flow_run, lambda: [stopped(flow_run, state)])


def on_decision(flow: Flow[..., Any], flow_run: FlowRun, state: State) -> None:
    """State hook of a completed night."""
    _on_state(flow_run, lambda: decided(flow_run, state.result()))


def _on_state(run: FlowRun, alerts: Callable[[], list[Alert]]) -> None:
    if CHANNEL not in os.environ:  # by hand: the terminal says it all
        return
    log = flow_run_logger(run)
    try:
        found = alerts()
    except Exception as error:  # a hook must not hide what became of its run
        log.error("No alert was made of this run: %s", _without_addresses(f"{type(error).__name__}: {error}"))
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
    """What readers see meanwhile, in a sentence; nothing where the store cannot be read, which may be the trouble."""
    with suppress(RecsysError, OSError):
        now = published.current(Store(store))
        return f"Published is {windows.label(now.moment)}." if now is not None else "Nothing is published yet."
    return ""


def again(run: FlowRun) -> str:
    """The command that runs the same again: its deployment, the night, and what was given otherwise."""
    if run.deployment_id is None:
        return "the same command"
    with get_client(sync_client=True) as client:
        try:
            deployment = client.read_deployment(run.deployment_id)
        except ObjectNotFound:
            return "its deployment is gone, so deploy first"
        flow = client.read_flow(deployment.flow_id)
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
    return (*([page] if page else []), f"recsys status --store {store}", f"docs/operate.md, “{section}”")


def without_rows(text: str) -> str:
    """The message of a broken contract without its sample rows: ids of users do not leave the machine.

    Whoever writes samples into a message writes them as `, as {…}`, in one line.

    >>> without_rows("event_at_missing: 2 of 9 rows, as {user_id: 7}; {user_id: 8}. Write the column.")
    'event_at_missing: 2 of 9 rows. Write the column.'
    """
    return re.sub(r", as \{.*\}", "", text)


def _notify(subject: str, text: str) -> None:
    block = _block(os.environ[CHANNEL])
    with block.raise_on_failure():
        block.notify(text, subject=subject)  # type: ignore[unused-coroutine]  # synchronous without a loop


def _block(slug: str) -> NotificationBlock:
    kind, slash, name = slug.partition("/")
    if not (kind and slash and name):
        raise ConfigError(f"{CHANNEL}={slug!r} names no block: write its type and its name, as in slack-webhook/on-call.")
    block = Block.load(slug)
    if not isinstance(block, NotificationBlock):
        raise ConfigError(f"{CHANNEL}={slug!r} is no notification block: `prefect block ls` lists those that there are.")
    return block


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


def _without_addresses(text: str) -> str:
    return re.sub(r"\w+://\S+", "…", text)
