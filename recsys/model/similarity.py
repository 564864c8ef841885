"""How alike a hidden state and an item are."""

from abc import ABC, abstractmethod

from torch import Tensor, nn
from torch.nn import functional


class Similarity(nn.Module, ABC):
    """How alike a hidden state and an item are: a dot product, after both were made ready for it."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Hidden states or item vectors (…, D), ready for the dot product."""


class Dot(Similarity):
    """The dot product as it is."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class Cosine(Similarity):
    """The cosine of their angle: both have length 1. Within [−1, 1], so the loss needs a low temperature, such as 0.05."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.normalize(x.float(), dim=-1, eps=1e-8)
