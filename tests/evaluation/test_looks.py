"""What a report says of the lists themselves, by hand: popularity of what is listed, some users; and a backtest's page."""

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import numpy as np
import pyarrow as pa
import pytest

from recsys.evaluation.comparison import Comparison
from recsys.evaluation.ground import common_ground
from recsys.evaluation.report.document import Figure
from recsys.evaluation.report.folds import MAX_FOLDS, FoldsReport, taken
from recsys.evaluation.report.popularity import Shares
from recsys.evaluation.report.training import curves
from recsys.evaluation.report.users import Users
from recsys.evaluation.slices import Slice
from recsys.ranking.lists import Lists
from recsys.ranking.metrics import Past, named
from recsys.windows import Cut

NIGHT = datetime(2025, 3, 2, tzinfo=timezone.utc)
HAD = {7: [(40, 0), (30, 1), (5, 2)], 8: [(35, 0), (3, 3)], 9: [(50, 0), (49, 2), (48, 3), (2, 1)]}  # hours before as_of, item


def lists_of(*rows):
    codes = np.array(rows, dtype=np.int64)
    return Lists(codes, np.zeros(codes.shape, dtype=np.float32), np.zeros(codes.shape, dtype=np.int8))


LISTS = {"candidate": lists_of([2, 3], [1, 2], [1, -1]), "popular": lists_of([2, 3], [3, 2], [3, 1])}


@pytest.fixture
def compared(by_hand):
    """Of the three users, each took one item in the last 24 hours."""
    histories, dictionary = by_hand(HAD, 4)
    ground = common_ground(histories, dictionary, Cut(at=NIGHT - timedelta(hours=24)), histories.offsets[1:], True)
    past = Past.of(histories, ground.ends, dictionary)
    comparison = Comparison(LISTS, ground, past, [Slice("all", np.arange(3))], named(["CatalogCoverage", "NDCG"]), (2,), 50, 1)
    return comparison, histories, replace(dictionary, texts={"title": pa.array(["Ball", None, "Cap <i>", "D" * 200])})


def test_the_share_of_places_that_goes_to_the_most_popular(compared):
    comparison, _, _ = compared
    shares = Shares.of(comparison.lists, comparison.ground.relevant, comparison.past, 2)  # item 0 was had three times, the others once
    assert shares.cumulated["past events"].tolist() == [3 / 6, 4 / 6, 5 / 6, 1]
    assert shares.cumulated["candidate"].tolist() == [0, 2 / 5, 4 / 5, 1], "items 1 and 2 twice, item 3 once"
    assert shares.cumulated["popular"].tolist() == [0, 1 / 6, 3 / 6, 1]
    assert shares.n_listed == {"candidate": 3, "popular": 3, "held-out items": 3, "past events": 4}
    text, figure, table = shares.section({"candidate": "the candidate"}).blocks
    assert "first 2 places" in text.text and isinstance(figure, Figure)
    assert table.rows[0] == ["the candidate", "0.0%", "0.0%", "40.0%", "3"], "1% and 10% of four items are one item"


def test_users_from_who_loses_most_to_who_gains_most(compared):
    users = Users.of(*compared, ("candidate", "popular"), 2)
    assert users.metric == "NDCG@2"
    assert [user.user_id for user in users.chosen] == ["8", "7", "9"]
    assert [user.difference for user in users.chosen] == pytest.approx([-1, 0, 1 - 1 / np.log2(3)])
    loses = users.chosen[0]
    assert loses.n_history == 1 and loses.taken == [f"{'D' * 69}… (3)"]
    assert [one.item for one in loses.history] == ["02-28 13:00 Ball (0)"]
    assert [(one.item, one.taken) for one in loses.lists[0]] == [("1", False), ("Cap <i> (2)", False)], "an item without a title is its id"
    assert [one.taken for one in loses.lists[1]] == [True, False]
    gains = users.chosen[2]
    assert [one.item[12:] for one in gains.history] == [f"{'D' * 69}… (3)", "Cap <i> (2)", "Ball (0)"], "newest first"
    assert [one.item for one in gains.lists[0]] == ["1", ""], "a list that is short"


def test_users_are_a_table_each_with_what_they_took(compared):
    opening, *tables = Users.of(*compared, ("candidate", "popular"), 2).section(["the candidate", "popular overall"]).blocks
    assert "who loses most NDCG@2 by the candidate to who gains most" in opening.text
    assert [table.caption.partition(":")[0] for table in tables] == ["User 8", "User 7", "User 9"]
    assert tables[1].caption == "User 7: 2 events before. Took Cap <i> (2). Difference of NDCG@2: +0.0000."
    assert [cell.text for cell in tables[1].cells[0]] == ["1", "02-28 18:00 1", "✓ Cap <i> (2)", "✓ Cap <i> (2)"]


def test_histories_of_data_with_an_order_only_have_no_moments(compared):
    comparison, histories, dictionary = compared
    users = Users.of(comparison, replace(histories, event_at=None), dictionary, ("candidate", "popular"), 2)
    assert [one.item for one in users.chosen[1].history] == ["1", "Ball (0)"]


def test_users_of_one_contender_are_not_compared(compared):
    users = Users.of(*compared, ("candidate",), 2)
    assert [user.difference for user in users.chosen] == [None] * 3 and len(users.section(["x"]).blocks) == 4


def test_curves_of_what_was_learnt():
    fitted = {"a": [{"epoch": 1, "train_loss": 2.0, "ndcg_at_10": None, "real_token_share": 0.9}], "baseline": []}
    (section,) = curves(fitted, "Told.", ["baseline", "a"], with_table=True)
    _, figure, table = section.blocks
    assert "train_loss" in figure.alt and "ndcg_at_10" not in figure.alt, "what a refit does not measure is not drawn"
    assert [cell.text for cell in table.cells[0]] == ["1", "2.0000", "", "0.9000"]
    assert curves({"baseline": []}, "Told.", []) == []


# ---------------------------------------------------------------- backtests


def fold(name, n_users=50, reference="popular", **counts):
    dropped = dict.fromkeys(("dropped_cold_item", "dropped_not_eligible", "dropped_blocked", "dropped_seen"), 0)
    held = {"holdout_events": 90, "holdout_pairs": 80, "dropped_cold_user": 20, "relevant_pairs": 60, "test_users": n_users}
    found = {"cold_users": 3, "cold_items": 0, "seen_pairs": 0}
    return {"name": name, "learn": "there", "reference": reference, **dropped, **held, **found, **counts}


def row(name, model, value, low=None, high=None, metric="NDCG", part="all", n_users=50):
    difference = None if low is None else (low + high) / 2
    return {
        "fold": name, "model": model, "slice": part, "metric": metric, "k": 10, "value": value, "n_users": n_users,
        "difference": difference, "low": low, "high": high,
    }  # fmt: skip


def report(n_folds=2, **more):
    names = [f"day {number}" for number in range(n_folds)]
    rows = [row(name, "popular", 0.1) for name in names] + [row(name, "sasrec", 0.2, 0.05, 0.15) for name in names]
    rows += [row(name, model, share, metric="CatalogCoverage") for name in names for model, share in (("popular", 0.01), ("sasrec", 0.6))]
    means = [
        mean("popular", "NDCG", 0.1, n_folds), mean("popular", "CatalogCoverage", 0.01, n_folds),
        mean("sasrec", "NDCG", 0.2, n_folds, 0.06, 0.14), mean("sasrec", "CatalogCoverage", float("nan"), n_folds),
    ]  # fmt: skip
    return FoldsReport("2025-03-02", rows, means, [fold(name) for name in names], "The best is sasrec.", **more)


def mean(model, metric, value, n_folds, low=None, high=None):
    found = {"model": model, "metric": metric, "k": 10, "value": value, "folds": n_folds, "reference": "popular"}
    return found | {"difference": None, "low": low, "high": high}


def test_a_backtest_has_means_and_folds_and_what_was_left_out():
    document = report().document()
    text = document.markdown()
    assert "The best is sasrec. 2 folds, from day 0 to day 1, with 100 test users together." in text
    assert "|  | popular | sasrec |\n|---|---|---|\n| NDCG@10 | 0.1000 | 0.2000 (+0.0600 … +0.1400) |\n" in text
    assert "| CatalogCoverage@10 | 0.0100 | undefined |\n| folds with a value | 2 | 2 |" in text
    assert "difference to popular, paired by user (bootstrap, of users with all that they have in any fold)." in text
    assert "| day 1 | 0.1000 | 0.2000 (+0.0500 … +0.1500) |" in text and "difference to popular, paired by user" in text
    assert "left out: of users without an event before | relevant pairs | test users |\n" in text and "blocked" not in text
    assert "| day 0 | 90 | 80 | 20 | 60 | 50 |" in text
    assert [section.title for section in document.sections] == ["Means over folds", "Trade-offs", "Fold by fold", "What was asked for"]
    assert document.html().count("<svg") == 2


def test_what_is_asked_too_is_counted():
    cold = replace(report(), folds=[fold("day 0", dropped_cold_user=0, cold_users=7), fold("day 1", dropped_cold_user=0, seen_pairs=9)])
    text = cold.document().markdown()
    asked = "asked too: users without an event before | asked too: pairs that the user had seen before"
    assert f"| pairs of user and item | {asked} | relevant pairs |" in text and "left out" not in text
    assert "| day 0 | 90 | 80 | 7 | 0 | 60 | 50 |" in text and "| day 1 | 90 | 80 | 3 | 9 | 60 | 50 |" in text


def test_a_single_fold_is_told_once_and_has_no_line_over_time():
    document = report(n_folds=1).document()
    assert [section.title for section in document.sections] == ["All test users", "Trade-offs", "What was asked for"]
    text = document.markdown()
    assert "1 fold, with 50 test users together." in text and "folds with a value" not in text
    assert "| NDCG@10 | 0.1000 | 0.2000 (+0.0600 … +0.1400) |" in text


def test_of_hundreds_of_folds_the_newest_stand_in_tables():
    text = report(n_folds=MAX_FOLDS + 3).document().markdown()
    assert f"the newest {MAX_FOLDS} of {MAX_FOLDS + 3} folds" in text
    assert "| day 2 |" not in text and text.count("| day 3 |") == 2


def test_a_backtest_without_anybody_says_so():
    empty = FoldsReport("2025-03-02", [], [], [fold("day 0", n_users=0)], "There was nobody to test on in any fold.")
    text = empty.document().markdown()
    assert "There was nobody to test on in any fold." in text and "| day 0 | 90 | 80 | 20 | 60 | 0 |" in text


def test_folds_that_are_compared_with_different_models_name_theirs():
    found = report()
    text = replace(found, folds=[fold("day 0", reference="sasrec"), fold("day 1")]).document().markdown()
    assert "| fold | compared with | popular | sasrec |" in text
    assert "| day 0 | sasrec | 0.1000 | 0.2000 (+0.0500 … +0.1500) |" in text and "| day 1 | popular | 0.1000 |" in text
    empty = replace(found, folds=[fold("day 0", n_users=0, reference="sasrec"), fold("day 1")]).document().markdown()
    assert "compared with" not in empty, "a fold without anybody was compared with nobody"


def test_parts_of_the_users_are_means_over_the_folds_that_have_them():
    found = report()
    new = [
        row("day 0", "popular", 0.1, part="users with no event", n_users=4),
        row("day 0", "sasrec", 0.4, part="users with no event", n_users=4),
        row("day 1", "popular", 0.2, part="users with no event", n_users=6),
        row("day 1", "sasrec", float("nan"), part="users with no event", n_users=6),
        row("day 1", "sasrec", 0.9, metric="CatalogCoverage", part="users with no event"),
    ]
    text = replace(found, metrics=[*found.metrics, *new]).document().markdown()
    assert "|  | folds | users | popular | sasrec |" in text and "| all | 2 | 100 | 0.1000 | 0.2000 |" in text
    assert "| users with no event | 2 | 10 | 0.1500 | 0.4000 |" in text
    assert "| day 1 | 0.1000 | 0.2000 (+0.0500 … +0.1500) |" in text, "and the folds are of all users"


def test_what_models_took():
    costs = {"training_seconds": 1234.56, "listing_seconds": 7.0, "peak_memory_bytes": 3 * 2**29}
    text = taken([{"model": "popular", **costs, "training_seconds": None}, {"model": "sasrec", **costs}]).markdown()
    assert "| popular |  | 7.0 | 1.50 |\n| sasrec | 1,234.6 | 7.0 | 1.50 |" in text and "GiB at the peak" in text
