"""Fusion: what is known of the user, joined with the encoder's hidden states after it."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from recsys.model.bucket import Bucket


class Fusion(nn.Module, ABC):
    """The contract of the slot `fusion`."""

    user_columns: tuple[str, ...] = ()  # what its buckets have to bring

    @abstractmethod
    def forward(self, hidden: Tensor, bucket: Bucket) -> Tensor:
        """Hidden states (B, L, D) of the bucket's users, each by itself, to (B, L, D)."""
