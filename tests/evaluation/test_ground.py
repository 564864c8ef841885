from datetime import datetime, timezone

import numpy as np
import pytest

from recsys.evaluation.ground import Kept, common_ground, fold_ground
from recsys.windows import Cut, folds, holdout

AS_OF = datetime(2025, 3, 2, tzinfo=timezone.utc)
DAY = holdout(AS_OF, "1d")

# Hours before as_of and item; the holdout is the last 24 hours. Users are in no order of id, as over two shards.
EVENTS = {
    5: [(50, 0), (40, 1), (10, 2), (9, 2), (8, 3), (7, 0), (6, 4)],  # held out: 2 twice, 3 (cold), 0 (seen), 4
    2: [(30, 4), (5, 1), (4, 6)],  # held out: 1, and 6, which nobody had before
    9: [(12, 4)],  # a new user
    7: [(40, 2), (26, 4)],  # nothing held out
    1: [(48, 1), (3, 3)],  # held out only what is cold
}


def relevant_of(histories, ground):
    ids = histories.user_id.to_pylist()
    return {ids[user]: ground.relevant[ground.offsets[i] : ground.offsets[i + 1]].tolist() for i, user in enumerate(ground.users)}


def test_by_hand(by_hand):
    histories, dictionary = by_hand(EVENTS, 7)
    ground = common_ground(histories, dictionary, DAY, histories.offsets[1:], exclude_seen=True)
    assert list(relevant_of(histories, ground).items()) == [(2, [1]), (5, [2, 4])]  # by id
    assert ground.n_history.tolist() == [1, 2]
    assert ground.counts == {
        "holdout_events": 9,
        "holdout_target_events": 9,
        "holdout_users": 4,
        "holdout_pairs": 8,
        "holdout_items": 6,
        "dropped_cold_user": 1,
        "dropped_cold_item": 3,
        "dropped_not_eligible": 0,
        "dropped_blocked": 0,
        "dropped_seen": 1,
        "cold_users": 1,
        "cold_items": 2,
        "seen_pairs": 1,
        "test_users_found": 2,
        "test_users": 2,
        "relevant_pairs": 3,
    }


def test_what_was_seen_may_be_relevant_where_lists_may_repeat_it(by_hand):
    histories, dictionary = by_hand(EVENTS, 7)
    ground = common_ground(histories, dictionary, DAY, histories.offsets[1:], exclude_seen=False)
    assert relevant_of(histories, ground)[5] == [0, 2, 4]
    assert ground.counts["dropped_seen"] == 0
    assert len(ground.excluded) == 1


def test_seen_longer_ago_than_the_history_counts(by_hand):
    histories, dictionary = by_hand(EVENTS, 7, seen=[(1000, 5, 4), (1, 2, 1)])
    ground = common_ground(histories, dictionary, DAY, histories.offsets[1:], exclude_seen=True)
    assert relevant_of(histories, ground) == {2: [1], 5: [2]}  # user 2 saw item 1 in the holdout itself


def test_blocked_and_ineligible_items_are_not_relevant_and_each_pair_is_counted_once(by_hand):
    histories, dictionary = by_hand(EVENTS, 7, blocked=[(5, 4), (5, 3)], ineligible=[1, 3])
    ground = common_ground(histories, dictionary, DAY, histories.offsets[1:], exclude_seen=True)
    assert relevant_of(histories, ground) == {5: [2]}
    dropped = {name: n for name, n in ground.counts.items() if name.startswith("dropped")}
    assert dropped == {
        "dropped_cold_user": 1,
        "dropped_cold_item": 3,
        "dropped_not_eligible": 1,
        "dropped_blocked": 1,
        "dropped_seen": 1,
    }
    assert ground.counts["relevant_pairs"] + sum(dropped.values()) == ground.counts["holdout_pairs"]


def test_only_target_events_are_relevant(by_hand):
    target = np.ones(15, dtype=bool)
    target[6] = False  # user 5 did something else with item 4
    histories, dictionary = by_hand(EVENTS, 7, is_target=target)
    ground = common_ground(histories, dictionary, DAY, histories.offsets[1:], exclude_seen=True)
    assert relevant_of(histories, ground) == {2: [1], 5: [2]}
    assert (ground.counts["holdout_events"], ground.counts["holdout_target_events"]) == (9, 8)


def test_what_weighs_nothing_is_not_relevant(by_hand):
    histories, dictionary = by_hand(EVENTS, 7)
    histories.weight[6] = 0  # of user 5, item 4
    ground = common_ground(histories, dictionary, DAY, histories.offsets[1:], exclude_seen=True)
    assert relevant_of(histories, ground) == {2: [1], 5: [2]}


def test_by_order_each_users_last_event_is_held_out(by_hand):
    histories, dictionary = by_hand({1: [(9, 0), (8, 1)], 2: [(7, 1), (6, 2)], 3: [(5, 2), (4, 0)], 4: [(3, 1)]}, 4)
    ground = common_ground(histories, dictionary, Cut(last=1), histories.offsets[1:], exclude_seen=True)
    assert relevant_of(histories, ground) == {1: [1], 2: [2], 3: [0]}
    assert ground.counts["dropped_cold_user"] == 1


def test_a_draw_of_users_keeps_their_items_together(by_hand):
    events = {user: [(40, user % 5), (39, 5), *((h, (user + h) % 5) for h in range(1, 1 + user % 3 + 1))] for user in range(30)}
    histories, dictionary = by_hand(events, 6)
    ground = common_ground(histories, dictionary, DAY, histories.offsets[1:], exclude_seen=True)
    drawn = ground.some(7, seed=3)
    everything = relevant_of(histories, ground)
    assert len(drawn.users) == 7 and drawn.counts["test_users"] == 7 and drawn.counts["test_users_found"] == len(ground.users)
    assert relevant_of(histories, drawn) == {user: everything[user] for user in relevant_of(histories, drawn)}
    assert drawn.users.tolist() == ground.some(7, seed=3).users.tolist() != ground.some(7, seed=4).users.tolist()
    assert ground.some(1000, seed=3) is ground


def test_nothing_held_out(by_hand):
    histories, dictionary = by_hand({1: [(40, 0)]}, 1)
    ground = common_ground(histories, dictionary, DAY, histories.offsets[1:], exclude_seen=True)
    assert len(ground.users) == 0 and ground.offsets.tolist() == [0] and ground.counts["holdout_events"] == 0


@pytest.mark.parametrize("exclude_seen", [True, False])
def test_equals_a_loop_over_random_users(by_hand, exclude_seen):
    rng = np.random.default_rng(11)
    events = {
        u: sorted(((float(rng.integers(1, 72)), int(rng.integers(0, 12))) for _ in range(rng.integers(0, 9))), reverse=True)
        for u in range(60)
    }
    blocked = [(int(u), int(i)) for u, i in np.argwhere(rng.random((60, 12)) < 0.1)]
    histories, dictionary = by_hand(events, 12, blocked=blocked, ineligible=[3, 7])
    ground = common_ground(histories, dictionary, DAY, histories.offsets[1:], exclude_seen=exclude_seen)
    before = {i for own in events.values() for h, i in own if h > 24}
    expected = {}
    for user, own in events.items():
        had = {i for h, i in own if h > 24}
        found = {i for h, i in own if h <= 24 and i in before and i not in (3, 7) and (user, i) not in blocked}
        found -= had if exclude_seen else set()
        if had and found:
            expected[user] = sorted(found)
    assert relevant_of(histories, ground) == expected


def test_what_is_dropped_is_a_choice_and_counted_either_way(by_hand):
    histories, dictionary = by_hand(EVENTS, 7)
    (fold,) = folds(AS_OF, "1d")

    def found(**kept):
        past, ground = fold_ground(histories, dictionary, fold, exclude_seen=True, kept=Kept(**kept))
        assert past is histories
        counts = {name: ground.counts[name] for name in ("cold_users", "cold_items", "seen_pairs")}
        assert counts == {"cold_users": 1, "cold_items": 2, "seen_pairs": 1}
        return relevant_of(histories, ground)

    assert found() == {2: [1], 5: [2, 4]}
    assert found(cold_users=True) == {2: [1], 5: [2, 4], 9: [4]}
    assert found(cold_items=True) == {1: [3], 2: [1, 6], 5: [2, 3, 4]}
    assert found(seen=True) == {2: [1], 5: [0, 2, 4]}


@pytest.mark.parametrize("exclude_seen", [True, False])
def test_the_fold_of_a_day_is_the_holdout_of_a_night(by_hand, exclude_seen):
    histories, dictionary = by_hand(EVENTS, 7)
    (fold,) = folds(AS_OF, "1d")
    _, ground = fold_ground(histories, dictionary, fold, exclude_seen, kept=Kept())
    night = common_ground(histories, dictionary, DAY, histories.offsets[1:], exclude_seen)
    assert ground.counts["dropped_seen"] == exclude_seen, "what was had before is asked for where lists may have it"
    assert ground.counts == night.counts and relevant_of(histories, ground) == relevant_of(histories, night)


def test_an_earlier_fold_ends_where_the_next_begins(by_hand):
    histories, dictionary = by_hand({1: [(60, 0), (30, 1), (5, 2)], 2: [(60, 1), (50, 2), (28, 0)]}, 3)
    earlier, _ = folds(AS_OF, "1d", 2)
    _, ground = fold_ground(histories, dictionary, earlier, exclude_seen=True, kept=Kept())
    assert relevant_of(histories, ground) == {1: [1], 2: [0]}


def test_a_random_fold_asks_for_what_was_taken_out_and_reads_the_rest(by_hand):
    rng = np.random.default_rng(2)
    events = {user: [(40 - step, int(item)) for step, item in enumerate(rng.permutation(30)[:20])] for user in range(50)}
    histories, dictionary = by_hand(events, 30)
    (fold,) = folds(AS_OF, "random-10%", seed=4)
    past, ground = fold_ground(histories, dictionary, fold, exclude_seen=True, kept=Kept())
    relevant = relevant_of(histories, ground)
    assert ground.counts["relevant_pairs"] == len(histories.item_code) - len(past.item_code) > 0
    for row, user in enumerate(histories.user_id.to_pylist()):
        read = past.item_code[past.offsets[row] : ground.ends[row]].tolist()
        assert sorted(read + relevant.get(user, [])) == sorted(item for _, item in events[user])


def test_the_last_event_in_a_window_is_found_from_all_before_it(by_hand):
    histories, dictionary = by_hand({1: [(30, 0), (3, 1), (2, 2)], 2: [(50, 2), (5, 1)], 3: [(50, 1)]}, 3)
    (fold,) = folds(AS_OF, "1d", last_only=True)
    past, ground = fold_ground(histories, dictionary, fold, exclude_seen=True, kept=Kept())
    assert relevant_of(past, ground) == {1: [2], 2: [1]}
    assert ground.n_history.tolist() == [2, 1]
