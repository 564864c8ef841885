"""Every position encoding."""

import pytest
import torch

from recsys.errors import ConfigError, ContractError
from recsys.model import contracts
from recsys.model.positions import Positions
from recsys.parts import choices, part

MEMBERS = choices(Positions)


def build(name: str) -> Positions:
    return part(MEMBERS[name]).build(width=16, max_events=6, n_places=6)


@pytest.mark.parametrize("name", MEMBERS)
def test_an_event_more_changes_nothing_before_it(name: str) -> None:
    contracts.keeps_earlier_positions(build(name), 16)


@pytest.mark.parametrize("name", [name for name in MEMBERS if name != "NoPositions"])
def test_the_order_is_known(name: str) -> None:
    same = torch.ones(1, 6, 16)
    placed = build(name)(same, torch.tensor([6]))
    assert placed.shape == same.shape
    assert len(torch.unique(placed[0], dim=0)) == 6, "two positions look alike"


@pytest.mark.parametrize("name", MEMBERS)
def test_gradients_reach_every_parameter(name: str) -> None:
    positions, x = build(name), torch.randn(2, 6, 16, requires_grad=True)
    contracts.gradients_reach(positions, lambda: positions(x, torch.tensor([6, 4])).sum())


def test_a_history_that_is_too_long_is_an_error() -> None:
    with pytest.raises(ConfigError, match="7 events .* 6 positions"):
        build("Learned")(torch.randn(1, 7, 16), torch.tensor([7]))


class _CountsFromTheEnd(Positions):
    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return x + (lengths[:, None] - torch.arange(x.shape[1]))[..., None]


def test_broken_positions_are_found_out() -> None:
    with pytest.raises(ContractError, match="_CountsFromTheEnd: appending an event"):
        contracts.keeps_earlier_positions(_CountsFromTheEnd(), 16)
