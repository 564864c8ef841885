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

LOOKED_UP = 8  # vectors of negatives for each prediction, where nothing else is said


@dataclass(frozen=True)
class Scores:
    """Scores of the targets and of n negatives; already divided by temperature. S predictions share each of G sets."""

    target: Tensor  # (G, S, 1)
    negative: Tensor  # (G, S, n)
    hit: Tensor  # (G, S, n) bool: this negative is the prediction's own target, and no loss may count it
    items: Tensor  # (G, 1, n) the negatives
    catalogue: Catalogue

    def mean(self, x: Tensor) -> Tensor:
        """Mean (G, S) of x (G, S, n) over the negatives; 0 for a prediction that has none."""
        return x.masked_fill(self.hit, 0).sum(-1) / self.n.clamp(min=1)

    @property
    def n(self) -> Tensor:
        """(G, S): how many negatives each prediction has."""
        return self.hit.logical_not().sum(-1)


class Sampled(Loss, ABC):
    """A loss against sets of `n_negatives` items, each shared by `shared_by` predictions, so that scores are a batch of products.

    A set for each prediction is a gather of N · n vectors. A single one for the step leaves the other items without a push
    while all predictions push its own at once, and the model learns far more slowly (benchmarks/results.md has the figures).
    Without `shared_by`, n / 8 predictions share a set: eight vectors are looked up for each, whatever n is.
    """

    def __init__(
        self, *, n_negatives: int = 256, shared_by: int | None = None, negatives: Negatives | None = None, temperature: float = 1.0
    ) -> None:
        super().__init__()
        for name, number in (("n_negatives", n_negatives), ("shared_by", shared_by)):
            if number is not None and number < 1:
                raise ConfigError(f"{type(self).__name__}: {name}={number} has to be 1 or more.")
        if not temperature > 0:
            raise ConfigError(f"{type(self).__name__}: temperature={temperature} has to be above 0.")
        self.n_negatives, self.temperature = n_negatives, temperature
        self.shared_by = shared_by or max(1, n_negatives // LOOKED_UP)
        self.negatives = negatives or Uniform()

    @abstractmethod
    def each(self, scores: Scores) -> Tensor:
        """Loss (G, S) of each prediction."""

    def forward(self, hidden: Tensor, target: Tensor, catalogue: Catalogue, weight: Tensor) -> Tensor:
        n_sets = -(-len(target) // self.shared_by)
        items = self.negatives.draw(n_sets, self.n_negatives, catalogue, target, weight)
        with torch.autocast(hidden.device.type, enabled=False):
            each = self.each(self._scores(hidden.float() / self.temperature, target, items[:, None], catalogue))
            return (self._by_set(share_of(weight)) * each).sum()

    def _by_set(self, x: Tensor) -> Tensor:
        """(G, S, …) of x (N, …), filled up with zeros, which have no weight. A set takes every G-th prediction.

        Those of one user stand together: with one set between them, noise would not average out over a user's gradients.
        """
        missing = -len(x) % self.shared_by
        return functional.pad(x, (0, 0) * (x.dim() - 1) + (0, missing)).unflatten(0, (self.shared_by, -1)).transpose(0, 1)

    def _scores(self, hidden: Tensor, target: Tensor, items: Tensor, catalogue: Catalogue) -> Scores:
        hidden, target = self._by_set(hidden), self._by_set(target)
        # One look-up for both: the gradient of the vectors is as large as the catalogue, and is made once per look-up.
        looked_up = functional.embedding(torch.cat([target, items[:, 0]], dim=1), catalogue.vectors).float()
        targets, negatives = looked_up.split([self.shared_by, self.n_negatives], dim=1)
        of_target = (hidden * targets).sum(-1, keepdim=True)
        of_items = hidden @ negatives.mT
        if catalogue.bias is not None:
            bias = catalogue.bias.float() / self.temperature
            of_target, of_items = of_target + bias[target][..., None], of_items + bias[items]
        if catalogue.prior is not None:
            row = torch.zeros_like(target) if catalogue.prior_row is None else self._by_set(catalogue.prior_row)
            of_target = of_target + catalogue.prior[row, target][..., None].float() / self.temperature
            of_items = of_items + catalogue.prior[row[..., None], items].float() / self.temperature
        return Scores(of_target, of_items, target[..., None] == items, items, catalogue)
