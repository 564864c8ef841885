"""A training step is the same step, however its sequences are put into buckets and whatever the number of threads."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from recsys import recipes
from recsys.model.batching import ByLength, FixedEdges, Padded
from recsys.model.bucket import Bucket
from recsys.model.network import Network
from recsys.model.reader import Reader, Spans

INPUTS = 'Inputs(features="all", aggregation=SumTimesItem())'
# Where an objective or a loss draws at random, other buckets draw other numbers.
DRAWS_NOTHING = ["sasrec", "sasrec_preln", "esasrec", "hstu", "gru4rec", "gpt2", "xlnet_clm", "next_action_causal", "sasrec_albert_layers"]


def test_all_recipes_that_draw_nothing_are_here() -> None:
    assert set(DRAWS_NOTHING) <= set(recipes.names())


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("recipe", DRAWS_NOTHING)
def test_buckets_make_the_step_of_one_user_at_a_time(world: Any, recipe: str) -> None:
    network, reader, spans = learning(world, recipe)
    rows = torch.arange(len(spans)).split(1)
    alone = [bucket for row in rows for bucket in reader.buckets(spans[row])]
    assert len(alone) == len(spans)
    expected = step(network, alone)
    for batching in (ByLength(), FixedEdges(), Padded()):
        assert_same_step(step(network, list(batching.training(reader, spans, torch.Generator()))), expected)


@pytest.mark.parametrize("recipe", DRAWS_NOTHING)
def test_threads_change_no_loss(world: Any, recipe: str, threads: None) -> None:
    network, reader, spans = learning(world, recipe)
    buckets = list(reader.buckets(spans))
    torch.set_num_threads(1)
    expected = step(network, buckets)
    torch.set_num_threads(4)
    assert_same_step(step(network, buckets), expected)


def learning(world: Any, recipe: str) -> tuple[Network, Reader, Spans]:
    """A network without dropout, and sequences with something to learn."""
    network, reader, spans = world.network(recipe=recipe, inputs=INPUTS, heads=("NextItem(loss=CrossEntropy())",))
    return network.eval(), reader, spans[torch.nonzero(spans.lengths >= 2)[:, 0]].newest(network.objective.n_trained(network.max_events))


def step(network: Network, buckets: Sequence[Bucket]) -> list[Tensor]:
    """The loss and the gradient of every parameter."""
    network.zero_grad()
    loss = network.loss(buckets)
    loss.backward()
    return [loss.detach(), *(p.grad.clone() for p in network.parameters() if p.grad is not None)]


def assert_same_step(found: list[Tensor], expected: list[Tensor]) -> None:
    assert len(found) == len(expected) > 5
    torch.testing.assert_close(found[0], expected[0], rtol=1e-5, atol=0)
    for mine, theirs in zip(found[1:], expected[1:], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)
