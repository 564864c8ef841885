"""The head for a number."""

import math
from typing import Literal

from torch import Tensor
from torch.nn import functional
from torchmetrics.functional.regression import mean_absolute_error, mean_squared_error

from recsys.model.heads.label import LabelHead, Of, numbers_only, projection
from recsys.model.pooling import Pooling
from recsys.model.towers import MERGED
from recsys.model.vocabulary import Vocabulary


class Regression(LabelHead):
    """The value of a label that is a number, learned standardised by its mean and deviation before the training's end.

    `loss` is the squared error, whose best answer is the mean, or "huber", for which what is more than a deviation off
    counts by its distance only, so that a few huge values count less.

    >>> Regression(64, vocabulary, label="hours_until_return", loss="huber")      # doctest: +SKIP
    """

    def __init__(
        self,
        width: int,
        vocabulary: Vocabulary,
        *,
        label: str,
        of: Of = "sequence",
        pooling: Pooling | None = None,
        loss: Literal["squared", "huber"] = "squared",
        weight: float = 1.0,
        name: str | None = None,
        tower: str = MERGED,
    ) -> None:
        super().__init__(width, vocabulary, label, of, pooling, weight, name, tower)
        numbers_only(self, vocabulary, f'MultiClass(label="{label}")')
        self.scale, self.criterion = vocabulary.numeric[label], loss
        self.value = projection(width, 1)

    def targets(self, column: Tensor) -> Tensor:
        return (column - self.scale.mean) / self.scale.std

    def output(self, hidden: Tensor) -> Tensor:
        return self.value(hidden)[:, 0]

    def costs(self, output: Tensor, target: Tensor) -> Tensor:
        cost = functional.mse_loss if self.criterion == "squared" else functional.huber_loss
        return cost(output.float(), target, reduction="none")

    def said(self, output: Tensor) -> Tensor:
        return self.own_terms(output)

    def own_terms(self, target: Tensor) -> Tensor:
        return target * self.scale.std + self.scale.mean

    def metrics(self, said: Tensor, label: Tensor) -> dict[str, float]:
        squared, constant = float(mean_squared_error(said, label)), float(label.var(correction=0))
        return {
            "mae": float(mean_absolute_error(said, label)),
            "rmse": math.sqrt(squared),
            "skill": 1 - squared / constant if constant else math.nan,  # also known as R²
        }
