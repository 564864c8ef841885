"""Numbers, each normalised by its statistics in the training period. What a null is, is learned."""

from abc import ABC
from collections.abc import Sequence

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from recsys.model.embeddings import Feature, FeatureEmbedding
from recsys.model.items import INITIAL_STD
from recsys.model.projection import MLP
from recsys.model.vocabulary import Vocabulary

NUMBER_WIDTH = 8  # of a projected number, as of Transformers4Rec's soft one-hot


class Numbers(FeatureEmbedding, ABC):
    """What embeddings of numbers share."""

    roles = ("numeric",)

    def __init__(self, vocabulary: Vocabulary, columns: Sequence[str]) -> None:
        super().__init__()
        self.columns = tuple(columns)
        self.numeric = tuple(vocabulary.numeric[column] for column in self.columns)

    def normalised(self, features: Sequence[Feature]) -> list[Tensor]:
        """(f(x) − mean) / std of each feature, f(x) = log(1 + x) on the log scale; NaN is null."""
        return [self._normalised(place, feature.numbers) for place, feature in enumerate(features)]

    def _normalised(self, place: int, x: Tensor) -> Tensor:
        numeric = self.numeric[place]
        x = x.clamp(min=0).log1p() if numeric.scale == "log" else x
        return (x - numeric.mean) / numeric.std


class Scalar(Numbers):
    """The number itself, width 1."""

    def __init__(self, vocabulary: Vocabulary, *, columns: Sequence[str]) -> None:
        super().__init__(vocabulary, columns)
        self.widths = dict.fromkeys(self.columns, 1)
        self.null = nn.Parameter(torch.zeros(len(self.columns)))

    def forward(self, features: Sequence[Feature]) -> list[Tensor]:
        numbers = zip(self.normalised(features), self.null, strict=True)
        return [torch.where(x.isnan(), null, x)[..., None] for x, null in numbers]


class Number(Numbers):
    """x ↦ x·w + b for each number by itself."""

    def __init__(
        self, vocabulary: Vocabulary, default_width: int | None = None, *, columns: Sequence[str], width: PositiveInt | None = None
    ) -> None:
        super().__init__(vocabulary, columns)
        width = width or default_width or NUMBER_WIDTH
        self.widths = dict.fromkeys(self.columns, width)
        self.slope = nn.Parameter(torch.empty(len(self.columns), width).normal_(std=INITIAL_STD))
        self.intercept = nn.ParameterList(torch.zeros(width) for _ in self.columns)
        self.null = nn.Parameter(torch.zeros(len(self.columns), width))

    def forward(self, features: Sequence[Feature]) -> list[Tensor]:
        parts = zip(self.normalised(features), self.slope, self.intercept, self.null, strict=True)
        return [torch.where(x.isnan()[..., None], null, x.nan_to_num()[..., None] * w + b) for x, w, b, null in parts]


class SoftOneHot(Numbers):
    """softmax(x·w + b) · E: a number as a weighted mean of `n_values` learned vectors, for each number by itself.

    De Souza Pereira Moreira et al. 2021, appendix A ("soft one-hot encoding").
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        default_width: int | None = None,
        *,
        columns: Sequence[str],
        n_values: PositiveInt = 10,
        width: PositiveInt | None = None,
    ) -> None:
        super().__init__(vocabulary, columns)
        n, width = len(self.columns), width or default_width or NUMBER_WIDTH
        self.widths = dict.fromkeys(self.columns, width)
        # As wide as nn.Linear(1, n_values) begins: with small weights every number would be the same mean of all vectors.
        self.slope = nn.Parameter(torch.empty(n, n_values).uniform_(-1, 1))
        self.intercept = nn.ParameterList(torch.empty(n_values).uniform_(-1, 1) for _ in range(n))
        self.values = nn.Parameter(torch.empty(n, n_values, width).normal_(std=INITIAL_STD))
        self.null = nn.Parameter(torch.zeros(n, width))

    def forward(self, features: Sequence[Feature]) -> list[Tensor]:
        parts = zip(self.normalised(features), self.slope, self.intercept, self.values, self.null, strict=True)
        return [_soft_one_hot(x, w, b, values, null) for x, w, b, values, null in parts]


def _soft_one_hot(x: Tensor, slope: Tensor, intercept: Tensor, values: Tensor, null: Tensor) -> Tensor:
    share = (x.nan_to_num()[..., None] * slope + intercept).softmax(dim=-1)
    return torch.where(x.isnan()[..., None], null, share @ values)


class JointMLP(Numbers):
    """One vector of several numbers together: an MLP over all of them, with hidden layers of the given sizes."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        default_width: int | None = None,
        *,
        columns: Sequence[str],
        sizes: Sequence[PositiveInt] = (64,),
        width: PositiveInt | None = None,
    ) -> None:
        super().__init__(vocabulary, columns)
        width = width or default_width or NUMBER_WIDTH * len(self.columns)
        self.widths = {", ".join(self.columns): width}
        self.null = nn.Parameter(torch.zeros(len(self.columns)))
        self.mlp = MLP(len(self.columns), width, sizes=sizes)

    def forward(self, features: Sequence[Feature]) -> list[Tensor]:
        x = torch.stack(torch.broadcast_tensors(*self.normalised(features)), dim=-1)
        return [self.mlp(torch.where(x.isnan(), self.null, x))]
