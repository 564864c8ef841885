"""Several inputs and encoders in parallel: merged, or read by heads of their own."""

from pathlib import Path
from typing import Any

import pytest
import torch

from recsys.errors import ConfigError
from recsys.model import contracts, network_contracts, saving
from recsys.model.blocks import build
from recsys.model.inference import encode
from recsys.model.objectives import Plan

CONTEXT = "Tower(name='context', inputs=Inputs(features=['device', 'gap_seconds']), encoder=PreLN(n_blocks=1), positions=Learned())"
PLAIN = "Tower(name='plain', inputs=Inputs(), encoder=SASRec(n_blocks=1))"


@pytest.fixture
def towers(world: Any) -> dict[str, Any]:
    return {"towers": (CONTEXT, PLAIN), "encoder": "PreLN(n_blocks=1)"}


def states(network: Any, reader: Any, spans: Any) -> dict[str, torch.Tensor]:
    plan: Plan = network.objective.plan(reader.bucket(spans[torch.nonzero(spans.lengths > 1)[:, 0]].newest(9)))
    return network.eval().states(plan)


def test_each_tower_sees_the_history_in_its_own_way_and_their_sum_is_what_heads_read(world: Any, towers: dict[str, Any]) -> None:
    found = states(*world.network(**towers))
    assert list(found) == ["main", "context", "plain", "merged"]
    torch.testing.assert_close(found["merged"], found["main"] + found["context"] + found["plain"])


def test_a_merge_with_a_projection(world: Any, towers: dict[str, Any]) -> None:
    network, reader, spans = world.network(**towers, merge="Concat()")
    assert network.merge.projection.in_features == 3 * network.next_item.width
    assert states(network, reader, spans)["merged"].shape[-1] == network.next_item.width


@pytest.mark.parametrize("merge", ["Sum()", "Concat()", "SumTimesItem()"])
def test_it_is_a_network_like_any_other(world: Any, towers: dict[str, Any], merge: str) -> None:
    network, reader, spans = world.network(**towers, merge=merge)
    network_contracts.sees_no_future(network, reader, spans)
    network_contracts.ignores_batch_mates(network, reader, spans)
    network.train()
    contracts.gradients_reach(network, lambda: network.loss(list(reader.buckets(spans.newest(9)))))


def test_heads_sit_on_different_towers(world: Any, towers: dict[str, Any]) -> None:
    """The gradient of a head on one tower reaches nothing of the others but the item table that all share."""
    heads = ("NextItem(tower='context')", "NextItem(tower='plain', weight=0.5)", "NextItem(tower='main')")
    network, reader, spans = world.network(**towers, heads=heads)
    contracts.gradients_reach(network, lambda: network.loss(list(reader.buckets(spans.newest(9)))))
    bucket = reader.bucket(spans[torch.nonzero(spans.lengths > 1)[:, 0]].newest(8))
    plan = network.eval().objective.plan(bucket)
    found = network.states(plan)
    network.zero_grad()
    head = network.heads[0]
    head.loss(head.select(found["context"], plan), network.items).backward()
    reached = {name for name, p in network.named_parameters() if p.grad is not None}
    assert {name.split(".")[0] for name in reached} == {"inputs", "towers"}, "the item table is the inputs'"
    assert {name.split(".")[1] for name in reached if name.startswith("towers")} == {"0"}
    read = network.objective.reading(bucket)
    torch.testing.assert_close(network.encode(bucket), network.states(read)["context"][read.row, read.col])


def test_it_is_saved_with_the_shared_item_table_once(world: Any, towers: dict[str, Any], tmp_path: Path) -> None:
    network, reader, spans = world.network(**towers)
    assert network.towers[0].inputs.items is network.items
    saving.save(tmp_path, network, world.model(**towers), world.vocabulary)
    again, _ = saving.load(tmp_path)
    assert torch.equal(encode(again, reader, spans), encode(network, reader, spans))


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"towers": (PLAIN, PLAIN)}, "2 towers are called 'plain'"),
        ({"towers": (PLAIN.replace("plain", "main"),)}, "'main' is taken"),
        ({"heads": ("NextItem(tower='context')",), "towers": (CONTEXT, PLAIN)}, "No head reads the tower 'main' or 'plain'"),
        ({"heads": ("NextItem(tower='contxt')",), "towers": (CONTEXT,)}, "'contxt'.* There are: merged, main, context"),
        (
            {"objective": "MaskedLM()", "towers": ("Tower(name='left', inputs=Inputs(), encoder=PreLN(causal=true))",)},
            "PreLN reads left to right",
        ),
    ],
)
def test_towers_that_do_not_fit_are_refused(world: Any, fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        build(world.model(**fields), world.vocabulary)
