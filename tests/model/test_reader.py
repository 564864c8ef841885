"""The reader against plain loops over the same histories."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import ConfigError
from recsys.model.bucket import Bucket, Ragged
from recsys.model.reader import Reader, Spans
from recsys.model.sample import sample
from recsys.model.vocabulary import Vocabulary

HISTORIES, DICTIONARY = sample()
WHOLE = HISTORIES.offsets[1:]
RARE = Vocabulary.fit(HISTORIES, DICTIONARY, WHOLE, min_item_events=15)  # about half of the items are unknown
ALL = {
    "event_columns": ("device", "shelves", "gap_seconds", "picture"),
    "user_columns": ("country", "hobbies", "age"),
}


def known_events(user: int) -> list[int]:
    """Places in the flat histories of the user's events with an item that the model knows."""
    known = set(RARE.item_id.to_pylist())
    ids = DICTIONARY.item_id.to_pylist()
    return [i for i in range(HISTORIES.offsets[user], WHOLE[user]) if ids[HISTORIES.item_code[i]] in known]


def value(column: str, data: Any, row: int) -> Any:
    """The value as the model should see it."""
    if column in ("shelves", "hobbies"):
        names = [f"{column}-{c}" for c in data.values[data.offsets[row] : data.offsets[row + 1]]]
        return [RARE.values[column].to_pylist().index(n) + 1 for n in names]
    if column in ("device", "country"):
        name = f"{column}-{data[row]}"
        return RARE.values[column].to_pylist().index(name) + 1 if data[row] >= 0 else 0
    return data[row]


def test_unknown_items_are_left_out_before_histories_are_cut() -> None:
    reader = Reader(HISTORIES, DICTIONARY, RARE)
    spans = reader.spans(HISTORIES.offsets[:-1], WHOLE)
    ids = DICTIONARY.item_id.to_pylist()
    for user in range(HISTORIES.n_users):
        expected = [ids[HISTORIES.item_code[i]] for i in known_events(user)][-5:]
        start, end = spans.newest(5).start[user], spans.end[user]
        assert RARE.item_id.take(reader.item_index[start:end].numpy()).to_pylist() == expected
    n_known = sum(len(known_events(user)) for user in range(HISTORIES.n_users))
    assert reader.n_unknown(HISTORIES.offsets[:-1], WHOLE) == len(HISTORIES.item_code) - n_known > 100


def test_buckets_hold_what_the_histories_hold() -> None:
    reader = Reader(HISTORIES, DICTIONARY, RARE, **ALL, times=True)
    spans = reader.spans(HISTORIES.offsets[:-1], WHOLE)
    rows = []
    for bucket in reader.buckets(spans.newest(6), n_places=40, now=10**15):
        assert bucket.item_index.numel() <= 40
        for b, user in enumerate(bucket.rows.tolist()):
            rows.append(user)
            _compare(bucket, b, user, known_events(user)[-6:])
    assert sorted(rows) == [user for user in range(HISTORIES.n_users) if known_events(user)]


def _compare(bucket: Bucket, b: int, user: int, events: list[int]) -> None:
    length = len(events)
    assert int(bucket.lengths[b]) == length
    weight = np.where(HISTORIES.is_target, HISTORIES.weight, 0)[events]
    assert bucket.weight[b].tolist() == [*weight, *[0] * (bucket.weight.shape[1] - length)]
    assert bucket.event_at[b, :length].tolist() == HISTORIES.event_at[events].tolist()
    assert bucket.next_at[b, :length].tolist() == [*HISTORIES.event_at[events][1:].tolist(), 10**15]
    for name, column in bucket.event_columns.items():
        data = HISTORIES.columns[name]
        for place, event in enumerate(events):
            ours = _at(column, b * bucket.item_index.shape[1] + place) if isinstance(column, Ragged) else column[b, place].numpy()
            np.testing.assert_array_equal(ours, value(name, data, event))
    for name, column in bucket.user_columns.items():
        ours = _at(column, b) if isinstance(column, Ragged) else column[b].numpy()
        np.testing.assert_array_equal(ours, value(name, HISTORIES.user_columns[name], user))


def _at(column: Ragged, row: int) -> np.ndarray:
    return column.values[column.offsets[row] : column.offsets[row + 1]].numpy()


def test_buckets_are_made_where_the_events_are() -> None:
    """Only what a bucket is made of is there: what is planned with stays on the CPU."""
    here = Reader(HISTORIES, DICTIONARY, RARE, event_columns=["device", "picture"], user_columns=["age"], labels=["bought"], times=True)
    there = here.to("meta")
    spans = here.spans(HISTORIES.offsets[:-1], WHOLE).newest(6)
    assert (here.device.type, there.device.type) == ("cpu", "meta") and here.nbytes == there.nbytes > 10 * len(here.item_index)
    for bucket, other in zip(here.buckets(spans), there.buckets(spans), strict=True):
        assert other.item_index.is_meta and other.rows.is_meta and other.event_columns["picture"].is_meta and other.next_at.is_meta
        assert other.item_index.shape == bucket.item_index.shape and other.user_columns["age"].shape == bucket.user_columns["age"].shape
        assert other.n_targets == int((bucket.weight[:, 1:] > 0).sum()) and bucket.n_targets is None


def test_padding_has_no_lists() -> None:
    reader = Reader(HISTORIES, DICTIONARY, RARE, event_columns=["shelves"])
    spans = reader.spans(HISTORIES.offsets[:-1], WHOLE)
    bucket = reader.bucket(spans[torch.nonzero(spans.lengths)[:, 0]])
    lengths = bucket.event_columns["shelves"].offsets.diff().view(bucket.item_index.shape)
    assert not lengths[~bucket.real].any() and lengths[bucket.real].any()


def test_times_need_times() -> None:
    with pytest.raises(ConfigError, match="order only"):
        Reader(replace(HISTORIES, event_at=None), DICTIONARY, RARE, times=True)


def test_users_of_sessions() -> None:
    reader = Reader(HISTORIES, DICTIONARY, RARE)
    starts, ends = HISTORIES.sequences(WHOLE, "session")
    spans = reader.spans(starts, ends)
    assert len(spans) > HISTORIES.n_users
    assert spans.user.tolist() == [next(u for u in range(HISTORIES.n_users) if HISTORIES.offsets[u] <= s < WHOLE[u]) for s in starts]


@given(st.lists(st.integers(0, 25), min_size=1, max_size=8), st.integers(1, 6))
def test_windows_make_each_event_a_target_once(lengths: list[int], max_events: int) -> None:
    ends = torch.tensor(lengths).cumsum(0)
    spans = Spans(torch.arange(len(lengths)), ends - torch.tensor(lengths), ends)
    windows = spans.windows(size=max_events + 1, stride=max_events)
    targets = sorted(
        (u, t) for u, a, b in zip(windows.user.tolist(), windows.start.tolist(), windows.end.tolist(), strict=True) for t in range(a + 1, b)
    )
    assert targets == [(u, t) for u in range(len(lengths)) for t in range(int(spans.start[u]) + 1, int(spans.end[u]))]
    assert (windows.lengths <= max_events + 1).all()
    assert (windows.start >= spans.start[windows.user]).all()
