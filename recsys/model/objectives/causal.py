"""Next-event prediction at every position."""

import torch
from torch import Tensor

from recsys.model.bucket import Bucket
from recsys.model.encoders import LEFT_TO_RIGHT
from recsys.model.objectives import Objective, Plan


class CausalLM(Objective):
    """Every event is predicted from those before it (SASRec, GPT): one pass over n events makes n − 1 predictions.

    With `last_only` the newest target of each sequence is the only one that is predicted.
    """

    directions = LEFT_TO_RIGHT

    def __init__(self, *, last_only: bool = False) -> None:
        super().__init__()
        self.last_only = last_only

    def plan(self, bucket: Bucket, generator: torch.Generator | None = None) -> Plan:
        following = bucket.weight[:, 1:]
        wanted = following > 0
        if self.last_only:
            wanted = wanted & (wanted.flip(1).cumsum(1).flip(1) == 1)
        if self.last_only or bucket.n_targets is None:
            row, col = torch.nonzero(wanted, as_tuple=True)
            return self._predicting(bucket, row, col, following[row, col])
        row, col = torch.nonzero_static(wanted, size=bucket.n_targets).unbind(1)  # a GPU is not asked how many there are
        weight = following[row, col].where(row >= 0, 0)  # −1 where there are fewer, as in a network that leaves some out
        return self._predicting(bucket, row, col, weight)

    def _predicting(self, bucket: Bucket, row: Tensor, col: Tensor, weight: Tensor) -> Plan:
        """The plan that predicts, at these events, the ones that follow them."""
        return Plan(bucket.without_last(), row, col, bucket.item_index[row, col + 1], weight, bucket.times_of(row, col + 1))

    def reading(self, bucket: Bucket) -> Plan:
        return Plan(bucket, torch.arange(len(bucket), device=bucket.lengths.device), bucket.lengths - 1)
