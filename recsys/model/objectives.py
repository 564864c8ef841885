"""What is read of a history and what is predicted from it, in training and when recommending.

Both stand in one class, so that evaluating a history s is predicting from s without its last event, by construction.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from recsys.model.bucket import Bucket
from recsys.model.encoders import Direction, View

if TYPE_CHECKING:
    from recsys.model.network import Network


@dataclass(frozen=True)
class Plan:
    """One bucket's work: the events that the encoder reads, how it may look at them, and where predictions are made."""

    bucket: Bucket
    view: View
    row: Tensor  # (N,) int64
    col: Tensor  # (N,) int64: hidden state [row, col] makes the prediction
    target: Tensor | None = None  # (N,) int64 item_index; None when recommending
    weight: Tensor | None = None  # (N,) float32


class Objective(nn.Module, ABC):
    """The contract of the slot `objective`."""

    direction: ClassVar[Direction]  # how the encoder may look at the events

    @abstractmethod
    def n_trained(self, max_events: int) -> int:
        """Events of a history that training takes for a network that reads max_events of them."""

    @abstractmethod
    def plan(self, bucket: Bucket, generator: torch.Generator | None = None) -> Plan:
        """What training reads and predicts. Targets are events with a weight above 0."""

    @abstractmethod
    def reading(self, bucket: Bucket) -> Plan:
        """What recommending reads: one prediction per sequence, of the event that follows its last, in the bucket's order."""

    def loss(self, network: "Network", buckets: Sequence[Bucket], generator: torch.Generator | None = None) -> Tensor:
        """Loss of one training step: the network's heads over the predictions of all buckets, each head once."""
        plans = [self.plan(bucket, generator) for bucket in buckets]
        return network.predict([(plan, network.hidden(plan)) for plan in plans])


class CausalLM(Objective):
    """Every event is predicted from those before it (SASRec, GPT): one pass over n events makes n − 1 predictions."""

    direction = "left to right"

    def n_trained(self, max_events: int) -> int:
        return max_events + 1

    def plan(self, bucket: Bucket, generator: torch.Generator | None = None) -> Plan:
        following = bucket.weight[:, 1:]
        row, col = torch.nonzero(following > 0, as_tuple=True)
        read = bucket.without_last()
        return Plan(read, self._view(read), row, col, bucket.item_index[row, col + 1], following[row, col])

    def reading(self, bucket: Bucket) -> Plan:
        return Plan(bucket, self._view(bucket), torch.arange(len(bucket), device=bucket.lengths.device), bucket.lengths - 1)

    def _view(self, bucket: Bucket) -> View:
        return View(bucket.lengths, self.direction, times=bucket.event_at, next_times=bucket.next_at)
