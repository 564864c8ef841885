"""A shop whose customers walk in a ring, as a sequences artifact: what comes next is known, and popularity knows nothing of it."""

import json
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.config import Model, Training
from recsys.schema import Column, Schema
from recsys.store import Artifact, Draft, Store
from recsys.training.train import train
from recsys.windows import Cut

OWN_PARTS = Path(__file__).parent / "code"
AS_OF = datetime(2025, 3, 1, tzinfo=timezone.utc)
HOUR = 3_600_000_000
END = int(AS_OF.timestamp()) * 1_000_000
STEPS = np.array([0.6, 0.25, 0.15])  # chance to go on by 1, 2 or 3 articles
SCHEMA = Schema((Column("device", "events", "categorical", "VARCHAR"), Column("price", "items", "numeric", "DOUBLE", "standard")))


def walks(n_users: int, n_items: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Item codes of all events, and the length of each history."""
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 16, n_users)
    steps = random.choice([1, 2, 3], p=STEPS, size=lengths.sum())
    starts = np.cumsum(lengths) - lengths
    steps[starts] = random.integers(0, n_items, n_users)
    total = np.cumsum(steps)
    return (total - np.repeat(total[starts] - steps[starts], lengths)) % n_items, lengths


def write_sequences(folder: Path, n_users: int = 600, n_items: int = 50, seed: int = 0, first_item: int = 100, n_changed: int = 0) -> None:
    """The tables of docs/artifacts.md, in one shard, every event an hour after the one before and the last an hour before as_of.

    The last `n_changed` events of everyone are other items on another device than they would be.
    """
    codes, lengths = walks(n_users, n_items, seed)
    random = np.random.default_rng(seed + 1)
    n = len(codes)
    ends = np.repeat(np.cumsum(lengths), lengths)
    devices = random.integers(-1, 2, n)
    changed = ends - np.arange(n) <= n_changed
    codes[changed], devices[changed] = (codes[changed] + 7) % n_items, (devices[changed] + 2) % 3 - 1
    for name in ("users", "histories", "seen", "blocked", "values"):
        (folder / name).mkdir(parents=True)
    tables = {
        "items": {
            "item_id": np.arange(n_items) + first_item,
            "eligible": np.ones(n_items, dtype=bool),
            "first_event_at": pa.array(np.full(n_items, END - 1000 * HOUR), pa.timestamp("us")),
            "n_events": np.bincount(codes, minlength=n_items),
            "price": random.lognormal(3, 1, n_items).astype(np.float32),
        },
        "values/device": {"value": ["desktop", "phone"]},
        "users/part-000": {"user_id": np.arange(n_users), "n_events": lengths, "n_seen": 0 * lengths, "n_blocked": 0 * lengths},
        "histories/part-000": {
            "item_code": codes.astype(np.int32),
            "event_at": END - HOUR * (ends - np.arange(n)),
            "session": ((np.arange(n) - (ends - np.repeat(lengths, lengths))) // 4).astype(np.int32),
            "weight": np.ones(n, dtype=np.float32),
            "device": devices.astype(np.int32),
        },
        "seen/part-000": {"item_code": np.array([], dtype=np.int32), "first_event_at": np.array([], dtype=np.int64)},
        "blocked/part-000": {"item_code": np.array([], dtype=np.int32)},
    }
    for name, columns in tables.items():
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    SCHEMA.save(folder)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def make_sequences(store: Store) -> Callable[..., Artifact]:
    """A sequences artifact of the ring, made to measure."""

    def make(**shape: int) -> Artifact:
        def write(draft: Draft) -> None:
            write_sequences(draft.path, **shape)

        return store.ensure("sequences", AS_OF, dict(shape), {}, write, code="recsys.histories")

    return make


@pytest.fixture
def sequences(make_sequences: Callable[..., Artifact]) -> Artifact:
    return make_sequences()


SMALL = Model(width=16, max_events=8, inputs='Inputs(features="all")', encoder="PreLN(n_blocks=1, n_heads=2, dropout=0.1)")
QUICK = Training(max_epochs=3, users_per_batch=64, learning_rate=5e-3, deterministic=True, patience=3)


@pytest.fixture
def as_of() -> datetime:
    return AS_OF


@pytest.fixture
def fit(store: Store) -> Callable[..., Artifact]:
    """The training step on a small network, any of its settings replaced."""

    def run(
        sequences: Artifact, *, model: dict[str, Any] | None = None, training: dict[str, Any] | None = None, **options: Any
    ) -> Artifact:
        given = {"cut": Cut(at=AS_OF), "key": "user", "seed": 1, "store": store, **options}
        return train(
            as_of=AS_OF,
            model=SMALL.model_copy(update=model or {}),
            training=QUICK.model_copy(update=training or {}),
            sequences=sequences,
            **given,
        )

    return run


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from recsys.config import Model, Training
    from recsys.store import Store
    from recsys.training.train import train
    from recsys.windows import Cut

    def die(done):
        if done > 0.5:
            os.kill(os.getpid(), signal.SIGKILL)

    root, model, training = sys.argv[1:]
    store = Store(Path(root))
    sequences = store.find("sequences")
    model, training = Model.model_validate_json(model), Training.model_validate_json(training)
    train(store, sequences.as_of, model, training, 1, sequences, Cut(at=sequences.as_of), key="user", progress=die)
"""


@pytest.fixture
def kill_halfway(sequences: Artifact, tmp_path: Path) -> Callable[..., Store]:
    """Repeats a training in a process and a store of its own, and kills it after half of it. Returns the store."""

    def kill(undisturbed: Artifact, **model: Any) -> Store:
        def copy(draft: Draft) -> None:
            shutil.copytree(sequences.path, draft.path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("run.json", "manifest.json"))

        other = Store(tmp_path / "other")
        other.ensure("sequences", AS_OF, {}, {}, copy, code="recsys.histories")
        config = undisturbed.manifest["config"]
        texts = [json.dumps({**config["model"], **model}), json.dumps(config["training"])]
        killed = subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED), str(other.root), *texts], capture_output=True, text=True)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert list(other.root.rglob("last.ckpt")) and not other.artifacts("training")
        return other

    return kill


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of own parts: the module `team_training`."""
    folder = shutil.copytree(OWN_PARTS, tmp_path / "code")
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield folder
    for name in [name for name in sys.modules if name.startswith("team_")]:
        del sys.modules[name]


@pytest.fixture
def own(fit: Callable[..., Artifact], sequences: Artifact, code: Path) -> Callable[..., Artifact]:
    """A training of two epochs with the folder's parts."""

    def run(*, model: dict[str, Any] | None = None, training: dict[str, Any] | None = None, **options: Any) -> Artifact:
        training = {"max_epochs": 2, **(training or {})}
        return fit(options.pop("sequences", sequences), model={"code": str(code), **(model or {})}, training=training, **options)

    return run
