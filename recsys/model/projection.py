"""From the aggregated features of an event to the width of the network."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from pydantic import PositiveInt
from torch import Tensor, nn


class Projection(nn.Module, ABC):
    """The contract of the slot `projection`; its constructor is supplied `in_width` and `width`."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """(…, in_width) to (…, width), each position by itself."""


class MLP(Projection):
    """Hidden layers of the given sizes, each with a ReLU, then a linear layer."""

    def __init__(self, in_width: int, width: int, *, sizes: Sequence[PositiveInt] = (64,)) -> None:
        super().__init__()
        before = [in_width, *sizes]
        hidden = [layer for a, b in zip(before, sizes, strict=False) for layer in (nn.Linear(a, b), nn.ReLU())]
        self.layers = nn.Sequential(*hidden, nn.Linear(before[-1], width))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)
