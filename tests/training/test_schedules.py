"""Schedules by hand: the factor of the learning rate in every step."""

from math import cos, pi

import pytest
import torch
from torch import nn

from recsys.errors import ConfigError
from recsys.parts import parse
from recsys.slots import choices
from recsys.training.schedules import Factor, Schedule, Warmup, WarmupCosine, WarmupLinear


def rates(schedule: Schedule, n_steps: int, n_epochs: int = 1) -> list[float]:
    """Learning rate of each step of an optimiser whose full rate is 1."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = schedule.scheduler(optimizer, n_steps, n_epochs)
    found = []
    for _ in range(n_steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_the_learning_rate_rises_and_falls() -> None:
    assert rates(Warmup(warmup=2), 4) == [0.5, 1, 1, 1]
    assert rates(Warmup(warmup=0.5), 4) == rates(Warmup(warmup=2), 4)
    assert rates(WarmupLinear(warmup=2), 6) == [0.5, 1, 1, 0.75, 0.5, 0.25]
    assert rates(WarmupCosine(warmup=0, end=0.2), 4) == pytest.approx([0.2 + 0.4 * (1 + cos(pi * i / 4)) for i in range(4)])
    assert WarmupLinear(warmup=2).factor(99, n_steps=6) == 0, "a training that goes on beyond its length does not learn backwards"


@pytest.mark.parametrize("schedule", [cls for cls in choices(Schedule).values() if issubclass(cls, Factor)])
@pytest.mark.parametrize("n_steps", [1, 2, 7, 100])
def test_every_factor_is_a_share(schedule: type[Factor], n_steps: int) -> None:
    assert all(0 <= schedule().factor(step, n_steps) <= 1 for step in range(n_steps))


def test_schedulers_of_torch_know_the_length_of_the_training() -> None:
    cosine = parse("TorchSchedule(scheduler=CosineAnnealingLR())", Schedule).build()
    assert rates(cosine, 4) == pytest.approx([(1 + cos(pi * i / 4)) / 2 for i in range(4)])
    halved = parse("TorchSchedule(scheduler=StepLR(step_size=1, gamma=0.5), per='epoch')", Schedule).build()
    assert halved.per == "epoch" and rates(halved, 3) == [1, 0.5, 0.25]
    one_cycle = parse("TorchSchedule(scheduler=torch.optim.lr_scheduler.OneCycleLR(max_lr=2.0))", Schedule).build()
    assert max(rates(one_cycle, 10)) == pytest.approx(2.0)


@pytest.mark.parametrize("warmup", [-1, 1.5, -0.1])
def test_a_warmup_that_is_none(warmup: float) -> None:
    with pytest.raises(ConfigError, match="neither a number of steps"):
        Warmup(warmup=warmup)
