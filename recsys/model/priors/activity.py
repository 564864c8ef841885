"""How much happened with the items lately."""

from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from recsys.dictionary import Dictionary
from recsys.errors import ConfigError
from recsys.model.priors import Prior
from recsys.model.vocabulary import Vocabulary
from recsys.windows import ACTIVITY, HOUR, NEVER, duration

WEEK = duration(ACTIVITY[-1]) / timedelta(hours=1)
REACH = 0.25  # of a weight from where it starts


class Activity(Prior):
    """Of each item the logs of its events in the last 10 minutes, hour, 6 hours, day and 7 days before the moment, of its events an
    hour of life, and of its age, weighed up.

    The events are those of full hours before the moment (the table `item_activity`). `every` is how often lists are made: a
    night's lists have to last for a day, so that what is predicted for 10:30 is weighed by what was known at midnight, in
    training as when lists are made. An item without an event before the moment could not be on a list: it is −inf.

    Training starts with the last 10 minutes alone, and no weight moves by more than `REACH`, however long it takes: weights that fit
    past days best foretell the next one worse (benchmarks/results.md).

    score = w · [log(1 + n) of each window, log(1 + n_7d / min(h, 168)), log(1 + h)], with n events and h hours since the first one.
    """

    starts_as_given: ClassVar[tuple[str, ...]] = ("moved",)

    def __init__(self, *, every: str = "1d") -> None:
        super().__init__()
        self._night: _Night | None = None
        self.every = duration(every) // timedelta(microseconds=1)
        if self.every % HOUR:
            raise ConfigError(f"Activity: every={every!r} has to be whole hours, as activity is counted by the hour.")
        self.moved = nn.Parameter(torch.zeros(len(ACTIVITY) + 2))

    @property
    def weight(self) -> Tensor:
        """w, (windows + 2,)."""
        return nn.functional.pad(self.moved.new_ones(1), (0, len(self.moved) - 1)) + REACH * (self.moved / REACH).tanh()

    def enter(self, dictionary: Dictionary, vocabulary: Vocabulary) -> None:
        if self._night is None or self._night.dictionary is not dictionary:  # a night is read piece by piece
            self._night = _Night.of(dictionary, vocabulary)

    def moments(self, at: Tensor) -> Tensor:
        return at.div(self.every, rounding_mode="floor") * self.every

    def forward(self, moments: Tensor) -> Tensor:
        if self._night is None:
            raise ValueError("Activity knows of no events yet: make a reader of the network, as network.reader(histories, dictionary, …).")
        device = moments.device
        row, item_index, events = (found.to(device) for found in self._night.before(moments.cpu()))
        first = self._night.first_event_at.to(device)
        hours = ((moments[:, None] - first) / HOUR).clamp(min=0).float()  # (T, V)
        with torch.autocast(device.type, enabled=False):
            weight = self.weight
            lived = hours[row, item_index].clamp(min=1, max=WEEK)
            said = events.log1p() @ weight[: len(ACTIVITY)] + (events[:, -1] / lived).log1p() * weight[-2]
            prior = (hours.log1p() * weight[-1]).index_put((row, item_index), said, accumulate=True)
        return prior.masked_fill(first >= moments[:, None], -torch.inf)


@dataclass(frozen=True)
class _Night:
    """The activity of a night's items, n rows by hour, in the model's item_index. Copies of a network share it."""

    dictionary: Dictionary
    hour_at: Tensor  # (n,) int64 µs, ascending
    item_index: Tensor  # (n,) int32
    events: Tensor  # (n, windows) int32, before the hour
    first_event_at: Tensor  # (V,) int64 µs

    @classmethod
    def of(cls, dictionary: Dictionary, vocabulary: Vocabulary) -> "_Night":
        activity, item_index = dictionary.item_activity(), vocabulary.item_map(dictionary)
        index = item_index[activity.item_code]
        known = np.flatnonzero(index >= 0)
        events = np.stack([activity.events[window][known] for window in ACTIVITY], axis=1)
        assert dictionary.first_event_at is not None, "item activity is of data with times"
        there = np.flatnonzero(item_index >= 0)
        first = np.full(vocabulary.n_items, NEVER)
        first[item_index[there]] = dictionary.first_event_at[there]
        return cls(dictionary, *map(torch.from_numpy, (activity.hour_at[known], index[known], events, first)))

    def __deepcopy__(self, memo: dict[int, object]) -> "_Night":
        return self  # nobody changes it, and there are millions of rows

    def before(self, moments: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What happened before each moment (T,): the row (n,) of the moment, the item (n,), and its events (n, windows) float32."""
        hours = (moments // HOUR * HOUR)[:, None]
        begin, end = torch.searchsorted(self.hour_at, torch.cat([hours, hours + 1], dim=1)).unbind(1)
        n_rows = end - begin
        row = torch.repeat_interleave(torch.arange(len(moments)), n_rows)
        place = torch.arange(len(row)) + (begin - n_rows.cumsum(0) + n_rows)[row]
        return row, self.item_index[place].long(), self.events[place].float()
