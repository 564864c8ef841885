"""Next-event prediction at every position."""

import torch

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
        row, col = torch.nonzero(wanted, as_tuple=True)
        return Plan(bucket.without_last(), row, col, bucket.item_index[row, col + 1], following[row, col])

    def reading(self, bucket: Bucket) -> Plan:
        return Plan(bucket, torch.arange(len(bucket), device=bucket.lengths.device), bucket.lengths - 1)
