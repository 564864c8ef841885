"""Losses of the next item: hidden states and their targets in, one number out.

A loss never learns which objective chose its positions. Every loss is the weighted mean over its N predictions, and
0 where there are none. Scores are in float32, whatever precision the network runs in.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from recsys.model.catalogue import Catalogue


class Loss(nn.Module, ABC):
    """The contract of the slot `loss`."""

    @abstractmethod
    def forward(self, hidden: Tensor, target: Tensor, catalogue: Catalogue, weight: Tensor) -> Tensor:
        """Loss of hidden (N, D) that should score target (N,) int64 highest, each with weight (N,) ≥ 0. A scalar."""


def share_of(weight: Tensor) -> Tensor:
    """(N,) float32: each prediction's share in the mean. They sum to 1, or are 0 where all weights are."""
    return weight.float() / weight.float().sum().clamp(min=torch.finfo(torch.float32).tiny)
