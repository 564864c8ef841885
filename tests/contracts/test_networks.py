"""Every recipe as a whole network, over all features: what must hold of any combination of parts."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from recsys import recipes
from recsys.errors import ConfigError, ContractError
from recsys.model import contracts, network_contracts, saving
from recsys.model.bucket import Bucket
from recsys.model.encoders import Encoder, View
from recsys.model.inference import encode
from recsys.model.network import Network
from recsys.model.objectives import Plan
from recsys.model.objectives.causal import CausalLM
from recsys.model.reader import Spans
from recsys.ranking.topk import top_k

FEATURES = ['Inputs(features="all", aggregation=SumTimesItem())', "Inputs()"]
CASES = [(recipe, inputs) for recipe in recipes.names() for inputs in FEATURES]
over_all = pytest.mark.parametrize(("recipe", "inputs"), CASES)


@over_all
def test_no_prediction_sees_the_future(world: Any, recipe: str, inputs: str) -> None:
    network, reader, spans = world.network(recipe=recipe, inputs=inputs)
    if network.direction == "left to right":
        network_contracts.sees_no_future(network, reader, spans)


@over_all
def test_evaluation_equals_inference(world: Any, recipe: str, inputs: str) -> None:
    network_contracts.evaluates_as_it_recommends(*world.network(recipe=recipe, inputs=inputs))


@over_all
def test_batch_mates_change_nothing(world: Any, recipe: str, inputs: str) -> None:
    network_contracts.ignores_batch_mates(*world.network(recipe=recipe, inputs=inputs))


@over_all
def test_recommending_reads_one_place_of_what_training_reads(world: Any, recipe: str, inputs: str) -> None:
    """The last layer is done for the place that predicts alone, where an encoder can: the same states, up to rounding."""
    network, reader, spans = world.network(recipe=recipe, inputs=inputs)
    bucket = reader.bucket(spans[torch.nonzero(spans.lengths)[:, 0]].newest(network.max_events))
    with torch.no_grad():
        plan = network.eval().objective.reading(bucket)
        states = network.states(plan)[network.next_item.tower]
        torch.testing.assert_close(network.encode(bucket), network.next_item.similarity(states[plan.row, plan.col]), rtol=0, atol=2e-6)


@over_all
def test_gradients_reach_every_parameter(world: Any, recipe: str, inputs: str) -> None:
    network, reader, spans = world.network(recipe=recipe, inputs=inputs)
    buckets = list(reader.buckets(spans.newest(network.objective.n_trained(network.max_events))))
    contracts.gradients_reach(network, lambda: network.loss(buckets))


@over_all
def test_save_and_load_give_equal_scores(world: Any, recipe: str, inputs: str, tmp_path: Path) -> None:
    network, reader, spans = world.network(recipe=recipe, inputs=inputs)
    saving.save(tmp_path, network, world.model(recipe=recipe, inputs=inputs), world.vocabulary)
    again, vocabulary = saving.load(tmp_path)
    assert not again.training and vocabulary.item_id == world.vocabulary.item_id
    hidden = encode(again, again.reader(world.histories, world.dictionary, vocabulary), spans)
    assert torch.equal(hidden, encode(network, reader, spans))
    for a, b in zip(top_k(hidden, again.catalogue(), 5), top_k(hidden, network.catalogue(), 5), strict=True):
        assert torch.equal(a, b)
    assert not list(tmp_path.rglob("*.p*kl*")) and {f.suffix for f in tmp_path.rglob("*.*")} == {".safetensors", ".json", ".parquet"}


@over_all
def test_one_seed_gives_one_set_of_weights(world: Any, recipe: str, inputs: str) -> None:
    first, again, other = (world.network(seed=seed, recipe=recipe, inputs=inputs)[0].state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@over_all
def test_the_most_recent_events_survive_truncation(world: Any, recipe: str, inputs: str) -> None:
    network, reader, spans = world.network(recipe=recipe, inputs=inputs)
    long = spans[torch.nonzero(spans.lengths > network.max_events + 2)[:, 0]]
    assert len(long)
    newest = Spans(long.user, long.end - network.max_events, long.end)
    oldest = Spans(long.user, long.start, long.start + network.max_events)
    assert torch.equal(encode(network, reader, long), encode(network, reader, newest))
    assert not torch.equal(encode(network, reader, long), encode(network, reader, oldest))


@over_all
def test_every_sequence_has_its_own_row(world: Any, recipe: str, inputs: str) -> None:
    """Buckets are sorted by length and small here; results stand in the order that was asked for, zeros for empty histories."""
    network, reader, _ = world.network(recipe=recipe, inputs=inputs)
    starts, ends = world.histories.last_sequences(world.histories.offsets[1:], "user")
    spans = reader.spans(starts, ends)
    hidden = encode(network, reader, spans)
    assert not hidden[spans.lengths == 0].any() and (spans.lengths == 0).any()
    for row in torch.nonzero(spans.lengths)[:20, 0]:
        alone = encode(network, reader, spans[row[None]])
        torch.testing.assert_close(hidden[row], alone[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("encoder", ["PreLN()", "SASRec(n_heads=2)", "Albert()", "LiGR()"])
def test_rotary_positions_reach_the_encoder(world: Any, encoder: str) -> None:
    """Without any positions, the order of the events before the newest changes nothing for one block of attention."""
    given = {"encoder": encoder.replace("()", "(n_blocks=1)").replace("2)", "2, n_blocks=1)"), "width": 16}
    for positions, knows_order in (("NoPositions()", False), ("Rotary()", True)):
        network, reader, spans = world.network(**given, positions=positions, initialisation="Normal(std=0.3)")
        bucket = reader.bucket(spans[torch.nonzero(spans.lengths >= 8)[:, 0]].newest(8))
        order = torch.tensor([2, 0, 1, 3, 5, 4, 6, 7])
        shuffled = replace(bucket, item_index=bucket.item_index[:, order])
        a, b = network.eval().encode(bucket), network.encode(shuffled)
        assert torch.allclose(a, b, atol=1e-5) != knows_order
    network_contracts.sees_no_future(*world.network(**given, positions="Rotary()"))


def test_rotary_positions_are_refused_where_nothing_turns(world: Any) -> None:
    with pytest.raises(ConfigError, match="Rotary.*PreLN"):
        world.network(encoder="GRU()", positions="Rotary()")


class _LooksAhead(Encoder):
    def forward(self, x: torch.Tensor, view: View) -> torch.Tensor:
        return x + x.flip(1).cumsum(1).flip(1)


@pytest.mark.parametrize(
    "contract",
    [network_contracts.sees_no_future, network_contracts.hides_what_it_predicts, network_contracts.ignores_batch_mates],
    ids=lambda c: c.__name__,
)
def test_a_leak_is_found_out(world: Any, contract: Callable[..., None]) -> None:
    """The mistake of Transformers4Rec's own example: a bidirectional encoder under next-item labels (its issues 746, 761)."""
    network, reader, spans = world.network()
    leaking = Network(network.inputs, network.objective, _LooksAhead(), list(network.heads), max_events=network.max_events)
    with pytest.raises(ContractError):
        contract(leaking, reader, spans)


class _ForgetsItems(CausalLM):
    def reading(self, bucket: Bucket) -> Plan:
        return super().reading(replace(bucket, item_index=torch.zeros_like(bucket.item_index)))


def test_recommending_from_something_else_than_was_trained_is_found_out(world: Any) -> None:
    network, reader, spans = world.network()
    forgets = Network(network.inputs, _ForgetsItems(), network.encoder, list(network.heads), max_events=network.max_events)
    with pytest.raises(ContractError, match="differs from the same when recommending"):
        network_contracts.evaluates_as_it_recommends(forgets, reader, spans)


def test_a_part_without_gradient_is_found_out(world: Any) -> None:
    network, reader, spans = world.network()
    network.unused = torch.nn.Linear(2, 2)
    buckets = list(reader.buckets(spans.newest(9)))
    with pytest.raises(ContractError, match="no gradient reaches unused.weight"):
        contracts.gradients_reach(network, lambda: network.loss(buckets))


@pytest.mark.parametrize("recipe", recipes.names())
def test_biases_are_vectors(world: Any, recipe: str) -> None:
    """By that weight decay and first weights tell them from matrices, and spare them."""
    embeddings = "[SoftOneHot(columns=['price']), Number(columns=['age'])]"
    network, *_ = world.network(recipe=recipe, inputs=f"Inputs(features='all', embeddings={embeddings})")
    biases = {name: p for name, p in network.named_parameters() if "bias" in name or "intercept" in name}
    assert any("intercept" in name for name in biases)
    assert {name for name, bias in biases.items() if bias.ndim > 1} == set()
