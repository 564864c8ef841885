"""A flow run in this process, against a temporary Prefect server of its own unless PREFECT_API_URL names one.

The temporary server's database lies in the store, so that nobody's ~/.prefect is touched and runs can be looked at later.
"""

import logging
import os
import re
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen
from uuid import UUID

from recsys.errors import ConfigError, StoreError
from recsys.store import Store

PROGRAM = "recsys"
LOOPBACK = ("127.0.0.1", "localhost")
SECONDS_TO_ANSWER = 15  # of a server that is busy
GOES_ON = "The same command goes on after the last finished step, in a training after its last epoch."


@dataclass(frozen=True)
class Done:
    """A finished run: what it returned, what it said, and how to look at it in the UI."""

    result: Any
    message: str
    how_to_see_it: str


def run(name: str, parameters: dict[str, Any]) -> Done:
    """Run the flow of this name, as `nightly` or `score`; what stops it is raised."""
    home = settle(Store(parameters.get("store", "store")).root)  # a watch has none
    check_server(f" `env -u PREFECT_API_URL recsys {name} …` does without one." if "store" in parameters else "")
    flow = _flow(name)
    try:
        with stopped_like_ctrl_c():
            start_temporary_server()
            state = flow(**parameters, return_state=True)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(GOES_ON if "store" in parameters else "") from None
    return Done(state.result(), state.message or "", _how_to_see(state.state_details.flow_run_id, home))


@contextmanager
def stopped_like_ctrl_c() -> Iterator[None]:
    """SIGTERM, of `timeout` or a service manager, is a KeyboardInterrupt. Prefect passes it on once the run is marked as crashed."""
    if threading.current_thread() is not threading.main_thread():  # only there can signals be answered
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def start_temporary_server() -> None:
    """Prefect's own, unless a server is named, which the run would start itself otherwise: here Ctrl-C does not end it.

    A terminal sends SIGINT to all that is in its foreground, and without its server a run tries for minutes to say that it was
    interrupted. A process inherits what is blocked in the thread that starts it. The run ends its server with SIGTERM.
    """
    from prefect.server.api.server import SubprocessASGIServer
    from prefect.settings import PREFECT_API_URL

    started: Future[None] = Future()

    def start() -> None:
        try:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            SubprocessASGIServer().start()
            started.set_result(None)
        except Exception as error:
            started.set_exception(error)

    if not PREFECT_API_URL.value():
        threading.Thread(target=start, daemon=True).start()
        started.result()


def once_more(flow: str, night: str) -> str:
    """The command that this process is of, for the same night again and from any folder; empty where it is none that runs the flow.

    Ids of users do not leave the machine, and have to be filled in.
    """
    program, *words = sys.argv
    if Path(program).name != PROGRAM or words[:1] != [flow]:
        return ""
    given = [re.sub(r"^--user=.*", "--user=…", word) for word in words]
    given = [given[0], *("…" if before == "--user" else word for before, word in pairwise(given))]
    if night and not any(word.partition("=")[0] == "--as-of" for word in words):
        given += ["--as-of", night]
    return f"cd {shlex.quote(os.getcwd())} && {shlex.join([program, *given])}"


def settle(store: Path) -> Path:
    """The surroundings of a run, where the user's environment does not say otherwise. Before Prefect is imported."""
    for name, value in {
        "PREFECT_HOME": str(store / ".prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",  # the first start creates its tables
    }.items():
        os.environ.setdefault(name, value)
    for name in ("no_proxy", "NO_PROXY"):  # the server is on this machine: no proxy knows it
        os.environ[name] = ",".join(dict.fromkeys([*filter(None, os.environ.get(name, "").split(",")), *LOOPBACK]))
    home = Path(os.environ["PREFECT_HOME"])
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{home} cannot be made ({error.strerror}): give another --store, or PREFECT_HOME for Prefect's files.") from None
    return home


def check_server(otherwise: str = "") -> None:
    """ConfigError where PREFECT_API_URL names a server that does not answer; `otherwise` says what else can be done."""
    if not (url := os.environ.get("PREFECT_API_URL")):
        return
    try:
        urlopen(f"{url.rstrip('/')}/health", timeout=SECONDS_TO_ANSWER).close()
    except (OSError, ValueError, HTTPException) as error:
        if isinstance(error, HTTPError) and error.code < 500:  # of a proxy that asks who we are, say
            return
        why = str(getattr(error, "reason", error)) or type(error).__name__
        raise ConfigError(f"No Prefect server answers at PREFECT_API_URL={url} ({why}). Start it, or name another.{otherwise}") from None


def _flow(name: str) -> Any:
    from prefect.logging.configuration import setup_logging

    setup_logging()
    for handler in logging.getLogger().handlers:
        handler.addFilter(_not_said_at_the_end)
    return getattr(import_module(f"flows.{name}"), name)


def _not_said_at_the_end(record: logging.LogRecord) -> bool:
    """Leaves out of the terminal the error that the command ends with, which Prefect logs of task and flow; the UI has it all."""
    of_a_run = record.name in ("prefect.flow_runs", "prefect.task_runs")
    return not of_a_run or (record.exc_info is None and not record.getMessage().startswith("Finished in state Failed("))


def _how_to_see(run: UUID | None, home: Path) -> str:
    from prefect.settings import PREFECT_API_URL
    from prefect.utilities.urls import url_for

    if PREFECT_API_URL.value():
        return f"The run in the Prefect UI: {url_for('flow-run', run)}"
    command = Path(sys.executable).with_name("prefect")
    return (
        f"To see the run in the Prefect UI: PREFECT_HOME={home} {command} server start, then open http://127.0.0.1:4200/runs/flow-run/{run}"
    )
