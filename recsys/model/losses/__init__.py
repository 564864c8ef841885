"""Losses of the next item: hidden states and their targets in, one number out.

A loss never learns which objective chose its positions. Every loss is the weighted mean over its N predictions, and
0 where there are none.
"""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from recsys.model.catalogue import Catalogue


class Loss(nn.Module, ABC):
    """The contract of the slot `loss`."""

    @abstractmethod
    def forward(self, hidden: Tensor, target: Tensor, catalogue: Catalogue, weight: Tensor) -> Tensor:
        """Loss of hidden (N, D) that should score target (N,) int64 highest, each with weight (N,) ≥ 0. A scalar."""
