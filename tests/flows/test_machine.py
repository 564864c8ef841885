"""`recsys up` as an operator gives it: what it says, what is there then, that a second one waits for its end, and how it ends."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil
import pytest
from typer.testing import CliRunner

from flows import deployments, machine
from flows.cli import app
from recsys import attempts
from recsys.errors import ConfigError, RecsysError
from tests.flows.test_deployed import wait_for

ROOT = Path(__file__).parents[2]
RECSYS = str(Path(sys.executable).with_name("recsys"))
PASSWORD = "admin:p4ss"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Up:
    """`recsys up` in a process of its own, with a password."""

    def __init__(self, home: Path) -> None:
        self.port, self.home, self.log = free_port(), home, home / "up.log"
        self.environment = {**os.environ, "PREFECT_HOME": str(home), "PREFECT_SERVER_API_AUTH_STRING": PASSWORD, "TMPDIR": str(home)}
        self.environment.pop("RECSYS_ALERTS", None)
        with self.log.open("wb") as file:
            command = [RECSYS, "up", "--port", str(self.port)]
            self.process = subprocess.Popen(command, env=self.environment, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)

    @property
    def said(self) -> str:
        return self.log.read_text()

    def wait_until_it_says(self, what: str, seconds: float = 900) -> None:
        until = time.monotonic() + seconds
        while what not in self.said:
            assert self.process.poll() is None and time.monotonic() < until, self.said
            time.sleep(0.2)

    def ask(self, path: str, password: str = PASSWORD) -> list[dict[str, object]]:
        headers = {"content-type": "application/json", "authorization": f"Basic {b64encode(password.encode()).decode()}"}
        with urlopen(Request(f"http://127.0.0.1:{self.port}/api/{path}", b"{}", headers), timeout=30) as answer:
            return json.load(answer)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    home = tmp_path_factory.mktemp("up")
    (home / "runner_storage").touch()  # as that of another user, nobody can write into it
    started = Up(home)
    try:
        started.wait_until_it_says("Ctrl-C ends everything")
        yield started
    finally:
        if started.process.poll() is None:
            started.process.send_signal(signal.SIGTERM)
            started.process.wait(60)


@pytest.mark.slow
def test_everything_is_there_and_each_step_was_said(up: Up) -> None:
    n_deployments = len(deployments.schedules())
    said = [
        "Server: starting at",
        f"Database: made, {up.home / 'prefect.db'}.",
        "Server: is up.",
        "Work pool local-process: made.",
        f"Deployments: {n_deployments} to write",
        *(f": written, {n} of {n_deployments}.\n" for n in range(1, n_deployments + 1)),
        f"written to http://127.0.0.1:{up.port}/api.",
        "one run at a time",
        "vanished-runs",
        "Nobody is told of failures: RECSYS_ALERTS is not set.",
        "Worker: ",
    ]
    assert [up.said.index(step) for step in said] == sorted(up.said.index(step) for step in said)
    written = deployments.queues()
    assert {d["name"] for d in up.ask("deployments/filter")} >= {queue for _, queue in written if queue}
    limits = {queue["name"]: queue["concurrency_limit"] for queue in up.ask("work_queues/filter")}
    assert {limits[queue] for _, queue in written if queue is not None} == {1} and limits["default"] is None
    (automation,) = up.ask("automations/filter")
    assert automation["enabled"] and automation["trigger"]["within"] == 300  # type: ignore[index]


@pytest.mark.slow
def test_the_server_asks_for_its_password(up: Up) -> None:
    with pytest.raises(HTTPError, match="401"):
        up.ask("deployments/filter", "admin:wrong")


@pytest.mark.slow
def test_deploying_again_finds_the_server_and_changes_nothing(up: Up) -> None:
    def known() -> list[set[str]]:
        return [
            {str(one["id"]) for one in up.ask(f"{kind}/filter")} for kind in ("deployments", "work_queues", "automations", "work_pools")
        ]

    before = known()
    again = subprocess.run([RECSYS, "deploy"], env=up.environment, cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0 and "Work pool local-process: is there." in again.stdout, again.stdout + again.stderr
    assert f"Server: is there, at http://127.0.0.1:{up.port}/api." in again.stdout
    assert f"written to http://127.0.0.1:{up.port}/api." in again.stdout
    assert known() == before


@pytest.mark.slow
def test_it_ends_with_ctrl_c_and_leaves_nothing_running(up: Up) -> None:
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(120) == 0, up.said
    assert up.said.rstrip().endswith("Server: stopped.") and "Worker: stopped." in up.said and "Traceback" not in up.said
    assert not list(up.home.glob("recsys-up-*"))
    with pytest.raises(OSError):
        up.ask("deployments/filter")


@pytest.mark.parametrize(
    ("url", "says"),
    [("http://127.0.0.1:9/api", "No server answers at http://127.0.0.1:9/api: start one"), ("no url", "No server answers at no url")],
)
def test_deploying_without_a_server_is_an_answer(monkeypatch: pytest.MonkeyPatch, url: str, says: str) -> None:
    monkeypatch.setenv("PREFECT_API_URL", url)
    with pytest.raises(ConfigError, match=says):
        machine.await_server(print, seconds=0)


class Health(BaseHTTPRequestHandler):
    """Answers everything, as a server that is up."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Not to the terminal."""


def test_deploying_waits_for_a_server_that_is_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    """This one starts once it is said that it is waited for."""
    address, started, said = ("127.0.0.1", free_port()), list[HTTPServer](), list[str]()

    def say(line: str) -> None:
        said.append(line)
        started.append(HTTPServer(address, Health))
        threading.Thread(target=started[0].serve_forever, daemon=True).start()

    monkeypatch.setenv("PREFECT_API_URL", url := f"http://127.0.0.1:{address[1]}/api")
    machine.await_server(say)
    assert said == [f"Server: none answers at {url} yet. Waiting for it, at most 180 s."]
    started[0].shutdown()
    started[0].server_close()


def test_a_start_that_is_told_to_end_leaves_no_server(tmp_path: Path) -> None:
    """SIGTERM, of a service manager, before the server answers."""
    up = Up(tmp_path)
    up.wait_until_it_says("Server: starting at", 60)
    wait_for(lambda: psutil.Process(up.process.pid).children(), 60, "the server is a process")
    (server,) = psutil.Process(up.process.pid).children()
    try:
        up.process.send_signal(signal.SIGTERM)
        assert up.process.wait(60) == 130 and "Server: stopped." in up.said
        assert not server.is_running()
    finally:
        with suppress(psutil.NoSuchProcess):
            server.kill()


def test_a_second_one_waits_until_the_first_has_ended(tmp_path: Path) -> None:
    """Its server answers to the end."""
    with attempts.lock(tmp_path, "up"):
        second = Up(tmp_path)
        try:
            second.wait_until_it_says(f"Another `recsys up` is at work with the files in {tmp_path}. This one waits", 60)
            assert "Server: " not in second.said
        finally:
            second.process.send_signal(signal.SIGTERM)
    assert second.process.wait(60) == 130 and "Server: " not in second.said
    assert second.said.endswith("\nInterrupted.\n"), "and nothing of a run that goes on"


def test_the_server_of_one_that_was_killed_is_waited_for_and_named(tmp_path: Path) -> None:
    """Two servers on one database are none, whatever their ports."""
    first = Up(tmp_path)
    first.wait_until_it_says("Server: starting at", 60)
    wait_for(lambda: psutil.Process(first.process.pid).children(), 60, "the server is a process")
    (server,) = psutil.Process(first.process.pid).children()
    first.process.kill()
    first.process.wait()
    second = Up(tmp_path)
    try:
        second.wait_until_it_says("ends it, and this one waits until then.", 60)
        assert "was killed, and what it had started goes on:" in second.said and f"`kill {server.pid}` ends it" in second.said
        assert f"--port {first.port}" in second.said and "Server: " not in second.said
        server.kill()
        second.wait_until_it_says(f"Server: starting at http://127.0.0.1:{second.port}/api", 60)
    finally:
        second.process.send_signal(signal.SIGTERM)
        with suppress(psutil.NoSuchProcess):
            server.kill()
    assert second.process.wait(60) == 130 and second.said.endswith("Server: stopped.\nInterrupted.\n")


def settled_without_a_server(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """An environment that says nothing of a server. A variable that monkeypatch set goes when the test ends, whoever sets it again."""
    monkeypatch.setenv("PREFECT_HOME", str(home))
    for settled in ("PREFECT_API_AUTH_STRING", "PREFECT_API_URL"):
        monkeypatch.setenv(settled, "")
        monkeypatch.delenv(settled)


def test_who_names_no_server_finds_that_of_recsys_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settled_without_a_server(monkeypatch, tmp_path)
    machine.settle(4321)
    with machine._lock_for_all(tmp_path):
        monkeypatch.delenv("PREFECT_API_URL")
        machine.settle()
        assert os.environ["PREFECT_API_URL"] == "http://127.0.0.1:4321/api"
    monkeypatch.delenv("PREFECT_API_URL")
    with attempts.lock(tmp_path, machine.SERVER) as file:  # by one that has just begun
        file.truncate(0)
        with pytest.raises(ConfigError, match="Which server"):
            machine.settle()
    for command in ("deploy", "watch"):
        ended = CliRunner().invoke(app, [command])
        assert ended.exit_code == 1 and ended.stderr.startswith("ConfigError: Which server? PREFECT_API_URL is not set, and no `recsys up`")
        assert "Start one, or export PREFECT_API_URL=" in ended.stderr


def test_a_server_that_nobody_named_may_be_anothers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settled_without_a_server(monkeypatch, tmp_path)
    with HTTPServer(("127.0.0.1", 0), Health) as theirs:
        threading.Thread(target=theirs.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{theirs.server_port}/api"
        with pytest.raises(ConfigError, match=f"answers at {url} that no `recsys up` .* has started.*export PREFECT_API_URL={url}"):
            machine.up(theirs.server_port, print)
        theirs.shutdown()


def test_what_is_started_from_a_script_heeds_interrupts(tmp_path: Path) -> None:
    """`recsys up &` ignores SIGINT, by which `prefect` ends itself."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with attempts.lock(tmp_path, machine.SERVER) as file:
            process = machine._start(["version"], file.fileno())
    finally:
        signal.signal(signal.SIGINT, before)
    ignored = re.search(r"^SigIgn:\s*([0-9a-f]+)$", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)
    process.kill()
    process.wait()
    assert ignored is not None and not int(ignored[1], 16) & 1 << signal.SIGINT - 1


def test_no_server_is_started_for_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://prefect.invalid:4200/api")
    with pytest.raises(RecsysError, match="which is not this machine, so none is started"):
        machine.up(4200, print)


def test_who_asks_gives_the_password_that_the_server_asks_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settled_without_a_server(monkeypatch, tmp_path)
    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", PASSWORD)
    assert machine.settle(4321) == tmp_path
    assert os.environ["PREFECT_API_AUTH_STRING"] == PASSWORD and os.environ["PREFECT_API_URL"] == "http://127.0.0.1:4321/api"
