"""Every objective: targets are what happened, none is seen where it is predicted, and inference reads the whole history."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from recsys.errors import ConfigError, ContractError
from recsys.model import contracts, network_contracts
from recsys.model.bucket import Bucket
from recsys.model.network import Network
from recsys.model.objectives import Objective, Plan
from recsys.model.objectives.actions import AllAction, DenseAllAction
from recsys.model.objectives.causal import CausalLM
from recsys.model.objectives.masked import MaskedLM, NextAction
from recsys.model.objectives.permutation import PermutationLM
from recsys.parts import parse
from recsys.slots import choices

MEMBERS = choices(Objective)
SETTINGS = {
    "CausalLM": ["", "last_only=true"],
    "MaskedLM": ["probability=0.5", "last_only=true"],
    "PermutationLM": ["probability=0.5, max_span=3"],
    "AllAction": ['window="3h"'],
    "DenseAllAction": ['window="3h"'],
}
CASES = [f"{name}({settings})" for name in MEMBERS for settings in SETTINGS.get(name, [""])]
HOUR = 3_600_000_000
over_all = pytest.mark.parametrize("text", CASES)


def network_of(world: Any, text: str, **fields: object) -> tuple[Network, Any, Any]:
    """A small network with the objective over an encoder that fits, reading all features."""
    needs = MEMBERS[text.partition("(")[0]]
    encoder = "XLNet(n_blocks=1, n_heads=2)" if needs.two_streams else "PreLN(n_blocks=1)"
    given = {"objective": text, "encoder": encoder, "positions": "Learned()", "inputs": 'Inputs(features="all")', **fields}
    if needs.two_streams:
        given["positions"] = "NoPositions()"
    return world.network(**given)


def filled(network: Network, reader: Any, spans: Any) -> Bucket:
    spans = spans[torch.nonzero(spans.lengths > 1)[:, 0]].newest(network.objective.n_trained(network.max_events))
    return reader.bucket(spans)


@over_all
def test_inference_makes_one_prediction_per_sequence_in_order(world: Any, text: str) -> None:
    network, reader, spans = network_of(world, text)
    bucket = reader.bucket(spans.newest(network.max_events))
    plan = network.objective.eval().reading(bucket)
    assert plan.row.tolist() == list(range(len(spans))) and plan.target is None
    assert plan.col.tolist() == (plan.lengths - 1).tolist(), "the last place speaks of what follows"
    assert torch.equal(plan.bucket.item_index, bucket.item_index) and torch.equal(plan.bucket.lengths, bucket.lengths)
    assert plan.hidden is None, "recommending hides nothing that happened"
    assert int(plan.lengths.max()) <= network.objective.n_places(network.max_events)


@over_all
def test_only_targets_are_predicted(world: Any, text: str) -> None:
    """Events of types that are no target have weight 0; other weights are handed on."""
    network, reader, spans = network_of(world, text)
    bucket = filled(network, reader, spans)
    plan = network.objective.plan(bucket)
    assert len(plan.target) == len(plan.weight) == len(plan.row) == len(plan.col) > 0
    wanted = {
        (b, int(i), float(w)) for b in range(len(bucket)) for i, w in zip(bucket.item_index[b], bucket.weight[b], strict=True) if w > 0
    }
    assert set(zip(plan.row.tolist(), plan.target.tolist(), plan.weight.tolist(), strict=True)) <= wanted
    assert (plan.col < plan.lengths[plan.row]).all()


@over_all
def test_no_prediction_sees_its_target(world: Any, text: str) -> None:
    """Neither the item nor any feature of the event that is predicted reaches the prediction."""
    network_contracts.hides_what_it_predicts(*network_of(world, text))


@over_all
def test_padding_and_batch_mates_change_no_prediction(world: Any, text: str) -> None:
    network, reader, spans = network_of(world, text)
    network_contracts.ignores_batch_mates(network, reader, spans)


@over_all
def test_gradients_reach_every_parameter(world: Any, text: str) -> None:
    network, reader, spans = network_of(world, text)
    buckets = list(reader.buckets(spans.newest(network.objective.n_trained(network.max_events))))
    contracts.gradients_reach(network, lambda: network.loss(buckets))


@over_all
def test_a_batch_without_a_target_costs_nothing_and_breaks_nothing(world: Any, text: str) -> None:
    """RecTools' BERT4Rec divides by the number of targets, and a batch without one is NaN."""
    network, reader, spans = network_of(world, text)
    bucket = filled(network, reader, spans)
    none = replace(bucket, weight=torch.zeros_like(bucket.weight))
    loss = network.loss([none])
    loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())
    assert loss.isfinite() and (loss == 0 or "ReplacedTokenDetection" in text)


@over_all
def test_one_seed_makes_one_plan(world: Any, text: str) -> None:
    network, reader, spans = network_of(world, text)
    bucket = filled(network, reader, spans)
    first, again = (network.objective.plan(bucket, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first.row, again.row) and torch.equal(first.col, again.col) and torch.equal(first.target, again.target)


class _Shows(MaskedLM):
    def plan(self, bucket: Bucket, generator: torch.Generator | None = None) -> Plan:
        return replace(super().plan(bucket, generator), hidden=None)


def test_an_objective_that_shows_its_targets_is_found_out(world: Any) -> None:
    network, reader, spans = network_of(world, "MaskedLM(probability=0.5)")
    shows = Network(
        network.inputs, _Shows(16), network.encoder, list(network.heads), max_events=8, positions=network.positions
    )  # as in Transformers4Rec, where CLM over a bidirectional encoder shows them
    with pytest.raises(ContractError, match="sees"):
        network_contracts.hides_what_it_predicts(shows, reader, spans)


class _IgnoresWeights(CausalLM):
    def plan(self, bucket: Bucket, generator: torch.Generator | None = None) -> Plan:
        plan = super().plan(bucket, generator)
        return replace(plan, weight=torch.full_like(plan.weight, 0.5))


def test_an_objective_that_ignores_weights_is_found_out(world: Any) -> None:
    network, reader, spans = network_of(world, "CausalLM()")
    network_contracts.predicts_what_happened(network, reader, spans)
    network.objective = _IgnoresWeights()
    with pytest.raises(ContractError, match="another weight"):
        network_contracts.predicts_what_happened(network, reader, spans)


def test_causal_lm_predicts_every_target_after_the_first_once(world: Any) -> None:
    _, reader, spans = world.network()
    bucket = reader.bucket(spans)
    plan = CausalLM().plan(bucket)
    expected = [
        (b, j - 1, int(bucket.item_index[b, j]), float(bucket.weight[b, j]))
        for b in range(len(bucket))
        for j in range(1, int(bucket.lengths[b]))
        if bucket.weight[b, j] > 0
    ]
    assert list(zip(plan.row.tolist(), plan.col.tolist(), plan.target.tolist(), plan.weight.tolist(), strict=True)) == expected
    assert torch.equal(plan.bucket.lengths, bucket.lengths - 1)
    assert plan.bucket.item_index.shape[1] == bucket.item_index.shape[1] - 1, "the newest event is not read"


def a_bucket(*histories: list[int], weights: list[list[float]] | None = None, hours: list[list[int]] | None = None) -> Bucket:
    """Right-padded histories with an event an hour, unless said."""
    lengths = torch.tensor([len(h) for h in histories])

    def padded(rows: Any, kind: torch.dtype) -> Tensor:
        return torch.tensor([[*row, *[0] * (int(lengths.max()) - len(row))] for row in rows], dtype=kind)

    at = padded(hours or [list(range(len(h))) for h in histories], torch.long) * HOUR
    weight = padded(weights or [[1.0] * len(h) for h in histories], torch.float)
    return Bucket(torch.arange(len(histories)), lengths, padded(histories, torch.long), weight, event_at=at, next_at=at + HOUR)


def predictions(plan: Plan) -> list[tuple[int, int, int]]:
    return sorted(zip(plan.row.tolist(), plan.col.tolist(), plan.target.tolist(), strict=True))


def test_the_last_target_only() -> None:
    bucket = a_bucket([5, 6, 7], [8, 9], weights=[[1, 1, 0], [1, 1]])
    assert predictions(CausalLM(last_only=True).plan(bucket)) == [(0, 0, 6), (1, 0, 9)]
    assert predictions(MaskedLM(4, last_only=True).plan(bucket)) == [(0, 1, 6), (1, 1, 9)]


def test_next_action_reads_what_is_before_the_newest_target() -> None:
    plan = NextAction(4).plan(a_bucket([5, 6, 7], [8, 9], [3], weights=[[1, 1, 0], [1, 1], [1]]))
    assert predictions(plan) == [(0, 1, 6), (1, 1, 9)], "event 7 is no target, and history 3 has nothing before it"
    assert plan.bucket.lengths.tolist() == [1, 1, 0] and plan.lengths.tolist() == [2, 2, 1] and plan.query


def test_all_action_predicts_the_window_from_what_is_before_it() -> None:
    plan = AllAction(4, window="2h").plan(a_bucket([5, 6, 7, 8], [1, 2], hours=[[0, 1, 9, 10], [0, 1]]))
    assert predictions(plan) == [(0, 2, 7), (0, 2, 8), (1, 1, 2)], "something is read of every history"
    assert plan.bucket.lengths.tolist() == [2, 1]


def test_dense_all_action_draws_from_the_window_after_each_event() -> None:
    bucket = a_bucket([5, 6, 7, 8], hours=[[0, 1, 2, 50]], weights=[[1, 1, 1, 1]])
    drawn = {predictions(DenseAllAction(window="3h").plan(bucket))[i] for _ in range(50) for i in range(3)}
    assert drawn == {(0, 0, 6), (0, 0, 7), (0, 1, 7), (0, 2, 8)}, "the last one has nothing in its window but has a next event"


@pytest.mark.parametrize("probability", [0.001, 0.2, 0.999])
def test_of_each_sequence_something_is_hidden_and_something_seen(probability: float) -> None:
    histories = [list(range(n)) for n in (1, 2, 3, 9, 40)] * 20
    plan = MaskedLM(4, probability=probability).plan(a_bucket(*histories))
    n_hidden = plan.hidden.sum(1)
    assert (n_hidden[plan.bucket.lengths == 1] == 0).all()
    many = plan.bucket.lengths > 1
    assert (n_hidden[many] >= 1).all() and (n_hidden[many] < plan.bucket.lengths[many]).all()
    assert not (plan.hidden & ~plan.bucket.real).any()


def test_the_share_that_is_hidden_is_the_probability() -> None:
    plan = MaskedLM(4, probability=0.3).plan(a_bucket(*[list(range(50))] * 200))
    assert float(plan.hidden.float().mean()) == pytest.approx(0.3, abs=0.02)


def test_hiding_the_newest_event_is_recommending_without_it(world: Any) -> None:
    """Evaluation equals inference for masked objectives too (Transformers4Rec issues 525 and 551)."""
    for text in ("MaskedLM()", "ReplacedTokenDetection()"):
        network, reader, spans = network_of(world, text)
        network.eval()
        bucket = filled(network, reader, spans)
        row = torch.arange(len(bucket))
        last = torch.zeros_like(bucket.real).index_put((row, bucket.lengths - 1), torch.tensor(True))
        trained = network.hidden(network.objective.hiding(bucket, last))[row, bucket.lengths - 1]
        recommended = network.encode(bucket.without_last())
        torch.testing.assert_close(trained, network.next_item.similarity(recommended))


def test_permutation_predicts_the_newest_event_as_it_recommends(world: Any) -> None:
    """Transformers4Rec's inference with this objective hides the last event and predicts it again."""
    network, reader, spans = network_of(world, "PermutationLM()")
    network.eval()
    bucket = filled(network, reader, spans)
    row = torch.arange(len(bucket))
    last = torch.zeros_like(bucket.real).index_put((row, bucket.lengths - 1), torch.tensor(True))
    plan = network.objective.predicting(bucket, last, torch.rand(bucket.item_index.shape))
    torch.testing.assert_close(network.hidden(plan)[row, bucket.lengths - 1], network.encode(bucket.without_last()))


def test_replaced_tokens_are_told_from_real_ones(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss is the generator's plus `weight` times the discriminator's; an item that was drawn right is not replaced."""
    network, reader, spans = network_of(world, "ReplacedTokenDetection(probability=0.5, weight=3.0)")
    bucket = filled(network.eval(), reader, spans)
    plan = network.objective.plan(bucket, torch.Generator().manual_seed(1))
    monkeypatch.setattr(network.objective, "plan", lambda bucket, generator=None: plan)
    generator_loss = network.predict([(plan, network.states(plan))])
    right = plan.target
    wrong = (plan.target + 1) % network.catalogue().n_items
    for items, n_replaced in ((right, 0), (wrong, len(right))):
        monkeypatch.setattr(network.objective, "_drawn", lambda *_, items=items: [items])
        shown = bucket.item_index.index_put((plan.row, plan.col), items)
        label = (shown != bucket.item_index)[bucket.real].float()
        assert label.sum() == n_replaced
        hidden = network.hidden(Plan(replace(bucket, item_index=shown), plan.row, plan.col))
        logits = network.objective.discriminator(hidden[bucket.real])[:, 0]
        expected = generator_loss + 3 * torch.nn.functional.binary_cross_entropy_with_logits(logits, label)
        torch.testing.assert_close(network.loss([bucket]), expected)


def test_replacements_are_drawn_from_what_the_generator_predicts(world: Any) -> None:
    network, reader, spans = network_of(world, "ReplacedTokenDetection(probability=0.5)", initialisation="Normal(std=0.5)")
    bucket = filled(network.eval(), reader, spans)
    plan = network.objective.plan(bucket, torch.Generator().manual_seed(1))
    planned = [(plan, network.states(plan))]
    candidates = plan.target.unique()
    scores = network.next_item.similarity(planned[0][1]["merged"][plan.row, plan.col]) @ network.catalogue().vectors[candidates].T
    share = torch.zeros_like(scores)
    for seed in range(400):
        (drawn,) = network.objective._drawn(network, planned, torch.Generator().manual_seed(seed))
        share[torch.arange(len(drawn)), torch.searchsorted(candidates, drawn)] += 1 / 400
    assert float((share - scores.detach().softmax(1)).abs().max()) < 0.12, "four standard errors of 400 draws, and some"


def test_permutation_sees_what_comes_before_in_the_order() -> None:
    bucket = a_bucket([5, 6, 7, 8])
    chosen, order = torch.tensor([[False, True, False, True]]), torch.tensor([[0.1, 0.9, 0.2, 0.4]])
    plan = PermutationLM(4).predicting(bucket, chosen, order)
    assert plan.mask[0, 1].tolist() == [True, False, True, True], "6 comes after 8 in the order"
    assert plan.mask[0, 3].tolist() == [True, False, True, False], "8 is the first that is predicted"
    assert predictions(plan) == [(0, 1, 6), (0, 3, 8)]


def test_permutation_chooses_spans() -> None:
    bucket = a_bucket(*[list(range(60))] * 300)
    plan = PermutationLM(4, probability=0.25, max_span=4).plan(bucket)
    chosen = torch.zeros(bucket.item_index.shape, dtype=torch.bool).index_put((plan.row, plan.col), torch.tensor(True))
    assert float(chosen.float().mean()) == pytest.approx(0.25, abs=0.03)
    begins = (chosen[:, 1:] & ~chosen[:, :-1]).sum() + chosen[:, 0].sum()
    assert 2 < float(chosen.sum() / begins) < 3.5, "spans of 1 to 4, of which neighbours may touch"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("MaskedLM(probability=0.0)", "probability=0.0"),
        ("PermutationLM(max_span=0)", "max_span=0"),
        ("PermutationLM(probability=1.0)", "probability=1.0"),
        ('AllAction(window="soon")', "'soon' is no duration"),
        ("ReplacedTokenDetection(weight=0.0)", "weight=0.0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        parse(text, Objective).build(width=4)


def test_a_history_of_one_event_makes_no_prediction(world: Any) -> None:
    network, reader, spans = world.network()
    one = spans[torch.nonzero(spans.lengths == 1)[:, 0]]
    assert len(one)
    assert network.loss([reader.bucket(one)]) == 0
