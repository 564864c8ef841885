"""Cuts, sessions and sequences of flat histories: by example, and against a loop over users."""

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.arrays import Ragged
from recsys.errors import ConfigError
from recsys.histories import Histories, Seen
from recsys.schema import Schema
from recsys.windows import Cut

HOUR = 3_600_000_000


def at(hour: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(hours=hour)


def histories_of(users: list[list[tuple[int, int]]], has_times: bool = True, seen: Seen | None = None) -> Histories:
    """Of (hour, session) of each user's events; item codes are positions."""
    events = [event for history in users for event in history]
    return Histories(
        user_id=pa.array(range(len(users))),
        offsets=np.concatenate([[0], np.cumsum([len(history) for history in users], dtype=np.int64)]),
        item_code=np.arange(len(events), dtype=np.int32),
        event_at=np.array([hour * HOUR for hour, _ in events], dtype=np.int64) if has_times else None,
        session=np.array([session for _, session in events], dtype=np.int32),
        is_target=None,
        weight=np.ones(len(events), dtype=np.float32),
        schema=Schema((), has_times),
        seen_pairs=seen,
    )


#                          0       1       2       3          4                  5       6
THREE = histories_of([[(7, 0), (8, 0), (9, 1), (9, 1)], [], [(10, 0)], [(6, 0), (9, 0)]])


def test_a_cut_is_a_second_array_of_ends() -> None:
    assert THREE.offsets.tolist() == [0, 4, 4, 5, 7]
    assert THREE.cut(Cut(at=at(9))).tolist() == [2, 4, 4, 6]  # events at the moment itself are not before it
    assert THREE.cut(Cut(at=at(0))).tolist() == THREE.offsets[:-1].tolist()
    assert THREE.cut(Cut(at=at(99))).tolist() == THREE.offsets[1:].tolist()
    assert THREE.cut(Cut(last=1)).tolist() == [3, 4, 4, 6]
    assert THREE.cut(Cut(last=3)).tolist() == [1, 4, 4, 5]
    assert THREE.cut(Cut(last=0)).tolist() == THREE.offsets[1:].tolist()


def test_events_before_their_users_end() -> None:
    assert THREE.before(THREE.cut(Cut(at=at(9)))).tolist() == [True, True, False, False, False, True, False]
    assert THREE.before(THREE.offsets[1:]).all() and not THREE.before(THREE.offsets[:-1]).any()
    assert histories_of([]).before(np.array([], dtype=np.int64)).tolist() == []


def test_an_event_without_weight_is_no_target() -> None:
    weighted = replace(THREE, weight=np.array([1, 0, 2, 0, 1, 1, 1], dtype=np.float32))
    assert weighted.targets.tolist() == [True, False, True, False, True, True, True]
    views = replace(weighted, is_target=np.array([False, False, True, True, True, True, True]))
    assert views.targets.tolist() == [False, False, True, False, True, True, True]


def test_sequences_of_users_and_of_sessions() -> None:
    everything, before_nine = THREE.offsets[1:], THREE.cut(Cut(at=at(9)))
    assert pairs(THREE.sequences(everything, "user")) == [(0, 4), (4, 5), (5, 7)]  # without the user who has no event
    assert pairs(THREE.sequences(before_nine, "user")) == [(0, 2), (5, 6)]
    assert pairs(THREE.sequences(everything, "session")) == [(0, 2), (2, 4), (4, 5), (5, 7)]
    assert pairs(THREE.sequences(THREE.cut(Cut(last=1)), "session")) == [(0, 2), (2, 3), (5, 6)]


def test_the_last_sequence_is_one_for_every_user() -> None:
    everything, last_out = THREE.offsets[1:], THREE.cut(Cut(last=3))
    assert pairs(THREE.last_sequences(everything, "user")) == [(0, 4), (4, 4), (4, 5), (5, 7)]
    assert pairs(THREE.last_sequences(everything, "session")) == [(2, 4), (4, 4), (4, 5), (5, 7)]
    assert pairs(THREE.last_sequences(last_out, "session")) == [(0, 1), (4, 4), (4, 4), (5, 5)]


def test_what_was_seen_before_the_last_events_of_data_with_times() -> None:
    """The cut is each user's first event that is left out; of who has none left out, everything counts."""
    seen = Seen(np.array([0, 3, 4, 4, 4]), np.array([1, 2, 5, 3], dtype=np.int32), np.array([-9, 8, 9, 1]) * HOUR)
    histories = histories_of([[(7, 0), (8, 0), (9, 1)], [], [(10, 0)], []], seen=seen)
    offsets, items = histories.seen(Cut(last=1))
    assert offsets.tolist() == [0, 2, 3, 3, 3] and items.tolist() == [1, 2, 3]
    assert histories.seen(Cut(last=2))[1].tolist() == [1, 3]
    assert histories.seen(Cut(last=0))[1].tolist() == [1, 2, 5, 3]


def test_what_cannot_be_asked() -> None:
    with pytest.raises(ConfigError, match='order only, no times.*Hold out "last-1"'):
        histories_of([[(1, 0)]], has_times=False).cut(Cut(at=at(1)))
    unsessioned = Histories(**{**vars(THREE), "session": None})
    with pytest.raises(ConfigError, match="name data.events.session, or give sequences.session_gap"):
        unsessioned.sequences(THREE.offsets[1:], "session")


def test_ragged_rows_in_any_order() -> None:
    ragged = Ragged(np.array([5, 6, 7]), np.array([0, 2, 2, 3]))
    taken = ragged.take(np.array([2, 0, 1, 0]))
    assert taken.values.tolist() == [7, 5, 6, 5, 6] and taken.offsets.tolist() == [0, 1, 3, 3, 5]
    assert len(ragged) == 3 and len(ragged.take(np.array([], dtype=np.int64))) == 0


HISTORY = st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=8)


@given(
    users=st.lists(HISTORY, min_size=1, max_size=6),
    cut=st.one_of(st.integers(0, 10).map(lambda h: Cut(at=at(h))), st.integers(0, 4).map(lambda n: Cut(last=n))),
)
def test_cuts_and_sequences_equal_a_loop(users: list[list[tuple[int, bool]]], cut: Cut) -> None:
    """Each event is an hour and whether a session begins with it."""
    told = [
        [(hour, sum(begins for _, begins in sorted(history)[: place + 1])) for place, (hour, _) in enumerate(sorted(history))]
        for history in users
    ]
    told = [[(hour, session - history[0][1]) for hour, session in history] for history in told]
    histories = histories_of(told)
    ends = histories.cut(cut)
    naive_ends, of_users, of_sessions, last = [], [], [], []
    start = 0
    for history in told:
        kept = [e for e in history if at(e[0]) < cut.at] if cut.at else history[: max(0, len(history) - cut.last)]
        naive_ends.append(start + len(kept))
        if kept:
            of_users.append((start, start + len(kept)))
        numbers = [session for _, session in kept]
        runs = [(start + numbers.index(s), start + numbers.index(s) + numbers.count(s)) for s in dict.fromkeys(numbers)]
        of_sessions += runs
        last.append(runs[-1] if runs else (start, start))
        start += len(history)
    assert ends.tolist() == naive_ends
    for key, expected in (("user", of_users), ("session", of_sessions)):
        assert pairs(histories.sequences(ends, key)) == expected  # type: ignore[arg-type]
    assert pairs(histories.last_sequences(ends, "session")) == last


def pairs(bounds: tuple[np.ndarray, np.ndarray]) -> list[tuple[int, int]]:
    return list(zip(bounds[0].tolist(), bounds[1].tolist(), strict=True))
