import numpy as np
import pytest

from recsys.ranking.metrics import METRICS, find_hits, per_user

# Two users. The first has relevant items 3, 5 and 8, and finds 3 at rank 2 and 8 at rank 4; the second has 1, and it leads.
LISTS = np.array([[7, 3, 9, 8, 0], [1, 2, -1, -1, -1]])
OFFSETS, RELEVANT = np.array([0, 3, 4]), np.array([3, 5, 8, 1])
LOG = np.log2

BY_HAND = {
    ("hit_rate", 1): [0, 1],
    ("hit_rate", 3): [1, 1],
    ("recall", 1): [0, 1],
    ("recall", 3): [1 / 3, 1],
    ("recall", 5): [2 / 3, 1],
    ("ndcg", 1): [0, 1],
    ("ndcg", 3): [1 / LOG(3) / (1 + 1 / LOG(3) + 1 / LOG(4)), 1],
    ("ndcg", 5): [(1 / LOG(3) + 1 / LOG(5)) / (1 + 1 / LOG(3) + 1 / LOG(4)), 1],
    ("ndcg", 2): [1 / LOG(3) / (1 + 1 / LOG(3)), 1],  # ideal: only two places for three relevant items
    ("map", 3): [(1 / 2) / 3, 1],
    ("map", 5): [(1 / 2 + 2 / 4) / 3, 1],
    ("mrr", 1): [0, 1],
    ("mrr", 5): [1 / 2, 1],
}


@pytest.mark.parametrize("case", BY_HAND, ids=lambda case: f"{case[0]}@{case[1]}")
def test_by_hand(case):
    name, k = case
    values = METRICS[name](find_hits(LISTS, OFFSETS, RELEVANT), k)
    np.testing.assert_allclose(values, BY_HAND[case], rtol=1e-12)


def test_every_metric_at_every_k_in_one_pass():
    values = per_user(find_hits(LISTS, OFFSETS, RELEVANT), (1, 3, 5))
    assert set(values) == {(name, k) for name in METRICS for k in (1, 3, 5)}
    for case, expected in BY_HAND.items():
        if case in values:
            np.testing.assert_allclose(values[case], expected, rtol=1e-12)


def test_equals_sets_of_random_lists():
    rng = np.random.default_rng(5)
    lists = np.stack([rng.permutation(30)[:8] for _ in range(200)])
    lists[rng.random(lists.shape).cumsum(axis=1) > 5] = -1  # short lists, some empty
    relevant = [np.sort(rng.permutation(30)[: rng.integers(1, 12)]) for _ in range(200)]
    hits = find_hits(lists, np.concatenate([[0], np.cumsum([len(r) for r in relevant])]), np.concatenate(relevant))
    for user, (items, wanted) in enumerate(zip(lists.tolist(), relevant, strict=True)):
        assert hits.at[user].tolist() == [item in set(wanted.tolist()) for item in items]
    for (name, _), values in per_user(hits, (1, 5, 8)).items():
        assert values.min() >= 0 and values.max() <= 1 + 1e-12, name


def test_a_shorter_list_than_k_scores_what_it_has():
    hits = find_hits(np.array([[4, 2]]), np.array([0, 2]), np.array([2, 9]))
    assert METRICS["recall"](hits, 10) == pytest.approx(0.5)
    assert METRICS["ndcg"](hits, 10) == pytest.approx((1 / LOG(3)) / (1 + 1 / LOG(3)))
    assert METRICS["map"](hits, 10) == pytest.approx((1 / 2) / 2)


def test_no_user_at_all():
    hits = find_hits(np.empty((0, 10), dtype=np.int64), np.zeros(1, dtype=np.int64), np.empty(0, dtype=np.int64))
    assert all(len(values) == 0 for values in per_user(hits, (10,)).values())
