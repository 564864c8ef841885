"""Everything on one machine, in the foreground: a server, what it has to know, and a worker. For a machine that stays up,
`deployments/systemd` has the same as services.
"""

import os
import shlex
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
SERVER = "server"  # the lock of a `recsys up` and of all that it starts; in it, the address of its server

Say = Callable[[str], None]


def up(port: int, say: Say) -> None:
    """Bring it all up, and stay until Ctrl-C or SIGTERM, which end the runs at work, then the worker, then the server.

    A server that PREFECT_API_URL names is used where it is there already, and left running. The end of another `recsys up` of
    this checkout is waited for, and of what a killed one has left. RecsysError where worker or server ends by itself.
    """
    named = bool(os.environ.get("PREFECT_API_URL"))
    home = settle(port)
    with (
        local.stopped_like_ctrl_c(),
        _the_only_one(home),
        _lock_for_all(home) as lock,
        _answering_server(home, say, named, lock) as server,
        TemporaryDirectory(prefix="recsys-up-") as folder,  # in a shared one, only the first user's worker may write
    ):
        from flows.server import deploy  # imports Prefect, which reads the environment

        deploy(say)
        pool = deployments.queues()[0][0]
        worker = _start(["worker", "start", "--pool", pool, "--type", "process"], lock, environment={**os.environ, "TMPDIR": folder})
        say(f"Worker: started on {pool}. The UI is {_url().removesuffix('/api')}. Ctrl-C ends everything.")
        _stay(worker, server, say)


def settle(port: int | None = None) -> Path:
    """The environment of the commands that talk to a server: that of PREFECT_API_URL, or else on this machine at `port`.

    Without a port it is the server of the `recsys up` with the same files of Prefect; ConfigError where there is none. The files
    lie in `store/.prefect` of the checkout unless PREFECT_HOME says otherwise. Who asks the server gives the password that the
    server asks for.
    """
    home = local.settle(ROOT / "store")
    if not os.environ.get("PREFECT_API_URL"):
        os.environ["PREFECT_API_URL"] = f"http://{local.LOOPBACK[0]}:{port}/api" if port is not None else _of_up(home)
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


def server_log(home: Path) -> Path:
    """What the server of a `recsys up` says, with these files of Prefect."""
    return home / "server.log"


def _of_up(home: Path) -> str:
    """Address of the server of the `recsys up` with these files of Prefect, or of one that was killed and has left its server."""
    url = (home / ".locks" / SERVER).read_text() if attempts.is_held(home, SERVER) else ""
    if not url:  # one that begins at this moment has not written it yet
        raise ConfigError(
            f"Which server? PREFECT_API_URL is not set, and no `recsys up` is at work with the files in {home}. "
            "Start one, or export PREFECT_API_URL=… with the address of the server, as http://127.0.0.1:4200/api."
        )
    return url


def _the_only_one(home: Path) -> AbstractContextManager[Any]:
    """One at a time with these files of Prefect: two servers on one database are none, and one that is about to end still answers."""
    return attempts.lock(home, "up", lambda: f"Another `recsys up` is at work with the files in {home}. This one waits until it has ended.")


@contextmanager
def _lock_for_all(home: Path) -> Iterator[int]:
    """The number of a file that is locked as long as anything lives that is started with it, whatever became of us."""
    with attempts.lock(home, SERVER, lambda: _left(home)) as file:
        file.truncate(0)
        file.write(_url())
        file.flush()
        yield file.fileno()


def _left(home: Path) -> str:
    """What an earlier `recsys up` has left that was killed, and how to end it."""
    found = _at_work_with((home / ".locks" / SERVER).resolve())
    listed = "".join(f"\n  {process}  {command}" for process, command in found.items())
    ends_it = f"`kill {' '.join(map(str, found))}` ends it, and this" if found else "It is another user's, or is just ending. This"
    return (
        f"An earlier `recsys up` with the files in {home} was killed, and what it had started goes on:{listed}\n"
        f"{ends_it} one waits until then. "
        "A run that ends with it goes on after its last finished step when it is run again."
    )


def _at_work_with(path: Path) -> dict[int, str]:
    """Numbers and commands of our user's other processes that have the file open."""
    return {
        process.pid: shlex.join(process.info["cmdline"] or [])
        for process in psutil.process_iter(["cmdline", "open_files"])
        if process.pid != os.getpid() and any(Path(file.path) == path for file in process.info["open_files"] or [])
    }


@contextmanager
def _answering_server(home: Path, say: Say, named: bool, lock: int) -> Iterator[subprocess.Popen[bytes] | None]:
    """The server at PREFECT_API_URL; None where it was there before. ConfigError where nobody has `named` it: it may be another's."""
    if _answers():
        if not named:
            raise ConfigError(
                f"A server answers at {_url()} that no `recsys up` with the files in {home} has started. Is it somebody else's? "
                f"Then give another --port. Is it to be used? Then export PREFECT_API_URL={_url()}"
            )
        say(f"Server: is there, at {_url()}.")
        yield None
        return
    where = urlsplit(_url())
    if where.hostname not in local.LOOPBACK:
        raise ConfigError(f"No server answers at {_url()}, which is not this machine, so none is started.")
    database = home / "prefect.db"
    makes_it = "" if database.exists() else " It makes its database first, which takes a minute."
    say(f"Server: starting at {_url()}; its log is {server_log(home)}.{makes_it}")
    server = _start(["server", "start", "--host", str(where.hostname), "--port", str(where.port or 4200)], lock, server_log(home))
    try:
        until = time.monotonic() + SECONDS_TO_START
        while not _answers():
            if server.poll() is not None or time.monotonic() > until:
                raise RecsysError(f"The server does not start: {server_log(home)} says why.")
            time.sleep(0.5)
        if makes_it and database.exists():
            say(f"Database: made, {database}.")
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


def _start(
    arguments: list[str], lock: int, log: Path | None = None, environment: Mapping[str, str] = os.environ
) -> subprocess.Popen[bytes]:
    """A `prefect` command in a session of its own, so that a terminal's Ctrl-C reaches us only. It holds the lock while it lives.

    It ends itself by SIGINT, which a script's `recsys up &` ignores and hands on.
    """
    command = [str(Path(sys.executable).with_name("prefect")), *arguments]
    with open(log, "ab") if log is not None else open(os.devnull) as file:
        output = file if log is not None else None
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=output, pass_fds=(lock,), start_new_session=True,
            preexec_fn=_heed_interrupts,
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
