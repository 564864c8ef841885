"""Swap noise."""

from dataclasses import replace

import torch
from torch import Tensor

from recsys.model.bucket import Bucket, Column
from recsys.model.noise import Noise


class SwapNoise(Noise):
    """Each interaction, the item with all features of the event, is replaced by another one of the bucket with probability p.

    Transformers4Rec swaps every feature by itself, which makes interactions that never were; here they stay whole. Times
    that the encoder reads stay, as an event's place does.
    """

    def __init__(self, *, p: float = 0.1) -> None:
        super().__init__(p)

    def changed(self, bucket: Bucket) -> Bucket:
        source = _sources(bucket.real, self.p)

        def taken(column: Column) -> Column:
            return column.flatten(0, 1)[source] if isinstance(column, Tensor) else column.take(source)

        columns = {name: taken(column) for name, column in bucket.event_columns.items()}
        return replace(bucket, item_index=bucket.item_index.flatten()[source], event_columns=columns)


def _sources(real: Tensor, p: float) -> Tensor:
    """(B, L): the flat place that each place reads: its own, or with probability p that of another real event."""
    source = torch.arange(real.numel(), device=real.device)
    events = source[real.flatten()]
    n = len(events)
    if n > 1:
        steps = torch.randint(1, n, (n,), device=real.device)  # never n, so never back to itself
        other = events[(torch.arange(n, device=real.device) + steps) % n]
        source[events] = torch.where(torch.rand(n, device=real.device) < p, other, events)
    return source.view(real.shape)
