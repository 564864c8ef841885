"""What both sides of a comparison share: their command line, the clock of training steps, peak memory, and one line of JSON.

It runs in the incumbent's environment too, so it imports nothing of recsys.
"""

import argparse
import hashlib
import json
import resource
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

import pytorch_lightning
import torch

K = 10


@dataclass(frozen=True)
class Task:
    """What is done with which events. Defaults are those of RecTools' SASRecModel."""

    work: str
    events: Path
    architecture: str = "sasrec"  # or "preln", which is FlatSASRecNet's
    width: int = 256
    max_events: int = 100
    n_blocks: int = 2
    n_heads: int = 4
    dropout: float = 0.2
    attention_dropout: float = 0.2  # of ours; theirs is always `dropout`
    start: str = "theirs"  # ours begins with their positions and initial weights; "recipe": with those of its recipe
    loss: str = "softmax"  # or "sampled"
    n_negatives: int = 256
    users_per_batch: int = 128
    learning_rate: float = 1e-3
    epochs: int = 1
    share: float = 1.0  # of an epoch's steps
    one_step: int = 0  # 1: train for a single one, where only what comes after it is measured
    threads: int = 2
    accelerator: str = "cpu"  # or "gpu"
    seed: int = 1
    lists: Path | None = None  # where to write the lists of all users
    memory_gib: float = 0.0  # address space that the process may have; 0: all

    def arguments(self) -> list[str]:
        """The command line that reads back equal."""
        named = ((f.name, getattr(self, f.name)) for f in fields(self)[2:])
        given = [f"--{name.replace('_', '-')}={value}" for name, value in named if value is not None]
        return [self.work, str(self.events), *given]

    @property
    def digest(self) -> str:
        """Names what is measured, wherever it is."""
        places = ("events", "lists", "threads", "accelerator", "memory_gib")
        named = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in places}
        return hashlib.sha256(json.dumps({**named, "events": self.events.name}, sort_keys=True).encode()).hexdigest()[:12]

    @classmethod
    def read(cls, works: Iterable[str], description: str | None) -> "Task":
        """From the command line."""
        parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("work", choices=works)
        parser.add_argument("events", type=Path, help="parquet with user_id, item_id, happened_at")
        for f in fields(cls)[2:]:
            kind = Path if f.default is None else type(f.default)
            parser.add_argument(f"--{f.name.replace('_', '-')}", type=kind, default=f.default)
        return cls(**vars(parser.parse_args()))


class Clock(pytorch_lightning.Callback):
    """When each training step ended, by epoch. On the class, since our side builds its callbacks from a configuration's text."""

    ended: ClassVar[list[list[float]]] = []
    n_steps: ClassVar[int] = 0  # of a whole epoch

    def on_train_epoch_start(self, trainer: pytorch_lightning.Trainer, module: pytorch_lightning.LightningModule) -> None:
        self.ended.append([])

    def on_train_batch_end(self, trainer: pytorch_lightning.Trainer, *_: Any) -> None:
        self.ended[-1].append(time.perf_counter())
        Clock.n_steps = len(trainer.train_dataloader)  # type: ignore[arg-type]


def epoch_facts(ended: list[list[float]], n_steps: int) -> dict[str, float]:
    """Seconds of an epoch of `n_steps` steps, from those steps that were run but the first of each epoch, which warms up."""
    measured = [later - earlier for steps in ended for earlier, later in zip(steps, steps[1:], strict=False)]
    if not measured:
        return {"steps": n_steps, "measured_steps": 0}
    mean = sum(measured) / len(measured)
    return {"seconds": mean * n_steps, "steps": n_steps, "measured_steps": len(measured)}


def peak_gib() -> float:
    """Largest resident memory of this process so far, without that of the one that started it (as ru_maxrss has on Linux)."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def run(works: Mapping[str, Callable[[Task], dict[str, Any]]], packages: Iterable[str], description: str | None) -> None:
    """Do what the command line says, and print what was measured as one line of JSON: `error` where there was no memory for it."""
    task = Task.read(works, description)
    torch.set_num_threads(task.threads)
    if task.memory_gib:
        limit = int(task.memory_gib * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        facts = works[task.work](task)
    except (MemoryError, RuntimeError) as error:
        if "memory" not in str(error).lower() and not isinstance(error, MemoryError):
            raise
        facts = {"error": str(error).splitlines()[0] if str(error) else "MemoryError"}
    versions = {name: metadata.version(name) for name in packages}
    print(json.dumps({**facts, "peak_gib": peak_gib(), "versions": versions}), flush=True)
