import doctest

import pytest

import recsys.evaluation.report.wording
from recsys.evaluation.baselines import Tried
from recsys.evaluation.report.night import Report

COUNTS = {
    "holdout_events": 1200,
    "holdout_pairs": 1000,
    "holdout_users": 400,
    "holdout_items": 50,
    "dropped_cold_user": 100,
    "dropped_cold_item": 250,
    "dropped_not_eligible": 0,
    "dropped_blocked": 0,
    "dropped_seen": 0,
    "cold_users": 40,
    "cold_items": 5,
    "test_users_found": 300,
    "test_users": 300,
    "relevant_pairs": 650,
}


def row(contender, value, low=None, high=None, part="all", metric="NDCG", k=10):
    return {
        "contender": contender, "slice": part, "metric": metric, "k": k, "value": value, "n_users": 300,
        "difference": None if low is None else (low + high) / 2, "low": low, "high": high,
    }  # fmt: skip


METRICS = [
    row("candidate", 0.21, -0.01, 0.03),
    row("popular", 0.2),
    row("candidate", 0.5, metric="CatalogCoverage"),
    row("popular", 0.1, metric="CatalogCoverage"),
    row("candidate", 0.3, 0.05, 0.15, part="users with 1 event"),
    row("popular", 0.2, part="users with 1 event"),
]


def report(metrics=METRICS, holdout="1d", tried=(), of_lists=("CatalogCoverage",), **counts):
    return Report("2025-03-02", holdout, "popular", metrics, list(tried), {**COUNTS, **counts}, of_lists=of_lists).document().markdown()


def test_numbers_stand_in_sentences_and_tables():
    text = report()
    assert "The holdout is the last 1d, with 1,200 events. They are 1,000 pairs of a user and an item." in text
    assert "- 100 (10.0%) of users without an event before\n- 250 (25.0%) with items that had no event before" in text
    assert "that are blocked" not in text
    assert "Left are 650 relevant pairs of 300 users. Of all users with held-out events 10.0% are new, and of all items 10.0%." in text
    assert "|  | the candidate | popular overall |" in text
    assert "| NDCG@10 | 0.2100 (-0.0100 … +0.0300) | 0.2000 |" in text
    assert "| CatalogCoverage@10 | 0.5000 | 0.1000 |" in text
    assert "| users with 1 event | 300 | 0.3000 (+0.0500 … +0.1500) | 0.2000 |" in text


def test_which_metrics_have_no_interval():
    few = "Fewer than 10 users have none"
    assert f"{few}, nor has CatalogCoverage: a resample of the users is one of fewer, who see less. A metric without" in report()
    both = report(of_lists=("CatalogCoverage", "CatalogCoverage(normalize=false)"))
    assert f"{few}, nor have CatalogCoverage and CatalogCoverage(normalize=false): a resample" in both
    assert f"{few}. A metric without" in report(of_lists=())


def test_models_stand_beside_each_baseline():
    def lift(contender, baseline, difference, k=10, metric="NDCG"):
        row = {"contender": contender, "baseline": baseline, "metric": metric, "k": k, "difference": difference}
        return row | {"low": difference - 0.01, "high": difference + 0.01}

    lifts = [lift(*pair, 0.02) for pair in (("candidate", "popular_lately"), ("candidate", "popular"))]
    lifts += [lift("current", "popular_lately", 0.005), lift("candidate", "popular", 0.9, k=20)]
    found = Report("2025-03-02", "1d", "current", METRICS, [], COUNTS, lifts=lifts)
    text = found.document().markdown()
    assert "| the candidate less popular-lately | the candidate less popular overall | the current model less popular-lately |" in text
    assert "| NDCG@10 | +0.0200 (+0.0100 … +0.0300) | +0.0200 (+0.0100 … +0.0300) | +0.0050 (-0.0050 … +0.0150) |" in text
    assert "0.9" not in text and "Beside what is popular" not in report()


def test_who_was_drawn_and_who_falls_back():
    text = report(test_users=100, candidate_fallback_users=7)
    assert "650 relevant pairs of 300 users, of whom 100 were drawn." in text
    assert "The candidate knows no item of 7 test users, who get what is popular, as they would tonight." in text


def test_the_window_and_what_it_was_chosen_from():
    text = report(tried=[Tried("1h", 0.1234, True), Tried("6h", 0.1)])
    assert "Lately means the last 1h, the best on the period before the holdout (NDCG@10: 1h 0.1234, 6h 0.1000)." in text


@pytest.mark.parametrize(
    ("holdout", "spoken"), [("last-1", "each user's last event"), ("last-3", "each user's last 3 events"), ("6h", "the last 6h")]
)
def test_holdouts_are_spoken(holdout, spoken):
    assert f"The holdout is {spoken}, with" in report(holdout=holdout)


def test_nothing_to_test_on():
    text = report(holdout_events=0, holdout_pairs=0, holdout_users=0, test_users=0, test_users_found=0)
    assert "The holdout is the last 1d, with 0 events. There is nothing to test on." in text and "|" not in text


def test_numbers_are_told_with_the_places_that_count():
    assert doctest.testmod(recsys.evaluation.report.wording).failed == 0
    text = report(
        [row("candidate", 5123.4567, -12.3, 140.02, metric="AvgRecPopularity"), row("popular", 9000.0, metric="AvgRecPopularity")]
    )
    assert "| AvgRecPopularity@10 | 5,123.5 (-12.3000 … +140.0) | 9,000.0 |" in text
