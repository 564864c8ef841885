"""Every noise: in training only, on real events only, on what is read and never on what is to be predicted."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from recsys.errors import ConfigError, ContractError
from recsys.model import contracts
from recsys.model.bucket import Bucket, Ragged
from recsys.model.noise import Noise
from recsys.parts import part
from recsys.slots import choices

MEMBERS = choices(Noise)
over_all = pytest.mark.parametrize("name", MEMBERS)


def build(world: Any, name: str, p: float = 0.5) -> Noise:
    return part(MEMBERS[name], p=p).build(**world.supplied())


def bucket_of(world: Any) -> Bucket:
    _, reader, spans = world.network(inputs='Inputs(features="all")')
    return reader.bucket(spans)


def equal(a: Bucket, b: Bucket) -> bool:
    return torch.equal(a.item_index, b.item_index) and all(_same(a.event_columns[name], b.event_columns[name]) for name in a.event_columns)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Ragged):
        return torch.equal(a.values, b.values) and torch.equal(a.offsets, b.offsets)
    return torch.equal(a.nan_to_num(), b.nan_to_num())


@over_all
def test_it_is_for_training_only(world: Any, name: str) -> None:
    noise, bucket = build(world, name), bucket_of(world)
    assert not equal(noise(bucket), bucket)
    assert noise.eval()(bucket) is bucket
    assert build(world, name, p=0.0)(bucket) is bucket


@over_all
def test_it_changes_real_events_about_as_often_as_told(world: Any, name: str) -> None:
    noise, bucket = build(world, name, p=0.3), bucket_of(world)
    changed = torch.stack([noise(bucket).item_index != bucket.item_index for _ in range(50)])
    assert not changed[:, ~bucket.real].any(), "what is in the padding is not read"
    assert float(changed[:, bucket.real].float().mean()) == pytest.approx(0.3, abs=0.03), "a few are replaced by the same item"


@over_all
def test_everything_else_stays(world: Any, name: str) -> None:
    bucket = bucket_of(world)
    noisy = build(world, name)(bucket)
    for field in ("rows", "lengths", "weight"):
        assert getattr(noisy, field) is getattr(bucket, field)
    assert noisy.user_columns is bucket.user_columns
    assert noisy.item_index.shape == bucket.item_index.shape


@over_all
def test_labels_are_untouched(world: Any, name: str) -> None:
    """Transformers4Rec's swap noise changes the stored items, and so the labels made of them (transformers4rec.md 0, item 5)."""
    torch.manual_seed(0)
    network, reader, spans = world.network(inputs=f'Inputs(features="all", noise=[{name}(p=0.9)])')
    network.train()
    bucket = reader.bucket(spans.newest(9))
    before = network.objective.plan(bucket)
    items, target = bucket.item_index.clone(), before.target.clone()
    quiet, noisy = network.eval().hidden(before), network.train().hidden(before)
    assert (quiet - noisy).abs().max() > 0.01
    assert torch.equal(bucket.item_index, items) and torch.equal(before.target, target)
    assert torch.equal(network.objective.plan(bucket).target, target)


@over_all
def test_a_network_is_trained_with_it_and_recommends_without(world: Any, name: str) -> None:
    (noisy, reader, spans), (plain, _, _) = (world.network(inputs=f"Inputs({x})") for x in (f"noise={name}(p=0.5)", ""))
    bucket = reader.bucket(spans.newest(8))
    assert torch.equal(noisy.eval().encode(bucket), plain.eval().encode(bucket))


def test_probabilities() -> None:
    for p in (-0.1, 1.0):
        with pytest.raises(ConfigError, match="p is a probability"):
            part(MEMBERS["SwapNoise"], p=p).build()


class _WritesIntoLabels(Noise):
    def changed(self, bucket: Bucket) -> Bucket:
        bucket.item_index.copy_(torch.randint_like(bucket.item_index, 5))
        return bucket


class _NeverRests(Noise):
    def forward(self, bucket: Bucket) -> Bucket:
        return self.changed(bucket)

    def changed(self, bucket: Bucket) -> Bucket:
        return replace(bucket, item_index=(bucket.item_index + 1).where(bucket.real, 0))


class _DropsEvents(Noise):
    def changed(self, bucket: Bucket) -> Bucket:
        return replace(bucket, weight=0 * bucket.weight)


@pytest.mark.parametrize(
    ("broken", "how"),
    [(_WritesIntoLabels, "writes into the bucket"), (_NeverRests, "when the model is evaluated"), (_DropsEvents, "lengths or weights")],
)
def test_broken_noise_is_found_out(world: Any, broken: type[Noise], how: str) -> None:
    with pytest.raises(ContractError, match=f"{broken.__name__}: .*{how}"):
        contracts.changes_real_events_only(broken(0.5), bucket_of(world))


@over_all
def test_ours_is_not(world: Any, name: str) -> None:
    contracts.changes_real_events_only(build(world, name), bucket_of(world))
