"""Where an event stands in its history. Positions count from the oldest event that the network reads: 0, 1, 2 …"""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from recsys.errors import ConfigError
from recsys.model.attention import Attention
from recsys.model.encoders import Encoder
from recsys.model.items import INITIAL_STD
from recsys.slots import choices


class Positions(nn.Module, ABC):
    """The contract of the slot `positions`."""

    keeps_earlier: ClassVar[bool] = True  # whether an event that is appended changes nothing before it
    rotary_base: float | None = None  # what the encoder is told to turn queries and keys with, if anything

    @abstractmethod
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """The places x (B, L, D) of sequences with lengths (B,), knowing where they stand."""

    def check(self, encoder: Encoder) -> None:
        """ConfigError where these positions would not reach the encoder."""


class NoPositions(Positions):
    """For encoders that know the order by themselves: recurrent ones, XLNet, HSTU and Hugging Face's."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return x


class Learned(Positions):
    """A learned vector per position, added."""

    def __init__(self, width: int, n_places: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_places, width).normal_(std=INITIAL_STD))

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        _check_length(x, len(self.weight))
        return x + self.weight[: x.shape[1]]


class LearnedInverse(Positions):
    """A learned vector per position, added; positions count from the newest place, which is 0.

    An event that is appended moves all others, so that what is predicted inside a history in training differs from what is
    recommended from the same events: fit for objectives that predict at the newest place, as NextAction does. With
    CausalLM it is RecTools' position encoding.
    """

    keeps_earlier = False

    def __init__(self, width: int, n_places: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_places, width).normal_(std=INITIAL_STD))

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        _check_length(x, len(self.weight))
        place = torch.arange(x.shape[1], device=lengths.device)
        return x + functional.embedding((lengths[:, None] - 1 - place).clamp(min=0), self.weight)


class Sinusoidal(Positions):
    """√D · x + sines and cosines of the position, which are not learned (Vaswani et al. 2017, sections 3.4 and 3.5)."""

    def __init__(self, width: int, n_places: int) -> None:
        super().__init__()
        angle = torch.arange(n_places)[:, None] * 10_000 ** (-torch.arange(0, width, 2) / width)
        waves = torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[:, :width]
        self.register_buffer("waves", waves, persistent=False)
        self.waves: Tensor

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        _check_length(x, len(self.waves))
        return x.shape[-1] ** 0.5 * x + self.waves[: x.shape[1]].to(x.dtype)


class Rotary(Positions):
    """Queries and keys of attention are turned by their position, so that only distances count (Su et al. 2021, arXiv:2104.09864).

    The vectors themselves stay as they are: it is the encoder's attention that does it.
    """

    def __init__(self, *, base: float = 10_000.0) -> None:
        super().__init__()
        if base <= 1:
            raise ConfigError(f"Rotary: base={base} is not above 1: the angles of later coordinates have to be smaller.")
        self.rotary_base = base

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return x

    def check(self, encoder: Encoder) -> None:
        if not encoder.reads_rotary:
            able = [name for name, cls in choices(Encoder).items() if cls.reads_rotary]
            raise ConfigError(
                f"Rotary positions are applied inside attention, and {type(encoder).__name__} does not apply them. "
                f"Use Learned or NoPositions, or one of the encoders {', '.join(able)}."
            )
        for layer in encoder.modules():
            if isinstance(layer, Attention) and layer.query.out_features // layer.n_heads % 2:
                raise ConfigError(
                    f"Rotary positions turn pairs of coordinates, and the attention heads of {type(encoder).__name__} are "
                    f"{layer.query.out_features // layer.n_heads} wide, which is odd. Choose another width or n_heads."
                )


def _check_length(x: Tensor, n_places: int) -> None:
    if x.shape[1] > n_places:
        raise ConfigError(
            f"A history of {x.shape[1]} events came to a network with {n_places} positions (model.max_events): "
            "it reads the newest events only."
        )
