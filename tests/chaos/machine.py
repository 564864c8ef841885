"""A machine as `recsys up` brings it up: a server that knows the deployments, and a worker. Each can be killed, and started again."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen
from uuid import UUID

import psutil
from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import State
from prefect.client.schemas.responses import DeploymentResponse
from prefect.settings import PREFECT_API_URL, temporary_settings

from recsys.windows import label
from tests.chaos.nights import AS_OF, SMALL
from tests.flows.test_deployed import wait_for

ROOT = Path(__file__).parents[2]
PREFECT, RECSYS = (str(Path(sys.executable).with_name(name)) for name in ("prefect", "recsys"))
AS_JSON = {name: json.loads(group.model_dump_json(exclude_unset=True)) for name, group in SMALL.items()}
SILENCE = "2m"  # about the shortest that a healthy run never keeps


class Machine:
    """The server's database lies in `home`, and so outlives it."""

    def __init__(self, home: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.home, self.url = home, f"http://127.0.0.1:{self.port}/api"
        self.environment = {**os.environ, "PREFECT_HOME": str(home), "PREFECT_API_URL": self.url, "PREFECT_WORKER_QUERY_SECONDS": "1"}
        self.started: list[subprocess.Popen[bytes]] = []

    def start_server(self) -> None:
        self.server = self._start("server", "start", "--host", "127.0.0.1", "--port", str(self.port))
        wait_for(self._answers, 120, "the server answers")

    def start_worker(self) -> subprocess.Popen[bytes]:
        return self._start("worker", "start", "--pool", "local-process", "--type", "process")

    def deploy(self) -> None:
        """All deployments, with their schedules off: a test says when something is due."""
        self._recsys("deploy")
        with self.client() as client:
            for deployment in client.read_deployments():
                for schedule in deployment.schedules:
                    client.update_deployment_schedule(deployment.id, schedule.id, active=False)

    @contextmanager
    def client(self) -> Iterator[SyncPrefectClient]:
        with temporary_settings({PREFECT_API_URL: self.url}), get_client(sync_client=True) as client:
            yield client

    def nightly(self, client: SyncPrefectClient) -> DeploymentResponse:
        return client.read_deployment_by_name("nightly/demo")

    def ask_for_a_night(self, store: Path) -> UUID:
        """Of the worker, as a person does in the UI: the undisturbed night, in this store."""
        asked: dict[str, Any] = {"as_of": label(AS_OF), "store": str(store), **AS_JSON}
        with self.client() as client:
            return client.create_flow_run_from_deployment(self.nightly(client).id, parameters=asked).id

    def state(self, run: UUID) -> State:
        with self.client() as client:
            found = client.read_flow_run(run).state
        assert found is not None
        return found

    def await_end(self, run: UUID, seconds: float) -> State:
        wait_for(lambda: self.state(run).is_final(), seconds, f"a run ends, which is {self.state(run)!r}: {self.log.read_text()[-5000:]}")
        return self.state(run)

    def await_burial(self, run: UUID) -> State:
        """The end of a run that may have vanished, as the watch finds out, which looks again and again."""
        for _ in range(20):
            if self.state(run).is_final():
                break
            time.sleep(10)
            self._recsys("watch", "--silence", SILENCE)
        return self.state(run)

    @property
    def log(self) -> Path:
        return self.home / "machine.log"

    def _answers(self) -> bool:
        try:
            return bool(urlopen(f"{self.url}/health", timeout=5).status == 200)
        except (URLError, OSError):
            return False

    def _recsys(self, *arguments: str) -> None:
        done = subprocess.run([RECSYS, *arguments], env=self.environment, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as file:
            self.started.append(subprocess.Popen([PREFECT, *arguments], env=self.environment, cwd=ROOT, stdout=file, stderr=file))
        return self.started[-1]


def kill(*processes: subprocess.Popen[bytes], alone: bool = False) -> None:
    """SIGKILL of the processes and, unless `alone`, of all that they have started."""
    found = [psutil.Process(process.pid) for process in processes if process.poll() is None]
    family = [*found, *(child for process in found for child in process.children(recursive=True) if not alone)]
    for one in family:
        one.kill()
    for process in processes:
        process.wait(60)


def is_at(store: Path, step: str) -> bool:
    """Whether a night in this store is making, or has made, the artifact of a step."""
    return any((store / ".scratch").glob(f"{step}-*")) or any((store / step).glob("as_of=*/version=*"))
