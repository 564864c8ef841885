"""Heads: what a network predicts, how it is scored, and with which loss."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from recsys.errors import ConfigError
from recsys.model.catalogue import Catalogue
from recsys.model.items import ITEM, IdEmbedding, ItemTable
from recsys.model.losses import CrossEntropy, Loss
from recsys.model.objectives import Plan


@dataclass(frozen=True)
class Predictions:
    """What a head reads and is to say: hidden states (N, D), targets (N,), weights (N,)."""

    hidden: Tensor
    target: Tensor
    weight: Tensor

    @classmethod
    def joined(cls, parts: Sequence["Predictions"]) -> "Predictions":
        return cls(torch.cat([p.hidden for p in parts]), torch.cat([p.target for p in parts]), torch.cat([p.weight for p in parts]))


class Head(nn.Module, ABC):
    """The contract of the slot `heads`. `weight` is the head's share in the loss of a network with several."""

    weight: float

    @abstractmethod
    def select(self, hidden: Tensor, plan: Plan) -> Predictions:
        """This head's predictions in a bucket with hidden states (B, L, D)."""

    @abstractmethod
    def loss(self, predictions: Predictions, items: ItemTable) -> Tensor:
        """Loss of the predictions of all buckets of a step. A scalar."""


class Similarity(nn.Module, ABC):
    """How alike a hidden state and an item are: a dot product, after both were made ready for it."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Hidden states or item vectors (…, D), ready for the dot product."""


class Dot(Similarity):
    """The dot product as it is."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class NextItem(Head):
    """Scores every item of the catalogue. Tied, it reads the item table of the inputs (Press & Wolf 2017)."""

    row_of: ClassVar[dict[str, str]] = {"bias": ITEM}

    def __init__(
        self,
        n_items: int,
        width: int,
        *,
        loss: Loss | None = None,
        tied: bool = True,
        bias: bool = False,
        similarity: Similarity | None = None,
        weight: float = 1.0,
    ) -> None:
        super().__init__()
        if not weight > 0:
            raise ConfigError(f"NextItem: weight={weight} has to be above 0.")
        self.width, self.weight = width, weight
        self.criterion = loss or CrossEntropy()
        self.similarity = similarity or Dot()
        self.own_items = None if tied else IdEmbedding(n_items, width)
        self.bias = nn.Parameter(torch.zeros(n_items)) if bias else None

    def catalogue(self, items: ItemTable) -> Catalogue:
        """What hidden states are compared with; `items` is the item table of the inputs."""
        table = items if self.own_items is None else self.own_items
        return Catalogue(self.similarity(table.vectors()), self.bias)

    def select(self, hidden: Tensor, plan: Plan) -> Predictions:
        assert plan.target is not None and plan.weight is not None, "recommending has no targets"
        return Predictions(hidden[plan.row, plan.col], plan.target, plan.weight)

    def loss(self, predictions: Predictions, items: ItemTable) -> Tensor:
        return self.criterion(self.similarity(predictions.hidden), predictions.target, self.catalogue(items), predictions.weight)
