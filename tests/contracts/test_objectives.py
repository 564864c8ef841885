"""Every objective: targets are what happened, none is seen where it is predicted, and inference reads the whole history."""

from typing import Any

import pytest
import torch

from recsys.model.objectives import Objective
from recsys.model.objectives.causal import CausalLM
from recsys.parts import choices, part

MEMBERS = choices(Objective)


def build(name: str) -> Objective:
    return part(MEMBERS[name]).build(width=16, max_events=8).eval()


@pytest.mark.parametrize("name", MEMBERS)
def test_inference_makes_one_prediction_per_sequence_in_order(world: Any, name: str) -> None:
    _, reader, spans = world.network()
    bucket = reader.bucket(spans)
    plan = build(name).reading(bucket)
    assert plan.row.tolist() == list(range(len(spans))) and plan.target is None
    assert plan.col.tolist() == (plan.lengths - 1).tolist()
    assert (plan.col < plan.lengths[plan.row]).all()


@pytest.mark.parametrize("name", MEMBERS)
def test_only_targets_are_predicted(world: Any, name: str) -> None:
    """Events of types that are no target have weight 0; other weights are handed on."""
    _, reader, spans = world.network()
    bucket = reader.bucket(spans)
    plan = build(name).plan(bucket)
    assert len(plan.target) == len(plan.weight) == len(plan.row) == len(plan.col) > 0
    wanted = {
        (b, int(i), float(w)) for b in range(len(bucket)) for i, w in zip(bucket.item_index[b], bucket.weight[b], strict=True) if w > 0
    }
    assert set(zip(plan.row.tolist(), plan.target.tolist(), plan.weight.tolist(), strict=True)) <= wanted


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


def test_a_history_of_one_event_makes_no_prediction(world: Any) -> None:
    network, reader, spans = world.network()
    one = spans[torch.nonzero(spans.lengths == 1)[:, 0]]
    assert len(one)
    assert network.loss([reader.bucket(one)]) == 0
