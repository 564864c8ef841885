"""From the value of one feature to a vector.

Categories have an index per known value, and 0 for null and unknown ones. Numbers may be NaN, which is null.
"""

from abc import ABC, abstractmethod
from math import ceil

import torch
from torch import Tensor, nn

from recsys.model.bucket import Column
from recsys.model.items import INITIAL_STD
from recsys.model.vocabulary import Numeric


def default_width(n_values: int) -> int:
    """⌈2 · cardinality^¼⌉: the rule of Transformers4Rec's `infer_embedding_sizes`."""
    return ceil(2 * n_values**0.25)


class FeatureEmbedding(nn.Module, ABC):
    """A feature of shape (…) to vectors (…, width)."""

    width: int

    @abstractmethod
    def forward(self, column: Column, shape: tuple[int, ...]) -> Tensor:
        """Vectors (*shape, width). A Ragged column has one row for each place of `shape`."""


class Category(FeatureEmbedding):
    """A learned vector per value; of a list of values, the mean."""

    def __init__(self, column: str, n_values: int, width: int) -> None:
        super().__init__()
        self.width, self.row_of = width, {"weight": column}
        self.weight = nn.Parameter(torch.empty(n_values, width).normal_(std=INITIAL_STD))

    def forward(self, column: Column, shape: tuple[int, ...]) -> Tensor:
        if isinstance(column, Tensor):
            return nn.functional.embedding(column, self.weight)
        length = column.offsets.diff()
        row = torch.repeat_interleave(torch.arange(len(column), device=length.device), length)
        total = self.weight.new_zeros(len(column), self.width).index_add(0, row, nn.functional.embedding(column.values, self.weight))
        return (total / length.clamp(min=1)[:, None]).view(*shape, self.width)


class Number(FeatureEmbedding):
    """A number, normalised by the statistics of the training period and projected; a null has a learned vector."""

    def __init__(self, numeric: Numeric, width: int) -> None:
        super().__init__()
        self.width, self.numeric = width, numeric
        self.slope = nn.Parameter(torch.empty(width).normal_(std=INITIAL_STD))
        self.intercept = nn.Parameter(torch.zeros(width))
        self.null = nn.Parameter(torch.zeros(width))

    def forward(self, column: Column, shape: tuple[int, ...]) -> Tensor:
        assert isinstance(column, Tensor)
        x = column.clamp(min=0).log1p() if self.numeric.scale == "log" else column
        x = ((x - self.numeric.mean) / self.numeric.std)[..., None]
        return torch.where(x.isnan(), self.null, x.nan_to_num() * self.slope + self.intercept)


class Vector(FeatureEmbedding):
    """A given vector (of an image, say), projected; the table it comes from is not trained."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.adapter = nn.Linear(size, width)

    def forward(self, column: Column, shape: tuple[int, ...]) -> Tensor:
        assert isinstance(column, Tensor)
        return self.adapter(column)
