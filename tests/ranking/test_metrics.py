"""Every metric by hand, and what holds for all of them."""

import doctest

import numpy as np
import pytest

import recsys.ranking.metrics
from recsys.arrays import Ragged
from recsys.errors import ConfigError
from recsys.ranking.metrics import Metric, Past, UserMetric, judge, named
from recsys.ranking.metrics.debiased import Debiased
from recsys.ranking.metrics.ranking import NDCG
from recsys.schema import Column, Schema
from recsys.slots import choices

LOG = np.log2

# The first user's relevant items are 3, 5 and 8; of the list, 3 is at rank 2 and 8 at rank 4. The second has 1, and it leads.
LISTS = np.array([[7, 3, 9, 8, 0], [1, 2, -1, -1, -1]])
OFFSETS, RELEVANT = np.array([0, 3, 4]), np.array([3, 5, 8, 1])

# Ten items, all but item 6 eligible. Five past users: item 7 has 3 events of 2 users, items 3 and 1 one each, item 0 five of 4.
EVENTS = [(0, 7), (0, 7), (1, 7), (0, 3), (2, 1), (1, 0), (2, 0), (3, 0), (4, 0), (4, 0)]
COLOURS = np.array([0, 0, 1, 1, 0, 0, 0, -1, 1, -1])
TAGS = Ragged(np.array([0, 1, 0, 2, -1]), np.array([0, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5]))  # of 0: 0, 1; of 3: 0; of 7: 2; of 9: null
PAST = Past.counted(*np.array(EVENTS).T, np.arange(10) != 6, {"colour": COLOURS, "tags": TAGS})
OTHERS = {"reference": np.array([[3, 7, 1, 0, 2], [2, 1, 0, -1, -1]]), "current": None}

BY_HAND = {
    ("HitRate", 1): [0, 1],
    ("HitRate", 3): [1, 1],
    ("Precision", 5): [2 / 5, 1 / 5],
    ("Precision(r_precision=true)", 5): [2 / 3, 1],
    ("Precision(r_precision=true)", 2): [1 / 2, 1],
    ("Recall", 1): [0, 1],
    ("Recall", 3): [1 / 3, 1],
    ("Recall", 5): [2 / 3, 1],
    ("F1Beta", 5): [2 * (2 / 5) * (2 / 3) / (2 / 5 + 2 / 3), 2 * (1 / 5) * 1 / (1 / 5 + 1)],
    ("F1Beta", 1): [0, 1],
    ("F1Beta(beta=2.0)", 5): [5 * (2 / 5) * (2 / 3) / (4 * 2 / 5 + 2 / 3), 5 * (1 / 5) * 1 / (4 * 1 / 5 + 1)],
    ("Accuracy", 5): [(2 + 3) / 9, (1 + 4) / 9],  # listed and relevant, or neither, of nine items
    ("MCC", 5): [(2 * 3 - 3 * 1) / np.sqrt(5 * 3 * 6 * 4), (1 * 4 - 4 * 0) / np.sqrt(5 * 1 * 8 * 4)],
    ("NDCG", 1): [0, 1],
    ("NDCG", 2): [1 / LOG(3) / (1 + 1 / LOG(3)), 1],  # at best two hits in two places
    ("NDCG", 3): [1 / LOG(3) / (1 + 1 / LOG(3) + 1 / LOG(4)), 1],
    ("NDCG", 5): [(1 / LOG(3) + 1 / LOG(5)) / (1 + 1 / LOG(3) + 1 / LOG(4)), 1],
    ("NDCG(divide_by_achievable=false)", 3): [x / (1 + 1 / LOG(3) + 1 / LOG(4)) for x in (1 / LOG(3), 1)],
    ("MAP", 3): [(1 / 2) / 3, 1],
    ("MAP", 5): [(1 / 2 + 2 / 4) / 3, 1],
    ("MAP(divide_by_k=true)", 5): [(1 / 2 + 2 / 4) / 5, 1 / 5],
    ("MRR", 1): [0, 1],
    ("MRR", 5): [1 / 2, 1],
    ("PartialAUC", 1): [0, 1],
    ("PartialAUC", 3): [(2 + 1) / (3 * 3), 1],  # item 3 stands before two of the first three others, item 8 before one
    ("PAP", 2): [1 / (2 * 2), 1],  # of the first two others, item 3 stands before one
    ("CoveredUsers", 1): [1, 1],
    ("SufficientReco", 2): [1, 1],
    ("SufficientReco", 5): [1, 0],
    ("SufficientReco(deep=true)", 5): [1, 2 / 5],
    ("UnrepeatedReco", 5): [1, 1],
    ("AvgRecPopularity", 2): [(3 + 1) / 2, (1 + 0) / 2],
    ("AvgRecPopularity(normalize=true)", 5): [(3 + 1 + 5) / 5 / 10, 1 / 2 / 10],
    ("MeanInvUserFreq", 2): [(LOG(5 / 2) + LOG(5)) / 2, LOG(5)],
    ("MeanInvUserFreq", 5): [(LOG(5 / 2) + 3 * LOG(5) + LOG(5 / 4)) / 5, LOG(5)],
    ("Serendipity", 2): [(8 / 9 - 7 / 9) / 2, (9 / 9 - 7 / 9) / 2],  # item 3 is at rank 2, and third in popularity
    ("Serendipity", 5): [((8 / 9 - 7 / 9) + 6 / 9) / 5, (9 / 9 - 7 / 9) / 2],  # nobody had item 8
    ('IntraListDiversity(columns=["colour"])', 3): [2 / 3, 1],  # null, 1, null; 0, 1
    ('IntraListDiversity(columns=["tags"])', 3): [(2 + 2 + 2) / 3, 0],  # 2; 0; null
    ("IntraListDiversity", 1): [0, 0],
    ("IntraListDiversity", 5): [(8 + 2 + 2 + 1 + 3 + 2 + 1 + 1 + 1 + 3 + 2) / 10, 1],  # two of ten pairs have one colour
    ("Intersection", 2): [1, 1],
    ("Intersection", 5): [3 / 5, 1],
    ("Intersection(ref_k=1)", 5): [1 / 5, 1 / 2],
    ('Intersection(model="current")', 5): [np.nan, np.nan],
}


def judged(lists=LISTS, offsets=OFFSETS, relevant=RELEVANT, past=PAST, others=OTHERS):
    return judge(np.asarray(lists), np.asarray(offsets), np.asarray(relevant), past, others)


def metric(text):
    return named([text])[text]


@pytest.mark.parametrize("case", BY_HAND, ids=lambda case: f"{case[0]}@{case[1]}")
def test_by_hand(case):
    text, k = case
    np.testing.assert_allclose(metric(text).per_user(judged(), k), BY_HAND[case], rtol=1e-12)


def test_every_metric_of_users_is_computed_by_hand():
    assert {text.split("(")[0] for text, _ in BY_HAND} == set(choices(UserMetric)) - {"Debiased"}


def test_coverage_by_hand():
    assert metric("CatalogCoverage").overall(judged(), 2) == 4 / 9
    assert metric("CatalogCoverage(normalize=false)").overall(judged(), 2) == 4
    assert metric("CatalogCoverage").overall(judged(np.full((2, 3), -1)), 3) == 0


def test_the_value_of_all_is_the_mean_over_users_with_a_value():
    short = judged([[7, 3], [-1, -1]])
    assert metric("AvgRecPopularity").per_user(short, 2).tolist()[0] == 2 and metric("AvgRecPopularity").overall(short, 2) == 2
    assert metric("Recall").overall(short, 2) == (1 / 3 + 0) / 2  # with nothing listed, nothing is found
    assert np.isnan(metric("MeanInvUserFreq").overall(judged(np.full((2, 2), -1)), 2))


def test_an_item_that_comes_twice_is_noticed():
    twice = judged([[7, 3, 7, 7], [1, 2, -1, -1]])
    assert metric("UnrepeatedReco").per_user(twice, 4).tolist() == [0, 1]
    assert metric("UnrepeatedReco(deep=true)").per_user(twice, 4).tolist() == [1 / 2, 1]
    assert metric("UnrepeatedReco").per_user(twice, 2).tolist() == [1, 1]


def test_serendipity_knows_the_popularity_of_what_may_be_listed_only():
    """Of 300 items with as many past events as their number, the 20 with the fewest may be listed; the user takes the first five."""
    numbers = np.arange(1, 301)
    past = Past.counted(np.arange(numbers.sum()), np.repeat(np.arange(300), numbers), numbers <= 20)
    listed = judged([[0, 1, 2, 3, 4]], [0, 5], [0, 1, 2, 3, 4], past)
    own, obvious = np.array([20, 19, 18, 17, 16]) / 20, np.array([1, 2, 3, 4, 5]) / 20  # item 0 is the last of 20 in popularity
    assert metric("Serendipity").per_user(listed, 5).tolist() == pytest.approx([np.mean(own - obvious)])


# ---------------------------------------------------------------- debiased


def test_relevant_items_of_too_many_users_lose_some():
    """Users per item: 1, 1, 2, 2, 9. The quartiles are 1 and 2, so that 2 + 1.5 · 1 → 3 users are the most."""
    relevant = np.repeat(np.arange(5), [1, 1, 2, 2, 9])
    kept = Debiased(metric=NDCG()).kept(relevant)
    assert np.bincount(relevant[kept]).tolist() == [1, 1, 2, 2, 3]
    assert np.bincount(relevant[Debiased(metric=NDCG(), iqr_coef=0).kept(relevant)]).tolist() == [1, 1, 2, 2, 2]
    assert kept.tolist() == Debiased(metric=NDCG()).kept(relevant).tolist() != Debiased(metric=NDCG(), seed=2).kept(relevant).tolist()


def test_a_debiased_metric_is_the_metric_of_what_is_left():
    rng = np.random.default_rng(3)
    relevant = np.concatenate([np.sort(rng.choice(30, size=3, replace=False, p=POPULAR)) for _ in range(200)])
    whole = judged(rng.permuted(np.tile(np.arange(30), (200, 1)), axis=1)[:, :10], np.arange(201) * 3, relevant)
    debiased = Debiased(metric=NDCG())
    left = np.flatnonzero(debiased.kept(relevant))
    rest = judged(whole.items, np.searchsorted(left, whole.offsets), relevant[left])
    some = rest.n_relevant > 0
    assert 0 < (~some).sum() < 200
    np.testing.assert_allclose(debiased.per_user(whole, 10)[some], NDCG().per_user(rest, 10)[some])
    assert np.isnan(debiased.per_user(whole, 10)[~some]).all()


POPULAR = np.arange(1, 31) ** -2.0 / (np.arange(1, 31) ** -2.0).sum()


# ---------------------------------------------------------------- all of them

EVERY = [
    name if name != "Debiased" else "Debiased(metric=NDCG)" for name in choices(Metric)
]  # with the options that they have unless said otherwise


def random_lists(seed=5, n_users=80, n_items=40, length=30):
    """Lists some of which are short, and relevant items, of many users."""
    rng = np.random.default_rng(seed)
    lists = np.stack([rng.permutation(n_items)[:length] for _ in range(n_users)])
    lists[np.arange(length) >= rng.choice([0, 3, length], p=[0.1, 0.2, 0.7], size=n_users)[:, None]] = -1
    relevant = [np.sort(rng.permutation(n_items)[: rng.integers(1, 9)]) for _ in range(n_users)]
    past = Past.counted(rng.integers(0, 30, 300), rng.integers(0, n_items - 5, 300), np.ones(n_items, dtype=bool), categories(rng, n_items))
    other = np.stack([rng.permutation(n_items)[:length] for _ in range(n_users)])
    offsets = np.concatenate([[0], np.cumsum([len(r) for r in relevant])])
    return judge(lists, offsets, np.concatenate(relevant), past, {"reference": other})


def categories(rng, n_items):
    lengths = rng.integers(0, 3, n_items)
    return {
        "colour": rng.integers(-1, 4, n_items),
        "tags": Ragged(rng.integers(0, 6, lengths.sum()), np.concatenate([[0], np.cumsum(lengths)])),
    }


@pytest.fixture(scope="module")
def many():
    return random_lists()


@pytest.mark.parametrize("text", EVERY)
def test_it_looks_no_further_than_it_says(text, many):
    found = named([text]).popitem()[1]
    enough = found.places(5, int(many.n_relevant.max()))
    cut = judge(many.items[:, :enough], many.offsets, many.relevant, many.past, {"reference": many.others["reference"][:, :enough]})
    assert found.overall(cut, 5) == pytest.approx(found.overall(many, 5), rel=1e-12)


@pytest.mark.parametrize("text", sorted(set(EVERY) - {"CatalogCoverage", "Debiased(metric=NDCG)"}))  # whose users share something
def test_users_do_not_depend_on_each_other(text, many):
    found = named([text]).popitem()[1]
    users = np.array([3, 4, 17, 50])
    some = many.part(users, np.ones(len(many.relevant), dtype=bool))
    np.testing.assert_allclose(found.per_user(some, 5), found.per_user(many, 5)[users], rtol=1e-12)


@pytest.mark.parametrize("text", EVERY)
def test_values_are_float64_and_defined_for_whoever_has_a_full_list(text, many):
    found = named([text]).popitem()[1]
    if isinstance(found, UserMetric) and not isinstance(found, Debiased):
        values = found.per_user(many, 5)
        assert values.dtype == np.float64 and values.shape == (80,)
        assert np.isfinite(values[many.n_listed(5) == 5]).all()
    assert np.isfinite(found.overall(many, 5))


@pytest.mark.parametrize("text", EVERY)
def test_nobody_at_all(text):
    empty = judge(np.empty((0, 10), dtype=np.int64), np.zeros(1, dtype=np.int64), np.empty(0, dtype=np.int64), PAST, {
        "reference": np.empty((0, 10), dtype=np.int64)
    })  # fmt: skip
    found = named([text]).popitem()[1]
    assert found.overall(empty, 5) == 0 if text == "CatalogCoverage" else np.isnan(found.overall(empty, 5))


def test_the_best_lists_have_the_best_values(many):
    """All relevant items, and nothing else before them, are as good as it gets."""
    best = np.full((len(many.items), 30), -1)
    for user, (start, end) in enumerate(zip(many.offsets, many.offsets[1:], strict=False)):
        rest = np.setdiff1d(np.arange(40), many.relevant[start:end])
        best[user] = np.append(many.relevant[start:end], rest)[:30]
    perfect = judge(best, many.offsets, many.relevant, many.past)
    for text in ("HitRate", "Precision(r_precision=true)", "NDCG", "MRR", "PartialAUC", "PAP"):
        assert metric(text).per_user(perfect, 5).tolist() == pytest.approx([1.0] * 80), text
    assert metric("Recall").per_user(perfect, 8).tolist() == [1.0] * 80


# ---------------------------------------------------------------- looking up


def test_places_are_found_among_the_users_own_relevant_items(many):
    for user, items in enumerate(many.items.tolist()):
        wanted = set(many.relevant[many.offsets[user] : many.offsets[user + 1]].tolist())
        assert many.hit[user].tolist() == [item in wanted for item in items]
    assert (many.relevant[many.found[many.hit]] == many.items[many.hit]).all()


def test_a_part_is_judged_as_if_there_was_nothing_else(many):
    users, counted = np.array([2, 7, 30]), many.relevant % 3 > 0
    part = many.part(users, counted)
    own = [many.relevant[a:b][counted[a:b]] for a, b in zip(many.offsets[users], many.offsets[users + 1], strict=True)]
    alone = judge(many.items[users], np.concatenate([[0], np.cumsum(list(map(len, own)))]), np.concatenate(own))
    for name in ("items", "found", "offsets", "relevant"):
        assert getattr(part, name).tolist() == getattr(alone, name).tolist(), name
    assert part.rows.tolist() == [2, 7, 30]


def test_a_shorter_list_than_k_scores_what_it_has():
    short = judge(np.array([[4, 2]]), np.array([0, 2]), np.array([2, 9]))
    assert metric("Recall").per_user(short, 10) == pytest.approx(0.5)
    assert metric("NDCG").per_user(short, 10) == pytest.approx((1 / LOG(3)) / (1 + 1 / LOG(3)))
    assert metric("MAP").per_user(short, 10) == pytest.approx((1 / 2) / 2)


# ---------------------------------------------------------------- in a configuration


def test_tables_call_a_metric_by_its_text_in_one_spelling():
    assert list(named(["NDCG", "MAP( divide_by_k = true )", "Recall()", "Debiased(metric=MRR)"])) == [
        "NDCG",
        "MAP(divide_by_k=true)",
        "Recall",
        "Debiased(metric=MRR())",
    ]


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (["NDGC"], "evaluation.metrics: 'NDGC': there is no Metric 'NDGC'. Did you mean NDCG"),
        (["hit_rate"], "Did you mean HitRate"),
        (["MAP(divide_by=3)"], "MAP has no argument 'divide_by'. Did you mean divide_by_k"),
        (["F1Beta(beta='high')"], "does not fit F1Beta"),
        (["Debiased"], "Debiased needs metric"),
        (["Debiased(metric=CatalogCoverage)"], "there is no UserMetric 'CatalogCoverage'"),
        (["Debiased(metric=NDCG, iqr_coef=-1)"], "iqr_coef is -1, and has to be 0 or more"),
        (["NDCG", "NDCG()"], "evaluation.metrics: NDCG is named twice"),
    ],
)
def test_what_cannot_be_measured_is_said(texts, says):
    with pytest.raises(ConfigError, match=says.replace("(", "[(]")):
        named(texts, "evaluation.metrics")


def test_categories_that_are_not_there_are_said():
    schema = Schema((Column("genres", "items", "multi_categorical"), Column("price", "items", "numeric")))
    assert metric("IntraListDiversity").misfit(schema) is None
    assert "'genre' is no categorical column of the items. Did you mean genres?" in str(
        metric('IntraListDiversity(columns=["genre"])').misfit(schema)
    )
    assert "it needs categories of the items" in str(metric("IntraListDiversity").misfit(Schema(())))


def test_examples():
    assert doctest.testmod(recsys.ranking.metrics).failed == 0
