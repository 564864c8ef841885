"""The head for one of several classes."""

from typing import ClassVar

import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics.functional.classification import multiclass_accuracy

from recsys.errors import ConfigError
from recsys.model.heads.label import LabelHead, Of
from recsys.model.items import INITIAL_STD
from recsys.model.names import module_name
from recsys.model.pooling import Pooling
from recsys.model.towers import MERGED
from recsys.model.vocabulary import Vocabulary


class MultiClass(LabelHead):
    """The probability of each class that a text label had in training, by cross-entropy. Other classes are as null.

    >>> MultiClass(64, vocabulary, label="reason").classes      # doctest: +SKIP
    """

    learns_text: ClassVar[bool] = True
    classes: pa.Array

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
        if label not in vocabulary.values:
            raise ConfigError(
                f"MultiClass: the label {label!r} is a number, and classes are text. Compute it as text (sql/labels), or use "
                f'Binary(label="{label}") or Regression(label="{label}").'
            )
        self.classes = vocabulary.values[label]
        if len(self.classes) < 2:
            raise ConfigError(f"MultiClass: the label {label!r} has {len(self.classes)} classes before the training's end, and needs two.")
        # Named by the label and with one row per index of the vocabulary, the unknown class too, so that a warm start moves rows
        # by class as it moves those of embeddings, and never those of another label.
        self._vectors, self._bias = (f"{kind}_{module_name(label)}" for kind in ("vectors", "bias"))
        self.register_parameter(self._vectors, nn.Parameter(torch.empty(vocabulary.n_values(label), width).normal_(std=INITIAL_STD)))
        self.register_parameter(self._bias, nn.Parameter(torch.zeros(vocabulary.n_values(label))))
        self.row_of = {self._vectors: (label,), self._bias: (label,)}

    def targets(self, column: Tensor) -> Tensor:
        return column.long() - 1

    def output(self, hidden: Tensor) -> Tensor:
        vectors, bias = self.get_parameter(self._vectors), self.get_parameter(self._bias)
        return functional.linear(hidden, vectors[1:], bias[1:])

    def costs(self, output: Tensor, target: Tensor) -> Tensor:
        return functional.cross_entropy(output.float(), target, reduction="none")

    def said(self, output: Tensor) -> Tensor:
        return output.softmax(1)

    def metrics(self, said: Tensor, label: Tensor) -> dict[str, float]:
        log_loss = float(functional.nll_loss(said.log().clamp(min=-100), label))
        constant = float(torch.special.entr(label.bincount() / len(label)).sum())
        return {
            "accuracy": float(multiclass_accuracy(said, label, num_classes=len(self.classes), average="micro")),
            "log_loss": log_loss,
            "skill": 1 - log_loss / constant if constant else torch.nan,
        }
