"""Weights to start from: matrices are drawn anew, and biases, norms and what is not trained stay as they were."""

from typing import Any

import pytest
import torch
from torch import nn

from recsys.errors import ConfigError
from recsys.model.initialisation import AsBuilt, Initialisation, Normal
from recsys.slots import choices

members = pytest.mark.parametrize("name", choices(Initialisation))


@members
def test_biases_and_norms_stay(world: Any, name: str) -> None:
    built = world.network(inputs='Inputs(features="all")')[0].state_dict()
    network, *_ = world.network(inputs='Inputs(features="all")', initialisation=name)
    started = dict(network.named_parameters())
    assert all(torch.equal(p, built[n]) for n, p in started.items() if p.ndim < 2)
    changed = [n for n, p in started.items() if p.ndim >= 2 and not torch.equal(p, built[n])]
    assert len(changed) == (0 if name == "AsBuilt" else sum(p.ndim >= 2 for p in started.values()))


@members
def test_what_is_not_trained_stays(name: str) -> None:
    given = nn.Embedding.from_pretrained(torch.arange(6.0).view(3, 2))
    choices(Initialisation)[name]()(given)
    assert torch.equal(given.weight, torch.arange(6.0).view(3, 2))


def test_matrices_have_the_size_that_is_promised() -> None:
    wide = nn.Linear(300, 700)
    Normal(std=0.1)(wide)
    assert wide.weight.std().item() == pytest.approx(0.1, rel=0.02)
    choices(Initialisation)["XavierNormal"]()(wide)
    assert wide.weight.std().item() == pytest.approx((2 / (300 + 700)) ** 0.5, rel=0.02)


def test_a_tied_matrix_is_drawn_once(world: Any) -> None:
    first, again = (world.network(initialisation="Normal(std=0.3)")[0] for _ in range(2))
    assert torch.equal(first.items.vectors(), again.items.vectors())
    assert first.items.vectors().std().item() == pytest.approx(0.3, rel=0.2)
    assert isinstance(AsBuilt(), Initialisation)
    with pytest.raises(ConfigError, match="std=0"):
        Normal(std=0)
