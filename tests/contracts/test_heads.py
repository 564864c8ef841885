"""Heads: what is ranked is what was trained."""

from typing import Any

import pytest
import torch

from recsys.errors import ConfigError
from recsys.model import contracts
from recsys.model.heads import Head
from recsys.model.heads.label import LabelHead
from recsys.model.heads.next_item import NextItem
from recsys.model.similarity import Cosine, Similarity
from recsys.slots import choices

NEXT_ITEM = [
    f"NextItem(similarity={similarity}(), tied={tied}, bias={bias})"
    for similarity in choices(Similarity)
    for tied in ("true", "false")
    for bias in ("true", "false")
]


def test_every_head_is_covered() -> None:
    labelled = {name for name, head in choices(Head).items() if issubclass(head, LabelHead)}  # in test_label_heads.py
    assert set(choices(Head)) - labelled == {"NextItem"}, "a new head needs its contract here"


@pytest.mark.parametrize("head", NEXT_ITEM)
def test_what_is_ranked_is_what_was_trained(world: Any, head: str) -> None:
    """The loss is the cross-entropy of the scores that top-k sees."""
    network, reader, spans = world.network(heads=(head,))
    network.eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    spans = spans[torch.nonzero(spans.lengths >= 2)[:, 0]].newest(9)
    plan = network.objective.plan(reader.bucket(spans))
    catalogue = network.catalogue()
    scores = network.next_item.similarity(network.hidden(plan)[plan.row, plan.col]) @ catalogue.vectors.T
    scores = scores if catalogue.bias is None else scores + catalogue.bias
    expected = torch.nn.functional.cross_entropy(scores, plan.target, reduction="none") @ plan.weight / plan.weight.sum()
    torch.testing.assert_close(network.loss([reader.bucket(spans)]), expected)


def test_a_cosine_is_within_one_and_knows_no_length() -> None:
    h, v = torch.randn(50, 8), torch.randn(60, 8)
    scores = Cosine()(h) @ Cosine()(v).T
    torch.testing.assert_close(scores, torch.nn.functional.cosine_similarity(h[:, None], v, dim=-1))
    torch.testing.assert_close(scores, Cosine()(1000 * h) @ Cosine()(0.001 * v).T)
    assert not Cosine()(torch.zeros(2, 8)).any(), "a history without events has no direction"


@pytest.mark.parametrize("head", NEXT_ITEM)
def test_gradients_reach_every_parameter(world: Any, head: str) -> None:
    network, reader, spans = world.network(heads=(head,))
    buckets = list(reader.buckets(spans.newest(9)))
    contracts.gradients_reach(network, lambda: network.loss(buckets))


@pytest.mark.parametrize("head", NEXT_ITEM)
def test_tied_means_one_table(world: Any, head: str) -> None:
    network, _, _ = world.network(heads=(head,))
    before = network.catalogue().vectors.clone()
    torch.nn.init.normal_(network.items.weight)
    tied = not torch.equal(network.catalogue().vectors, before)
    assert tied == ("tied=true" in head)


def test_several_heads_add_up_by_weight(world: Any) -> None:
    one = "NextItem()"
    (single, reader, spans), (double, _, _) = world.network(heads=(one,)), world.network(heads=(one, "NextItem(weight=0.5)"))
    double.load_state_dict({**double.state_dict(), **single.state_dict()})
    buckets = list(reader.buckets(spans.newest(9)))
    torch.testing.assert_close(double.eval().loss(buckets), 1.5 * single.eval().loss(buckets))
    with pytest.raises(ConfigError, match="weight=0"):
        NextItem(10, 4, weight=0.0)


def test_buckets_of_a_batch_are_one_step(world: Any) -> None:
    """However a batch is grouped, its loss and gradients are the same: predictions of all buckets are joined first."""
    network, reader, spans = world.network(inputs='Inputs(features="all")')
    network.eval()
    whole, parts = [reader.bucket(spans.newest(9))], list(reader.buckets(spans.newest(9)))
    assert len(parts) > 1
    grads = []
    for batch in (whole, parts):
        network.zero_grad()
        network.loss(batch).backward()
        grads.append([p.grad.clone() for p in network.parameters()])
    torch.testing.assert_close(network.loss(whole), network.loss(parts))
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-3, atol=1e-6)
