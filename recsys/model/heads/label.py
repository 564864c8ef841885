"""Heads that predict a label: of the sequence, from its states pooled, or of each event, from its own."""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import pyarrow as pa
import torch
from torch import Tensor, nn

from recsys.errors import ConfigError, ContractError
from recsys.model.bucket import Bucket
from recsys.model.heads import Head, Predictions
from recsys.model.items import INITIAL_STD, ItemTable
from recsys.model.objectives import Plan
from recsys.model.pooling import Last, Pooling
from recsys.model.vocabulary import Vocabulary

Of = Literal["sequence", "event"]


class LabelHead(Head, ABC):
    """Learns one label column of the events. Where it is null, nothing is learned.

    Of the sequence it learns the label of the newest event that is read, from the pooled states; of each event the label
    of every event that is read, each from its own state, which therefore must not know what comes after it: many more labels,
    and so the better choice where the encoder reads from left to right. Its answer is about the newest event either way.
    """

    learns_text: ClassVar[bool] = False  # whether its label is text; else it is a number: what `recsys check` makes up for it
    classes: pa.Array | None = None  # (C,) strings, of a head with an answer for each class

    def __init__(
        self, width: int, vocabulary: Vocabulary, label: str, of: Of, pooling: Pooling | None, weight: float, name: str | None, tower: str
    ) -> None:
        super().__init__()
        known = vocabulary.schema.names("label", table="events")
        if label not in known:
            raise ConfigError(
                f"{type(self).__name__}: the events have no label {label!r}. There are: {', '.join(known) or 'none'}. Labels are "
                "named in data.events.label, as columns or as files of sql/labels."
            )
        if not weight > 0:
            raise ConfigError(f"{type(self).__name__}: weight={weight} has to be above 0.")
        if of == "event" and pooling is not None:
            raise ConfigError(f'{type(self).__name__}: of each event nothing is pooled. Leave the pooling out, or say of="sequence".')
        self.width, self.label, self.of, self.weight = width, label, of, weight
        self.name, self.tower, self.event_columns = name or label, tower, (label,)
        self.pooling = pooling or Last()

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one answer: (), or (C,)."""
        return () if self.classes is None else (len(self.classes),)

    def select(self, hidden: Tensor, plan: Plan) -> Predictions:
        if self.of == "event":
            target, known = self._targets(plan.bucket)
            chosen, target = hidden[:, : known.shape[1]][known], target[known]
        else:
            row, target = self.newest(plan.bucket)
            real = plan.bucket.real[row]
            chosen = self.pooling(hidden[row, : real.shape[1]], real)
        return Predictions(chosen, target, torch.ones(len(target), device=hidden.device))

    def newest(self, bucket: Bucket) -> tuple[Tensor, Tensor]:
        """The sequences whose newest event has a known label, (n,) int64, and that label as it is learned, (n,)."""
        target, known = self._targets(bucket)
        newest = (bucket.lengths - 1).clamp(min=0)[:, None]
        row = torch.nonzero(known.gather(1, newest)[:, 0])[:, 0]
        return row, target[row, newest[row, 0]]

    def _targets(self, bucket: Bucket) -> tuple[Tensor, Tensor]:
        """The label of each event as it is learned (B, L), and where it is known."""
        column = bucket.event_columns[self.label]
        assert isinstance(column, Tensor), "a label is one number or class"
        target = self.targets(column)
        return target, bucket.real & (~target.isnan() if target.is_floating_point() else target >= 0)

    def loss(self, predictions: Predictions, items: ItemTable) -> Tensor:
        """Mean over the known labels; 0 without any."""
        costs = self.costs(self.output(predictions.hidden), predictions.target)
        return costs.sum() / max(len(costs), 1)

    def answer(self, hidden: Tensor, plan: Plan) -> Tensor:
        """What it says of each sequence of the bucket, from hidden states (B, L, D): (B,), or of C classes (B, C)."""
        real = plan.bucket.real
        return self.said(self.output(self.pooling(hidden[:, : real.shape[1]], real)).float())

    @abstractmethod
    def targets(self, column: Tensor) -> Tensor:
        """The label as it is learned, of the label as buckets bring it (B, L): floats with NaN for null, or classes with −1."""

    @abstractmethod
    def output(self, hidden: Tensor) -> Tensor:
        """(N,), or of C classes (N, C): what the loss is made of, of hidden states (N, D)."""

    @abstractmethod
    def costs(self, output: Tensor, target: Tensor) -> Tensor:
        """(N,): the loss of each prediction."""

    @abstractmethod
    def said(self, output: Tensor) -> Tensor:
        """The answers in the label's own terms, shaped as the output: probabilities or values."""

    @abstractmethod
    def metrics(self, said: Tensor, label: Tensor) -> dict[str, float]:
        """Quality of answers (N,) or (N, C) to labels (N,) in their own terms, N > 0; NaN where it is not defined.

        Among them `skill`: the share of the error of the best constant answer that the head does without (Brier and Allen 1951).
        """

    def own_terms(self, target: Tensor) -> Tensor:
        """The label in the terms of the answers, of the label as it is learned."""
        return target

    def check(self, column: Tensor) -> None:
        """ContractError where the label (n,) of all histories has values that the head cannot learn, or none at all."""
        target = self.targets(column)
        if not (~target.isnan() if target.is_floating_point() else target >= 0).any():
            raise ContractError(
                f"{type(self).__name__}: the label {self.label!r} is known of none of the {len(column):,} events, so there is nothing to "
                "learn. Look at the column or the file of sql/labels that it comes from, and since when it is known."
            )


def projection(width: int, n_outputs: int) -> nn.Linear:
    """A linear layer that begins near 0, so that the first answers are the label's mean or a coin's."""
    layer = nn.Linear(width, n_outputs)
    nn.init.normal_(layer.weight, std=INITIAL_STD)
    nn.init.zeros_(layer.bias)
    return layer


def numbers_only(head: LabelHead, vocabulary: Vocabulary, instead: str) -> None:
    """ConfigError where the head's label is text."""
    if head.label in vocabulary.values:
        raise ConfigError(f"{type(head).__name__}: the label {head.label!r} is text, and a number is asked for. Use {instead}.")
