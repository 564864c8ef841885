"""Training as Lightning runs it: the step, the validation, and what is told of both."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor

from recsys.cutoff import K
from recsys.errors import ConfigError, Diverged
from recsys.model.bucket import Bucket
from recsys.model.inference import places_per_bucket
from recsys.model.network import Network
from recsys.model.reader import Reader
from recsys.training.buckets import STEPS, Batches, Cases, Validation, seed_of
from recsys.training.labels import Labels
from recsys.training.optimisation import Optimisation

CHECK_EVERY = 100  # steps between looks at the loss: each look makes a GPU wait
SCORES_AT_ONCE = 2**24


class SequenceModule(LightningModule):
    """A network with the batches it learns from and the cases that validate it: the contract of the slot `module`.

    A subclass replaces what it likes: `training_step`, `validation_step`, `configure_optimizers`, any hook of Lightning's.
    What is keyword-only in its constructor is set in a configuration, and the rest it hands on:
    `def __init__(self, *, margin: float = 0.1, **parts: Any)`. Whatever is logged is a column of `epochs.parquet`.

    Every epoch starts its random numbers anew from the seed, so that an epoch after a resume goes as it would have gone.
    """

    measure = "ndcg_at_10"  # what is logged in validation and the best epoch has most of; "skill" without a NextItem head

    def __init__(
        self,
        network: Network,
        reader: Reader,
        batches: Callable[[int], Batches],
        validation: Validation,
        optimisation: Optimisation,
        seed: int,
    ) -> None:
        super().__init__()
        self.network, self.reader, self.validation = network, reader, validation
        self.optimisation, self.seed = optimisation, seed
        self._batches = batches
        self._losses, self._n_losses, self._n_steps = torch.zeros(()), 0, 0
        if not network.recommends and self.measure == SequenceModule.measure:
            self.measure = "skill"

    # What a subclass may replace

    def training_step(self, batch: list[Bucket], batch_idx: int) -> Tensor:
        """Loss of the buckets of one batch, a scalar."""
        return self.network.loss(batch)

    def validation_step(self, batch: tuple[Bucket, Tensor], batch_idx: int) -> None:
        """Log measures of some validation cases: histories, and the item_index (B,) that followed each. Gradients are off.

        Here NDCG@10 of that item among all items: 1 / log2(1 + rank), 0 below the first 10.
        """
        bucket, target = batch
        if not self.network.recommends:
            return
        rank = self.ranks(bucket, target).float()
        ndcg = torch.where(rank <= K, 1 / torch.log2(1 + rank), 0).mean()
        self.log("ndcg_at_10", ndcg, batch_size=len(target))

    def configure_optimizers(self) -> Any:
        """The optimiser and the schedule of its learning rate, in any form that Lightning takes."""
        optimizer = self.optimisation.optimizer(self.network.parameters())
        self.trainer.fit_loop.setup_data()  # so that the length of an epoch is known
        steps_per_epoch = -(-int(self.trainer.num_training_batches) // self.trainer.accumulate_grad_batches)
        scheduler = self.optimisation.scheduler(optimizer, steps_per_epoch)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": self.optimisation.schedule.per}}

    # What it can use

    def ranks(self, bucket: Bucket, target: Tensor) -> Tensor:
        """(B,) int64: the place, from 1, of each target (B,) among all items; items with an equal score stand before it."""
        with torch.autocast(self.device.type, enabled=False):  # in the precision that recommends
            hidden, catalogue = self.network.encode(bucket).float(), self._catalogue
            if (prior := self.network.next_item.prior) is not None and bucket.next_at is not None:
                said, row = prior.rows(bucket.next_at.gather(1, bucket.lengths[:, None] - 1)[:, 0])
                catalogue = replace(catalogue, prior=said, prior_row=row)
            ranks = []
            n_rows = max(1, SCORES_AT_ONCE // catalogue.n_items)
            for start in range(0, len(hidden), n_rows):
                rows = slice(start, start + n_rows)
                scores = catalogue.scores(hidden, rows)
                ranks.append(catalogue.n_items - (scores < scores.gather(1, target[rows, None])).sum(1))
        return torch.cat(ranks)

    def train_loss(self) -> float:
        """Mean loss of the epoch's batches so far."""
        self.check_finite()
        if not self._n_losses:
            raise ConfigError(f"training.module: {type(self).__name__}.training_step returns no loss. Return a scalar with a gradient.")
        return float(self._losses) / self._n_losses

    def check_finite(self) -> None:
        """Diverged if a loss of this epoch was not finite."""
        if not self._losses.isfinite():
            raise Diverged(
                f"The training loss is no longer finite in epoch {self.trainer.current_epoch + 1}, at step {self._n_steps} or up to "
                f"{CHECK_EVERY} before it. Lower training.learning_rate ({self.optimisation.learning_rate:g}), or look in the profile of "
                "the features for numbers that are beyond all measure."
            )

    # What Lightning asks for

    def train_dataloader(self) -> Batches:
        self.epoch_batches = self._batches(self.trainer.current_epoch)
        return self.epoch_batches

    def val_dataloader(self) -> Cases:
        return Cases(self.network, self.reader, self.validation, places_per_bucket(self.device.type))

    def on_train_epoch_start(self) -> None:
        torch.manual_seed(seed_of(self.seed, STEPS, self.trainer.current_epoch))
        self._losses, self._n_losses, self._n_steps = torch.zeros((), device=self.device), 0, 0

    def on_train_batch_end(self, outputs: Any, batch: list[Bucket], batch_idx: int) -> None:
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        self._n_steps += 1
        if loss is not None:
            self._losses += loss.detach() * (self.trainer.accumulate_grad_batches if self.automatic_optimization else 1)
            self._n_losses += 1
        if batch_idx % CHECK_EVERY == 0:
            self.check_finite()

    def on_train_epoch_end(self) -> None:
        self.log("train_loss", self.train_loss())

    def on_validation_epoch_start(self) -> None:
        self._labels = Labels(self.network)
        if self.network.recommends:
            self._catalogue = self.network.catalogue()

    def on_validation_batch_end(self, outputs: Any, batch: tuple[Bucket, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        with torch.autocast(self.device.type, enabled=False):
            self._labels.update(batch[0])

    def on_validation_epoch_end(self) -> None:
        self.log_dict(self._labels.metrics())
        del self._labels
        if self.network.recommends:
            del self._catalogue
