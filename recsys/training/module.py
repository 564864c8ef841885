"""Training as Lightning runs it: the step, the validation, and what is kept of each epoch."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from recsys.config import Training
from recsys.errors import ConfigError
from recsys.model.bucket import Bucket
from recsys.model.inference import encode
from recsys.model.network import Network
from recsys.model.reader import Reader
from recsys.training.buckets import STEPS, Batches, Validation, seed_of

CHECK_EVERY = 100  # steps between looks at the loss: each look makes a GPU wait
SCORES_AT_ONCE = 2**24
K = 10


class SequenceModule(LightningModule):
    """A network with the batches it learns from and the cases that validate it.

    Every epoch starts its random numbers anew from the seed, so that an epoch after a resume goes as it would have gone.
    """

    def __init__(
        self, network: Network, reader: Reader, batches: Callable[[int], Batches], validation: Validation, training: Training, seed: int
    ) -> None:
        super().__init__()
        self.network, self.reader, self.validation = network, reader, validation
        self._batches, self._training, self._seed = batches, training, seed
        self._losses, self._n_steps = torch.zeros(()), 0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW with the betas of SASRec's code; its decay is for matrices only and spares biases and norms."""
        trained = [p for p in self.network.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim >= 2], "weight_decay": self._training.weight_decay},
            {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self._training.learning_rate, betas=(0.9, 0.98), fused=True)

    def train_dataloader(self) -> Batches:
        self.epoch_batches = self._batches(self.trainer.current_epoch)
        return self.epoch_batches

    def on_train_epoch_start(self) -> None:
        torch.manual_seed(seed_of(self._seed, STEPS, self.trainer.current_epoch))
        self._losses, self._n_steps = torch.zeros((), device=self.device), 0

    def training_step(self, batch: list[Bucket], batch_idx: int) -> Tensor:
        loss = self.network.loss(batch)
        self._losses += loss.detach()
        self._n_steps += 1
        if batch_idx % CHECK_EVERY == 0:
            self.check_finite()
        return loss

    def train_loss(self) -> float:
        """Mean loss of the epoch's steps so far."""
        self.check_finite()
        return float(self._losses) / self._n_steps

    def check_finite(self) -> None:
        """ConfigError if a loss of this epoch was not finite."""
        if not self._losses.isfinite():
            raise ConfigError(
                f"The training loss is no longer finite in epoch {self.trainer.current_epoch + 1}, at step {self._n_steps} or up to "
                f"{CHECK_EVERY} before it. Lower training.learning_rate ({self._training.learning_rate:g}), or look in the profile of the "
                "features for numbers that are beyond all measure."
            )

    @torch.no_grad()
    def ndcg(self) -> float | None:
        """NDCG@10 of the validation events among all items: 1 / log2(1 + rank), 0 below the first 10. None without any."""
        if not len(self.validation):
            return None
        hidden = encode(self.network, self.reader, self.validation.spans)
        catalogue = self.network.catalogue()
        n_rows = max(1, SCORES_AT_ONCE // catalogue.n_items)
        ranks = []
        for h, target in zip(hidden.split(n_rows), self.validation.target.to(hidden.device).split(n_rows), strict=True):
            scores = h @ catalogue.vectors.T if catalogue.bias is None else torch.addmm(catalogue.bias, h, catalogue.vectors.T)
            worse = (scores < scores.gather(1, target[:, None])).sum(1)
            ranks.append(catalogue.n_items - worse)  # an item with an equal score stands before the target
        rank = torch.cat(ranks).cpu().double()
        return float(torch.where(rank <= K, 1 / torch.log2(1 + rank), 0).mean())


class Epochs(Callback):
    """Keeps a row and a checkpoint of each epoch and the best weights, and stops when `patience` epochs were no better.

    Without validation (`patience` None) nothing is better than anything, and the last weights are kept.
    """

    def __init__(self, checkpoint: Path, patience: int | None, progress: Callable[[float], None] | None = None) -> None:
        self.rows: list[dict[str, Any]] = []
        self.seconds: list[float] = []
        self.best_weights: dict[str, Tensor] = {}
        self.progress = progress
        self._checkpoint, self._patience = checkpoint, patience
        self._told = 0.0

    @property
    def best(self) -> int:
        """The best epoch: 0, 1, 2 …"""
        return len(self.rows) - 1 if self._patience is None else max(range(len(self.rows)), key=lambda i: self.rows[i]["ndcg_at_10"])

    @property
    def finished(self) -> bool:
        return self._patience is not None and bool(self.rows) and len(self.rows) - 1 - self.best >= self._patience

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        trainer.should_stop = self.finished

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._started = time.monotonic()

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        of_epoch = (trainer.fit_loop.epoch_loop.batch_idx + 1) / trainer.num_training_batches
        done = (trainer.current_epoch + of_epoch) / (trainer.max_epochs or 1)
        if self.progress is not None and done - self._told >= 0.01:
            self._told = done
            self.progress(done)

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        assert isinstance(module, SequenceModule)
        batches = module.epoch_batches
        row = {
            "epoch": len(self.rows) + 1,
            "train_loss": module.train_loss(),
            "ndcg_at_10": module.ndcg(),
            "real_token_share": batches.n_real / batches.n_places,
        }
        self.rows.append(row)
        self.seconds.append(time.monotonic() - self._started)
        if self.best == len(self.rows) - 1:
            self.best_weights = {name: tensor.detach().cpu().clone() for name, tensor in module.network.state_dict().items()}
        trainer.should_stop = self.finished
        trainer.save_checkpoint(self._checkpoint, weights_only=False)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "seconds": self.seconds, "best_weights": self.best_weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows, self.seconds, self.best_weights = state["rows"], state["seconds"], state["best_weights"]
