import numpy as np
import pyarrow as pa
import pytest

from recsys.errors import ConfigError
from recsys.evaluation.comparison import Comparison
from recsys.evaluation.ground import Ground
from recsys.evaluation.slices import Slice
from recsys.ranking.lists import Lists
from recsys.ranking.metrics import Past, named


def lists_of(codes):
    codes = np.array(codes, dtype=np.int64).reshape(-1, 2)
    return Lists(codes, np.zeros(codes.shape, dtype=np.float32), np.zeros(codes.shape, dtype=np.int8))


def ground_of(relevant):
    lengths = [len(items) for items in relevant]
    return Ground(
        users=np.arange(len(relevant)),
        n_history=np.resize([1, 5, 9], len(relevant)),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        relevant=np.array([item for items in relevant for item in items], dtype=np.int64),
        ends=np.zeros(len(relevant), dtype=np.int64),
        excluded=(),
        counts={},
    )


ELIGIBLE = np.array([True] * 5 + [False])
PAST = Past.counted(np.array([0, 0, 1, 2]), np.array([0, 1, 0, 0]), ELIGIBLE)
METRICS = ("NDCG", "HitRate", "Recall", "MRR", "CatalogCoverage", "Intersection", 'Intersection(model="popular")')
LISTS = {
    "candidate": lists_of([[1, 0], [2, 0], [3, 4]]),
    "popular": lists_of([[0, 1], [0, 1], [0, 1]]),
    "popular_lately": lists_of([[1, 3], [1, 3], [1, 3]]),
}
GROUND = ground_of([[1], [2], [3, 4]])
ALL, FIRST = Slice("all", np.arange(3)), Slice("users with 1 event", np.array([0]))
ITEM_3 = Slice("items with shape 3", np.array([2]), np.array([False, False, True, False]))


def compare(lists=LISTS, ground=GROUND, slices=(ALL, FIRST, ITEM_3), metrics=METRICS, k=(1, 2), **more):
    return Comparison(lists, ground, PAST, slices, named(metrics), k, n_bootstrap=200, seed=1, **more)


def by_key(comparison):
    return {(row["contender"], row["slice"], row["metric"], row["k"]): row for row in comparison.table().to_pylist()}


@pytest.fixture(scope="module")
def rows():
    return by_key(compare())


def test_the_current_model_or_the_better_baseline_is_the_reference():
    assert compare().reference == "popular_lately"
    assert compare({**LISTS, "current": LISTS["popular"]}).reference == "current"
    assert compare(against="candidate").reference == "candidate"
    assert compare({"a": LISTS["popular"], "b": LISTS["candidate"]}).reference == "b", "of those who are no baseline the best"
    assert compare({"a": LISTS["popular"], "b": LISTS["candidate"]}, baselines=["a"]).reference == "a", "a baseline of any name"
    assert compare(metrics=("CatalogCoverage", "NDCG")).reference == "popular_lately"  # of equals, the first
    assert compare({"esasrec": LISTS["candidate"], "gru4rec": LISTS["popular"]}).reference == "esasrec"  # of models without baselines


def test_values_by_hand(rows):
    assert rows["candidate", "all", "NDCG", 2]["value"] == 1.0
    assert rows["candidate", "all", "Recall", 1]["value"] == pytest.approx((1 + 1 + 0.5) / 3)
    assert rows["popular_lately", "all", "HitRate", 2]["value"] == pytest.approx(2 / 3)
    assert rows["popular", "users with 1 event", "MRR", 2]["value"] == 0.5
    assert {row["n_users"] for key, row in rows.items() if key[1] == "all"} == {3}
    assert rows["popular", "users with 1 event", "MRR", 2]["n_users"] == 1


def test_a_slice_of_items_counts_no_other_ones(rows):
    assert rows["candidate", "all", "Recall", 1]["value"] < 1
    assert rows["candidate", "items with shape 3", "Recall", 1]["value"] == 1.0
    assert rows["popular_lately", "items with shape 3", "NDCG", 2]["value"] == pytest.approx(1 / np.log2(3))


def test_differences_are_to_the_reference_which_has_none(rows):
    assert rows["candidate", "all", "HitRate", 2]["difference"] == pytest.approx(1 / 3)
    assert rows["popular_lately", "all", "HitRate", 2]["difference"] is None


def test_intervals_are_of_the_paired_difference_and_few_users_have_none(rows):
    many = {name: Lists(*(np.tile(array, (20, 1)) for array in vars(lists).values())) for name, lists in LISTS.items()}
    sixty = by_key(compare(many, ground_of([[1], [2], [3, 4]] * 20), [Slice("all", np.arange(60))]))
    row = sixty["candidate", "all", "HitRate", 2]
    half = 1.96 * np.sqrt(1 / 3 * 2 / 3 / 60)
    assert (row["low"], row["high"]) == pytest.approx((1 / 3 - half, 1 / 3 + half), abs=0.03)
    for row in (sixty["popular_lately", "all", "HitRate", 2], rows["candidate", "all", "HitRate", 2]):
        assert (row["low"], row["high"]) == (None, None)


def test_lifts_are_of_each_model_over_each_baseline_whoever_the_reference_is(rows):
    models = {**LISTS, "current": LISTS["popular"]}
    many = {name: Lists(*(np.tile(array, (20, 1)) for array in vars(lists).values())) for name, lists in models.items()}
    found = compare(many, ground_of([[1], [2], [3, 4]] * 20), [Slice("all", np.arange(60))]).lifts().to_pylist()
    lifts = {(row["contender"], row["baseline"], row["metric"], row["k"]): row for row in found}
    assert list(dict.fromkeys((row["contender"], row["baseline"]) for row in found)) == [
        (model, baseline) for model in ("candidate", "current") for baseline in ("popular_lately", "popular")
    ]
    assert "CatalogCoverage" not in {metric for *_, metric, _ in lifts}, "which is not of users"
    over_popular = lifts["candidate", "popular", "HitRate", 2]
    assert over_popular["difference"] == pytest.approx(1 - 1 / 3) and 0.5 < over_popular["low"] < 2 / 3 < over_popular["high"] < 0.85
    lately = lifts["candidate", "popular_lately", "HitRate", 2]
    alone = compare({name: many[name] for name in LISTS}, ground_of([[1], [2], [3, 4]] * 20), [Slice("all", np.arange(60))])
    paired = by_key(alone)["candidate", "all", "HitRate", 2]
    assert {name: lately[name] for name in ("difference", "low", "high")} == {name: paired[name] for name in ("difference", "low", "high")}
    assert lifts["current", "popular", "NDCG", 1]["high"] == 0, "its lists are the same"
    few = compare().lifts().to_pylist()
    assert {(row["low"], row["high"]) for row in few} == {(None, None)}


def test_without_baselines_or_metrics_of_users_there_are_no_lifts():
    assert len(compare({"a": LISTS["popular"], "b": LISTS["candidate"]}).lifts()) == 0
    assert len(compare(metrics=("CatalogCoverage",)).lifts()) == 0


def test_coverage_is_of_the_eligible_items_and_has_no_interval(rows):
    assert rows["candidate", "all", "CatalogCoverage", 1]["value"] == 3 / 5
    assert rows["candidate", "all", "CatalogCoverage", 2]["value"] == 5 / 5
    assert rows["candidate", "users with 1 event", "CatalogCoverage", 2]["value"] == 2 / 5
    row = rows["popular", "all", "CatalogCoverage", 2]
    assert (row["value"], row["difference"], row["low"], row["high"]) == (2 / 5, 0.0, None, None)


def test_lists_are_compared_with_those_of_the_reference_and_of_a_named_model(rows):
    assert rows["candidate", "all", "Intersection", 2]["value"] == pytest.approx((1 / 2 + 0 + 1 / 2) / 3)
    assert rows["candidate", "users with 1 event", "Intersection", 2]["value"] == 1 / 2
    assert rows["candidate", "items with shape 3", "Intersection", 2]["value"] == 1 / 2
    assert rows["popular_lately", "all", "Intersection", 2]["value"] == 1.0
    assert rows["candidate", "all", 'Intersection(model="popular")', 2]["value"] == pytest.approx((1 + 1 / 2 + 0) / 3)


def test_without_a_current_model_nothing_is_shared_with_it_and_a_stranger_is_an_error():
    row = by_key(compare(metrics=('Intersection(model="current")',)))["candidate", "all", 'Intersection(model="current")', 2]
    assert np.isnan(row["value"]) and row["low"] is None and row["n_users"] == 0
    with pytest.raises(ConfigError, match="there is no model 'curent'. Did you mean current"):
        compare(metrics=("NDCG", 'Intersection(model="curent")')).table()


def test_one_row_per_contender_slice_k_and_metric_in_the_order_asked_for(rows):
    table = compare().table()
    assert len(table) == len(rows) == 3 * 3 * 2 * len(METRICS)
    assert compare().table().equals(table)
    assert table["metric"].to_pylist()[: len(METRICS)] == list(METRICS)
    assert compare(k=(2, 1)).table()["k"].to_pylist()[0] == 2


def test_users_without_a_value_are_left_out_of_the_mean_and_of_the_difference():
    lists = {"candidate": lists_of([[1, 0], [-1, -1], [3, 4]]), "popular": lists_of([[0, 1], [0, 1], [-1, -1]])}
    rows = by_key(compare(lists, slices=[ALL], metrics=("AvgRecPopularity",)))
    candidate, popular = rows["candidate", "all", "AvgRecPopularity", 2], rows["popular", "all", "AvgRecPopularity", 2]
    assert (candidate["n_users"], candidate["value"]) == (2, 1.0)  # (1 + 3) / 2 of the first, 0 of the third
    assert (popular["n_users"], popular["value"]) == (2, 2.0)
    assert candidate["difference"] == 0.0  # of the first alone


def test_per_user_values_have_the_mean_of_the_table(rows):
    users = compare().users(pa.array(["a", "b", "c"]))
    assert users.column_names[:4] == ["contender", "user_id", "n_relevant", "n_history"]
    assert users["contender"].to_pylist() == ["candidate"] * 3 + ["popular"] * 3 + ["popular_lately"] * 3
    assert users["n_relevant"].to_pylist()[:3] == [1, 1, 2] and users["n_history"].to_pylist()[:3] == [1, 5, 9]
    assert "CatalogCoverage@2" not in users.column_names
    for contender in LISTS:
        of_contender = users.filter(pa.compute.equal(users["contender"], contender))
        for metric in ("NDCG", "HitRate", "Recall", "MRR"):
            mean = of_contender[f"{metric}@2"].to_numpy().mean()
            assert mean == pytest.approx(rows[contender, "all", metric, 2]["value"])


def test_without_test_users_there_are_rows_and_no_values():
    empty = {name: lists_of([]) for name in LISTS}
    table = compare(empty, ground_of([]), [Slice("all", np.arange(0))]).table().to_pylist()
    assert len(table) == 3 * 2 * len(METRICS)
    assert all(row["n_users"] == 0 for row in table)
    assert all(np.isnan(row["value"]) for row in table if row["metric"] != "CatalogCoverage")
