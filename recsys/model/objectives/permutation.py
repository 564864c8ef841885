"""Prediction in a random order of the events, for encoders with two streams."""

import torch
from torch import Tensor

from recsys.errors import ConfigError
from recsys.model.bucket import Bucket
from recsys.model.encoders import BOTH_SIDES
from recsys.model.objectives import Plan
from recsys.model.objectives.masked import Masking, draw, some_of


class PermutationLM(Masking):
    """Some events are predicted one after the other in a random order, each from all others that come before it in that
    order (XLNet; Yang et al. 2019, arXiv:1906.08237).

    Predicted are spans of 1 to `max_span` events, one in each stretch of 1 / probability times its length. Recommending
    appends a query, in whose order everything comes before it: it sees the whole history, and nobody sees it.
    """

    directions = BOTH_SIDES
    two_streams = True

    def __init__(self, width: int, *, probability: float = 1 / 6, max_span: int = 5) -> None:
        super().__init__(width)
        if not 0 < probability < 1:
            raise ConfigError(f"PermutationLM: probability={probability} is outside (0, 1).")
        if max_span < 1:
            raise ConfigError(f"PermutationLM: max_span={max_span} is below 1.")
        self.probability, self.max_span = probability, max_span

    def plan(self, bucket: Bucket, generator: torch.Generator | None = None) -> Plan:
        chance = draw(bucket, generator)
        return self.predicting(bucket, some_of(bucket, self._spans(bucket, generator), chance), chance)

    def predicting(self, bucket: Bucket, chosen: Tensor, order: Tensor) -> Plan:
        """The plan that predicts the chosen events, (B, L) bool, one after the other by ascending `order` (B, L) ≥ 0."""
        order = order.masked_fill(~chosen, -1)  # what is not predicted comes first and is seen by all
        mask = bucket.real[:, None] & (order[:, None] < order[:, :, None]) | (bucket.real & ~chosen)[:, None]
        row, col = torch.nonzero(chosen, as_tuple=True)
        target, weight = bucket.item_index[row, col], bucket.weight[row, col]
        return Plan(bucket, row, col, target, weight, bucket.times_of(row, col), mask=mask, second_stream=self.mask)

    def reading(self, bucket: Bucket) -> Plan:
        place = torch.arange(bucket.item_index.shape[1] + 1, device=bucket.lengths.device)
        seen = (place < bucket.lengths[:, None])[:, None].expand(-1, len(place), -1)
        row = torch.arange(len(bucket), device=bucket.lengths.device)
        return Plan(bucket, row, bucket.lengths, query=True, mask=seen, second_stream=self.mask)

    def _spans(self, bucket: Bucket, generator: torch.Generator | None) -> Tensor:
        """(B, L) bool: spans of random length, each at a random place of a stretch of its own."""
        B, L = bucket.item_index.shape
        device = bucket.lengths.device
        n_spans = int(L * self.probability) + 1
        length = torch.randint(1, self.max_span + 1, (B, n_spans), generator=generator, device=device)
        stretch = (length / self.probability).long()
        begin = stretch.cumsum(1) - stretch
        start = begin + (torch.rand(B, n_spans, generator=generator, device=device) * (stretch - length + 1)).long()
        place = torch.arange(L, device=device)
        return ((place >= start[..., None]) & (place < (start + length)[..., None])).any(1)
