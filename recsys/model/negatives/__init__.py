"""Negatives: the items that a sampled loss holds against the targets, in sets that some predictions of a step share.

A sampler draws in strata (Kitagawa 1996, "stratified resampling"): its distribution is cut into n parts of equal probability
and each gives a set one item. An item is drawn as often as in n independent draws, on average, but the sets differ less
from each other, and n = V uniform draws are every item once. The sets of a step are strata of each other likewise.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from recsys.model.catalogue import Catalogue


class Negatives(nn.Module, ABC):
    """The contract of the slot `negatives`. Random numbers are torch's own, of the device that the targets are on."""

    @abstractmethod
    def draw(self, n_sets: int, n: int, catalogue: Catalogue, target: Tensor, weight: Tensor) -> Tensor:
        """item_index (n_sets, n) int64 for a step with targets (N,) of weights (N,). One may be drawn twice, or be a target."""

    @abstractmethod
    def log_expected(self, items: Tensor, n: int, catalogue: Catalogue) -> Tensor:
        """log(n q) (…) float32: how often each of the items (…) is expected among the n draws of a set."""


def strata(n_sets: int, n: int, device: torch.device) -> Tensor:
    """(n_sets, n) float64: for each set a random number from each of n equal parts of [0, 1), and of each part's n_sets parts one.

    So all sets together are strata too, and a step pushes all items alike: which set gets which is a random turn of each part.
    """
    part, turn = torch.arange(n, device=device), torch.randint(max(1, n_sets), (n,), device=device)
    of_part = (torch.arange(n_sets, device=device)[:, None] + turn) % max(1, n_sets)
    return (part + (of_part + torch.rand(n_sets, n, dtype=torch.float64, device=device)) / max(1, n_sets)) / n


def draw_in_proportion(n_sets: int, n: int, weight: Tensor) -> Tensor:
    """Places (n_sets, n) int64 in `weight` (M,) ≥ 0, each drawn in proportion to its weight; M ≥ 1."""
    # In integers of 2**-52 of the sum, since a GPU does not add floats up in the same order twice.
    share = weight.double() / weight.double().sum().clamp(min=torch.finfo(torch.float64).tiny)
    cumulative = (share * 2**52).long().cumsum(0)
    drawn = torch.searchsorted(cumulative, (strata(n_sets, n, weight.device) * cumulative[-1]).long(), right=True)
    return drawn.clamp(max=len(weight) - 1)  # rounding can reach the end, and so does a weight of 0 everywhere
