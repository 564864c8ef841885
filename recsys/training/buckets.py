"""What is trained on and what validates: sequences, and the batches of an epoch."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from recsys.config import Training
from recsys.errors import ContractError
from recsys.model.bucket import Bucket
from recsys.model.objectives import Objective
from recsys.model.reader import Reader, Spans


def seed_of(seed: int, *purpose: int) -> int:
    """A seed of its own for each purpose: (run's seed, purpose, epoch …) → 63 bits."""
    return int(np.random.SeedSequence([seed, *purpose]).generate_state(1, np.uint64)[0] >> np.uint64(1))


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
    """The batches of one epoch: sequences in random order, each batch as buckets of similar length."""

    reader: Reader
    spans: Spans
    per_batch: int
    seed: int
    n_unread: int = 0  # events of each sequence that are targets only
    n_real: int = field(default=0, init=False)  # events that were read so far,
    n_places: int = field(default=0, init=False)  # and places with padding

    def __len__(self) -> int:
        return -(-len(self.spans) // self.per_batch)

    def __iter__(self) -> Iterator[list[Bucket]]:
        order = torch.randperm(len(self.spans), generator=torch.Generator().manual_seed(self.seed))
        for rows in order.split(self.per_batch):
            batch = list(self.reader.buckets(self.spans[rows]))
            self.n_real += sum(int((b.lengths - self.n_unread).sum()) for b in batch)
            self.n_places += sum(len(b) * (b.item_index.shape[1] - self.n_unread) for b in batch)
            yield batch


def hold_out(spans: Spans, reader: Reader, n_users: int, seed: int) -> tuple[Spans, Validation]:
    """Take the newest target of up to `n_users` drawn users out of their last sequence; of at most half of all users.

    What the user did after it, if anything, is neither trained on nor read.
    """
    none_yet = torch.where(reader.weight > 0, torch.arange(len(reader.weight)), -1)
    newest_target = torch.cummax(none_yet, 0).values[(spans.end - 1).clamp(min=0)]
    is_last = torch.cat([spans.user[1:] != spans.user[:-1], torch.ones(1, dtype=torch.bool)])
    usable = torch.nonzero(is_last & (newest_target > spans.start))[:, 0]
    n_chosen = min(n_users, len(usable) // 2)
    drawn = torch.randperm(len(usable), generator=torch.Generator().manual_seed(seed_of(seed, VALIDATION_USERS)))[:n_chosen]
    chosen = usable[drawn].sort().values
    place = newest_target[chosen]
    kept = Spans(spans.user, spans.start, spans.end.index_copy(0, chosen, place))
    return kept, Validation(kept[chosen], reader.item_index[place].long())


def trainable(spans: Spans, reader: Reader, objective: Objective, max_events: int, training: Training) -> Spans:
    """The sequences as the objective takes them: cut to the newest events or into windows, each with something to predict."""
    size = objective.n_trained(max_events)
    cut = spans.newest(size) if training.long_histories == "newest" else spans.windows(size, stride=max_events)
    n_targets = torch.cat([torch.zeros(1, dtype=torch.long), (reader.weight > 0).cumsum(0)])
    filled = cut[torch.nonzero(cut.lengths >= 2)[:, 0]]
    found = filled[torch.nonzero(n_targets[filled.end] > n_targets[filled.start + 1])[:, 0]]
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
