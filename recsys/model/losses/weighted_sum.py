"""Several losses at once."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from recsys.errors import ConfigError
from recsys.model.catalogue import Catalogue
from recsys.model.losses import Loss
from recsys.wording import counted


class WeightedSum(Loss):
    """Σ_i weights_i · losses_i, every weight 1 if none are given. Sampled losses draw negatives of their own."""

    def __init__(self, *, losses: Sequence[Loss], weights: Sequence[float] = ()) -> None:
        super().__init__()
        self.losses = nn.ModuleList(losses)
        self.weights = tuple(weights) or (1.0,) * len(losses)
        if not losses:
            raise ConfigError('WeightedSum: losses is empty. Name some, as in "WeightedSum(losses=[CrossEntropy(), BPR()])".')
        if len(self.weights) != len(losses):
            found = f"{counted(len(self.weights), 'weight')} for {counted(len(losses), 'loss', 'losses')}"
            raise ConfigError(f"WeightedSum: {found}; each needs one.")
        if not all(weight > 0 for weight in self.weights):
            raise ConfigError(f"WeightedSum: weights={list(self.weights)} have to be above 0. Leave a loss out that is not wanted.")

    def forward(self, hidden: Tensor, target: Tensor, catalogue: Catalogue, weight: Tensor) -> Tensor:
        parts = [w * loss(hidden, target, catalogue, weight) for w, loss in zip(self.weights, self.losses, strict=True)]
        return torch.stack(parts).sum()
