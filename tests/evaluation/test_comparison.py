import numpy as np
import pyarrow as pa
import pytest

from recsys.evaluation.comparison import Comparison
from recsys.evaluation.slices import Slice
from recsys.ranking.lists import Lists


def lists_of(codes):
    codes = np.array(codes)
    return Lists(codes, np.zeros(codes.shape, dtype=np.float32), np.zeros(codes.shape, dtype=np.int8))


# Three users; relevant are [1], [2], [3, 4].
ALL = Slice("all", np.arange(3), np.array([0, 1, 2, 4]), np.array([1, 2, 3, 4]))
FIRST = Slice("1 event", np.array([0]), np.array([0, 1]), np.array([1]))
LISTS = {
    "candidate": lists_of([[1, 0], [2, 0], [3, 4]]),
    "popular": lists_of([[0, 1], [0, 1], [0, 1]]),
    "popular_lately": lists_of([[1, 3], [1, 3], [1, 3]]),
}


@pytest.fixture
def comparison():
    return Comparison(LISTS, [ALL, FIRST], k=(1, 2), n_bootstrap=200, seed=1)


@pytest.fixture
def rows(comparison):
    table = comparison.metrics(eligible=np.array([True] * 5 + [False])).to_pylist()
    return {(row["contender"], row["slice"], row["metric"], row["k"]): row for row in table}


def test_the_better_baseline_is_the_reference(comparison):
    assert comparison.reference == "popular_lately"
    assert Comparison({**LISTS, "current": LISTS["popular"]}, [ALL], (2,), 200, 1).reference == "current"


def test_values_by_hand(rows):
    assert rows["candidate", "all", "ndcg", 2]["value"] == 1.0
    assert rows["candidate", "all", "recall", 1]["value"] == pytest.approx((1 + 1 + 0.5) / 3)
    assert rows["popular_lately", "all", "hit_rate", 2]["value"] == pytest.approx(2 / 3)
    assert rows["popular", "1 event", "mrr", 2]["value"] == 0.5
    assert {row["n_users"] for key, row in rows.items() if key[1] == "all"} == {3}
    assert rows["popular", "1 event", "mrr", 2]["n_users"] == 1


def test_differences_are_to_the_reference_which_has_none(rows):
    row = rows["candidate", "all", "hit_rate", 2]
    assert row["difference"] == pytest.approx(1 / 3) and row["low"] <= row["difference"] <= row["high"]
    assert (row["low"], row["high"]) == pytest.approx((0.0, 1.0), abs=0.34)  # three users
    reference = rows["popular_lately", "all", "hit_rate", 2]
    assert (reference["difference"], reference["low"], reference["high"]) == (None, None, None)


def test_coverage_is_the_share_of_eligible_items_that_anybody_is_shown(rows):
    assert rows["candidate", "all", "coverage", 1]["value"] == 3 / 5
    assert rows["candidate", "all", "coverage", 2]["value"] == 5 / 5
    row = rows["popular", "all", "coverage", 2]
    assert (row["value"], row["difference"], row["low"]) == (2 / 5, 0.0, None)


def test_one_row_per_contender_slice_metric_and_k(comparison, rows):
    table = comparison.metrics(np.ones(5, dtype=bool))
    assert len(table) == len(rows) == 3 * (2 * 2 * 5 + 2)
    assert comparison.metrics(np.ones(5, dtype=bool)).equals(table)


def test_per_user_values_have_the_mean_of_the_table(comparison, rows):
    users = comparison.users(pa.array(["a", "b", "c"]), np.array([1, 5, 9]))
    assert users.column_names[:4] == ["contender", "user_id", "n_relevant", "n_history"]
    assert users["contender"].to_pylist() == ["candidate"] * 3 + ["popular"] * 3 + ["popular_lately"] * 3
    assert users["n_relevant"].to_pylist()[:3] == [1, 1, 2]
    for contender in LISTS:
        of_contender = users.filter(pa.compute.equal(users["contender"], contender))
        for metric in ("ndcg", "hit_rate", "recall", "map", "mrr"):
            mean = of_contender[f"{metric}_at_2"].to_numpy().mean()
            assert mean == pytest.approx(rows[contender, "all", metric, 2]["value"])


def test_without_test_users_there_are_rows_and_no_values():
    nobody = Slice("all", np.arange(0), np.zeros(1, dtype=np.int64), np.arange(0))
    empty = {name: lists_of(np.empty((0, 2), dtype=np.int64)) for name in LISTS}
    table = Comparison(empty, [nobody], (1, 2), 200, 1).metrics(np.ones(5, dtype=bool)).to_pylist()
    assert len(table) == 3 * (2 * 5 + 2)
    assert all(row["n_users"] == 0 for row in table)
    assert all(np.isnan(row["value"]) for row in table if row["metric"] != "coverage")
