"""A vector per item made of its features."""

from collections.abc import Sequence

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from recsys.errors import ConfigError
from recsys.model.aggregation import Aggregation, Sum
from recsys.model.embeddings import FeatureEmbedding
from recsys.model.feature_vectors import Chosen, FeatureVectors
from recsys.model.item_columns import ItemColumns
from recsys.model.items import ItemTable
from recsys.model.vocabulary import Vocabulary
from recsys.parts import Spec
from recsys.schema import Schema


class Features(ItemTable):
    """Features of the items, embedded as in `Inputs` and added up: items that nobody had yet are not at random places.

    By itself, items with equal features have equal vectors; `IdPlusFeatures` tells them apart.
    """

    def __init__(
        self,
        schema: Schema,
        vocabulary: Vocabulary,
        width: int,
        *,
        features: Chosen = "all",
        embeddings: Sequence[Spec[FeatureEmbedding]] = (),
        feature_width: PositiveInt | None = None,
        aggregation: Aggregation | None = None,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        self.width, self.n_items = width, vocabulary.n_items
        self.aggregation = aggregation or Sum()
        added = self.aggregation.one_width
        self.features = FeatureVectors(
            schema,
            vocabulary,
            owner=type(self).__name__,
            tables=("items",),
            features=features,
            embeddings=embeddings,
            width=feature_width,
            common_width=width if added else None,
            layer_norm=layer_norm,
        )
        if not self.features.columns:
            raise ConfigError(
                f"{type(self).__name__}() names no feature of the items; there are: "
                f"{', '.join(c.name for c in schema.features('items')) or 'none'}. Name one of them, or use IdEmbedding()."
            )
        self.item_columns = ItemColumns(vocabulary, self.features.names("items"))
        self.projection = nn.Identity() if added else nn.Linear(sum(self.features.widths.values()), width)

    def rows(self, item_index: Tensor) -> Tensor:
        first, *others = self.features(lambda column: self.item_columns.at(column.name, item_index))
        return self.projection(self.aggregation(first, others))

    def vectors(self) -> Tensor:
        return self.rows(torch.arange(self.n_items, device=next(self.parameters()).device))
