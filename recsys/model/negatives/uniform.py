"""Every item alike."""

import math

import torch
from torch import Tensor

from recsys.model.catalogue import Catalogue
from recsys.model.negatives import Negatives, strata


class Uniform(Negatives):
    """Every item of the catalogue with probability 1 / V."""

    def draw(self, n_sets: int, n: int, catalogue: Catalogue, target: Tensor, weight: Tensor) -> Tensor:
        drawn = strata(n_sets, n, target.device) * catalogue.n_items
        return drawn.long().clamp(max=catalogue.n_items - 1)  # rounding can reach V

    def log_expected(self, items: Tensor, n: int, catalogue: Catalogue) -> Tensor:
        return torch.full_like(items, math.log(n / catalogue.n_items), dtype=torch.float32)
