"""What is kept of each epoch of a training, and when it ends."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import Tensor

from recsys import disk
from recsys.errors import ConfigError
from recsys.training.module import SequenceModule


class CheckpointFile(TorchCheckpointIO):
    """Writes a checkpoint straight into its file. Lightning's own way holds it in memory twice before: of a million items, gigabytes."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        def write(new: Path) -> None:
            with new.open("wb") as file:  # of a path torch opens a stream of its own, whose errors do not say that a disk is full
                torch.save(checkpoint, file)

        disk.replace(Path(path), write)


class Epochs(Checkpoint):
    """Keeps a row and a checkpoint of each epoch and the best weights, and stops when `patience` epochs were no better.

    Without validation (`patience` None) nothing is better than anything: `best_weights` is empty, and the last ones count.
    Lightning calls a Checkpoint after all other callbacks, so that their state of the epoch is in the file too.
    """

    def __init__(self, file: Path, patience: int | None, progress: Callable[[float], None] | None = None) -> None:
        self.rows: list[dict[str, Any]] = []
        self.seconds: list[float] = []
        self.best_weights: dict[str, Tensor] = {}
        self.stopped = False
        self.progress = progress
        self._file, self._patience = file, patience
        self._measure, self._told = SequenceModule.measure, 0.0

    @property
    def best(self) -> int:
        """The best epoch: 0, 1, 2 …"""
        return len(self.rows) - 1 if self._patience is None else max(range(len(self.rows)), key=lambda i: self.rows[i][self._measure])

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        assert isinstance(module, SequenceModule)
        self._measure = module.measure

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        trainer.should_stop = self.stopped

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._started = time.monotonic()

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        of_epoch = (trainer.fit_loop.epoch_loop.batch_idx + 1) / trainer.num_training_batches
        done = (trainer.current_epoch + of_epoch) / (trainer.max_epochs or 1)
        if self.progress is not None and done - self._told >= 0.01:
            self._told = done
            self.progress(done)

    def on_validation_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Another callback may have put other weights in their place to be validated, as an average does."""
        assert isinstance(module, SequenceModule)
        self._validated = {name: tensor.detach().cpu().clone() for name, tensor in module.network.state_dict().items()}

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        assert isinstance(module, SequenceModule)
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if self._patience is not None and module.measure not in logged:
            raise ConfigError(
                f"training.module: {type(module).__name__}.validation_step logs no {module.measure!r}, which decides the best epoch. "
                f"It logs: {', '.join(logged.keys() - {'train_loss'}) or 'nothing'}. Log it, or name another as its `measure`."
            )
        batches = module.epoch_batches
        kept = {"epoch": len(self.rows) + 1, "train_loss": module.train_loss(), "real_token_share": batches.real_share}
        self.rows.append({**logged, **kept})
        self.seconds.append(time.monotonic() - self._started)
        if self._patience is not None and self.best == len(self.rows) - 1:
            self.best_weights = self._validated
        self.stopped = trainer.should_stop or (self._patience is not None and len(self.rows) - 1 - self.best >= self._patience)
        trainer.should_stop = self.stopped
        trainer.save_checkpoint(self._file, weights_only=False)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "seconds": self.seconds, "best_weights": self.best_weights, "stopped": self.stopped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows, self.seconds, self.best_weights = state["rows"], state["seconds"], state["best_weights"]
        self.stopped = state["stopped"]
