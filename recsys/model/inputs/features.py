"""From an event with its features to one vector.

Features of the event and of its user come with the bucket; those of the item are looked up by item_index in tables that
the model keeps. User features are spread over the user's events.
"""

import difflib
from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from recsys.arrays import Array
from recsys.errors import ConfigError
from recsys.model.aggregation import Aggregation, Concat
from recsys.model.bucket import Bucket, Column, Ragged, to_torch
from recsys.model.embeddings import Category, FeatureEmbedding, Number, Vector, default_width
from recsys.model.inputs import InputBlock
from recsys.model.items import ItemTable
from recsys.model.items.ids import IdEmbedding
from recsys.model.vocabulary import Vocabulary
from recsys.model.vocabulary import features as features_of
from recsys.schema import Column as SchemaColumn
from recsys.schema import Schema

NUMBER_WIDTH = 8
MAX_VECTOR_WIDTH = 64


class Inputs(InputBlock):
    """Item ids and chosen features, embedded, aggregated and projected to the width D.

    `features` are names of columns of any table, or "all". Categories get the default size ⌈2·cardinality^¼⌉ and numbers
    8 dimensions, or all of them D where the aggregation adds them up.
    """

    def __init__(
        self,
        items: ItemTable,
        schema: Schema,
        vocabulary: Vocabulary,
        width: int,
        *,
        features: Sequence[str] | Literal["all"] = (),
        aggregation: Aggregation | None = None,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        self.items, self.aggregation = items, aggregation or Concat()
        self.chosen = _chosen(schema, features)
        self.event_columns, self.user_columns = (tuple(c.name for c in self.chosen if c.table == table) for table in ("events", "users"))
        for column in self.chosen:
            if column.table == "items":
                self._keep(column, vocabulary.item_columns[column.name])
        added = self.aggregation.one_width
        embeddings = {_key(c): _embedding(c, vocabulary, items.width if added else None) for c in self.chosen}
        self.embeddings = nn.ModuleDict(embeddings)
        widths = [items.width, *(embedding.width for embedding in embeddings.values())]
        self.norms = nn.ModuleList(nn.LayerNorm(w) if layer_norm else nn.Identity() for w in widths)
        total = items.width if added else sum(widths)
        as_is = total == width and (added or not self.chosen)
        self.projection = nn.Identity() if as_is else nn.Linear(total, width)

    @classmethod
    def from_schema(
        cls,
        schema: Schema,
        vocabulary: Vocabulary,
        *,
        width: int,
        features: Sequence[str] | Literal["all"] = "all",
        aggregation: Aggregation | None = None,
        layer_norm: bool = False,
    ) -> "Inputs":
        """Inputs with an item embedding of width D and every feature of the schema, or the chosen ones, in one call."""
        items = IdEmbedding(vocabulary.n_items, width)
        return cls(items, schema, vocabulary, width, features=features, aggregation=aggregation, layer_norm=layer_norm)

    def forward(self, bucket: Bucket) -> Tensor:
        vectors = [self.items.rows(bucket.item_index), *(self._vectors(column, bucket) for column in self.chosen)]
        item, *others = (norm(vector) for norm, vector in zip(self.norms, vectors, strict=True))
        return self.projection(self.aggregation(item, others))

    def _vectors(self, column: SchemaColumn, bucket: Bucket) -> Tensor:
        """Vectors (B, L, …) of one feature."""
        embedding = self.embeddings[_key(column)]
        B, L = bucket.item_index.shape
        if column.table == "events":
            return embedding(bucket.event_columns[column.name], (B, L))
        if column.table == "users":
            return embedding(bucket.user_columns[column.name], (B,))[:, None].expand(B, L, -1)
        return embedding(self._of_items(column, bucket.item_index), (B, L))

    def _keep(self, column: SchemaColumn, data: Array) -> None:
        """Keep a feature of the items. It is in the vocabulary's files, so not among the weights."""
        kept = to_torch(data)
        parts = {"values": kept.values, "offsets": kept.offsets} if isinstance(kept, Ragged) else {"values": kept}
        for name, part in parts.items():
            self.register_buffer(f"{_key(column)}_{name}", part, persistent=False)

    def _of_items(self, column: SchemaColumn, item_index: Tensor) -> Column:
        values = self.get_buffer(f"{_key(column)}_values")
        if column.role != "multi_categorical":
            return values[item_index]
        return Ragged(values, self.get_buffer(f"{_key(column)}_offsets")).take(item_index)


def _key(column: SchemaColumn) -> str:
    return f"{column.table}_{column.name}".replace(".", "·")  # torch takes no dots in names of modules


def _chosen(schema: Schema, features: Sequence[str] | str) -> tuple[SchemaColumn, ...]:
    known = features_of(schema)
    if features == "all":
        return tuple(known)
    found = []
    for name in dict.fromkeys(features):
        named = [c for c in known if c.name == name]
        if not named:
            close = difflib.get_close_matches(name, [c.name for c in known], n=3, cutoff=0.4)
            hint = f"Did you mean {' or '.join(close)}?" if close else f"There are: {', '.join(c.name for c in known) or 'none'}."
            raise ConfigError(f"Inputs(features=…): there is no feature {name!r}. {hint} Features are declared in the `data` group.")
        found += named
    return tuple(found)


def _embedding(column: SchemaColumn, vocabulary: Vocabulary, width: int | None) -> FeatureEmbedding:
    """The embedding that fits the column's role, of its default width unless one is given."""
    if column.role == "numeric":
        return Number(vocabulary.numeric[column.name], width or NUMBER_WIDTH)
    if column.role == "vector":
        return Vector(column.size, width or min(column.size, MAX_VECTOR_WIDTH))
    n_values = vocabulary.n_values(column.name)
    return Category(column.name, n_values, width or default_width(n_values))
