import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys.config import Training
from recsys.histories import Histories
from recsys.model.batching import ByLength, FixedEdges
from recsys.model.objectives.causal import CausalLM
from recsys.model.reader import Reader, Spans
from recsys.model.sample import sample
from recsys.model.vocabulary import Vocabulary
from recsys.training.buckets import Batches, active, ahead, hold_out, seed_of, trainable
from recsys.training.validation_users import RandomUsers

HISTORIES, DICTIONARY = sample(n_users=200)
VOCABULARY = Vocabulary.fit(HISTORIES, DICTIONARY, HISTORIES.offsets[1:])


def reading(histories: Histories = HISTORIES, key: str = "user") -> tuple[Reader, Spans]:
    reader = Reader(histories, DICTIONARY, VOCABULARY)
    return reader, reader.spans(*histories.sequences(histories.offsets[1:], key))  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["user", "session"])
def test_the_newest_target_is_held_out(key: str) -> None:
    reader, spans = reading(key=key)
    kept, validation = hold_out(spans, reader, HISTORIES.user_id, RandomUsers(), 40, seed=1)
    assert len(validation) == 40 and len(set(validation.spans.user.tolist())) == 40
    by_user = {
        u: (a, b) for u, a, b in zip(spans.user.tolist(), spans.start.tolist(), spans.end.tolist(), strict=True)
    }  # the last one stays
    for user, start, end, target in zip(*(x.tolist() for x in vars(validation.spans).values()), validation.target.tolist(), strict=True):
        first, last = by_user[user]
        newest = max(i for i in range(first, last) if reader.weight[i] > 0)
        assert (start, end, target) == (first, newest, int(reader.item_index[newest])) and end > start
    before = set(zip(*(x.tolist() for x in vars(spans).values()), strict=True))
    after = set(zip(*(x.tolist() for x in vars(kept).values()), strict=True))
    assert after - before == set(zip(*(x.tolist() for x in vars(validation.spans).values()), strict=True))
    assert len(kept) == len(spans)


def test_validation_users_are_drawn_by_seed_and_leave_half_of_them_whole() -> None:
    reader, spans = reading()
    first, again, other = (hold_out(spans, reader, HISTORIES.user_id, RandomUsers(), 40, seed)[1].spans.user.tolist() for seed in (1, 1, 2))
    assert first == again != other
    _, most = hold_out(spans, reader, HISTORIES.user_id, RandomUsers(), 10_000, seed=1)
    assert 60 < len(most) <= len(spans) / 2
    kept, none = hold_out(spans, reader, HISTORIES.user_id, RandomUsers(), 0, seed=1)
    assert len(none) == 0 and torch.equal(kept.end, spans.end)


def test_every_batch_is_drawn_at_random_and_every_sequence_once() -> None:
    reader, spans = reading()
    spans = trainable(spans, reader, CausalLM(), 8, Training())
    epochs = [list(Batches(reader, spans, 32, seed_of(1, 2, epoch), ByLength(), n_unread=1)) for epoch in (0, 0, 1)]
    assert [len(batch) for batch in epochs[0]] == [len(batch) for batch in epochs[1]]
    for batches in epochs:
        assert len(batches) == len(Batches(reader, spans, 32, 0, ByLength())) == -(-len(spans) // 32)
        items = torch.cat([b.item_index[b.real] for batch in batches for b in batch])
        expected = torch.cat([reader.item_index[a:b] for a, b in zip(spans.start, spans.end, strict=True)])
        assert torch.equal(items.sort().values, expected.long().sort().values)
        assert [sum(map(len, batch)) for batch in batches[:-1]] == [32] * (len(batches) - 1)
    first, again, other = ([b.item_index.tolist() for batch in batches for b in batch] for batches in epochs)
    assert first == again != other


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(1, 300), st.integers(0, 99))
def test_a_budget_of_events_cuts_an_epoch_into_equal_parts(lengths: list[int], budget: int, seed: int) -> None:
    """None is empty, they are as many in every order, and each has the events of the budget up to those of one sequence."""
    length = torch.tensor(lengths) + 1  # of which the newest is a target only
    spans = Spans(torch.arange(len(lengths)), length.cumsum(0) - length, length.cumsum(0))
    batches = Batches(reading()[0], spans, None, seed, ByLength(), n_unread=1, events_per_batch=budget)
    order = torch.randperm(len(spans), generator=torch.Generator().manual_seed(seed))
    parts = batches._cut(order)
    assert torch.equal(torch.cat(list(parts)), order) and len(parts) == len(batches)
    events = [int((length - 1)[part].sum()) for part in parts]
    assert min(events) > 0 and len(parts) <= max(1, -(-sum(lengths) // budget))
    assert all(abs(n - sum(lengths) / len(parts)) < max(lengths) for n in events)


def test_batches_of_events_read_every_sequence_once_and_the_same_again() -> None:
    reader, spans = reading()
    spans = trainable(spans, reader, CausalLM(), 8, Training())
    first, again, other = (Batches(reader, spans, None, seed, ByLength(), 1, events_per_batch=100) for seed in (1, 1, 2))
    rows = [[b.item_index.tolist() for batch in batches for b in batch] for batches in (first, again, other)]
    assert rows[0] == rows[1] != rows[2] and len(first) == len(other) > 5
    assert first.n_real == other.n_real == (spans.lengths - 1).sum()


def test_what_is_made_ahead_is_the_same_in_a_thread_of_its_own() -> None:
    """As on a GPU: one ahead and no more, errors come through, and the thread ends with the epoch or with who leaves it."""
    made: list[str] = []

    def source(n: int) -> Iterator[int]:
        for i in range(n):
            made.append(threading.current_thread().name)
            yield i
        raise ArithmeticError("after the last")

    before, used = threading.active_count(), []
    with pytest.raises(ArithmeticError, match="after the last"):
        for i in ahead(source(5)):
            used.append(i)
            assert len(made) <= i + 2
    assert used == [0, 1, 2, 3, 4] and set(made) != {threading.current_thread().name}
    stopped = ahead(source(5))
    assert next(stopped) == 0
    stopped.close()  # type: ignore[attr-defined]
    assert list(ahead([])) == [] and threading.active_count() == before


@pytest.mark.parametrize("resident", [True, False])
def test_batches_for_another_device_are_the_same(resident: bool) -> None:
    """Made there or brought there, in a thread: here the meta device, which knows shapes only."""
    reader, spans = reading()
    spans, there = trainable(spans, reader, CausalLM(), 8, Training()), torch.device("meta")
    here = Batches(reader, spans, 32, 1, FixedEdges())
    other = Batches(reader.to(there) if resident else reader, spans, 32, 1, FixedEdges(), device=there)
    for batch, moved in zip(here, other, strict=True):
        assert [b.item_index.shape for b in batch] == [b.item_index.shape for b in moved]
        assert all(b.weight.is_meta and b.lengths.is_meta and b.rows.is_meta for b in moved)
    assert other.n_places == here.n_places


def test_the_share_of_real_events_counts_what_is_read() -> None:
    reader, spans = reading()
    spans = trainable(spans, reader, CausalLM(), 8, Training())
    batches = Batches(reader, spans, 32, 1, ByLength(), n_unread=1)
    plans = [CausalLM().plan(bucket) for batch in batches for bucket in batch]
    assert batches.n_real == sum(int(plan.bucket.lengths.sum()) for plan in plans)
    assert batches.n_places == sum(plan.bucket.item_index.numel() for plan in plans)


def test_sequences_without_anything_to_predict_are_left_out() -> None:
    """A target at the very start of a history cannot be predicted from anything."""
    first_only = np.zeros(len(HISTORIES.item_code), dtype=bool)
    lengths = np.diff(HISTORIES.offsets)
    first_only[HISTORIES.offsets[:-1][lengths > 0]] = True
    chosen = np.flatnonzero(lengths >= 3)[:5]
    targets = first_only.copy()
    targets[HISTORIES.offsets[chosen] + 2] = True
    reader, spans = reading(replace(HISTORIES, is_target=targets))
    assert trainable(spans, reader, CausalLM(), 20, Training()).user.tolist() == chosen.tolist()


def test_active_users_are_counted_over_their_sessions() -> None:
    _, spans = reading(key="session")
    lengths = np.diff(HISTORIES.offsets)
    assert set(active(spans, 6).user.tolist()) == set(np.flatnonzero(lengths >= 6))
    assert len(active(spans, 6)) > len(set(active(spans, 6).user.tolist()))
    assert len(active(spans, 1000)) == 0


def test_seeds_of_purposes_and_epochs_differ() -> None:
    seeds = {seed_of(seed, purpose, epoch) for seed in range(5) for purpose in range(4) for epoch in range(5)}
    assert len(seeds) == 100 and all(0 <= s < 2**63 for s in seeds)
