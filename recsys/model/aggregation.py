"""How the vectors of an event's features become one."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn


class Aggregation(nn.Module, ABC):
    """How the vectors of an event's features become one."""

    one_width: ClassVar[bool]  # every feature has the item's width

    @abstractmethod
    def forward(self, item: Tensor, others: Sequence[Tensor]) -> Tensor:
        """One vector of the item's vector (B, L, D) and those of the other features (B, L, …)."""


class Concat(Aggregation):
    """Side by side; a projection to the width D follows."""

    one_width = False

    def forward(self, item: Tensor, others: Sequence[Tensor]) -> Tensor:
        return torch.cat([item, *others], dim=-1)


class Sum(Aggregation):
    """e_item + Σ others."""

    one_width = True

    def forward(self, item: Tensor, others: Sequence[Tensor]) -> Tensor:
        return sum(others, start=item)


class SumTimesItem(Aggregation):
    """e_item ⊙ (1 + Σ others), as in the Transformers4Rec paper (de Souza Pereira Moreira et al. 2021, section 3.2.2)."""

    one_width = True

    def forward(self, item: Tensor, others: Sequence[Tensor]) -> Tensor:
        return item * sum(others, start=torch.ones((), device=item.device))
