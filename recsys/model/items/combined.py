"""Several item tables as one."""

from collections.abc import Sequence

from pydantic import PositiveInt
from torch import Tensor, nn

from recsys.errors import ConfigError
from recsys.model.aggregation import Aggregation, Sum
from recsys.model.embeddings import FeatureEmbedding
from recsys.model.feature_vectors import Chosen
from recsys.model.items import ItemTable
from recsys.model.items.features import Features
from recsys.model.items.ids import IdEmbedding
from recsys.model.vocabulary import Vocabulary
from recsys.parts import Spec
from recsys.schema import Schema


class Combined(ItemTable):
    """The vectors of several tables, the blocks, aggregated as features of an event are, the first block being the item's.

    >>> Combined(64, blocks=[IdEmbedding(n_items, 64), own_block])                                          # doctest: +SKIP
    """

    def __init__(self, width: int, *, blocks: Sequence[ItemTable], aggregation: Aggregation | None = None) -> None:
        super().__init__()
        if not blocks:
            raise ConfigError("Combined(blocks=[]): name at least one item table, as in blocks=[IdEmbedding()].")
        self.width, self.blocks, self.aggregation = width, nn.ModuleList(blocks), aggregation or Sum()
        added = self.aggregation.one_width
        if added and any(block.width != width for block in blocks):
            found = ", ".join(f"{type(block).__name__} ({block.width})" for block in blocks)
            raise ConfigError(
                f"Combined: blocks that are added up have one width, here {width}, and there are {found}. "
                "Make them as wide, or set aggregation=Concat()."
            )
        total = sum(block.width for block in blocks)
        self.projection = nn.Identity() if added else nn.Linear(total, width)

    def rows(self, item_index: Tensor) -> Tensor:
        return self._aggregated([block.rows(item_index) for block in self._blocks])

    def vectors(self) -> Tensor:
        return self._aggregated([block.vectors() for block in self._blocks])

    @property
    def _blocks(self) -> list[ItemTable]:
        return [block for block in self.blocks if isinstance(block, ItemTable)]

    def _aggregated(self, vectors: Sequence[Tensor]) -> Tensor:
        first, *others = vectors
        return self.projection(self.aggregation(first, others))


class IdPlusFeatures(Combined):
    """A vector per item id and its features, added up: what similar items share is learned from all of them."""

    def __init__(
        self,
        n_items: int,
        width: int,
        schema: Schema,
        vocabulary: Vocabulary,
        *,
        features: Chosen = "all",
        embeddings: Sequence[Spec[FeatureEmbedding]] = (),
        feature_width: PositiveInt | None = None,
        aggregation: Aggregation | None = None,
        layer_norm: bool = False,
    ) -> None:
        of_features = Features(
            schema, vocabulary, width, features=features, embeddings=embeddings, feature_width=feature_width, layer_norm=layer_norm
        )
        super().__init__(width, blocks=[IdEmbedding(n_items, width), of_features], aggregation=aggregation)
