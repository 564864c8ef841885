"""The head for yes or no."""

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics.functional.classification import binary_accuracy, binary_auroc

from recsys.errors import ContractError
from recsys.model.heads.label import LabelHead, Of, numbers_only, projection
from recsys.model.pooling import Pooling
from recsys.model.towers import MERGED
from recsys.model.vocabulary import Vocabulary


class Binary(LabelHead):
    """The probability that a label of 0 and 1 is 1, by binary cross-entropy.

    >>> Binary(64, vocabulary, label="purchased", pooling=Mean())      # doctest: +SKIP
    """

    def __init__(
        self,
        width: int,
        vocabulary: Vocabulary,
        *,
        label: str,
        of: Of = "sequence",
        pooling: Pooling | None = None,
        weight: float = 1.0,
        name: str | None = None,
        tower: str = MERGED,
    ) -> None:
        super().__init__(width, vocabulary, label, of, pooling, weight, name, tower)
        numbers_only(self, vocabulary, f'MultiClass(label="{label}")')
        self.logit = projection(width, 1)

    def targets(self, column: Tensor) -> Tensor:
        return column

    def output(self, hidden: Tensor) -> Tensor:
        return self.logit(hidden)[:, 0]

    def costs(self, output: Tensor, target: Tensor) -> Tensor:
        return functional.binary_cross_entropy_with_logits(output.float(), target, reduction="none")

    def said(self, output: Tensor) -> Tensor:
        return output.sigmoid()

    def metrics(self, said: Tensor, label: Tensor) -> dict[str, float]:
        log_loss = float(functional.binary_cross_entropy(said, label))
        constant = float(functional.binary_cross_entropy(label.mean().expand_as(label), label))
        return {
            "auroc": float(binary_auroc(said, label.long())) if constant else torch.nan,  # with one value only it is not defined
            "accuracy": float(binary_accuracy(said, label.long())),
            "log_loss": log_loss,
            "skill": 1 - log_loss / constant if constant else torch.nan,
        }

    def check(self, column: Tensor) -> None:
        super().check(column)
        other = column[~column.isnan() & (column != 0) & (column != 1)]
        if len(other):
            raise ContractError(
                f"Binary: the label {self.label!r} is neither 0 nor 1 in {len(other):,} events, as {other[0]:g}. Compute it as a yes or "
                f'no, or use Regression(label="{self.label}").'
            )
