"""How alike a hidden state and an item are."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Similarity(nn.Module, ABC):
    """How alike a hidden state and an item are: a dot product, after both were made ready for it."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Hidden states or item vectors (…, D), ready for the dot product."""


class Dot(Similarity):
    """The dot product as it is."""

    def forward(self, x: Tensor) -> Tensor:
        return x
