"""Histories through a model's eyes: its own indexes, and only the events of items that it knows."""

from collections.abc import Callable, Collection, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recsys.arrays import Array, Ints
from recsys.dictionary import Dictionary
from recsys.errors import ConfigError
from recsys.histories import Histories
from recsys.model.bucket import Bucket, Column, each_column, group_by_length, to_torch
from recsys.model.vocabulary import UNKNOWN, USER, Vocabulary, index_in, rows_of
from recsys.windows import NEVER


@dataclass(frozen=True)
class Spans:
    """Sequences as slices of a reader's events: events `start` … `end` − 1 of each, of the user in row `user`."""

    user: Tensor  # (S,) int64
    start: Tensor  # (S,) int64
    end: Tensor  # (S,) int64

    def __len__(self) -> int:
        return len(self.start)

    @property
    def lengths(self) -> Tensor:
        return self.end - self.start

    def __getitem__(self, rows: Tensor) -> "Spans":
        return Spans(self.user[rows], self.start[rows], self.end[rows])

    def newest(self, n: int) -> "Spans":
        """At most the n newest events of each."""
        return Spans(self.user, torch.maximum(self.start, self.end - n), self.end)

    def windows(self, size: int, stride: int) -> "Spans":
        """Each sequence in windows of at most `size` events, the newest first, each `stride` events before the last.

        >>> one = Spans(torch.tensor([0]), torch.tensor([0]), torch.tensor([7]))
        >>> one.windows(size=4, stride=3)
        Spans(user=tensor([0, 0]), start=tensor([3, 0]), end=tensor([7, 4]))
        """
        extra = (self.lengths - size).clamp(min=0)
        n_windows = 1 + (extra + stride - 1) // stride
        row = torch.repeat_interleave(torch.arange(len(self)), n_windows)
        place = torch.arange(len(row)) - (n_windows.cumsum(0) - n_windows)[row]  # 0, 1, 2 … within each sequence
        end = self.end[row] - place * stride
        return Spans(self.user[row], torch.maximum(self.start[row], end - size), end)


COLUMNS = ("item_index", "weight", "event_at", "event_columns", "labels", "user_columns", "_user_end")  # what buckets are made of


class Reader:
    """The events of some shards in a model's indexes. Events of items that it does not know are left out and counted.

    `event_columns` and `user_columns` are features that the buckets shall bring, `labels` what heads learn, which the buckets
    bring among their event columns, and `times` whether they bring times.
    """

    def __init__(
        self,
        histories: Histories,
        dictionary: Dictionary,
        vocabulary: Vocabulary,
        *,
        event_columns: Collection[str] = (),
        user_columns: Collection[str] = (),
        labels: Collection[str] = (),
        times: bool = False,
    ) -> None:
        item_index = vocabulary.item_map(dictionary)[histories.item_code]
        known = np.flatnonzero(item_index >= 0)
        self._offsets = histories.offsets
        self._place = np.append(0, np.cumsum(item_index >= 0))  # of each event of the histories among the known ones
        self.item_index = torch.from_numpy(item_index[known])  # (n,) int32
        weight = histories.weight if histories.is_target is None else histories.weight * histories.is_target
        self.weight = torch.from_numpy(weight[known])  # (n,) float32, 0 where an event is no target
        self.event_at = _times(histories, known) if times else None
        self._user_end = torch.from_numpy(self._place[histories.offsets[1:]])  # of each user's events that the model knows

        def translated(name: str, data: Array) -> Column:
            return to_torch(vocabulary.translate(name, data, dictionary))

        self.event_columns = {name: translated(name, rows_of(histories.columns[name], known)) for name in event_columns}
        labelled = {name: translated(name, _label(histories, name)[known]) for name in labels}
        self.labels = {name: label for name, label in labelled.items() if isinstance(label, Tensor)}
        self._known_at = {name: torch.from_numpy(histories.known_at[name][known]) for name in labels if name in histories.known_at}
        self._moments = _times(histories, known) if self._known_at else None
        self.user_columns = {name: translated(name, histories.user_columns[name]) for name in user_columns if name != USER}
        if USER in user_columns:
            self.user_columns[USER] = torch.from_numpy(index_in(histories.user_id, vocabulary.known(USER), USER) + 1)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Reader":
        """Itself, since nobody changes it: who copies a training (to average its weights, say) does not copy the events."""
        return self

    @property
    def device(self) -> torch.device:
        """Where its events are, and its buckets."""
        return self.item_index.device

    @property
    def nbytes(self) -> int:
        """Memory of all that buckets are made of."""
        sizes: list[int] = []
        for name in COLUMNS:
            each_column(getattr(self, name), lambda column: sizes.append(column.nbytes))
        return sum(sizes)

    def to(self, device: torch.device | str) -> "Reader":
        """The same with its events on the device. Spans stay on the CPU, so that who plans with them never waits for a GPU."""
        other = copy(self)
        for name in COLUMNS:
            setattr(other, name, each_column(getattr(self, name), lambda column: column.to(device)))
        other.n_targets = self.n_targets
        return other

    @cached_property
    def n_targets(self) -> Tensor:
        """(n + 1,) int64 on the CPU: how many targets there are before each event, and at last in all."""
        return torch.cat([torch.zeros(1, dtype=torch.long), (self.weight > 0).cumsum(0)])

    def spans(self, starts: Ints, ends: Ints) -> Spans:
        """The sequences `starts` … `ends` − 1 (S,) of the histories, without what the model does not know."""
        users = np.searchsorted(self._offsets, starts, side="right") - 1  # of an empty sequence: of no meaning
        return Spans(*(torch.from_numpy(x.astype(np.int64)) for x in (users, self._place[starts], self._place[ends])))

    def n_unknown(self, starts: Ints, ends: Ints) -> int:
        """How many events of these sequences the model does not know."""
        return int((ends - starts).sum() - (self._place[ends] - self._place[starts]).sum())

    def next_at(self, spans: Spans) -> Tensor:
        """(S,) int64 µs: when the user's event after each span happened; where there is none, when the newest of the span did."""
        assert self.event_at is not None, "the reader of a network that reads times brings them"
        return self.event_at[torch.minimum(spans.end, self._user_end[spans.user] - 1)]

    def without_labels_of(self, spans: Spans) -> "Reader":
        """The same for whoever stands at the end of the spans, one at most of a user, and is asked for the label of their newest
        event: that one, and whatever becomes known of the user with the event that follows, is null."""
        if not self.labels:
            return self
        n_events = torch.from_numpy(np.diff(self._place[self._offsets]))
        until = torch.full((len(n_events),), NEVER)
        if self._moments is not None:
            until[spans.user] = self._moments[spans.end]
        until = torch.repeat_interleave(until, n_events)
        other = copy(self)
        other.labels = {}
        for name, label in self.labels.items():
            unknown = self._known_at[name] >= until if name in self._known_at else torch.zeros(len(until), dtype=torch.bool)
            unknown[spans.end - 1] = True
            other.labels[name] = label.masked_fill(unknown, torch.nan if label.is_floating_point() else UNKNOWN)
        return other

    def bucket(self, spans: Spans, rows: Tensor | None = None, now: int | None = None, n_places: int | None = None) -> Bucket:
        """One bucket of all the spans, none of them empty; `rows` says which sequences of a batch they are, and `n_places` how
        wide it is, as the longest of them unless said.

        `now` (µs since 1970) is the moment that the newest event's successor is predicted for. Without it that is when the
        user's next event happened, if the histories know one.
        """
        n_places = int(spans.lengths.max()) if n_places is None else n_places
        n_targets = None if self.device.type == "cpu" else int((self.n_targets[spans.end] - self.n_targets[spans.start + 1]).sum())
        index = torch.stack([torch.arange(len(spans)) if rows is None else rows, spans.user, spans.start, spans.end])
        rows, user, start, end = (index.pin_memory() if self.device.type == "cuda" else index).to(self.device, non_blocking=True)
        lengths, position = end - start, torch.arange(n_places, device=self.device)
        real = position < lengths[:, None]
        at = (start[:, None] + position).where(real, start[:, None])  # padding repeats the oldest event
        event_at = None if self.event_at is None else self.event_at[at]
        next_at = None if self.event_at is None else self.event_at[torch.minimum(at + 1, self._user_end[user, None] - 1)]
        if next_at is not None and now is not None:
            next_at = next_at.scatter(1, lengths[:, None] - 1, now)
        return Bucket(
            rows=rows,
            lengths=lengths,
            item_index=self.item_index[at].long().where(real, 0),
            weight=self.weight[at].where(real, 0),
            event_columns={
                name: column[at] if isinstance(column, Tensor) else column.take(at.where(real, -1))
                for name, column in {**self.event_columns, **self.labels}.items()
            },
            user_columns={
                name: column[user] if isinstance(column, Tensor) else column.take(user) for name, column in self.user_columns.items()
            },
            event_at=event_at,
            next_at=next_at,
            n_targets=n_targets,
        )

    def buckets(
        self,
        spans: Spans,
        n_places: int | None = None,
        now: int | None = None,
        groups: Callable[[Ints], Sequence[Ints]] = group_by_length,
        places: Callable[[int], int] = int,
    ) -> Iterator[Bucket]:
        """All spans that are not empty, in groups by their lengths, in buckets of at most about `n_places` events and padding.

        `places` says how wide a bucket is by the length of its longest sequence: at least that, and at most the longest of all.
        """
        lengths = spans.lengths
        filled = torch.nonzero(lengths)[:, 0]

        def width(rows: Tensor) -> int:
            longest = int(lengths[rows].max())
            return max(longest, min(places(longest), int(lengths.max())))

        for group in groups(lengths[filled].numpy()):
            rows = filled[torch.from_numpy(group)]
            for part in rows.split(len(rows) if n_places is None else max(1, n_places // width(rows))):
                yield self.bucket(spans[part], part, now, width(part))


def _label(histories: Histories, name: str) -> np.ndarray:
    found = histories.columns.get(name)
    if not isinstance(found, np.ndarray):
        there = ", ".join(histories.schema.names("label", table="events")) or "none"
        raise ConfigError(f"A head learns the label {name!r}, which these histories do not have. Their labels are: {there}.")
    return found


def _times(histories: Histories, known: np.ndarray) -> Tensor:
    if histories.event_at is None:
        raise ConfigError("This network reads the times of events, and the data have an order only: choose an encoder without times.")
    return torch.from_numpy(histories.event_at[known])
