"""Objectives that look further ahead than the next event (PinnerFormer; Pancha et al. 2022, arXiv:2205.04507, section 4.2)."""

from datetime import timedelta

import torch
from torch import Tensor

from recsys.model.bucket import Bucket
from recsys.model.objectives import Plan
from recsys.model.objectives.causal import CausalLM
from recsys.model.objectives.masked import NextAction, newest_target
from recsys.windows import NEVER, duration


class AllAction(NextAction):
    """Every target of a history's last `window` is predicted from the events before it; of a window that is the whole
    history, all but the first event are."""

    reads_times = True

    def __init__(self, width: int, *, window: str = "7d") -> None:
        super().__init__(width)
        self.window = duration(window) // timedelta(microseconds=1)

    def plan(self, bucket: Bucket, generator: torch.Generator | None = None) -> Plan:
        at, newest = _times(bucket), newest_target(bucket)
        begins = at.gather(1, newest[:, None]) - self.window
        before = (at <= begins).sum(1).clamp(min=1).minimum(newest)
        place = torch.arange(at.shape[1], device=at.device)
        wanted = (bucket.weight > 0) & (place >= before[:, None]) & (newest > 0)[:, None]
        row, target = torch.nonzero(wanted, as_tuple=True)
        found = bucket.item_index[row, target], bucket.weight[row, target], bucket.times_of(row, target)
        return Plan(bucket.before(before), row, before[row], *found, query=True)


class DenseAllAction(CausalLM):
    """Every event predicts one target that is drawn among those of the `window` after it, or the next event if there is none."""

    reads_times = True

    def __init__(self, *, window: str = "7d") -> None:
        super().__init__()
        self.window = duration(window) // timedelta(microseconds=1)

    def plan(self, bucket: Bucket, generator: torch.Generator | None = None) -> Plan:
        at = _times(bucket)
        n_targets = (bucket.weight > 0).cumsum(1)  # up to and with each place
        moment = at.where(bucket.real, at[:, :1])  # of padding that of an event too, which is then found
        until = torch.searchsorted(at, moment + self.window, right=True) - 1
        within = n_targets.gather(1, until) - n_targets
        drawn = n_targets + 1 + (torch.rand(at.shape, generator=generator, device=at.device) * within).long()
        place = torch.searchsorted(n_targets, drawn)  # of the target with that number
        following = torch.arange(1, at.shape[1] + 1, device=at.device).expand_as(place)
        place = torch.where(within > 0, place, following).clamp(max=at.shape[1] - 1)
        wanted = torch.arange(at.shape[1], device=at.device) < bucket.lengths[:, None] - 1
        row, col = torch.nonzero(wanted & (bucket.weight.gather(1, place) > 0), as_tuple=True)
        target = place[row, col]
        found = bucket.item_index[row, target], bucket.weight[row, target], bucket.times_of(row, target)
        return Plan(bucket.without_last(), row, col, *found)


def _times(bucket: Bucket) -> Tensor:
    """(B, L) int64 µs, ascending: padding comes after everything."""
    assert bucket.event_at is not None, "the network's reader brings times to objectives that read them"
    return bucket.event_at.masked_fill(~bucket.real, NEVER)
