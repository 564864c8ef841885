"""The training step: histories before a cut → a network with its vocabulary."""

import gc
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from recsys.arrays import Ints
from recsys.config import Model, Training
from recsys.dictionary import Dictionary
from recsys.errors import ConfigError
from recsys.histories import Histories, Key
from recsys.model import own_parts, saving
from recsys.model.blocks import Blocks, build
from recsys.model.device import device_of
from recsys.model.network import Network
from recsys.model.reader import Reader, Spans
from recsys.model.vocabulary import Vocabulary
from recsys.recipes import resolve
from recsys.splits import learnt_from
from recsys.store import Artifact, Draft, Store
from recsys.training.buckets import INITIAL_WEIGHTS, ORDER_OF_USERS, Batches, Validation, active, hold_out, seed_of, trainable
from recsys.training.epochs import CheckpointFile, Epochs
from recsys.training.module import SequenceModule
from recsys.training.parts import Parts
from recsys.training.warm_start import warm_start
from recsys.windows import Cut

log = logging.getLogger(__name__)

# Seconds are in run.json: here they would keep equal trainings from having equal bytes.
EPOCHS = pa.schema({"epoch": pa.int32(), "train_loss": pa.float64(), "ndcg_at_10": pa.float64(), "real_token_share": pa.float64()})

# Share of a GPU's free memory that the events may take. If they need more, they come batch by batch.
RESIDENT = 0.25

# Settings that come here as `epochs` and `warm_from`: by themselves they change no network.
ASKED_OF_THE_FLOW = {"refit", "warm_start"}


def train(
    store: Store,
    as_of: datetime,
    model: Model,
    training: Training,
    seed: int,
    sequences: Artifact,
    cut: Cut,
    *,
    key: Key,
    warm_from: Artifact | None = None,
    epochs: int | None = None,
    progress: Callable[[float], None] | None = None,
    rebuild: bool = False,
) -> Artifact:
    """A training artifact of the events before the cut.

    With `epochs` it trains exactly that long and holds nothing out: the refit. `progress` is told the share that is done.
    A run that was killed goes on after its last whole epoch.
    """
    resolved = resolve(model)
    blocks, parts = Blocks.of(resolved), Parts.of(training, model.code)
    parts.check()
    resolved, training = blocks.in_canonical_text(), parts.in_canonical_text()
    fitting = {name: value for name, value in training.versioned().items() if name not in ASKED_OF_THE_FLOW}
    config = {"model": resolved.versioned(), "training": fitting, "seed": seed, "cut": str(cut), "key": key, "epochs": epochs}
    inputs = {"sequences": sequences} if warm_from is None else {"sequences": sequences, "warm_from": warm_from}

    def write(draft: Draft) -> None:
        try:
            with _torch(training):
                _write(draft, _Task(resolved, parts, seed, sequences.path, cut, key, warm_from, epochs), progress)
        finally:
            gc.collect()  # a trainer and its module hold each other, and weights, moments and batches: Python looks for such rarely

    sources = own_parts.sources(blocks.classes() | parts.classes(), model.code)
    return store.ensure("training", as_of, config, inputs, write, code=__name__, sources=sources, rebuild=rebuild)


@dataclass(frozen=True)
class _Task:
    """What is trained on what."""

    model: Model  # resolved
    parts: Parts
    seed: int
    sequences: Path
    cut: Cut
    key: Key
    warm_from: Artifact | None
    epochs: int | None

    @property
    def training(self) -> Training:
        return self.parts.training


def _write(draft: Draft, task: _Task, progress: Callable[[float], None] | None) -> None:
    histories, dictionary = learnt_from(Histories.load(task.sequences), task.cut), Dictionary.load(task.sequences)
    ends = histories.cut(task.cut)
    users = Blocks.of(task.model).reads_users
    vocabulary = Vocabulary.fit(histories, dictionary, ends, task.training.min_item_events, users=users)
    torch.manual_seed(seed_of(task.seed, INITIAL_WEIGHTS))
    network = build(task.model, vocabulary)
    if task.warm_from is not None:
        draft.counts |= warm_start(network, vocabulary, task.warm_from.path)
    material = _Material.of(task, network, network.reader(histories, dictionary, vocabulary), histories, ends)
    draft.counts |= material.counts | {"items": vocabulary.n_items, "parameters": network.n_parameters}

    module = task.parts.one["module"].build(
        network=network,
        reader=material.reader,
        batches=partial(_batches, material, task, network),
        validation=material.validation,
        optimisation=task.parts.optimisation(),
        seed=task.seed,
    )
    fitted = Epochs(draft.scratch / "last.ckpt", task.training.patience if len(material.validation) else None, progress)
    trainer = _fit(module, fitted, task.parts, task.epochs or task.training.max_epochs, draft.scratch)
    if fitted.best_weights:
        network.load_state_dict(fitted.best_weights)

    saving.save(draft.path, network, task.model, vocabulary, task.key)
    pq.write_table(_table(fitted.rows), draft.path / "epochs.parquet", compression="zstd")
    best = {"ndcg_at_10": None, **fitted.rows[fitted.best]}
    draft.metrics |= {"best_epoch": best.pop("epoch"), "n_epochs": len(fitted.rows), **best}
    draft.note(device=str(trainer.strategy.root_device), threads=torch.get_num_threads(), epoch_seconds=fitted.seconds)
    if progress is not None:
        progress(1.0)


@dataclass(frozen=True)
class _Material:
    """What is learnt from, and what says how good a network became."""

    reader: Reader
    learning: Reader  # knows no labels of the events that are held out; where training runs, if there is room
    trained: Spans
    validation: Validation
    counts: dict[str, int]

    @classmethod
    def of(cls, task: _Task, network: Network, reader: Reader, histories: Histories, ends: Ints) -> "_Material":
        training = task.training
        starts, stops = histories.sequences(ends, task.key)
        spans = active(reader.spans(starts, stops), training.min_user_events)
        n_validation_users = 0 if task.epochs else training.n_validation_users
        kept, validation = hold_out(spans, reader, histories.user_id, task.parts.validation_users(), n_validation_users, task.seed)
        learning = reader.without_labels_of(validation.spans)
        trained = trainable(kept, learning, network.objective, network.max_events, training)
        counts = {
            "users": int((ends > histories.offsets[:-1]).sum()),
            "trained_users": len(trained.user.unique()),
            "trained_sequences": len(trained),
            "validation_users": len(validation),
            "events": int((stops - starts).sum()),
            "events_of_unknown_items": reader.n_unknown(starts, stops),
        }
        device = device_of(training.accelerator)
        if device == "cuda" and learning.nbytes <= RESIDENT * torch.cuda.mem_get_info()[0]:
            learning = learning.to(torch.device(device))
        return cls(reader, learning, trained, validation, counts)


def _batches(material: _Material, task: _Task, network: Network, epoch: int) -> Batches:
    training = task.training
    return Batches(
        material.learning,
        material.trained,
        users_per_batch=training.users_per_batch,
        events_per_batch=training.events_per_batch,
        seed=seed_of(task.seed, ORDER_OF_USERS, epoch),
        batching=network.batching,
        n_unread=network.objective.n_trained(network.max_events) - network.objective.n_places(network.max_events),
        device=torch.device(device_of(training.accelerator)),
    )


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    """A row per epoch, with whatever the module logged besides."""
    others = sorted({name for row in rows for name in row} - set(EPOCHS.names))
    return pa.Table.from_pylist(rows, pa.schema([*EPOCHS, *(pa.field(name, pa.float64()) for name in others)]))


def _fit(module: SequenceModule, fitted: Epochs, parts: Parts, max_epochs: int, scratch: Path) -> Trainer:
    training = parts.training
    on_gpu = device_of(training.accelerator) == "cuda"
    trainer = parts.trainer(
        accelerator="gpu" if on_gpu else "cpu",
        devices=1,
        precision="bf16-mixed" if on_gpu else "32-true",
        max_epochs=max_epochs,
        limit_train_batches=training.limit_train_batches or 1.0,
        deterministic=training.deterministic,
        limit_val_batches=1.0 if len(module.validation) else 0,
        num_sanity_val_steps=0,
        reload_dataloaders_every_n_epochs=1,
        callbacks=[*parts.built_callbacks(), fitted],
        plugins=[CheckpointFile()],
        default_root_dir=scratch,
        logger=False,
        enable_model_summary=False,
        enable_progress_bar=fitted.progress is None and sys.stderr.isatty(),
    )
    with _interruptible():
        try:
            trainer.fit(module, ckpt_path=_last_epoch(scratch / "last.ckpt"), weights_only=True)
        except MisconfigurationException as error:
            raise ConfigError(f"training: Lightning cannot train so: {error}") from error
    return trainer


def _last_epoch(checkpoint: Path) -> Path | None:
    """The checkpoint, if there is one that can be read. What a power cut left of one, or somebody else put there, is removed."""
    if not checkpoint.exists():
        return None
    try:
        torch.load(checkpoint, map_location="cpu", mmap=True, weights_only=True)  # weights and numbers: nothing in it is run
    except (UnpicklingError, EOFError, OSError, RuntimeError, ValueError) as error:
        log.warning("%s cannot be read (%s), so the training begins anew.", checkpoint, str(error).partition("\n")[0])
        checkpoint.unlink()
        return None
    return checkpoint


@contextmanager
def _torch(training: Training) -> Iterator[None]:
    """Torch's settings of this process for a training, and afterwards as they were."""
    threads, deterministic, precision = (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_float32_matmul_precision(),
    )
    if training.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # CUDA asks for it
    torch.set_num_threads(training.threads or threads)
    torch.set_float32_matmul_precision("high")  # TF32 where there is a GPU; no change on a CPU
    try:
        with torch.random.fork_rng(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning 2.6 with torch 2.13
            yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
        torch.set_float32_matmul_precision(precision)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Lightning answers Ctrl-C with sys.exit(1) and leaves it ignored from then on; here it stays a KeyboardInterrupt."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as exit_:
        if isinstance(exit_.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
    finally:
        if in_main_thread:
            signal.signal(signal.SIGINT, handler)
