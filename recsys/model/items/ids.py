"""A vector per item id."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from recsys.model.items import ITEM, ITEM_STD, ItemTable


class IdEmbedding(ItemTable):
    """A learned vector per item."""

    row_of: ClassVar[dict[str, tuple[str, ...]]] = {"weight": (ITEM,)}

    def __init__(self, n_items: int, width: int, *, std: float = ITEM_STD) -> None:
        super().__init__()
        self.width = width
        self.weight = nn.Parameter(torch.empty(n_items, width).normal_(std=std))

    def rows(self, item_index: Tensor) -> Tensor:
        return nn.functional.embedding(item_index, self.weight)

    def vectors(self) -> Tensor:
        return self.weight
