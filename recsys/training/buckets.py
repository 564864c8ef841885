"""What is trained on and what validates: sequences, and the batches of an epoch."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from recsys.config import Training
from recsys.errors import ContractError
from recsys.model.batching import Batching
from recsys.model.bucket import Bucket
from recsys.model.network import Network
from recsys.model.objectives import Objective
from recsys.model.reader import Reader, Spans
from recsys.training.validation_users import ValidationUsers


def seed_of(seed: int, *purpose: int) -> int:
    """A seed of its own for each purpose: (run's seed, purpose, epoch …) → 63 bits."""
    return int(np.random.SeedSequence([seed, *purpose]).generate_state(1, np.uint64)[0] >> np.uint64(1))


T = TypeVar("T")

INITIAL_WEIGHTS, VALIDATION_USERS, ORDER_OF_USERS, STEPS = range(4)  # purposes of random numbers


@dataclass(frozen=True)
class Validation:
    """Histories, and the event that followed each: the newest target before train_end, which is not trained on."""

    spans: Spans
    target: Tensor  # (S,) int64 item_index

    def __len__(self) -> int:
        return len(self.spans)


@dataclass
class Batches:
    """The batches of one epoch: sequences in random order, each batch as the buckets that its batching makes.

    A batch has `users_per_batch` sequences, and the last one what is left; or about `events_per_batch` events that are read. The
    epoch is cut into equal parts then of at most so many, each as long as the longest sequence at least, and a sequence belongs
    where it begins: the parts are equally many in every epoch, whatever the order.

    For a GPU the next batch is made in a thread while the step runs; on a CPU it would take from the step what it gives.
    """

    reader: Reader
    spans: Spans
    users_per_batch: int | None
    seed: int
    batching: Batching
    n_unread: int = 0  # events of each sequence that are targets only
    events_per_batch: int | None = None  # where users_per_batch is None
    device: torch.device = torch.device("cpu")  # where the buckets are read
    n_real: int | Tensor = field(default=0, init=False)  # events that were read so far,
    n_places: int = field(default=0, init=False)  # and places with padding

    @cached_property
    def _read(self) -> Tensor:
        """(S,) events that are read of each sequence."""
        return self.spans.lengths - self.n_unread

    @cached_property
    def _n_batches(self) -> int:
        if self.users_per_batch is not None:
            return -(-len(self.spans) // self.users_per_batch)
        assert self.events_per_batch is not None, "one of the two is given"
        total, longest = int(self._read.sum()), int(self._read.max())
        return min(-(-total // self.events_per_batch), total // longest)

    def __len__(self) -> int:
        return self._n_batches

    @property
    def real_share(self) -> float:
        """Share of the places so far that hold an event."""
        return int(self.n_real) / self.n_places

    def __iter__(self) -> Iterator[list[Bucket]]:
        made = self._made()
        for batch in made if self.device.type == "cpu" else ahead(made):
            self.n_real += sum(b.lengths.sum() - len(b) * self.n_unread for b in batch)
            self.n_places += sum(len(b) * (b.item_index.shape[1] - self.n_unread) for b in batch)
            yield batch

    def _made(self) -> Iterator[list[Bucket]]:
        generator = torch.Generator().manual_seed(self.seed)
        order = torch.randperm(len(self.spans), generator=generator)
        for rows in self._cut(order):
            yield [bucket.on(self.device) for bucket in self.batching.training(self.reader, self.spans[rows], generator)]

    def _cut(self, order: Tensor) -> Sequence[Tensor]:
        if self.users_per_batch is not None:
            return order.split(self.users_per_batch)
        n_read = self._read[order]
        batch = (n_read.cumsum(0) - n_read) * len(self) // n_read.sum()  # that each sequence begins in
        return order.split(batch.bincount(minlength=len(self)).tolist())


def ahead(source: Iterable[T]) -> Iterator[T]:
    """The same, each made in a thread while the one before is used. What goes wrong there is raised here."""
    iterator = iter(source)
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, iterator, None)
        while (made := coming.result()) is not None:
            coming = thread.submit(next, iterator, None)
            yield made


@dataclass(frozen=True)
class Cases:
    """The validation cases in buckets, each with the targets (B,) of its rows."""

    network: Network
    reader: Reader
    validation: Validation
    n_places: int  # of a bucket, about

    def __iter__(self) -> Iterator[tuple[Bucket, Tensor]]:
        spans = self.validation.spans.newest(self.network.max_events)
        for bucket in self.network.batching.reading(self.reader, spans, self.n_places):
            yield bucket, self.validation.target[bucket.rows]


def hold_out(spans: Spans, reader: Reader, user_id: pa.Array, users: ValidationUsers, n_users: int, seed: int) -> tuple[Spans, Validation]:
    """Take the newest target of up to `n_users` chosen users out of their last sequence; of at most half of all users.

    What the user did after it, if anything, is neither trained on nor read.
    """
    none_yet = torch.where(reader.weight > 0, torch.arange(len(reader.weight)), -1)
    newest_target = torch.cummax(none_yet, 0).values[(spans.end - 1).clamp(min=0)]
    is_last = torch.cat([spans.user[1:] != spans.user[:-1], torch.ones(1, dtype=torch.bool)])
    usable = torch.nonzero(is_last & (newest_target > spans.start))[:, 0]
    able = spans[usable]
    generator = torch.Generator().manual_seed(seed_of(seed, VALIDATION_USERS))
    rows = users.choose(user_id.take(pa.array(able.user.numpy())), able, n_chosen := min(n_users, len(able) // 2), generator)
    if len(rows) > n_chosen or len(rows.unique()) < len(rows) or not ((rows >= 0) & (rows < len(able))).all():
        raise ContractError(
            f"{type(users).__name__}.choose was asked for {n_chosen} of {len(able)} users at most, and gave {len(rows)} rows, "
            f"{len(rows.unique())} of them different. Give rows of `user_id`, each once."
        )
    chosen = usable[rows].sort().values
    place = newest_target[chosen]
    kept = Spans(spans.user, spans.start, spans.end.index_copy(0, chosen, place))
    return kept, Validation(kept[chosen], reader.item_index[place].long())


def trainable(spans: Spans, reader: Reader, objective: Objective, max_events: int, training: Training) -> Spans:
    """The sequences as the objective takes them: cut to the newest events or into windows, each with something to predict."""
    size = objective.n_trained(max_events)
    cut = spans.newest(size) if training.long_histories == "newest" else spans.windows(size, stride=max_events)
    filled = cut[torch.nonzero(cut.lengths >= 2)[:, 0]]
    found = filled[torch.nonzero(reader.n_targets[filled.end] > reader.n_targets[filled.start + 1])[:, 0]]
    if not len(found):
        raise ContractError(
            f"There is no user to train on: of {len(spans)} sequences, {len(filled)} have two events or more of known items "
            f"and none of those a target after its first. Check data.history, sequences.target_types, "
            f"training.min_user_events ({training.min_user_events}) and training.min_item_events ({training.min_item_events})."
        )
    return found


def active(spans: Spans, min_events: int) -> Spans:
    """The sequences of users who have at least `min_events` events in all of theirs."""
    n_events = torch.zeros(int(spans.user.max()) + 1 if len(spans) else 0, dtype=torch.long).index_add(0, spans.user, spans.lengths)
    return spans[torch.nonzero(n_events[spans.user] >= min_events)[:, 0]]
