"""Negatives of several kinds."""

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn

from recsys.errors import ConfigError
from recsys.model.catalogue import Catalogue
from recsys.model.negatives import Negatives
from recsys.model.negatives.in_batch import InBatch
from recsys.model.negatives.uniform import Uniform
from recsys.wording import counted


class Mixed(Negatives):
    """A share of the negatives from each of several samplers, half in-batch and half uniform if none are named.

    Popular items are hard negatives, and uniform ones keep the rest of the catalogue from being forgotten: Yang et al.
    2020, "Mixed negative sampling for learning two-tower neural networks in recommendations". `shares` are relative.
    """

    def __init__(self, *, negatives: Sequence[Negatives] = (), shares: Sequence[float] = ()) -> None:
        super().__init__()
        self.negatives = nn.ModuleList(negatives or (InBatch(), Uniform()))
        self.shares = tuple(shares) or (1.0,) * len(self.negatives)
        if len(self.shares) != len(self.negatives):
            found = f"{counted(len(self.shares), 'share')} for {counted(len(self.negatives), 'sampler')}"
            raise ConfigError(f"Mixed: {found}; each needs one.")
        if not all(share > 0 for share in self.shares):
            raise ConfigError(f"Mixed: shares={list(self.shares)} have to be above 0. Leave a sampler out that is not wanted.")

    def draw(self, n_sets: int, n: int, catalogue: Catalogue, target: Tensor, weight: Tensor) -> Tensor:
        return torch.cat([sampler.draw(n_sets, m, catalogue, target, weight) for sampler, m in self._split(n)], dim=1)

    def log_expected(self, items: Tensor, n: int, catalogue: Catalogue) -> Tensor:
        return torch.stack([sampler.log_expected(items, m, catalogue) for sampler, m in self._split(n)]).logsumexp(0)

    def _split(self, n: int) -> list[tuple[Negatives, int]]:
        """How many of n draws each sampler makes; those that make none are left out."""
        until = [round(n * part / math.fsum(self.shares)) for part in accumulate(self.shares)]
        split = zip(self.negatives, pairwise([0, *until]), strict=True)
        return [(sampler, stop - start) for sampler, (start, stop) in split if isinstance(sampler, Negatives) and stop > start]
