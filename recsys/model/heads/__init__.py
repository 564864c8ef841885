"""Heads: what a network predicts, how it is scored, and with which loss."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recsys.model.items import ItemTable
from recsys.model.objectives import Plan
from recsys.model.towers import MERGED


@dataclass(frozen=True)
class Predictions:
    """What a head reads and is to say: hidden states (N, D), targets (N,), weights (N,), and where times are read those (N,) µs."""

    hidden: Tensor
    target: Tensor
    weight: Tensor
    at: Tensor | None = None

    @classmethod
    def joined(cls, parts: Sequence["Predictions"]) -> "Predictions":
        times = [p.at for p in parts if p.at is not None]
        hidden, target, weight = (torch.cat([getattr(p, name) for p in parts]) for name in ("hidden", "target", "weight"))
        return cls(hidden, target, weight, torch.cat(times) if times else None)


class Head(nn.Module, ABC):
    """The contract of the slot `heads`. `weight` is the head's share in the loss of a network with several, `tower` the name
    of the tower whose hidden states it reads, all of them together unless said."""

    weight: float
    tower: str = MERGED
    event_columns: tuple[str, ...] = ()  # labels that its buckets have to bring in training

    @abstractmethod
    def select(self, hidden: Tensor, plan: Plan) -> Predictions:
        """This head's predictions in a bucket with hidden states (B, L, D)."""

    @abstractmethod
    def loss(self, predictions: Predictions, items: ItemTable) -> Tensor:
        """Loss of the predictions of all buckets of a step. A scalar."""
