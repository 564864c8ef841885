"""Where an event stands in its history. Positions count from the oldest event that the network reads: 0, 1, 2 …"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from recsys.errors import ConfigError
from recsys.model.items import INITIAL_STD


class Positions(nn.Module, ABC):
    """The contract of the slot `positions`."""

    @abstractmethod
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """The events x (B, L, D) of sequences with lengths (B,), knowing where they stand."""


class NoPositions(Positions):
    """For encoders that know the order by themselves."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return x


class Learned(Positions):
    """A learned vector per position, added."""

    def __init__(self, width: int, n_places: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_places, width).normal_(std=INITIAL_STD))

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        if x.shape[1] > len(self.weight):
            raise ConfigError(
                f"A history of {x.shape[1]} events came to a network with {len(self.weight)} positions (model.max_events): "
                "it reads the newest events only."
            )
        return x + self.weight[: x.shape[1]]
