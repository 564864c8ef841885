"""Categories, and lists of them."""

from collections.abc import Sequence
from math import ceil
from typing import Literal

import pyarrow.compute as pc
import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from recsys.errors import ConfigError
from recsys.model.bucket import Ragged
from recsys.model.embeddings import Feature, FeatureEmbedding
from recsys.model.items import INITIAL_STD
from recsys.model.names import module_name
from recsys.model.vocabulary import UNKNOWN, Vocabulary

Combiner = Literal["mean", "sum", "max", "min"]


def inferred_width(n_values: int) -> int:
    """⌈2 · cardinality^¼⌉: the rule of Transformers4Rec's `infer_embedding_sizes`."""
    return ceil(2 * n_values**0.25)


class Category(FeatureEmbedding):
    """A learned vector per value; the vectors of a list of values are combined, and an empty list is all zeros.

    `shared` makes one table of the values of all its columns, which have to be of one type: what is a brand of the item
    and the favourite brand of the user has one vector then. Without a width it is inferred from the number of values.
    """

    roles = ("categorical", "multi_categorical")

    def __init__(
        self,
        vocabulary: Vocabulary,
        default_width: int | None = None,
        *,
        columns: Sequence[str],
        width: PositiveInt | None = None,
        std: float = INITIAL_STD,
        combiner: Combiner = "mean",
        shared: bool = False,
    ) -> None:
        super().__init__()
        self.columns, self.combiner, self.shared = tuple(columns), combiner, shared
        if shared:
            _check_types(vocabulary, self.columns)
        groups = [self.columns] if shared else [(column,) for column in self.columns]
        tables = {group: _Table(vocabulary, group, width or default_width, std) for group in groups}
        self.tables = nn.ModuleDict({module_name(*group): table for group, table in tables.items()})
        self.widths = {column: table.width for group, table in tables.items() for column in group}
        for place, column in enumerate(self.columns if shared else ()):
            self.register_buffer(f"row_{place}", _rows(vocabulary, column, self.columns), persistent=False)

    def forward(self, features: Sequence[Feature]) -> list[Tensor]:
        return [self._vectors(place, feature) for place, feature in enumerate(features)]

    def _vectors(self, place: int, feature: Feature) -> Tensor:
        table = self.tables[module_name(*self.columns) if self.shared else module_name(self.columns[place])]
        values = feature.values
        index = values.values if isinstance(values, Ragged) else values
        vectors = table(self.get_buffer(f"row_{place}")[index] if self.shared else index)
        if isinstance(values, Ragged):
            return combined(vectors, values.offsets, self.combiner).view(*feature.shape, -1)
        return vectors


class _Table(nn.Module):
    """The vectors of the values of one column, or of several."""

    def __init__(self, vocabulary: Vocabulary, columns: tuple[str, ...], width: int | None, std: float) -> None:
        super().__init__()
        n_values = len(vocabulary.known(*columns)) + 1
        self.width = width or inferred_width(n_values)
        self.row_of = {"weight": columns}
        self.weight = nn.Parameter(torch.empty(n_values, self.width).normal_(std=std))

    def forward(self, index: Tensor) -> Tensor:
        return nn.functional.embedding(index, self.weight)


def combined(vectors: Tensor, offsets: Tensor, combiner: Combiner) -> Tensor:
    """(R, W) of the vectors (M, W) of R lists, list i being rows offsets[i] … offsets[i + 1] − 1; of an empty one zeros."""
    length = offsets.diff()
    row = torch.repeat_interleave(torch.arange(len(length), device=length.device), length, output_size=len(vectors))
    empty = vectors.new_zeros(len(length), vectors.shape[1])
    if combiner in ("max", "min"):
        return empty.scatter_reduce(0, row[:, None].expand_as(vectors), vectors, f"a{combiner}", include_self=False)
    total = empty.index_add(0, row, vectors)
    return total / length.clamp(min=1)[:, None] if combiner == "mean" else total


def _check_types(vocabulary: Vocabulary, columns: tuple[str, ...]) -> None:
    types = {column: vocabulary.known(column).type for column in columns}
    if len(set(types.values())) > 1:
        found = ", ".join(f"{column} ({type_})" for column, type_ in types.items())
        raise ConfigError(
            f"Category(shared=true): values of {found} are of several types and cannot share a table. "
            "Cast them to one where the files are written, or embed them apart."
        )


def _rows(vocabulary: Vocabulary, column: str, columns: tuple[str, ...]) -> Tensor:
    """(values of the column + 1,): the row in the common table of each index of the column."""
    place = pc.index_in(vocabulary.known(column), value_set=vocabulary.known(*columns)).to_numpy(zero_copy_only=False)
    return torch.cat([torch.tensor([UNKNOWN]), torch.tensor(place, dtype=torch.long) + 1])
