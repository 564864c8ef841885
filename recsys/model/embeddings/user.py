"""The user as a feature."""

from collections.abc import Sequence

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from recsys.model.embeddings import Feature, FeatureEmbedding
from recsys.model.embeddings.category import inferred_width
from recsys.model.items import INITIAL_STD
from recsys.model.vocabulary import UNKNOWN, USER, Vocabulary


class UserId(FeatureEmbedding):
    """A learned vector per user of the training period. All other users share row 0, which says nothing: it is read as zeros.

    The vocabulary keeps the user ids of models that ask for this, and of no others.
    """

    roles = ("user",)

    def __init__(
        self, vocabulary: Vocabulary, default_width: int | None = None, *, width: PositiveInt | None = None, std: float = INITIAL_STD
    ) -> None:
        super().__init__()
        n_rows = len(vocabulary.known(USER)) + 1
        width = width or default_width or inferred_width(n_rows)
        self.columns, self.widths, self.row_of = (USER,), {USER: width}, {"weight": (USER,)}
        self.weight = nn.Parameter(torch.cat([torch.zeros(1, width), torch.empty(n_rows - 1, width).normal_(std=std)]))

    def forward(self, features: Sequence[Feature]) -> list[Tensor]:
        row = features[0].numbers
        vectors = nn.functional.embedding(row, self.weight)
        return [vectors.where(row[..., None] != UNKNOWN, 0)]  # whatever weights the network was started from
