"""Stochastic shared embeddings."""

from dataclasses import replace

import torch

from recsys.model.bucket import Bucket
from recsys.model.noise import Noise


class StochasticSharedEmbeddings(Noise):
    """Each item is replaced by one of all V items with probability p (SSE-SE, Wu et al. 2019, arXiv:1905.10630).

    Other features of the event stay; those of the item are the new one's.
    """

    def __init__(self, n_items: int, *, p: float = 0.1) -> None:
        super().__init__(p)
        self.n_items = n_items

    def changed(self, bucket: Bucket) -> Bucket:
        item_index = bucket.item_index
        drawn = torch.randint_like(item_index, self.n_items)
        is_changed = (torch.rand(item_index.shape, device=item_index.device) < self.p) & bucket.real
        return replace(bucket, item_index=torch.where(is_changed, drawn, item_index))
