"""What folds hold out and what is learnt from, of histories that can be read by eye."""

from datetime import datetime, timedelta, timezone

import numpy as np
import pyarrow as pa
import pytest

from recsys.arrays import Ragged
from recsys.histories import Histories, Seen
from recsys.schema import Schema
from recsys.splits import drawn, held_out, learnt_from, readable, without
from recsys.windows import Cut, Drawn, folds

HOUR = 3_600_000_000
START = datetime(1970, 1, 1, tzinfo=timezone.utc)


def at(hour: float) -> datetime:
    return START + timedelta(hours=hour)


def histories_of(users: dict[int, list[tuple[int, int]]], seen: Seen | None = None, has_times: bool = True) -> Histories:
    """Of (hour, item) of each user's events, by user_id."""
    events = [event for history in users.values() for event in history]
    return Histories(
        user_id=pa.array(list(users)),
        offsets=np.cumsum([0] + [len(history) for history in users.values()]),
        item_code=np.array([item for _, item in events], dtype=np.int32),
        event_at=np.array([hour * HOUR for hour, _ in events], dtype=np.int64) if has_times else None,
        session=None,
        is_target=None,
        weight=np.ones(len(events), dtype=np.float32),
        schema=Schema((), has_times),
        seen_pairs=seen,
        blocked_pairs=(np.zeros(len(users) + 1, dtype=np.int64), np.zeros(0, dtype=np.int32)),
    )


#                             0       1       2       3          4       5          6
THREE = histories_of({3: [(1, 0), (3, 1), (5, 2), (5, 3)], 1: [(2, 0), (4, 1)], 2: [(6, 2)]})


def test_a_window_of_time_holds_out_what_happens_in_it() -> None:
    older, newer = (held_out(THREE, fold) for fold in folds(at(7), "2h", 2))
    assert np.flatnonzero(older).tolist() == [1, 5]  # hours 3 and 4
    assert np.flatnonzero(newer).tolist() == [2, 3, 6]  # hours 5 and 6


def test_a_gap_is_in_no_window() -> None:
    (fold,) = folds(at(7), "2h", gap="2h")
    assert np.flatnonzero(held_out(THREE, fold)).tolist() == [2, 3, 6]
    assert THREE.cut(fold.read).tolist() == [1, 5, 6], "hours 3 and 4 are not read either"


def test_the_last_event_of_each_user_in_a_window_is_asked_for_and_the_rest_is_read() -> None:
    (fold,) = folds(at(6), "3h", last_only=True)  # hours 3, 4 and 5
    assert np.flatnonzero(held_out(THREE, fold)).tolist() == [3, 5]
    assert THREE.cut(fold.read).tolist() == [3, 5, 6]
    assert THREE.cut(fold.learn).tolist() == [1, 5, 6]


def test_who_does_nothing_in_a_window_is_not_asked_for_the_last_event_before_it() -> None:
    (fold,) = folds(at(7), "1h", last_only=True)  # hour 6: user 2 alone
    assert np.flatnonzero(held_out(THREE, fold)).tolist() == [6]


def test_leave_one_out_takes_the_last_in_order_of_the_source_where_times_tie() -> None:
    (fold,) = folds(at(7), "last-1")
    assert np.flatnonzero(held_out(THREE, fold)).tolist() == [3, 5, 6]  # 2 and 3 happened at once
    order_only = histories_of({3: [(0, 0), (0, 1)], 1: [(0, 2)]}, has_times=False)
    assert np.flatnonzero(held_out(order_only, fold)).tolist() == [1, 2]


def test_folds_of_newest_events_slide_backwards_and_end_where_histories_begin() -> None:
    older, newer = folds(at(7), "last-2", 2)
    assert np.flatnonzero(held_out(THREE, newer)).tolist() == [2, 3, 4, 5, 6]
    assert np.flatnonzero(held_out(THREE, older)).tolist() == [0, 1]
    assert THREE.cut(older.learn).tolist() == [0, 4, 6], "nothing is left to learn from"


@pytest.mark.parametrize("split", ["1h", "3h", "last-1", "last-2", "random-20%"])
def test_no_event_is_both_learnt_from_and_held_out(split: str) -> None:
    users = np.repeat(THREE.user_id.to_numpy(), np.diff(THREE.offsets))
    for fold in folds(at(7), split, 3):
        past = readable(THREE, fold.learn)
        learnt = past.before(past.cut(fold.learn))
        of = np.repeat(past.user_id.to_numpy(), np.diff(past.offsets))
        held = held_out(THREE, fold)
        assert not set(zip(of[learnt], past.item_code[learnt], strict=True)) & set(zip(users[held], THREE.item_code[held], strict=True))
        assert fold.learn.drawn is None or learnt.sum() + held.sum() == len(users)


def many(order: list[int]) -> Histories:
    return histories_of({user: [(user % 5 + step, step) for step in range(40)] for user in order})


def test_random_folds_hold_out_their_share_disjointly() -> None:
    histories = many(list(range(100)))
    held = np.stack([held_out(histories, fold) for fold in folds(at(7), "random-25%", 4, seed=3)])
    assert (held.sum(axis=0) == 1).all(), "four quarters are everything, and nothing twice"
    assert np.abs(held.mean(axis=1) - 0.25).max() < 0.03
    assert (held[0] != drawn(histories, Drawn(0, 0.25, seed=4))).any()


def test_what_is_drawn_does_not_depend_on_the_shards() -> None:
    sorted_, shuffled = many([1, 2, 3, 4]), many([3, 1, 4, 2])
    whole, other = (drawn(h, Drawn(0, 0.3, seed=1)).reshape(4, 40) for h in (sorted_, shuffled))
    assert whole[[2, 0, 3, 1]].tolist() == other.tolist()


def test_events_that_are_drawn_never_happened() -> None:
    gone = np.array([False, True, False, False, True, False, True])
    columns = {"price": np.arange(7, dtype=np.float32), "tags": Ragged(np.arange(7, dtype=np.int32), np.arange(8))}
    past = without(Histories(**{**vars(THREE), "columns": columns}), gone)
    assert past.offsets.tolist() == [0, 3, 4, 4]
    assert past.item_code.tolist() == [0, 2, 3, 1]
    assert past.event_at is not None and (past.event_at / HOUR).tolist() == [1, 5, 5, 4]
    assert past.columns["price"].tolist() == past.columns["tags"].values.tolist() == [0, 2, 3, 5]  # type: ignore[union-attr]
    assert past.cut(Cut(at=at(5))).tolist() == [1, 4, 4]


def test_what_only_a_drawn_event_showed_was_not_seen() -> None:
    #                      0       1       2          3       4
    users = {1: [(3, 7), (4, 8), (5, 7)], 2: [(3, 7), (6, 9)]}
    # User 1 has seen 5 in no event of the history; user 2 has had 9 long before the event at hour 6.
    seen = Seen(np.array([0, 3, 5]), np.array([5, 7, 8, 7, 9], dtype=np.int32), np.array([0, 3, 4, 3, 1]) * HOUR)
    past = without(histories_of(users, seen), np.array([True, True, False, True, True]))
    offsets, items = past.seen(Cut())
    assert (offsets.tolist(), items.tolist()) == ([0, 2, 3], [5, 7, 9])


def test_positions_since_when_items_are_seen_are_counted_without_what_is_drawn() -> None:
    seen = Seen(np.array([0, 2, 3]), np.array([0, 1, 4], dtype=np.int32), first_position=np.array([0, 2, 1], dtype=np.int32))
    histories = histories_of({1: [(0, 0), (0, 0), (0, 1)], 2: [(0, 3), (0, 4)]}, seen, has_times=False)
    past = without(histories, np.array([True, False, False, True, False]))
    assert past.seen_pairs is not None and past.seen_pairs.first_position is not None
    assert past.seen_pairs.first_position.tolist() == [0, 1, 0]


def test_a_window_of_learning_reads_what_came_before_it_and_predicts_nothing_of_it() -> None:
    learnt = learnt_from(THREE, Cut(at=at(7), since=at(4)))
    assert learnt.targets.tolist() == [False, False, True, True, False, True, True]
    assert learnt.item_code.tolist() == THREE.item_code.tolist()
    assert learnt_from(THREE, Cut(at=at(7))).targets.all()


@pytest.mark.parametrize("last", [0, 1, 2, 9])
def test_a_cut_in_time_and_by_position_leaves_out_the_newest_of_what_was_before(last: int) -> None:
    ends = THREE.cut(Cut(at=at(5), last=last))
    assert ends.tolist() == [max(2 - last, 0), max(6 - last, 4), 6]


def test_what_was_seen_before_the_last_event_of_a_window() -> None:
    seen = Seen(np.array([0, 3]), np.array([0, 1, 2], dtype=np.int32), np.array([1, 3, 5]) * HOUR)
    histories = histories_of({1: [(1, 0), (3, 1), (5, 2)]}, seen)
    assert histories.seen(Cut(at=at(5), last=1))[1].tolist() == [0]
    assert histories.seen(Cut(at=at(6), last=1))[1].tolist() == [0, 1]
    assert histories.seen(Cut(at=at(4)))[1].tolist() == [0, 1]
