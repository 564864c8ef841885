"""How much happened with the items lately."""

from datetime import timedelta

import numpy as np
import torch
from torch import Tensor, nn

from recsys.errors import ConfigError
from recsys.histories import NEVER, Dictionary
from recsys.model.priors import Prior
from recsys.model.vocabulary import Vocabulary
from recsys.windows import duration

HOUR = 3_600_000_000  # µs
WINDOWS = ("1h", "6h", "1d", "7d")


class Activity(Prior):
    """Of each item the logs of its events in the last hour, 6 hours, day and 7 days before the moment, and of its age, weighed up.

    The events are those of full hours before the moment (the table `item_activity`). `every` is how often lists are made: a
    night's lists have to last for a day, so that what is predicted for 10:30 is weighed by what was known at midnight, in
    training as when lists are made. An item without an event before the moment could not be on a list: it is −inf.

    score = w · [log(1 + events), has events](by window) + a · log(1 + hours since its first event).
    """

    def __init__(self, *, every: str = "1d") -> None:
        super().__init__()
        self._night: Dictionary | None = None
        self.every = duration(every) // timedelta(microseconds=1)
        if self.every % HOUR:
            raise ConfigError(f"Activity: every={every!r} has to be whole hours, as activity is counted by the hour.")
        self.weight = nn.Linear(2 * len(WINDOWS) + 1, 1, bias=False)  # the same number for all items would say nothing
        with torch.no_grad():
            self.weight.weight.zero_()[0, 0] = 1.0  # popular in the last hour, where training starts

    def enter(self, dictionary: Dictionary, vocabulary: Vocabulary) -> None:
        if self._night is dictionary:  # a night is read piece by piece
            return
        self._night = dictionary
        activity, item_index = dictionary.item_activity(), vocabulary.item_map(dictionary)
        index = item_index[activity.item_code]
        known = np.flatnonzero(index >= 0)
        self._hour_at = torch.from_numpy(activity.hour_at[known])  # ascending
        self._item_index = torch.from_numpy(index[known])
        self._events = torch.from_numpy(np.stack([activity.events[window][known] for window in WINDOWS], axis=1))
        assert dictionary.first_event_at is not None, "item activity is of data with times"
        there = np.flatnonzero(item_index >= 0)
        first = np.full(vocabulary.n_items, NEVER)
        first[item_index[there]] = dictionary.first_event_at[there]
        self._first_event_at = torch.from_numpy(first)

    def moments(self, at: Tensor) -> Tensor:
        return at.div(self.every, rounding_mode="floor") * self.every

    def forward(self, moments: Tensor) -> Tensor:
        device = moments.device
        hours = (moments.cpu() // HOUR * HOUR)[:, None]
        begin, end = torch.searchsorted(self._hour_at, torch.cat([hours, hours + 1], dim=1)).unbind(1)
        n_rows = end - begin
        row = torch.repeat_interleave(torch.arange(len(moments)), n_rows)
        place = torch.arange(len(row)) + (begin - n_rows.cumsum(0) + n_rows)[row]
        events = self._events[place].to(device).float()
        with torch.autocast(device.type, enabled=False):
            said = self.weight(torch.cat([events.log1p(), (events > 0).float(), events.new_zeros(len(events), 1)], dim=1))[:, 0]
        first = self._first_event_at.to(device)
        age = ((moments[:, None] - first) / HOUR).clamp(min=0).float().log1p()  # (T, V)
        index = row.to(device), self._item_index[place].long().to(device)
        prior = (age * self.weight.weight[0, -1]).index_put(index, said, accumulate=True)
        return prior.masked_fill(first >= moments[:, None], -torch.inf)
