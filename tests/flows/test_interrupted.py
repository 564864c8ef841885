"""Nights that are interrupted end with a sentence, and the next run goes on from there. Those that are killed: tests/chaos."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL

from recsys import digest
from recsys.store import Store

RECSYS = str(Path(sys.executable).with_name("recsys"))
SMALL = {
    "data.demo.n_users": 150, "data.demo.n_items": 60, "model.width": 16, "model.max_events": 20, "training.max_epochs": 3,
    "training.deterministic": "true", "training.threads": 1, "promotion.min_users": 5, "features.n_shards": 2,
}  # fmt: skip


class Night:
    """`recsys nightly` in a process of its own, as an engineer or a scheduler starts it."""

    def __init__(self, store: Path, **environment: str) -> None:
        self.store = store
        command = [RECSYS, "nightly", "--as-of", "2026-03-01", "--store", str(store)]
        command += [word for name, value in SMALL.items() for word in ("--set", f"{name}={value}")]
        environment = {**os.environ, "PREFECT_API_URL": PREFECT_API_URL.value() or "", **environment}
        if not environment["PREFECT_API_URL"]:  # empty it is not the same to Prefect
            del environment["PREFECT_API_URL"]
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, process_group=0
        )

    def finish(self, seconds: float = 240) -> str:
        output, _ = self.process.communicate(timeout=seconds)
        assert self.process.returncode == 0, output
        return output

    def signal_in(self, step: str, number: signal.Signals, to: Callable[[int, int], None] = os.kill) -> str:
        """Send the signal as soon as the step has a temporary folder, and return what was printed until the end."""
        deadline = time.monotonic() + 240
        while not list((self.store / ".tmp").glob(f"{step}-*")):
            assert self.process.poll() is None and time.monotonic() < deadline, f"{step} was not seen at work"
            time.sleep(0.001)
        to(self.process.pid, number)
        return self.process.communicate(timeout=240)[0]


def contents(store: Path) -> dict[str, str]:
    """Digest of every parquet and safetensors file of every finished artifact."""
    files = {f"{a.step}/{a.version}/{name}": a.path / name for a in Store(store).artifacts() for name in a.manifest["files"]}
    return {name: digest.of_file(path) for name, path in files.items() if path.suffix in (".parquet", ".safetensors")}


@pytest.fixture(scope="module")
def undisturbed(prefect_server: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    store = tmp_path_factory.mktemp("undisturbed") / "store"
    output = Night(store).finish()
    assert "recommendations" in output
    yield store


def test_sigterm_ends_like_ctrl_c(prefect_server: None, tmp_path: Path) -> None:
    night = Night(tmp_path / "store")
    said = night.signal_in("features", signal.SIGTERM)
    assert night.process.returncode == 130, said
    assert "goes on after the last finished step" in said and "Traceback" not in said
    assert not Store(tmp_path / "store").artifacts()


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_goes_to_the_temporary_server_as_well(tmp_path: Path) -> None:
    """It has to live until the run has told it how it ended."""
    night = Night(tmp_path / "store", PREFECT_API_URL="", PREFECT_HOME=str(tmp_path))
    said = night.signal_in("features", signal.SIGINT, to=os.killpg)
    assert night.process.returncode == 130, said
    assert "goes on after the last finished step" in said and "Traceback" not in said and "Error logging to API" not in said
    with closing(sqlite3.connect(tmp_path / "prefect.db")) as database:
        assert database.execute("select state_type from flow_run").fetchall() == [("CRASHED",)]


def test_ctrl_c_ends_with_a_sentence_and_the_next_run_goes_on(undisturbed: Path, tmp_path: Path) -> None:
    night = Night(tmp_path / "store")
    said = night.signal_in("training", signal.SIGINT)
    assert night.process.returncode == 130, said
    assert "goes on after the last finished step" in said
    before = {a.path: a.path.stat().st_mtime_ns for a in Store(tmp_path / "store").artifacts()}
    assert {a.step for a in Store(tmp_path / "store").artifacts()} == {"features", "drift", "sequences"}
    Night(tmp_path / "store").finish()
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert contents(tmp_path / "store") == contents(undisturbed)
