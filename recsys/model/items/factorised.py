"""Item vectors in fewer dimensions than the network."""

from pydantic import PositiveInt
from torch import Tensor, nn

from recsys.model.items import ItemTable
from recsys.model.items.ids import IdEmbedding
from recsys.model.vocabulary import Vocabulary
from recsys.parts import Spec, part
from recsys.schema import Schema


class Factorised(ItemTable):
    """Another table of width E, lifted to the width D by one linear layer (ALBERT, Lan et al. 2020, arXiv:1909.11942).

    Around ids it has V·E + E·D + D parameters instead of V·D. The inner table is handed over unbuilt, so that all of its
    blocks are built at the width E: from Python `inner=part(IdPlusFeatures)`.
    """

    def __init__(
        self,
        n_items: int,
        width: int,
        schema: Schema,
        vocabulary: Vocabulary,
        *,
        inner: Spec[ItemTable] | None = None,
        inner_width: PositiveInt = 64,
    ) -> None:
        super().__init__()
        self.width = width
        spec = inner or part(IdEmbedding)
        self.inner = spec.build(n_items=n_items, width=inner_width, schema=schema, vocabulary=vocabulary)
        self.lift = nn.Linear(inner_width, width)

    def rows(self, item_index: Tensor) -> Tensor:
        return self.lift(self.inner.rows(item_index))

    def vectors(self) -> Tensor:
        return self.lift(self.inner.vectors())
