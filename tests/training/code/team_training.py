"""Own parts of a training, one of each kind."""

import numpy as np
import torch
from pytorch_lightning import Callback
from torch.optim import Optimizer

from recsys.model.batching import Batching
from recsys.model.initialisation import Initialisation
from recsys.model.network import Network
from recsys.training.module import SequenceModule
from recsys.training.schedules import Factor
from recsys.training.validation_users import ValidationUsers


class Lion(Optimizer):
    """Chen et al. 2023, algorithm 2: the sign of a moving average of gradients."""

    def __init__(self, params, lr, beta=0.9):
        super().__init__(params, {"lr": lr, "beta": beta, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure=None):
        with torch.enable_grad():
            loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                mean = self.state[p].setdefault("mean", torch.zeros_like(p))
                mean.lerp_(p.grad, 1 - group["beta"])
                p.sub_(group["lr"] * mean.sign())
        return loss


class Frozen(Factor):
    """Learns for the first share of the steps, and then not at all."""

    def __init__(self, *, share: float = 0.5):
        self.share = share

    def factor(self, step, n_steps):
        return float(step < self.share * n_steps)


class Oldest(ValidationUsers):
    """Those with the smallest ids."""

    def choose(self, user_id, spans, n, generator):
        return torch.from_numpy(np.argsort(user_id.to_numpy())[:n].copy())


class Twice(ValidationUsers):
    def choose(self, user_id, spans, n, generator):
        return torch.zeros(2, dtype=torch.long)


class Doubled(SequenceModule):
    """Another training step, another measure, and something logged besides."""

    measure = "hit_at"

    def __init__(self, *, factor: float, k: int = 5, **parts):
        super().__init__(**parts)
        self.factor, self.k = factor, k

    def training_step(self, batch, batch_idx):
        self.log("buckets", float(len(batch)), on_step=False, on_epoch=True, batch_size=1)
        return self.factor * super().training_step(batch, batch_idx)

    def validation_step(self, batch, batch_idx):
        super().validation_step(batch, batch_idx)
        hits = (self.ranks(*batch) <= self.k).float()
        self.log("hit_at", hits.mean(), batch_size=len(hits))


class Silent(SequenceModule):
    def validation_step(self, batch, batch_idx):
        pass


class Counter(Callback):
    """Stops after so many steps in all, however often the training was killed."""

    def __init__(self, limit, done=0):
        self.limit, self.done = limit, done

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.done += 1

    def on_train_epoch_end(self, trainer, module):
        module.log("steps_so_far", float(self.done))
        trainer.should_stop = trainer.should_stop or self.done >= self.limit

    def state_dict(self):
        return {"done": self.done}

    def load_state_dict(self, state):
        self.done = state["done"]


class Ones(Initialisation):
    """The same row for every item."""

    def __call__(self, network):
        network.items.weight.fill_(1.0)


class Pairs(Batching):
    """Two sequences to a bucket."""

    def __init__(self, *, size: int = 2):
        self.size = size

    def groups(self, lengths):
        return np.split(np.arange(len(lengths)), range(self.size, len(lengths), self.size))


class Damped(Network):
    """Recommends with damped hidden states, and adds a penalty to the loss."""

    def __init__(self, *, damping: float, penalty: float = 0.0, **parts):
        super().__init__(**parts)
        self.damping, self.penalty = damping, penalty

    def loss(self, buckets, generator=None):
        return super().loss(buckets, generator) + self.penalty

    def read(self, bucket):
        recommending, said = super().read(bucket)
        return self.damping * recommending, said
