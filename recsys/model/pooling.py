"""From the hidden states of a sequence's events to one: over real events only, never over padding or a query's place."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from recsys.model.items import INITIAL_STD


class Pooling(nn.Module, ABC):
    """The contract of the slot `pooling`. Every sequence has at least one event."""

    @abstractmethod
    def forward(self, hidden: Tensor, real: Tensor) -> Tensor:
        """(B, D) of hidden states (B, L, D) and of where there is an event, real (B, L) bool."""


class Last(Pooling):
    """The state of the newest event."""

    def forward(self, hidden: Tensor, real: Tensor) -> Tensor:
        return hidden[torch.arange(len(hidden), device=hidden.device), real.sum(1) - 1]


class First(Pooling):
    """The state of the oldest event that is read, which knows of the others only where the encoder looks at both sides."""

    def forward(self, hidden: Tensor, real: Tensor) -> Tensor:
        return hidden[:, 0]


class Mean(Pooling):
    """The mean of all states."""

    def forward(self, hidden: Tensor, real: Tensor) -> Tensor:
        return hidden.where(real[..., None], 0).sum(1) / real.sum(1, keepdim=True)


class Attention(Pooling):
    """A mean with weights softmax(v · tanh(W h)), learned (Yang et al. 2016, Hierarchical Attention Networks, eq. 5 to 7)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, width)
        self.context = nn.Parameter(torch.empty(width).normal_(std=INITIAL_STD))

    def forward(self, hidden: Tensor, real: Tensor) -> Tensor:
        hidden = hidden.where(real[..., None], 0)
        score = (torch.tanh(self.hidden(hidden)) @ self.context).masked_fill(~real, -torch.inf)
        return (score.softmax(1)[..., None] * hidden).sum(1)
