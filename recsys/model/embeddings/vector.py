"""Given vectors: of an image or a text, say."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from recsys.errors import ConfigError
from recsys.model.bucket import to_torch
from recsys.model.embeddings import Feature, FeatureEmbedding
from recsys.model.items import ITEM
from recsys.model.vocabulary import Vocabulary
from recsys.schema import Schema

MAX_VECTOR_WIDTH = 64


class Vector(FeatureEmbedding):
    """Vectors through a linear adapter, for each column by itself.

    `trained` makes the given vectors of the items the first values of a table that is trained as well; events and users
    bring their vectors with them, so theirs stay as they are.
    """

    roles = ("vector",)

    def __init__(
        self,
        schema: Schema,
        vocabulary: Vocabulary,
        default_width: int | None = None,
        *,
        columns: Sequence[str],
        width: PositiveInt | None = None,
        trained: bool = False,
    ) -> None:
        super().__init__()
        self.columns, self.trained = tuple(columns), trained
        found = {column.name: column for column in schema.select("vector")}
        elsewhere = [name for name in self.columns if found[name].table != "items"]
        if trained and elsewhere:
            raise ConfigError(
                f"Vector(trained=true): {', '.join(elsewhere)} is no column of the items. Only items have a table to train: "
                "leave `trained` out for it."
            )
        self.widths = {name: width or default_width or min(found[name].size, MAX_VECTOR_WIDTH) for name in self.columns}
        self.adapters = nn.ModuleList(nn.Linear(found[name].size, self.widths[name]) for name in self.columns)
        given = [to_torch(vocabulary.item_columns[name]) for name in self.columns] if trained else []
        self.tables = nn.ModuleList(_Table(vectors) for vectors in given if isinstance(vectors, Tensor))

    def forward(self, features: Sequence[Feature]) -> list[Tensor]:
        found = [self.tables[i](f.places) for i, f in enumerate(features)] if self.trained else [f.numbers for f in features]
        return [adapter(vectors) for adapter, vectors in zip(self.adapters, found, strict=True)]


class _Table(nn.Module):
    """The items' vectors (V, S), trained from the given ones on."""

    row_of: ClassVar[dict[str, tuple[str, ...]]] = {"weight": (ITEM,)}
    starts_as_given: ClassVar[tuple[str, ...]] = ("weight",)

    def __init__(self, given: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.as_tensor(given, dtype=torch.float32).clone())

    def forward(self, item_index: Tensor) -> Tensor:
        return nn.functional.embedding(item_index, self.weight)
