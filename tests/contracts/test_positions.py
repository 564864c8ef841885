"""Every position encoding."""

import pytest
import torch

from recsys.errors import ConfigError, ContractError
from recsys.model import contracts
from recsys.model.encoders.preln import PreLN
from recsys.model.encoders.recurrent import GRU
from recsys.model.positions import LearnedInverse, Positions, Rotary, Sinusoidal
from recsys.parts import parse, part
from recsys.slots import choices

MEMBERS = choices(Positions)
ADDED = [name for name in MEMBERS if name not in ("NoPositions", "Rotary")]  # Rotary works inside attention: see test_encoders.py


def build(name: str) -> Positions:
    return part(MEMBERS[name]).build(width=16, max_events=6, n_places=6)


@pytest.mark.parametrize("name", [name for name, cls in MEMBERS.items() if cls.keeps_earlier])
def test_an_event_more_changes_nothing_before_it(name: str) -> None:
    contracts.keeps_earlier_positions(build(name), 16)


@pytest.mark.parametrize("name", [name for name, cls in MEMBERS.items() if not cls.keeps_earlier])
def test_those_that_count_from_the_newest_say_so(name: str) -> None:
    with pytest.raises(ContractError, match="appending an event"):
        contracts.keeps_earlier_positions(build(name), 16)


@pytest.mark.parametrize("name", MEMBERS)
def test_padding_and_batch_mates_change_nothing(name: str) -> None:
    positions, x = build(name), torch.randn(3, 6, 16)
    together = positions(x, torch.tensor([6, 4, 0]))
    torch.testing.assert_close(together[1:2, :4], positions(x[1:2, :4], torch.tensor([4])))


@pytest.mark.parametrize("name", ADDED)
def test_the_order_is_known(name: str) -> None:
    same = torch.ones(1, 6, 16)
    placed = build(name)(same, torch.tensor([6]))
    assert placed.shape == same.shape
    assert len(torch.unique(placed[0], dim=0)) == 6, "two positions look alike"


@pytest.mark.parametrize("name", MEMBERS)
def test_gradients_reach_every_parameter(name: str) -> None:
    positions, x = build(name), torch.randn(2, 6, 16, requires_grad=True)
    contracts.gradients_reach(positions, lambda: positions(x, torch.tensor([6, 4])).sum())


@pytest.mark.parametrize("name", ADDED)
def test_a_history_that_is_too_long_is_an_error(name: str) -> None:
    with pytest.raises(ConfigError, match="7 events .* 6 positions"):
        build(name)(torch.randn(1, 7, 16), torch.tensor([7]))


def test_inverse_positions_count_from_the_newest() -> None:
    positions = LearnedInverse(16, 6)
    placed = positions(torch.zeros(2, 4, 16), torch.tensor([4, 2]))
    torch.testing.assert_close(placed[0], positions.weight[[3, 2, 1, 0]])
    torch.testing.assert_close(placed[1, :2], positions.weight[[1, 0]])


@pytest.mark.parametrize("width", [4, 5])
def test_sinusoidal(width: int) -> None:
    positions = Sinusoidal(width, 6)
    x = torch.randn(1, 6, width)
    placed = positions(x, torch.tensor([6])) - width**0.5 * x
    for place in range(6):
        for i in range(width):
            wave = torch.sin if i % 2 == 0 else torch.cos
            expected = wave(torch.tensor(place / 10_000 ** (2 * (i // 2) / width)))
            torch.testing.assert_close(placed[0, place, i], expected, atol=1e-5, rtol=0)
    assert not positions.state_dict(), "they follow from the sizes"


def test_rotary_positions_are_for_attention() -> None:
    rotary = parse("Rotary(base=500.0)", Positions).build()
    assert rotary.rotary_base == 500 and build("Learned").rotary_base is None
    rotary.check(PreLN(16, n_heads=2))
    build("Learned").check(GRU(16))
    with pytest.raises(ConfigError, match="GRU does not apply them. .* one of the encoders Albert, LiGR, PreLN, SASRec"):
        rotary.check(GRU(16))
    with pytest.raises(ConfigError, match="heads of PreLN are 3 wide, which is odd"):
        rotary.check(PreLN(6, n_heads=2))
    with pytest.raises(ConfigError, match="base=1.0 is not above 1"):
        Rotary(base=1.0)


class _CountsFromTheEnd(Positions):
    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return x + (lengths[:, None] - torch.arange(x.shape[1]))[..., None]


def test_broken_positions_are_found_out() -> None:
    with pytest.raises(ContractError, match="_CountsFromTheEnd: appending an event"):
        contracts.keeps_earlier_positions(_CountsFromTheEnd(), 16)
