"""What all losses have in common that hold some negatives, not the whole catalogue, against the targets."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from recsys.errors import ConfigError
from recsys.model.catalogue import Catalogue
from recsys.model.losses import Loss, share_of
from recsys.model.negatives import Negatives
from recsys.model.negatives.uniform import Uniform


@dataclass(frozen=True)
class Scores:
    """Scores of the targets and of n negatives, which are the same for all N predictions; already divided by temperature."""

    target: Tensor  # (N, 1)
    negative: Tensor  # (N, n)
    hit: Tensor  # (N, n) bool: this negative is the row's own target, and no loss may count it
    items: Tensor  # (n,) the negatives
    catalogue: Catalogue

    def mean(self, x: Tensor) -> Tensor:
        """Mean (N,) of x (N, n) over the negatives; 0 for a row that has none."""
        return x.masked_fill(self.hit, 0).sum(1) / self.n.clamp(min=1)

    @property
    def n(self) -> Tensor:
        """(N,): how many negatives each row has."""
        return self.hit.logical_not().sum(1)


class Sampled(Loss, ABC):
    """A loss against `n_negatives` items that all predictions of a step share, so that scoring them is one matrix product.

    As they are shared, they should be hundreds: a single one would be the only negative of a whole step.
    """

    def __init__(self, *, n_negatives: int = 256, negatives: Negatives | None = None, temperature: float = 1.0) -> None:
        super().__init__()
        if n_negatives < 1:
            raise ConfigError(f"{type(self).__name__}: n_negatives={n_negatives} has to be 1 or more.")
        if not temperature > 0:
            raise ConfigError(f"{type(self).__name__}: temperature={temperature} has to be above 0.")
        self.n_negatives, self.temperature = n_negatives, temperature
        self.negatives = negatives or Uniform()

    @abstractmethod
    def each(self, scores: Scores) -> Tensor:
        """Loss (N,) of each prediction."""

    def forward(self, hidden: Tensor, target: Tensor, catalogue: Catalogue, weight: Tensor) -> Tensor:
        items = self.negatives.draw(self.n_negatives, catalogue, target, weight)
        with torch.autocast(hidden.device.type, enabled=False):
            each = self.each(self._scores(hidden.float() / self.temperature, target, items, catalogue))
            return (share_of(weight) * each).sum()

    def _scores(self, hidden: Tensor, target: Tensor, items: Tensor, catalogue: Catalogue) -> Scores:
        # One look-up for both: the gradient of the vectors is as large as the catalogue, and is made once per look-up.
        vectors = functional.embedding(torch.cat([target, items]), catalogue.vectors).float()
        of_target = (hidden * vectors[: len(target)]).sum(1, keepdim=True)
        of_items = hidden @ vectors[len(target) :].T
        if catalogue.bias is not None:
            bias = catalogue.bias.float() / self.temperature
            of_target, of_items = of_target + bias[target, None], of_items + bias[items]
        if catalogue.prior is not None:
            row = torch.zeros_like(target) if catalogue.prior_row is None else catalogue.prior_row
            of_target = of_target + catalogue.prior[row, target][:, None].float() / self.temperature
            of_items = of_items + (catalogue.prior[:, items].float() / self.temperature)[row]
        return Scores(of_target, of_items, target[:, None] == items, items, catalogue)
