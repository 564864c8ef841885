"""A night of a small shop in a process of its own, which can be killed at any file that it touches or at any time, and what it
leaves behind.

A fork of one process that has imported everything: a night costs what it does, and no start of Python.
"""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import local
from recsys import audit, digest, published
from recsys.config import Data, Evaluation, Features, Model, Promotion, Shop, Training
from recsys.errors import RecsysError
from recsys.store import Store

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["flows.nightly", "flows.backfill", "flows.cli", "tests.chaos.warm", __name__])

AS_OF = datetime(2026, 3, 1, tzinfo=timezone.utc)
NEXT, LAST = AS_OF + timedelta(days=1), AS_OF + timedelta(days=2)
BACKFILL: dict[str, Any] = {"first": AS_OF, "last": LAST, "publish": True}
REFUSED = 3  # exit status of a night that ended with a sentence
KILLED = -signal.SIGKILL
SMALL: dict[str, Any] = {
    "data": Data(demo=Shop(n_users=150, n_items=60)),
    "features": Features(n_shards=2),
    "model": Model(width=16, max_events=20),
    "training": Training(max_epochs=3, deterministic=True, threads=1),
    "evaluation": Evaluation(n_bootstrap=100),
    "promotion": Promotion(
        min_users=1, min_lift=-1.0, min_refit_overlap=0.0, tolerance=1.0
    ),  # the candidate is published: all steps take part
}
STEPS = ("features", "sequences", "training", "evaluation", "promotion", "scoring", "publishing")
TOUCHING = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"}  # audit events of Python, whose first argument is the path


@dataclass
class Night:
    """`kill_at`: the night kills itself, as SIGKILL does, before it touches the n-th of its files below `watched`, the store unless given.

    Another `flow` takes the place of the night, or a `command` of `recsys`. `api` is another server than that of all nights.
    """

    store: Path
    kill_at: int | None = None
    given: dict[str, Any] = field(default_factory=dict)
    flow: str = "nightly"
    command: tuple[str, ...] = ()
    watched: Path | None = None
    api: str = ""

    def start(self) -> BaseProcess:
        self.store.parent.mkdir(parents=True, exist_ok=True)
        process = FORKS.Process(target=_night, args=(self,))
        process.start()
        return process

    def run(self) -> int:
        """The exit status; below zero the signal that ended it."""
        return self.ended(self.start())

    def killed_once(self, due: Callable[[psutil.Process], bool]) -> int:
        """Run it, and kill it from outside as soon as that holds of its process, whatever it is doing. The exit status."""
        process = self.start()
        with suppress(psutil.NoSuchProcess):
            running = psutil.Process(process.pid)
            while process.is_alive() and not due(running):
                time.sleep(0.005)
        process.kill()
        return self.ended(process)

    def ended(self, process: BaseProcess) -> int:
        process.join(300)
        assert process.exitcode is not None, f"the night is still at work after five minutes: {self.said()}"
        return process.exitcode

    def said(self) -> str:
        return self._beside("said").read_text()

    def touched(self) -> list[str]:
        """The files that the night has touched, one after the other, relative to the folder that was watched."""
        return self._beside("touched").read_text().splitlines()

    @property
    def seconds(self) -> float:
        """What it took of a processor."""
        return float(self._beside("seconds").read_text())

    def _beside(self, what: str) -> Path:
        return self.store.with_name(f"{self.store.name}.{what}")


def _night(night: Night) -> None:
    with night._beside("said").open("w") as said:
        os.dup2(said.fileno(), 1), os.dup2(said.fileno(), 2)
    sys.addaudithook(_Watching(night))
    try:
        with temporary_settings({PREFECT_API_URL: night.api} if night.api else {}):
            _work(night)
    except RecsysError as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        sys.exit(REFUSED)
    night._beside("seconds").write_text(str(time.process_time()))


def _work(night: Night) -> None:
    if night.command:
        from flows.cli import app

        app([*night.command, "--store", str(night.store)])  # which exits
    asked = {**({"as_of": AS_OF} if night.flow == "nightly" else {}), **SMALL, **night.given}
    local.run(night.flow, {"store": str(night.store), **asked})


class _Watching:
    """Writes down the files that this process touches, and kills it at one of them."""

    def __init__(self, night: Night) -> None:
        self.root, self.kill_at, self.n = str(night.watched or night.store), night.kill_at, 0
        self.file = os.open(night._beside("touched"), os.O_CREAT | os.O_WRONLY | os.O_TRUNC)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in TOUCHING or not (path := _path(event, arguments)).startswith(self.root + os.sep):
            return
        if self.n == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.n += 1
        os.write(self.file, f"{path[len(self.root) + 1 :]}\n".encode())


def _path(event: str, arguments: tuple[Any, ...]) -> str:
    """What an event touches; where a tree is removed, its files are named relative to an open folder."""
    if event in ("os.remove", "os.rmdir") and arguments[1] >= 0:
        return os.path.join(os.readlink(f"/proc/self/fd/{arguments[1]}"), str(arguments[0]))
    return str(arguments[0])


def step_of(path: str) -> str:
    """The step that touches a path of the store: `.tmp/training-2026-03-01-…`, `training/as_of=…`; "" for none, as the demo's tables."""
    name = path.removeprefix(".tmp/").removeprefix(".scratch/").removeprefix(".locks/").partition("/")[0].partition("-")[0]
    return name if name in STEPS else "publishing" if name in ("promotions.jsonl", "current.json", "published") else ""


def processor_seconds(process: psutil.Process) -> float:
    """What a process has had of the processors, in all its threads."""
    spent = process.cpu_times()
    return spent.user + spent.system


def contents(store: Path) -> dict[str, str]:
    """Digest of every file of every finished artifact; of its manifest too, which holds the digests of what it was made from."""
    files = {
        f"{a.step}/{a.version}/{name}": a.path / name for a in Store(store).artifacts() for name in (*a.manifest["files"], "manifest.json")
    }
    return {name: digest.of_file(path) for name, path in files.items()}


def damaged(store: Path) -> list[str]:
    """What `recsys verify` says of the store, but for folders that lost their manifest, which nobody reads."""
    return [said for folder in audit.folders(Store(store)) if (folder / "manifest.json").exists() for said in audit.audit(folder)]


def assert_whole(store: Path, undisturbed: Path) -> None:
    """Everything is as after a night that nobody disturbed, and nothing else is there."""
    assert contents(store) == contents(undisturbed)
    assert damaged(store) == []
    assert list(audit.audit_pointer(Store(store))) == []
    assert [p.artifacts for p in published.history(Store(store))] == [p.artifacts for p in published.history(Store(undisturbed))]
    assert not list((store / ".tmp").iterdir()) and not list((store / ".scratch").iterdir())


def assert_half_done(store: Path, undisturbed: Path) -> None:
    """What is visible of a night that was killed is whole, and nothing is published before all is."""
    made, whole = contents(store), contents(undisturbed)
    assert made.items() <= whole.items() and damaged(store) == []
    assert published.current(Store(store)) is None or made == whole, "published before it was whole"
