"""The deployments on a real Prefect server: the schedule creates runs, parameters are checked, and a worker runs a night."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import psutil
import pytest
import yaml
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import deployments, vanished
from flows.server import look_for_vanished
from recsys import turn
from tests.test_documents import commands

ROOT = Path(__file__).parents[2]
PREFECT = str(Path(sys.executable).with_name("prefect"))
RECSYS = str(Path(sys.executable).with_name("recsys"))
WRITTEN = {
    (d["entrypoint"].rpartition(":")[2], d["name"]): d for d in yaml.safe_load(deployments.FILE.read_text())["deployments"]
}  # fmt: skip


class Server:
    """A server of its own, with the commands an operator would give it."""

    def __init__(self, home: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/api"
        self.environment = {**os.environ, "PREFECT_HOME": str(home), "PREFECT_API_URL": self.url, "PREFECT_WORKER_QUERY_SECONDS": "1"}
        command = [PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(self.port)]
        self.process = self.start(command, home / "server.log")

    def start(self, command: list[str], log: Path) -> subprocess.Popen[bytes]:
        with log.open("wb") as file:
            return subprocess.Popen(command, env=self.environment, cwd=ROOT, stdout=file, stderr=file, start_new_session=True)

    def prefect(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([PREFECT, "--no-prompt", *arguments], env=self.environment, cwd=ROOT, capture_output=True, text=True)

    def ask(self, path: str, body: object) -> list[dict[str, object]]:
        request = Request(f"{self.url}/{path}", json.dumps(body).encode(), {"content-type": "application/json"})
        with urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def is_up(self) -> bool:
        try:
            return urlopen(f"{self.url}/health", timeout=5).status == 200
        except (URLError, OSError):
            return False


def wait_for(happened: object, seconds: float, what: str) -> object:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := happened():  # type: ignore[operator]
            return found
        time.sleep(0.5)
    raise AssertionError(f"not within {seconds:.0f} s: {what}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(tmp_path_factory.mktemp("prefect"))
    try:
        wait_for(started.is_up, 120, "the server answers")
        deployed = subprocess.run([RECSYS, "deploy"], env=started.environment, cwd=ROOT, capture_output=True, text=True)
        assert deployed.returncode == 0, deployed.stdout + deployed.stderr
        yield started
    finally:
        os.killpg(started.process.pid, signal.SIGTERM)
        started.process.wait(30)


def test_all_deployments_are_there_with_their_parameters(server: Server) -> None:
    flows = {flow["id"]: flow["name"] for flow in server.ask("flows/filter", {})}
    found = {(str(flows[d["flow_id"]]), str(d["name"])): d for d in server.ask("deployments/filter", {})}
    assert set(found) == set(WRITTEN)
    for name, deployment in found.items():
        assert deployment["parameters"] == WRITTEN[name]["parameters"] and deployment["tags"] == WRITTEN[name]["tags"]
        assert deployment["enforce_parameter_schema"] is True


def test_a_store_has_one_run_at_a_time_and_vanished_runs_are_looked_for(server: Server) -> None:
    queues = {str(queue["name"]): queue["concurrency_limit"] for queue in server.ask("work_queues/filter", {})}
    assert {name: limit for name, limit in queues.items() if limit is not None} == {
        queue: 1 for _, queue in deployments.queues() if queue is not None
    }  # fmt: skip
    (automation,) = server.ask("automations/filter", {})
    assert automation["enabled"] and automation["name"] == "vanished-runs"


def test_the_schedule_creates_runs_in_utc(server: Server) -> None:
    """A server resolved with a newer SQLAlchemy looks healthy and creates none: hence the pin in pyproject.toml."""
    nightly = {"flows": {"name": {"any_": ["nightly"]}}, "deployments": {"name": {"any_": ["demo"]}}}
    scheduled = {**nightly, "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
    runs = wait_for(lambda: server.ask("flow_runs/filter", scheduled), 60, "runs of nightly/demo are scheduled")
    times = [datetime.fromisoformat(str(run["expected_start_time"])).astimezone(timezone.utc) for run in runs]  # type: ignore[union-attr]
    assert {(moment.hour, moment.minute) for moment in times} == {(4, 15)}
    assert len({moment.date() for moment in times}) == len(times) >= 3
    assert min(times) > datetime.now(timezone.utc)
    (listed,) = [words for words in commands(ROOT / "docs" / "operate.md", "prefect") if words[:2] == ["flow-run", "ls"]]
    last = server.prefect(*listed)
    assert last.returncode == 0 and "No flow runs found" in last.stdout, "those that are planned are none of the last runs"


def test_deploying_again_takes_what_the_file_does_not_have_off_the_schedule(server: Server) -> None:
    """A schedule of another name, a deployment that is not in the file any more; one of somebody else's checkout is left alone."""
    ours = {str(d["name"]): d for d in server.ask("deployments/filter", {}) if d["entrypoint"] == "flows/nightly.py:nightly"}
    schedule = {"schedule": {"cron": "0 1 * * *", "timezone": "UTC"}, "active": True, "slug": "renamed"}
    elsewhere = [{"prefect.deployments.steps.set_working_directory": {"directory": "/srv/other"}}]
    for name in ("demo", "globo"):
        server.ask(f"deployments/{ours[name]['id']}/schedules", [schedule])
    for name, steps in {"gone": ours["demo"]["pull_steps"], "theirs": elsewhere}.items():
        server.ask("deployments/", {"name": name, "flow_id": ours["demo"]["flow_id"], "pull_steps": steps, "schedules": [schedule]})
    again = subprocess.run([RECSYS, "deploy"], env=server.environment, cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0, again.stdout + again.stderr
    there = {
        str(d["name"]): [schedule["slug"] for schedule in d["schedules"]]  # type: ignore[attr-defined]
        for d in server.ask("deployments/filter", {"flows": {"name": {"any_": ["nightly"]}}})
    }
    assert there == {"demo": ["nightly"], "globo": ["nightly"], "ml-100k": ["nightly"], "gone": [], "theirs": ["renamed"]}
    assert "Schedule renamed of nightly/demo: removed" in again.stdout
    assert "Deployment nightly/gone: is not in the file." in again.stdout and "theirs" not in again.stdout


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ('training={"max_epochs": 0}', "less than the minimum of 1"),
        ('training={"max_epoch": 3}', "max_epoch"),
        ('trainig={"max_epochs": 3}', "trainig"),
    ],
)
def test_the_form_refuses_what_cannot_be(server: Server, parameters: str, says: str) -> None:
    refused = server.prefect("deployment", "run", "nightly/demo", "-p", parameters)
    assert refused.returncode == 1
    assert says in (refused.stdout + refused.stderr).replace("\n", " ")


@pytest.mark.slow
def test_a_worker_runs_a_night_from_the_form_and_a_second_run_waits(server: Server, tmp_path: Path) -> None:
    worker = server.start([PREFECT, "worker", "start", "--pool", "local-process", "--type", "process"], tmp_path / "worker.log")
    try:
        asked = {
            "as_of": "2025-06-01", "store": str(tmp_path / "store"), "data": {"demo": {"n_users": 200, "n_items": 60}},
            "training": {"max_epochs": 1}, "promotion": {"min_users": 1},
        }  # fmt: skip
        given = [word for name, value in asked.items() for word in ("-p", f"{name}={json.dumps(value)}")]
        assert server.prefect("deployment", "run", "nightly/demo", *given).returncode == 0
        done = server.prefect("deployment", "run", "nightly/demo", *given, "--watch", "--watch-interval", "1")
        assert done.returncode == 0, done.stdout + done.stderr + (tmp_path / "worker.log").read_text()
    finally:
        os.killpg(worker.pid, signal.SIGTERM)
        worker.wait(60)
    assert json.loads((tmp_path / "store" / "current.json").read_text())["as_of"].startswith("2025-06-01")
    log = (tmp_path / "worker.log").read_text()
    assert "Otherwise than deployed: data.demo.n_users: 200 (deployed: 3000)" in log
    assert len((tmp_path / "store" / "promotions.jsonl").read_text().splitlines()) == 1
    done_runs = {"state": {"type": {"any_": ["COMPLETED"]}}, "name": {"any_": ["nightly-2025-06-01"]}}  # not those of the schedule
    runs = server.ask("flow_runs/filter", {"sort": "START_TIME_ASC", "flow_runs": done_runs})
    assert len(runs) == 2
    assert str(runs[1]["start_time"]) > str(runs[0]["end_time"]), "one run of a store at a time"
    assert "nothing to do" in str(runs[1]["state"]["message"])  # type: ignore[index]


@pytest.mark.slow
def test_a_worker_runs_a_backtest_from_the_form(server: Server, tmp_path: Path) -> None:
    worker = server.start([PREFECT, "worker", "start", "--pool", "local-process", "--type", "process"], tmp_path / "worker.log")
    try:
        asked = {
            "store": str(tmp_path / "store"), "data": {"demo": {"n_users": 200, "n_items": 60}},
            "backtest": {"models": ["popular", "popular_lately"], "n_folds": 2, "csv": str(tmp_path / "csv")},
        }  # fmt: skip
        given = [word for name, value in asked.items() for word in ("-p", f"{name}={json.dumps(value)}")]
        done = server.prefect("deployment", "run", "backtest/seven-models", *given, "--watch", "--watch-interval", "1")
        assert done.returncode == 0, done.stdout + done.stderr + (tmp_path / "worker.log").read_text()
    finally:
        os.killpg(worker.pid, signal.SIGTERM)
        worker.wait(60)
    assert len((tmp_path / "csv" / "folds.csv").read_text().splitlines()) == 1 + 2 * 2
    assert "Otherwise than deployed: backtest.n_folds: 2 (deployed: 1)" in (tmp_path / "worker.log").read_text()
    tables = {str(artifact["key"]): artifact for artifact in server.ask("artifacts/filter", {})}
    assert len(json.loads(str(tables["store-backtest-models"]["data"]))) == 2 and "store-backtest-folds" in tables


@contextmanager
def at_work(server: Server, folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A night of the demo shop that a worker has begun, which takes minutes: its run, and the worker."""
    worker = server.start([PREFECT, "worker", "start", "--pool", "local-process", "--type", "process"], folder / "worker.log")
    try:
        given = ["-p", "as_of=2025-06-01", "-p", f"store={folder / 'store'}"]
        assert server.prefect("deployment", "run", "nightly/demo", *given).returncode == 0
        wait_for(lambda: turn.at_work(folder / "store"), 300, "the night has its turn")
        (run,) = server.ask("flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": ["RUNNING"]}}}})
        yield str(run["id"]), worker
    finally:
        for process in psutil.Process(worker.pid).children(recursive=True) if worker.poll() is None else ():
            process.kill()
        if worker.poll() is None:
            worker.terminate()
            worker.wait(60)


def state_of(server: Server, run: str) -> dict[str, object]:
    (found,) = server.ask("flow_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})
    assert isinstance(found["state"], dict)
    return found["state"]


@pytest.mark.slow
def test_a_run_that_is_cancelled_frees_the_turn_of_its_store(server: Server, tmp_path: Path) -> None:
    """As the runbook says for a run in which nothing moves, and as the watch does."""
    with at_work(server, tmp_path) as (run, _):
        cancelled = server.prefect("flow-run", "cancel", run)
        assert cancelled.returncode == 0, cancelled.stdout + cancelled.stderr
        wait_for(lambda: state_of(server, run)["type"] == "CANCELLED", 300, "the run is cancelled")
        wait_for(lambda: turn.at_work(tmp_path / "store") is None, 60, "its process is gone")


@pytest.mark.slow
def test_a_run_that_was_killed_with_its_worker_is_marked_by_the_automation(server: Server, tmp_path: Path) -> None:
    """That of `recsys deploy`, with less patience: its 300 s are ten signs of life, of which Prefect allows one in 30 s at most."""
    impatient = timedelta(seconds=20)
    with temporary_settings({PREFECT_API_URL: server.url}):
        look_for_vanished(impatient)
        try:
            with at_work(server, tmp_path) as (run, worker):
                children = psutil.Process(worker.pid).children(recursive=True)
                for process in (worker, *children):
                    process.kill()
                worker.wait(60)
                wait_for(lambda: turn.at_work(tmp_path / "store") is None, 60, "nobody has the turn, whatever the server knows")
                wait_for(lambda: state_of(server, run)["type"] == "CRASHED", 300, "the automation marks the run")
                assert state_of(server, run)["message"] == vanished.message(impatient)
        finally:
            look_for_vanished(timedelta(seconds=300))
