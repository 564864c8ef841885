"""From an event with its features to one vector."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from recsys.model.bucket import Bucket
from recsys.model.items import ItemTable


class InputBlock(nn.Module, ABC):
    """The contract of the slot `inputs`."""

    items: ItemTable
    event_columns: tuple[str, ...] = ()  # what its buckets have to bring
    user_columns: tuple[str, ...] = ()

    @abstractmethod
    def forward(self, bucket: Bucket) -> Tensor:
        """Vectors (B, L, D) of the bucket's events."""
