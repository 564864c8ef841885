"""From an event with its features to one vector.

Features of the event and of its user come with the bucket; those of the item are looked up by item_index in tables that
the model keeps. User features are spread over the user's events.
"""

from collections.abc import Sequence
from typing import Any

from pydantic import PositiveInt
from torch import Tensor, nn

from recsys.model.aggregation import Aggregation, Concat
from recsys.model.bucket import Bucket
from recsys.model.embeddings import Feature, FeatureEmbedding
from recsys.model.feature_vectors import Chosen, FeatureVectors
from recsys.model.inputs import InputBlock
from recsys.model.item_columns import ItemColumns
from recsys.model.items import ItemTable
from recsys.model.items.ids import IdEmbedding
from recsys.model.noise import Noise
from recsys.model.projection import Projection
from recsys.model.vocabulary import Vocabulary
from recsys.parts import Spec
from recsys.schema import Column, Schema


class Inputs(InputBlock):
    """Item ids and chosen features, embedded, aggregated and projected to the width D.

    `features` are names of columns of any table, or "all". `embeddings` says how some of them are embedded, and chooses
    them; the others get the embedding of their role. `feature_width` is the width of features that are given none; without
    it categories get ⌈2·cardinality^¼⌉ and numbers 8 dimensions. Under an aggregation that adds up all have the item's.
    `noise` changes what is read in training, never what is to be predicted.

    >>> Inputs.from_schema(schema, vocabulary, width=64, embeddings=[part(SoftOneHot, columns=["price"])])  # doctest: +SKIP
    """

    def __init__(
        self,
        items: ItemTable,
        schema: Schema,
        vocabulary: Vocabulary,
        width: int,
        *,
        features: Chosen = (),
        embeddings: Sequence[Spec[FeatureEmbedding]] = (),
        feature_width: PositiveInt | None = None,
        aggregation: Aggregation | None = None,
        layer_norm: bool = False,
        projection: Spec[Projection] | None = None,
        noise: Noise | Sequence[Noise] = (),
    ) -> None:
        super().__init__()
        self.items, self.aggregation = items, aggregation or Concat()
        added = self.aggregation.one_width
        self.features = FeatureVectors(
            schema,
            vocabulary,
            owner="Inputs",
            tables=("events", "items", "users"),
            features=features,
            embeddings=embeddings,
            width=feature_width,
            common_width=items.width if added else None,
            layer_norm=layer_norm,
        )
        self.event_columns, self.user_columns = self.features.names("events"), self.features.names("users")
        self.item_columns = ItemColumns(vocabulary, self.features.names("items"))
        self.item_norm = nn.LayerNorm(items.width) if layer_norm else nn.Identity()
        total = items.width if added else items.width + sum(self.features.widths.values())
        self.projection = _projection(projection, total, width, needed=not added and bool(self.features.widths))
        self.noise = nn.Sequential(*([noise] if isinstance(noise, Noise) else noise))

    @classmethod
    def from_schema(
        cls,
        schema: Schema,
        vocabulary: Vocabulary,
        *,
        width: int,
        items: ItemTable | None = None,
        features: Chosen = "all",
        **options: Any,
    ) -> "Inputs":
        """Inputs of every feature of the schema, or the chosen ones, in one call; with a vector per item id, of width D.

        `options` are the constructor's, which refuses others.
        """
        return cls(items or IdEmbedding(vocabulary.n_items, width), schema, vocabulary, width, features=features, **options)

    def forward(self, bucket: Bucket) -> Tensor:
        bucket = self.noise(bucket)
        item = self.item_norm(self.items.rows(bucket.item_index))
        others = self.features(lambda column: self._read(column, bucket))
        return self.projection(self.aggregation(item, [vector.expand(*item.shape[:2], -1) for vector in others]))

    def _read(self, column: Column, bucket: Bucket) -> Feature:
        """The column's values at the bucket's events, or of its users."""
        if column.table == "items":
            return self.item_columns.at(column.name, bucket.item_index)
        if column.table == "users":
            return Feature.of_users(bucket, column.name)
        return Feature(bucket.event_columns[column.name], tuple(bucket.item_index.shape))


def _projection(chosen: Spec[Projection] | None, in_width: int, width: int, needed: bool) -> nn.Module:
    """The chosen one, or a linear layer where widths differ or features stand side by side."""
    if chosen is not None:
        return chosen.build(in_width=in_width, width=width)
    return nn.Linear(in_width, width) if needed or in_width != width else nn.Identity()
