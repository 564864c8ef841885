"""Everything on one machine, in the foreground: a server, what it has to know, and a worker. For a machine that stays up,
`deployments/systemd` has the same as services.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

import psutil

from flows import deployments, local
from recsys import attempts
from recsys.errors import ConfigError, RecsysError

ROOT = deployments.FILE.parents[1]
SECONDS_TO_START = 600  # a server's first start creates its tables: 10 s, and minutes on a busy machine
SECONDS_TO_ANSWER = 180  # of one that a service manager has just started
SECONDS_TO_STOP = 60

Say = Callable[[str], None]


def up(port: int, say: Say) -> None:
    """Bring it all up, and stay until Ctrl-C or SIGTERM, which end the runs at work, then the worker, then the server.

    A server that PREFECT_API_URL names is used where it is there already, and left running. The end of another `recsys up` of
    this checkout is waited for. RecsysError where worker or server ends by itself.
    """
    named = "PREFECT_API_URL" in os.environ
    home = settle(port)
    with (
        local.stopped_like_ctrl_c(),
        _the_only_one(home),
        _answering_server(home, say, named) as server,
        TemporaryDirectory(prefix="recsys-up-") as folder,  # in a shared one, only the first user's worker may write
    ):
        from flows.server import deploy  # imports Prefect, which reads the environment

        deploy(say)
        pool = deployments.queues()[0][0]
        worker = _start(["worker", "start", "--pool", pool, "--type", "process"], environment={**os.environ, "TMPDIR": folder})
        say(f"Worker: started on {pool}. The UI is {_url().removesuffix('/api')}. Ctrl-C ends everything.")
        _stay(worker, server, say)


def settle(port: int = 4200) -> Path:
    """The environment of the commands that talk to a server: one on this machine unless PREFECT_API_URL says otherwise.

    Prefect's files lie in `store/.prefect` of the checkout unless PREFECT_HOME says otherwise. Who asks the server gives the
    password that the server asks for.
    """
    home = local.settle(ROOT / "store")
    os.environ.setdefault("PREFECT_API_URL", f"http://{local.LOOPBACK[0]}:{port}/api")
    if "PREFECT_SERVER_API_AUTH_STRING" in os.environ:
        os.environ.setdefault("PREFECT_API_AUTH_STRING", os.environ["PREFECT_SERVER_API_AUTH_STRING"])
    return home


def await_server(say: Say, seconds: float = SECONDS_TO_ANSWER) -> None:
    """Until a server answers at PREFECT_API_URL, which may just be starting; ConfigError where none does by then."""
    until = time.monotonic() + seconds
    if not _answers():
        say(f"Server: none answers at {_url()} yet. Waiting for it, at most {seconds:.0f} s.")
    while not _answers():
        if time.monotonic() > until:
            raise ConfigError(f"No server answers at {_url()}: start one (`recsys up` does), or say with PREFECT_API_URL where it is.")
        time.sleep(0.5)


def _the_only_one(home: Path) -> AbstractContextManager[Any]:
    """One at a time with these files of Prefect: two servers on one database are none, and one that is about to end still answers."""
    return attempts.lock(home, "up", lambda: f"Another `recsys up` is at work with the files in {home}. This one waits until it has ended.")


@contextmanager
def _answering_server(home: Path, say: Say, named: bool) -> Iterator[subprocess.Popen[bytes] | None]:
    """The server at PREFECT_API_URL; None where it was there before. ConfigError where nobody has `named` it: it may be another's."""
    if _answers():
        if not named:
            raise ConfigError(
                f"A server answers at {_url()} that this `recsys up` has not started. Was an earlier one killed? Its server and its worker "
                "are left: `pgrep -af 'prefect (server|worker) start'` lists them; stop both with `kill`, and begin again. "
                f"Is it somebody else's? Then give another --port. Is it to be used? Then export PREFECT_API_URL={_url()}"
            )
        say(f"Server: is there, at {_url()}.")
        yield None
        return
    where = urlsplit(_url())
    if where.hostname not in local.LOOPBACK:
        raise ConfigError(f"No server answers at {_url()}, which is not this machine, so none is started.")
    log = home / "server.log"
    say(f"Server: starting at {_url()}; its log is {log}.")
    server = _start(["server", "start", "--host", str(where.hostname), "--port", str(where.port or 4200)], log)
    try:
        until = time.monotonic() + SECONDS_TO_START
        while not _answers():
            if server.poll() is not None or time.monotonic() > until:
                raise RecsysError(f"The server does not start: {log} says why.")
            time.sleep(0.5)
        say("Server: is up.")
        yield server
    finally:
        _end(server)
        say("Server: stopped.")


def _stay(worker: subprocess.Popen[bytes], server: subprocess.Popen[bytes] | None, say: Say) -> None:
    """Until we are told to stop. RecsysError where the worker or the server ends by itself."""
    asked = threading.Event()
    signals = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.signal(number, lambda *_: asked.set()) for number in signals}
    try:
        while not asked.wait(0.5):
            if worker.poll() is not None:
                raise RecsysError(f"The worker ended by itself, with {worker.returncode}.")
            if server is not None and server.poll() is not None:
                raise RecsysError("The server ended by itself: its log says why.")
    finally:
        _end_runs(worker, say)
        _end(worker)
        say("Worker: stopped.")
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_runs(worker: subprocess.Popen[bytes], say: Say) -> None:
    """Tell the runs at work to end, and let them say so to the server, which the worker would not: it kills them where it stops."""
    if worker.poll() is not None:
        return
    process = psutil.Process(worker.pid)
    process.suspend()  # or it would begin the next one
    runs = process.children()
    if runs:
        say(f"Runs at work: {len(runs)}, told to end. Run again, they go on after their last finished step.")
    for run in runs:
        run.terminate()
    until = time.monotonic() + SECONDS_TO_STOP
    while any(run.is_running() and run.status() != psutil.STATUS_ZOMBIE for run in runs) and time.monotonic() < until:
        time.sleep(0.2)
    process.resume()


def _start(arguments: list[str], log: Path | None = None, environment: Mapping[str, str] = os.environ) -> subprocess.Popen[bytes]:
    """A `prefect` command in a session of its own, so that a terminal's Ctrl-C reaches us only.

    It ends itself by SIGINT, which a script's `recsys up &` ignores and hands on.
    """
    command = [str(Path(sys.executable).with_name("prefect")), *arguments]
    with open(log, "ab") if log is not None else open(os.devnull) as file:
        output = file if log is not None else None
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=output, start_new_session=True, preexec_fn=_heed_interrupts
        )  # fmt: skip


def _heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers() -> bool:
    try:
        with urlopen(f"{_url()}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError, ValueError):
        return False


def _url() -> str:
    return os.environ["PREFECT_API_URL"].rstrip("/")
