"""How the weights move: the optimiser with its learning rate, weight decay and schedule."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from recsys.errors import ConfigError
from recsys.parts import Spec
from recsys.training.schedules import Schedule

DECIDED_BY = {"lr": "training.learning_rate", "weight_decay": "training.weight_decay", "params": "the network"}


@dataclass(frozen=True)
class Optimisation:
    """An optimiser for any network. `max_epochs` is how long its schedule is laid out for."""

    spec: Spec[Optimizer]
    schedule: Schedule
    learning_rate: float
    weight_decay: float
    max_epochs: int

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> Optimizer:
        """The optimiser of those parameters that are trained; its decay is for matrices only and spares biases and norms."""
        trained = [p for p in parameters if p.requires_grad]
        groups = [{"params": trained, "weight_decay": 0.0}]  # said, since some optimisers decay by default
        if self.weight_decay:
            groups = [
                {"params": [p for p in trained if p.ndim >= 2], "weight_decay": self.weight_decay},
                {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
            ]
        return self.spec.build(params=groups, lr=self.learning_rate)

    def scheduler(self, optimizer: Optimizer, steps_per_epoch: int) -> LRScheduler:
        return self.schedule.scheduler(optimizer, steps_per_epoch * self.max_epochs, self.max_epochs)

    def check(self) -> None:
        """ConfigError for arguments that a field decides, and where the optimiser or its schedule cannot be built."""
        for name in DECIDED_BY.keys() & self.spec.arguments.keys():
            raise ConfigError(f"training.optimizer: {name} is decided by {DECIDED_BY[name]}, and is not set here.")
        try:
            optimizer = self.optimizer([nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(2))])
        except Exception as error:  # another library's constructor
            raise ConfigError(f"training.optimizer: {self.spec} cannot be made: {error}") from error
        if self.weight_decay and "weight_decay" not in optimizer.defaults:
            raise ConfigError(
                f"training.weight_decay is {self.weight_decay:g}, and {self.spec.cls.__name__} has no weight decay: set it to 0."
            )
        try:
            self.scheduler(optimizer, steps_per_epoch=100)
        except Exception as error:
            raise ConfigError(f"training.schedule: {type(self.schedule).__name__} cannot be made: {error}") from error
