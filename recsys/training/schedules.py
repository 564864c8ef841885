"""How the learning rate moves: a factor of `training.learning_rate` for every step of the optimiser."""

from abc import ABC, abstractmethod
from math import ceil, cos, pi
from typing import Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from recsys.errors import ConfigError
from recsys.parts import Spec


class Schedule(ABC):
    """The contract of the slot `schedule`. `n_steps` and `n_epochs` are those of `training.max_epochs`, however early a
    training stops: a refit, which trains as many epochs as its twin's best, learns at the rates that its twin learnt at.
    """

    per: Literal["step", "epoch"] = "step"  # what moves it on

    @abstractmethod
    def scheduler(self, optimizer: Optimizer, n_steps: int, n_epochs: int) -> LRScheduler:
        """The schedule as torch runs it. Its state is part of a checkpoint."""


class Factor(Schedule):
    """A schedule that is a function of the step alone, as most are."""

    @abstractmethod
    def factor(self, step: int, n_steps: int) -> float:
        """What the learning rate is multiplied by in step 0, 1 … n_steps − 1."""

    def scheduler(self, optimizer: Optimizer, n_steps: int, n_epochs: int) -> LRScheduler:
        return LambdaLR(optimizer, lambda step: self.factor(step, n_steps))


class Constant(Factor):
    """The same learning rate throughout."""

    def factor(self, step: int, n_steps: int) -> float:
        return 1.0


class Warmup(Factor):
    """The learning rate rises evenly to its full size, and stays. `warmup` is a number of steps (500) or a share of all (0.1)."""

    def __init__(self, *, warmup: int | float = 0.1) -> None:
        if warmup < 0 or (isinstance(warmup, float) and warmup > 1):
            raise ConfigError(
                f"{type(self).__name__}: warmup={warmup} is neither a number of steps, as 500, nor a share in [0, 1], as 0.1."
            )
        self.warmup = warmup

    def factor(self, step: int, n_steps: int) -> float:
        n_warmup = self.warmup if isinstance(self.warmup, int) else ceil(self.warmup * n_steps)
        if step < n_warmup:
            return (step + 1) / n_warmup
        return self.after(min(1.0, (step - n_warmup) / max(1, n_steps - n_warmup)))

    def after(self, progress: float) -> float:
        """The factor when this share, in [0, 1], of the steps after the warm-up is done."""
        return 1.0


class WarmupLinear(Warmup):
    """After the warm-up the learning rate falls evenly to nothing, as BERT was trained (Devlin et al. 2019)."""

    def after(self, progress: float) -> float:
        return 1 - progress


class WarmupCosine(Warmup):
    """After the warm-up the learning rate falls by half a cosine wave to `end` of its full size (Loshchilov & Hutter 2017)."""

    def __init__(self, *, warmup: int | float = 0.1, end: float = 0.0) -> None:
        super().__init__(warmup=warmup)
        self.end = end

    def after(self, progress: float) -> float:
        return self.end + (1 - self.end) * (1 + cos(pi * progress)) / 2


class TorchSchedule(Schedule):
    """A scheduler of torch, or one of your own that derives from torch's LRScheduler, which moves on with every step or epoch.

    Its length (`T_max`, `total_steps`) is that of the training unless it is given.
    """

    def __init__(self, *, scheduler: Spec[LRScheduler], per: Literal["step", "epoch"] = "step") -> None:
        self.spec, self.per = scheduler, per

    def scheduler(self, optimizer: Optimizer, n_steps: int, n_epochs: int) -> LRScheduler:
        length = n_steps if self.per == "step" else n_epochs
        return self.spec.build(optimizer=optimizer, T_max=length, total_steps=length)
