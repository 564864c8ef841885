"""The head that recommends."""

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from recsys.errors import ConfigError
from recsys.model.catalogue import IMPOSSIBLE, Catalogue
from recsys.model.heads import Head, Predictions
from recsys.model.items import ITEM, ItemTable
from recsys.model.items.ids import IdEmbedding
from recsys.model.losses import Loss
from recsys.model.losses.softmax import CrossEntropy
from recsys.model.objectives import Plan
from recsys.model.priors import Prior
from recsys.model.similarity import Dot, Similarity
from recsys.model.towers import MERGED
from recsys.model.vocabulary import Vocabulary


class NextItem(Head):
    """Scores every item of the catalogue. Tied, it reads the item table of the inputs (Press & Wolf 2017).

    Of the vocabulary it takes the events of each item, which some losses draw their negatives by. With a `prior` items have a
    score of their own at each moment, which is added; a target that no list could have had at its moment is not learned.
    """

    row_of: ClassVar[dict[str, tuple[str, ...]]] = {"bias": (ITEM,)}

    def __init__(
        self,
        n_items: int,
        width: int,
        vocabulary: Vocabulary | None = None,
        *,
        loss: Loss | None = None,
        tied: bool = True,
        bias: bool = False,
        similarity: Similarity | None = None,
        prior: Prior | None = None,
        weight: float = 1.0,
        tower: str = MERGED,
    ) -> None:
        super().__init__()
        if not weight > 0:
            raise ConfigError(f"NextItem: weight={weight} has to be above 0.")
        self.width, self.weight, self.tower = width, weight, tower
        self.criterion = loss or CrossEntropy()
        self.similarity, self.prior = similarity or Dot(), prior
        self.own_items = None if tied else IdEmbedding(n_items, width)
        self.bias = nn.Parameter(torch.zeros(n_items)) if bias else None
        self.counts: Tensor | None
        counts = None if vocabulary is None else torch.tensor(vocabulary.n_events, dtype=torch.int64)
        self.register_buffer("counts", counts, persistent=False)  # saved with the vocabulary

    def catalogue(self, items: ItemTable, at: Tensor | None = None) -> Catalogue:
        """What hidden states are compared with; `items` is the item table of the inputs. A prior is there if it is told when the
        predictions are made, `at` (N,) µs."""
        table = items if self.own_items is None else self.own_items
        prior, row = (None, None) if self.prior is None or at is None else self.prior.rows(at)
        return Catalogue(self.similarity(table.vectors()), self.bias, prior, row, self.counts)

    def select(self, hidden: Tensor, plan: Plan) -> Predictions:
        assert plan.target is not None and plan.weight is not None, "recommending has no targets"
        return Predictions(hidden[plan.row, plan.col], plan.target, plan.weight, plan.at)

    def loss(self, predictions: Predictions, items: ItemTable) -> Tensor:
        catalogue, weight = self.catalogue(items, predictions.at), predictions.weight
        if catalogue.prior is not None:
            weight = weight * catalogue.prior[catalogue.prior_row, predictions.target].isfinite()
            catalogue = replace(catalogue, prior=catalogue.prior.clamp(min=IMPOSSIBLE))
        return self.criterion(self.similarity(predictions.hidden), predictions.target, catalogue, weight)
