"""How the sequences of a batch become the padded tensors that a network reads, in training, validation and recommending."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from recsys.arrays import Ints
from recsys.errors import ContractError
from recsys.model.bucket import Bucket, group_by_length
from recsys.model.reader import Reader, Spans


class Batching(ABC):
    """The contract of the slot `batching`. What is predicted never depends on it: it trades padding for kernel launches.

    `groups` is all that most need to say. Who trains on something else than the histories as they are (crops, say)
    overrides `training`; validating and recommending read by `reading` both, so that one measures what the other does.
    """

    @abstractmethod
    def groups(self, lengths: Ints) -> Sequence[Ints]:
        """Which of S sequences with lengths (S,) ≥ 1 share a bucket: rows of each, every row in one of them."""

    def training(self, reader: Reader, spans: Spans, generator: torch.Generator) -> Iterator[Bucket]:
        """The buckets of one training step, which reads all the spans. `generator` is the epoch's, for what is drawn."""
        return reader.buckets(spans, groups=self.checked_groups)

    def reading(self, reader: Reader, spans: Spans, n_places: int, now: int | None = None) -> Iterator[Bucket]:
        """Buckets of at most about `n_places` events and padding, to predict what follows each span at the moment `now` (µs)."""
        return reader.buckets(spans, n_places, now, self.checked_groups)

    def checked_groups(self, lengths: Ints) -> Sequence[Ints]:
        """`groups`; ContractError where a sequence is left out or read twice."""
        found = self.groups(lengths)
        rows = np.concatenate(found) if len(found) else np.zeros(0, dtype=np.int64)
        if not np.array_equal(np.sort(rows), np.arange(len(lengths))):
            raise ContractError(
                f"{type(self).__name__}.groups divides {len(lengths)} sequences into groups of {len(rows)} rows, "
                f"{len(np.unique(rows))} of them different: every row has to be in one group."
            )
        return found


class ByLength(Batching):
    """Sequences of similar length together, in the groups that cost least (see `recsys.model.bucket.group_by_length`)."""

    def groups(self, lengths: Ints) -> Sequence[Ints]:
        return group_by_length(lengths)


class Padded(Batching):
    """The whole batch as one tensor, padded to its longest sequence, as RecTools and Transformers4Rec make it."""

    def groups(self, lengths: Ints) -> Sequence[Ints]:
        return [np.arange(len(lengths))] if len(lengths) else []
