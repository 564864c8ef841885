"""Objectives that hide events behind a mask: a learned vector in the place of the whole interaction."""

from abc import ABC

import torch
from torch import Tensor, nn
from torch.nn import functional

from recsys.errors import ConfigError
from recsys.model.bucket import Bucket
from recsys.model.encoders import BOTH_SIDES, EITHER
from recsys.model.items import INITIAL_STD
from recsys.model.objectives import Objective, Plan


class Masking(Objective, ABC):
    """Predicts at places that show the mask. Recommending appends such a place, the query, to the whole history."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mask = nn.Parameter(torch.empty(width).normal_(std=INITIAL_STD))

    def n_places(self, max_events: int) -> int:
        return max_events + 1

    def places(self, events: Tensor, plan: Plan) -> Tensor:
        hidden = torch.zeros_like(plan.bucket.real) if plan.hidden is None else plan.hidden
        if plan.query:
            events, hidden = functional.pad(events, (0, 0, 0, 1)), functional.pad(hidden, (0, 1))
            hidden = hidden.scatter(1, plan.bucket.lengths[:, None], True)
        return torch.where(hidden[..., None], self.mask.to(events.dtype), events)

    def reading(self, bucket: Bucket) -> Plan:
        return Plan(bucket, torch.arange(len(bucket), device=bucket.lengths.device), bucket.lengths, query=True)


class MaskedLM(Masking):
    """Hidden events are predicted from those on both of their sides (BERT; Sun et al. 2019, arXiv:1904.06690).

    Each event is hidden with the probability; of each sequence at least one is, and at least one is not. `last_only`
    hides nothing but the newest target.
    """

    directions = BOTH_SIDES

    def __init__(self, width: int, *, probability: float = 0.2, last_only: bool = False) -> None:
        super().__init__(width)
        if not 0 < probability < 1:
            raise ConfigError(f"MaskedLM: probability={probability} is outside (0, 1).")
        self.probability, self.last_only = probability, last_only

    def plan(self, bucket: Bucket, generator: torch.Generator | None = None) -> Plan:
        chance = draw(bucket, generator)
        if self.last_only:
            newest = newest_target(bucket)[:, None]
            return self.hiding(bucket, (torch.arange(chance.shape[1], device=chance.device) == newest) & (newest > 0))
        return self.hiding(bucket, some_of(bucket, chance < self.probability, chance))

    def hiding(self, bucket: Bucket, hidden: Tensor) -> Plan:
        """The plan that hides and predicts these events, (B, L) bool."""
        row, col = torch.nonzero(hidden, as_tuple=True)
        return Plan(bucket, row, col, bucket.item_index[row, col], bucket.weight[row, col], bucket.times_of(row, col), hidden=hidden)


class NextAction(Masking):
    """The newest event is predicted from all before it, and nothing else (PinnerFormer's next action, arXiv:2205.04507).

    Training is recommending from the history without its last event: the mask stands in the place of what is predicted.
    """

    directions = EITHER

    def plan(self, bucket: Bucket, generator: torch.Generator | None = None) -> Plan:
        newest = newest_target(bucket)
        row = torch.nonzero(newest > 0)[:, 0]
        at = row, newest[row]
        return Plan(bucket.before(newest), *at, bucket.item_index[at], bucket.weight[at], bucket.times_of(*at), query=True)


def draw(bucket: Bucket, generator: torch.Generator | None) -> Tensor:
    """(B, L): a random number in [0, 1) for each event."""
    return torch.rand(bucket.item_index.shape, generator=generator, device=bucket.lengths.device)


def some_of(bucket: Bucket, chosen: Tensor, chance: Tensor) -> Tensor:
    """(B, L) bool: of the chosen events those that are targets, corrected so that each sequence of two events or more has
    at least one of them (where it has a target), and at least one event that is none. The chances decide which."""
    possible = (bucket.weight > 0) & (bucket.lengths[:, None] > 1)
    chosen = chosen & possible
    lowest = chance.masked_fill(~possible, torch.inf).argmin(1, keepdim=True)
    none = ~chosen.any(1, keepdim=True) & possible.any(1, keepdim=True)
    chosen = chosen.scatter(1, lowest, chosen.gather(1, lowest) | none)
    highest = chance.masked_fill(~bucket.real, -torch.inf).argmax(1, keepdim=True)
    all_ = chosen.sum(1, keepdim=True) == bucket.lengths[:, None]
    return chosen.scatter(1, highest, chosen.gather(1, highest) & ~all_)


def newest_target(bucket: Bucket) -> Tensor:
    """(B,) int64: the place of each sequence's newest target; 0 where there is none, or nothing before it."""
    place = torch.arange(bucket.item_index.shape[1], device=bucket.lengths.device)
    return torch.where(bucket.weight > 0, place, 0).amax(1)
