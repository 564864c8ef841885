"""Every encoder: causal where it says so, blind to padding and batch-mates, trainable in all of its parameters."""

from typing import Any

import pytest
import torch

from recsys.errors import ContractError
from recsys.model import contracts
from recsys.model.encoders import Encoder, View
from recsys.parts import choices, part

WIDTH = 16
MEMBERS = choices(Encoder)
CASES = [(name, direction) for name, cls in MEMBERS.items() for direction in sorted(cls.directions)]


def build(name: str) -> Encoder:
    return part(MEMBERS[name]).build(width=WIDTH, max_events=11, n_places=11)


@pytest.mark.parametrize("name", [name for name, direction in CASES if direction == "left to right"])
def test_it_looks_back_only(name: str) -> None:
    contracts.looks_back_only(build(name), WIDTH)


@pytest.mark.parametrize(("name", "direction"), CASES)
def test_padding_changes_nothing(name: str, direction: Any) -> None:
    contracts.ignores_padding(build(name), WIDTH, direction)


@pytest.mark.parametrize(("name", "direction"), CASES)
def test_permuting_the_batch_permutes_the_output(name: str, direction: Any) -> None:
    contracts.keeps_batch_order(build(name), WIDTH, direction)


@pytest.mark.parametrize(("name", "direction"), CASES)
def test_gradients_reach_every_parameter(name: str, direction: Any) -> None:
    encoder, x = build(name), torch.randn(4, 6, WIDTH)
    weight = torch.randn(4, 6, WIDTH)  # a plain sum of normalised states is constant
    contracts.gradients_reach(encoder, lambda: (encoder(x, View(torch.full((4,), 6), direction)) * weight).sum())


@pytest.mark.parametrize("name", [name for name, direction in CASES if direction == "both sides"])
def test_from_both_sides_the_future_is_seen(name: str) -> None:
    x, encoder = torch.randn(1, 5, WIDTH), build(name).eval()
    later = torch.cat([x[:, :4], torch.randn(1, 1, WIDTH)], dim=1)
    a, b = (encoder(events, View(torch.tensor([5]), "both sides")) for events in (x, later))
    assert (a - b)[:, :4].abs().amax(dim=(0, 2)).min() > 1e-4


class _LooksAhead(Encoder):
    def forward(self, x: torch.Tensor, view: View) -> torch.Tensor:
        return x + x.roll(-1, dims=1)


class _ReadsPadding(Encoder):
    def forward(self, x: torch.Tensor, view: View) -> torch.Tensor:
        return x + x.mean(dim=1, keepdim=True)


class _CountsSequences(Encoder):
    def forward(self, x: torch.Tensor, view: View) -> torch.Tensor:
        return x * len(x)


class _AddsSequencesUp(Encoder):
    def forward(self, x: torch.Tensor, view: View) -> torch.Tensor:
        return x.cumsum(0)


def test_broken_encoders_are_found_out() -> None:
    with pytest.raises(ContractError, match="_LooksAhead: .*looks ahead"):
        contracts.looks_back_only(_LooksAhead(), WIDTH)
    with pytest.raises(ContractError, match="_ReadsPadding: .*padding"):
        contracts.ignores_padding(_ReadsPadding(), WIDTH, "both sides")
    with pytest.raises(ContractError, match="_CountsSequences: .*other sequences"):
        contracts.ignores_padding(_CountsSequences(), WIDTH, "left to right")
    with pytest.raises(ContractError, match="_AddsSequencesUp: permuting"):
        contracts.keeps_batch_order(_AddsSequencesUp(), WIDTH, "left to right")
