"""What is read of a history and what is predicted from it, in training and when recommending.

Both stand in one class, so that evaluating a history s is predicting from s without its last event, by construction.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from recsys.model.bucket import Bucket
from recsys.model.encoders import Direction

if TYPE_CHECKING:
    from recsys.model.network import Network


@dataclass(frozen=True)
class Plan:
    """One bucket's work: the events that the encoder reads, how it may look at them, and where predictions are made.

    Places are the L events, and with a `query` one more after each sequence's last event, which stands for what follows.
    """

    bucket: Bucket
    row: Tensor  # (N,) int64
    col: Tensor  # (N,) int64: the hidden state at place [row, col] makes the prediction
    target: Tensor | None = None  # (N,) int64 item_index; None when recommending
    weight: Tensor | None = None  # (N,) float32
    at: Tensor | None = None  # (N,) int64 µs: when what is predicted happened, where the bucket brings times
    hidden: Tensor | None = None  # (B, L) bool: events that are not shown at all, neither their item nor anything else of them
    query: bool = False
    mask: Tensor | None = None  # (B, places, places) bool: place i may see place j, where the direction does not say it all
    second_stream: Tensor | None = None  # (D,): what an encoder with two streams starts the one that predicts from

    @property
    def lengths(self) -> Tensor:
        """(B,) int64: places of each sequence."""
        return self.bucket.lengths + self.query


class Objective(nn.Module, ABC):
    """The contract of the slot `objective`."""

    directions: Set[Direction]  # how the encoder may look at the events; of two, both sides are preferred
    two_streams: ClassVar[bool] = False  # whether it needs an encoder with a second stream
    reads_times: ClassVar[bool] = False  # whether its buckets have to bring times

    def n_trained(self, max_events: int) -> int:
        """Events of a history that training takes for a network that reads max_events of them: the newest is predicted."""
        return max_events + 1

    def n_places(self, max_events: int) -> int:
        """Places that the encoder sees at most."""
        return max_events

    @abstractmethod
    def plan(self, bucket: Bucket, generator: torch.Generator | None = None) -> Plan:
        """What training reads and predicts. Targets are events with a weight above 0."""

    @abstractmethod
    def reading(self, bucket: Bucket) -> Plan:
        """What recommending reads: one prediction per sequence, of the event that follows its last, in the bucket's order."""

    def places(self, events: Tensor, plan: Plan) -> Tensor:
        """Vectors of the places (B, places, D) of those of the events (B, L, D)."""
        return events

    def loss(self, network: "Network", buckets: Sequence[Bucket], generator: torch.Generator | None = None) -> Tensor:
        """Loss of one training step: the network's heads over the predictions of all buckets, each head once."""
        plans = [self.plan(bucket, generator) for bucket in buckets]
        return network.predict([(plan, network.states(plan)) for plan in plans])
