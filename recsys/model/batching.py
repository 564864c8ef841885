"""How the sequences of a batch become the padded tensors that a network reads, in training, validation and recommending."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch

from recsys.arrays import Ints
from recsys.errors import ConfigError, ContractError
from recsys.model.bucket import Bucket, group_by_length
from recsys.model.reader import Reader, Spans
from recsys.wording import counted


class Batching(ABC):
    """The contract of the slot `batching`. What is predicted never depends on it: it trades padding for kernel launches.

    `groups` is all that most need to say, and `places` where widths are to be few. Who trains on something else than the
    histories as they are (crops, say) overrides `training`; validating and recommending read by `reading` both, so that one
    measures what the other does.
    """

    @abstractmethod
    def groups(self, lengths: Ints) -> Sequence[Ints]:
        """Which of S sequences with lengths (S,) ≥ 1 share a bucket: rows of each, every row in one of them."""

    def places(self, longest: int) -> int:
        """How many places a bucket has whose longest sequence has so many events: as many at least. More than the longest
        sequence of the whole batch has it never gets."""
        return longest

    def training(self, reader: Reader, spans: Spans, generator: torch.Generator) -> Iterator[Bucket]:
        """The buckets of one training step, which reads all the spans. `generator` is the epoch's, for what is drawn."""
        return reader.buckets(spans, groups=self.checked_groups, places=self.places)

    def reading(self, reader: Reader, spans: Spans, n_places: int, now: int | None = None) -> Iterator[Bucket]:
        """Buckets of at most about `n_places` events and padding, to predict what follows each span at the moment `now` (µs)."""
        return reader.buckets(spans, n_places, now, self.checked_groups, self.places)

    def checked_groups(self, lengths: Ints) -> Sequence[Ints]:
        """`groups`; ContractError where a sequence is left out or read twice."""
        found = self.groups(lengths)
        rows = np.concatenate(found) if len(found) else np.zeros(0, dtype=np.int64)
        if not np.array_equal(np.sort(rows), np.arange(len(lengths))):
            raise ContractError(
                f"{type(self).__name__}.groups divides {counted(len(lengths), 'sequence')} into groups of {counted(len(rows), 'row')}, "
                f"{len(np.unique(rows))} of them different: every row has to be in one group."
            )
        return found


class ByLength(Batching):
    """Sequences of similar length together, in the groups that cost least (see `recsys.model.bucket.group_by_length`).

    What a network has on a CPU unless said.
    """

    def groups(self, lengths: Ints) -> Sequence[Ints]:
        return group_by_length(lengths)


class FixedEdges(Batching):
    """Sequences of up to edges[0] events together, of up to edges[1], and so on: buckets of few widths.

    A GPU's kernels, its allocator and graphs of them find the same shapes in every step; it is what a network has there unless
    said. As training reads one event less than a sequence has, the edges read 1, 2, 4 … places: ≥ 3/4 of them hold an event in
    histories as those of MovieLens, film streaming and a news portal.
    """

    def __init__(self, *, edges: Sequence[int] = (2, 3, 5, 9, 17, 33, 65, 129, 257, 513, 1025)) -> None:
        if not edges or any(later <= earlier for earlier, later in pairwise([0, *edges])):
            raise ConfigError(f"FixedEdges: edges={list(edges)} have to be lengths above 0 that ascend, as [4, 8, 16, 32, 64].")
        self.edges = tuple(edges)

    def groups(self, lengths: Ints) -> Sequence[Ints]:
        edge = np.searchsorted(self.edges, lengths)
        order = np.argsort(edge, kind="stable")
        return np.split(order, np.flatnonzero(np.diff(edge[order])) + 1) if len(order) else []

    def places(self, longest: int) -> int:
        return next((edge for edge in self.edges if edge >= longest), longest)


class Padded(Batching):
    """The whole batch as one tensor, padded to its longest sequence, as RecTools and Transformers4Rec make it."""

    def groups(self, lengths: Ints) -> Sequence[Ints]:
        return [np.arange(len(lengths))] if len(lengths) else []
