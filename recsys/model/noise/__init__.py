"""Noise: events that are read differently from what happened, in training. What is to be predicted stays as it was."""

from abc import ABC, abstractmethod

from torch import nn

from recsys.errors import ConfigError
from recsys.model.bucket import Bucket


class Noise(nn.Module, ABC):
    """The contract of the slot `noise`. `p` is the chance of an event to be changed."""

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ConfigError(f"{type(self).__name__}(p={p}): p is a probability below 1.")
        self.p = p

    def forward(self, bucket: Bucket) -> Bucket:
        return self.changed(bucket) if self.training and self.p > 0 else bucket

    @abstractmethod
    def changed(self, bucket: Bucket) -> Bucket:
        """The bucket with other events at some places, of the same shape, lengths and users."""
