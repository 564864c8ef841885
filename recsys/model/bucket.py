"""Buckets: right-padded slices of a batch whose sequences have similar length.

Sequences are drawn at random, and only inside a batch grouped by length, so that nearly all compute goes to real events
while every encoder sees an ordinary padded tensor. What is in the padding, and who else is in the batch, changes nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from recsys.arrays import Array
from recsys.arrays import Ragged as RaggedArray

# A further group has to save this share of the batch's events in padding: about what its own kernel launches cost.
GROUP_COST = 0.025


@dataclass(frozen=True)
class Ragged:
    """Rows of different length: row i is `values[offsets[i]:offsets[i + 1]]`."""

    values: Tensor  # (M,)
    offsets: Tensor  # (R + 1,) int64

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def to(self, *args: Any, **kwargs: Any) -> "Ragged":
        return Ragged(self.values.to(*args, **kwargs), self.offsets.to(*args, **kwargs))

    def pin_memory(self) -> "Ragged":
        return Ragged(self.values.pin_memory(), self.offsets.pin_memory())

    @property
    def nbytes(self) -> int:
        return self.values.nbytes + self.offsets.nbytes

    def take(self, rows: Tensor) -> "Ragged":
        """The rows at `rows` (any shape, read row by row); −1 is an empty row."""
        rows = rows.flatten()
        start = self.offsets[rows.clamp(min=0)]
        length = (self.offsets[rows.clamp(min=0) + 1] - start).where(rows >= 0, 0)
        offsets = torch.cat([length.new_zeros(1), length.cumsum(0)])
        n = int(offsets[-1])  # asked once: a GPU is waited for
        source = torch.repeat_interleave(start - offsets[:-1], length, output_size=n) + torch.arange(n, device=rows.device)
        return Ragged(self.values[source], offsets)


Column: TypeAlias = Tensor | Ragged


def each_column(value: Any, change: Callable[[Column], Any]) -> Any:
    """A column changed, or each of a dictionary of columns; anything else as it is."""
    if isinstance(value, dict):
        return {name: change(column) for name, column in value.items()}
    return change(value) if isinstance(value, Tensor | Ragged) else value


def to_torch(data: Array) -> Column:
    """A numpy column as torch reads it. Memory is shared where it may be written to."""
    if isinstance(data, RaggedArray):
        return Ragged(_writable(data.values), _writable(data.offsets))
    return _writable(data)


def _writable(data: np.ndarray) -> Tensor:
    return torch.from_numpy(np.require(data, requirements=["C", "W"]))


@dataclass(frozen=True)
class Bucket:
    """Some sequences of a batch, right-padded to the longest of them. Row b of it is sequence `rows[b]` of the batch.

    Event columns are (B, L) codes or numbers, (B, L, S) vectors, or Ragged with B·L rows; user columns the same without L.
    """

    rows: Tensor  # (B,) int64
    lengths: Tensor  # (B,) int64, at least 1
    item_index: Tensor  # (B, L) int64; 0 in the padding
    weight: Tensor  # (B, L) float32: of an event as a target; 0 where it is none, and in the padding
    event_columns: dict[str, Column] = field(default_factory=dict)
    user_columns: dict[str, Column] = field(default_factory=dict)
    event_at: Tensor | None = None  # (B, L) int64, µs since 1970
    next_at: Tensor | None = None  # (B, L) int64: the moment of the event that follows, which a prediction is made for
    n_targets: int | None = None  # targets after the first event of each, where the bucket is on a GPU, which would be waited for

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def real(self) -> Tensor:
        """(B, L) bool: where there is an event."""
        return torch.arange(self.item_index.shape[1], device=self.lengths.device) < self.lengths[:, None]

    def times_of(self, row: Tensor, col: Tensor) -> Tensor | None:
        """(N,) int64 µs of the events at these places (N,); None where the bucket brings no times."""
        return None if self.event_at is None else self.event_at[row, col]

    def to(self, *args: Any, **kwargs: Any) -> "Bucket":
        return self._each(lambda column: column.to(*args, **kwargs))

    def on(self, device: torch.device) -> "Bucket":
        """The bucket on the device; a GPU fetches it from pinned memory while the CPU goes on."""
        if device.type == "cuda" and not self.lengths.is_cuda:
            return self._each(lambda column: column.pin_memory().to(device, non_blocking=True))
        return self.to(device)

    def _each(self, change: Callable[[Column], Column]) -> "Bucket":
        return Bucket(**{f.name: each_column(getattr(self, f.name), change) for f in fields(self)})

    def without_last(self) -> "Bucket":
        """The bucket without the newest event of each sequence. A sequence of one event has none left."""
        return self.before(self.lengths - 1)

    def before(self, place: Tensor) -> "Bucket":
        """The events of each sequence that stand before its `place` (B,), which is below its length."""
        n_kept = max(1, self.item_index.shape[1] - 1)

        def kept(column: Column) -> Column:
            if isinstance(column, Tensor):
                return column[:, :n_kept]
            return column.take(torch.arange(len(column), device=self.lengths.device).view(self.item_index.shape)[:, :n_kept])

        return replace(
            self,
            lengths=place,
            item_index=self.item_index[:, :n_kept],
            weight=self.weight[:, :n_kept] * (torch.arange(n_kept, device=place.device) < place[:, None]),
            event_columns={name: kept(column) for name, column in self.event_columns.items()},
            event_at=None if self.event_at is None else self.event_at[:, :n_kept],
            next_at=None if self.next_at is None else self.next_at[:, :n_kept],
            n_targets=None,
        )


def group_by_length(lengths: np.ndarray, group_cost: float = GROUP_COST) -> list[np.ndarray]:
    """Rows of sequences of similar length, in groups that cost least: padded events, plus `group_cost` of all events a group.

    lengths (S,) ≥ 1. The groups are the optimum, by dynamic programming over the distinct lengths.

    >>> [sorted(rows.tolist()) for rows in group_by_length(np.array([3, 50, 4, 49, 3]))]
    [[0, 2, 4], [1, 3]]
    """
    order = np.argsort(lengths, kind="stable")
    distinct, first = np.unique(lengths[order], return_index=True)
    edges = np.append(first, len(lengths))  # group of distinct lengths i … j−1 is order[edges[i]:edges[j]]
    overhead = group_cost * lengths.sum()
    cost = np.zeros(len(distinct) + 1)
    begins = np.zeros(len(distinct) + 1, dtype=int)
    for end, longest in enumerate(distinct, start=1):
        with_last_group = cost[:end] + (edges[end] - edges[:end]) * longest + overhead
        begins[end] = with_last_group.argmin()
        cost[end] = with_last_group[begins[end]]
    groups, end = [], len(distinct)
    while end > 0:
        groups.append(order[edges[begins[end]] : edges[end]])
        end = begins[end]
    return groups[::-1]
