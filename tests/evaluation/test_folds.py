"""Lists of a fold and their comparison, on a small shop, beside what a night's evaluation says of the same."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch

from recsys import demo
from recsys.config import Data, Evaluation, Features, Model, Scoring, Sequences, Shop
from recsys.dictionary import Dictionary
from recsys.errors import ConfigError
from recsys.evaluation import terms as shared
from recsys.evaluation.backtest import Listed, backtest, fold_rows, model_rows, verdict, write_csv
from recsys.evaluation.evaluate import evaluate
from recsys.evaluation.folds import list_fold, read_lists
from recsys.evaluation.ground import Kept
from recsys.evaluation.terms import Rules, Tables, Terms
from recsys.features.tables import build_features
from recsys.histories import Histories
from recsys.model import saving
from recsys.model.blocks import Blocks, build
from recsys.model.vocabulary import Vocabulary
from recsys.recipes import resolve
from recsys.sequences.build import build_sequences
from recsys.splits import learnt_from
from recsys.store import Artifact, Draft, Store
from recsys.windows import Fold, folds

AS_OF = datetime(2025, 2, 15, tzinfo=timezone.utc)
EVALUATION = Evaluation(
    k=(5, 10), popular_windows=("1d", "7d"), n_bootstrap=200, metrics=("NDCG", "Recall", "CatalogCoverage", "Serendipity")
)
RULES = Rules(EVALUATION, Kept(), Scoring(), seed=1)
DATA = Data(demo=Shop(n_users=150, n_items=80), history="90d", seen="90d")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


def sequences(store: Store, n_shards: int = 2) -> Artifact:
    data = demo.prepare(DATA, AS_OF, store.root / "demo")
    tables = build_features(store, AS_OF, data, Features(n_shards=n_shards))
    return build_sequences(store, AS_OF, Sequences(), tables)


def model(store: Store, fold: Fold) -> Artifact:
    """Random weights over what is known where the fold's models learn."""

    def write(draft: Draft) -> None:
        of = sequences(store)
        histories, dictionary = learnt_from(Histories.load(of.path), fold.learn), Dictionary.load(of.path)
        vocabulary = Vocabulary.fit(histories, dictionary, histories.cut(fold.learn))
        resolved = Blocks.of(resolve(Model(recipe="sasrec_preln", width=16, max_events=20))).in_canonical_text()
        torch.manual_seed(3)
        saving.save(draft.path, build(resolved, vocabulary), resolved, vocabulary)

    return store.ensure("training", AS_OF, {"cut": str(fold.learn)}, {}, write, code="recsys.windows")


def terms(store: Store, fold: Fold, rules: Rules = RULES, n_shards: int = 2) -> Terms:
    return Terms(fold, Tables(sequences(store, n_shards), rules))


def listed(store: Store, fold: Fold, rules: Rules = RULES) -> list[Listed]:
    of = terms(store, fold, rules)
    baselines = [name for name in ("popular_lately", "popular") if fold.learn.at or name == "popular"]
    return [
        *(Listed(fold, name, list_fold(store, AS_OF, of, name)) for name in baselines),
        Listed(fold, "candidate", list_fold(store, AS_OF, of, model(store, fold))),
    ]


@pytest.mark.parametrize("exclude_seen", [True, False])
def test_the_newest_day_as_a_fold_is_the_evaluation_of_the_night(store: Store, exclude_seen: bool) -> None:
    (fold,) = folds(AS_OF, "1d")
    sliced = EVALUATION.model_copy(update={"slices": ("country", "tags")})
    rules = replace(RULES, evaluation=sliced, scoring=Scoring(exclude_seen=exclude_seen))
    ours = backtest(store, AS_OF, Tables(sequences(store), rules), listed(store, fold, rules))
    night = evaluate(store, AS_OF, sliced, Scoring(exclude_seen=exclude_seen), 1, sequences(store), model(store, fold), None)
    query = """
        select m.model, m.slice, m.value - n.value, m.n_users - n.n_users, m.low - n.low, m.low is null and n.low is null
        from read_parquet(?) as m full join read_parquet(?) as n
        on m.model = n.contender and m.slice = n.slice and m.metric = n.metric and m.k = n.k
    """
    rows = duckdb.execute(query, [str(ours.path / "metrics.parquet"), str(night.path / "metrics.parquet")]).fetchall()
    parts = {part for _, part, *_ in rows}
    assert len(rows) == 3 * len(parts) * 4 * 2 and {"all", "users known for 7 days and more"} < parts
    assert all(not value and users == 0 and (low == 0 or without) for _, _, value, users, low, without in rows), rows
    (of_fold,) = pq.read_table(ours.path / "folds.parquet").to_pylist()
    assert {name: of_fold[name] for name in night.counts if name in of_fold} == {
        name: n for name, n in night.counts.items() if name in of_fold
    }
    assert of_fold["test_users"] > 50 and of_fold["learn"] == (AS_OF - timedelta(days=1)).isoformat()


def test_what_the_contenders_of_a_fold_share_is_made_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *given, **named: calls.append(function.__name__) or function(*given, **named)

    for function in (shared.try_windows, shared.fold_ground):
        monkeypatch.setattr(shared, function.__name__, counted(function))
    (fold,) = folds(AS_OF, "2d")
    lists = [one.lists for one in listed(store, fold)]
    assert not any(made.reused for made in lists) and sorted(calls) == ["fold_ground", "try_windows"]
    took = [json.loads((made.path / "run.json").read_text()) for made in lists]
    assert all(0 < run["listing_seconds"] < run["seconds"] for run in took)
    calls.clear()
    assert all(one.lists.reused for one in listed(store, fold)) and calls == [], "and not at all for lists that are there"


@pytest.mark.parametrize("split", ["1d", "last-1", "random-20%"])
def test_lists_do_not_depend_on_shards(store: Store, split: str) -> None:
    (fold,) = folds(AS_OF, split)
    one, three = (list_fold(store, AS_OF, terms(store, fold, n_shards=n), "popular") for n in (1, 3))
    assert pq.read_table(one.path / "lists.parquet").equals(pq.read_table(three.path / "lists.parquet"))
    assert one.counts == three.counts and one.counts["test_users"] > 50


@pytest.mark.parametrize("split", ["1d", "last-1", "random-20%"])
def test_lists_leave_out_what_may_be_read_and_not_what_is_asked_for(store: Store, split: str) -> None:
    (fold,) = folds(AS_OF, split)
    of = terms(store, fold)
    ground, user_id = of.ground, of.past.user_id.take(pa.array(of.ground.users))
    lists = read_lists(list_fold(store, AS_OF, of, model(store, fold)), user_id, of.tables.dictionary)
    offsets, items = ground.excluded[0]
    for row, user in enumerate(ground.users[:40]):
        relevant = ground.relevant[ground.offsets[row] : ground.offsets[row + 1]]
        had = items[offsets[user] : offsets[user + 1]]
        assert not set(had) & set(relevant) and not set(had) & set(lists.item_code[row])
    assert (lists.item_code[:, 0] >= 0).all() and (np.diff(lists.score, axis=1) <= 0)[lists.source[:, 1:] == 0].all()


def test_who_is_new_is_asked_where_it_is_wanted_and_gets_what_is_popular(store: Store) -> None:
    (fold,) = folds(AS_OF, "3d")
    everybody = replace(RULES, kept=Kept(cold_users=True))
    known, new = (list_fold(store, AS_OF, terms(store, fold, rules), model(store, fold)) for rules in (RULES, everybody))
    n_new = new.counts["test_users"] - known.counts["test_users"]
    assert n_new > 0 and new.counts["fallback_users"] >= n_new + known.counts["fallback_users"]
    assert known.counts["cold_users"] == new.counts["cold_users"] and new.counts["dropped_cold_user"] == 0
    found = backtest(store, AS_OF, Tables(sequences(store), everybody), [Listed(fold, "candidate", new)])
    (of_new,) = pq.read_table(
        found.path / "metrics.parquet", filters=[("slice", "=", "users with no event"), ("metric", "=", "NDCG"), ("k", "=", 10)]
    ).to_pylist()
    assert of_new["n_users"] == n_new, "and are measured on their own"
    assert "| users with no event | 1 |" in (found.path / "report.md").read_text()


def test_the_window_of_lately_is_chosen_before_the_fold_or_given(store: Store) -> None:
    (fold,) = folds(AS_OF, "1d")
    chosen = list_fold(store, AS_OF, terms(store, fold), "popular_lately")
    assert chosen.metrics["popular_window"] in EVALUATION.popular_windows
    given = list_fold(store, AS_OF, terms(store, fold), "popular_lately", window="3h")
    assert given.metrics["popular_window"] == "3h" and given.version != chosen.version


def test_there_is_no_lately_without_a_window_of_time(store: Store) -> None:
    (fold,) = folds(AS_OF, "last-1")
    with pytest.raises(ConfigError, match="popular_lately needs folds that are windows of time, and last-1 is none"):
        list_fold(store, AS_OF, terms(store, fold), "popular_lately")


def test_longer_lists_are_made_for_metrics_that_look_further(store: Store) -> None:
    (fold,) = folds(AS_OF, "1d")
    further = replace(RULES, evaluation=EVALUATION.model_copy(update={"metrics": ("NDCG", "PartialAUC")}))
    short, long = (list_fold(store, AS_OF, terms(store, fold, rules), "popular") for rules in (RULES, further))
    assert short.counts["places"] == 10 < long.counts["places"]
    other = replace(RULES, evaluation=EVALUATION.model_copy(update={"metrics": ("MRR",), "n_bootstrap": 500}))
    assert list_fold(store, AS_OF, terms(store, fold, other), "popular").reused, "what is measured does not change lists"


def test_rows_of_models_and_folds(store: Store, tmp_path: Path) -> None:
    both = [one for fold in folds(AS_OF, "1d", 2) for one in listed(store, fold)]
    made = backtest(store, AS_OF, Tables(sequences(store), RULES), both, references=["popular"], tested=["candidate", "popular"])
    rows = fold_rows(store, made)
    assert [(row["fold"], row["model"]) for row in rows] == [
        (day, m) for day in ("2025-02-13", "2025-02-14") for m in ("popular", "candidate")
    ]
    popular, candidate = model_rows(rows)
    assert popular["NDCG@5"] == pytest.approx((rows[0]["NDCG@5"] + rows[2]["NDCG@5"]) / 2)
    assert popular['Intersection(model="popular")@5'] == 1 > candidate['Intersection(model="popular")@5']
    assert "is that of popular" in verdict(rows) and "on the average of 2 folds" in verdict(rows)
    write_csv(tmp_path, rows)
    read = duckdb.sql(f"select model, \"NDCG@5\", peak_memory_bytes from '{tmp_path}/models.csv'").fetchall()
    assert [(name, value) for name, value, _ in read] == [(row["model"], row["NDCG@5"]) for row in (popular, candidate)]
    references = pq.read_table(made.path / "metrics.parquet", filters=[("model", "=", "popular")])
    assert references["difference"].null_count == len(references), "the first reference is whom all are compared with"


def test_without_a_reference_each_fold_is_compared_with_its_best_baseline_whatever_that_is_called(store: Store) -> None:
    """By the share of the catalogue, of which random weights show more than what is popular."""
    covering = replace(RULES, evaluation=EVALUATION.model_copy(update={"metrics": ("CatalogCoverage", "NDCG")}))
    both = []
    for fold in folds(AS_OF, "1d", 2):
        of = terms(store, fold, covering)
        both += [
            Listed(fold, "usual", list_fold(store, AS_OF, of, "popular")),
            Listed(fold, "new", list_fold(store, AS_OF, of, model(store, fold))),
        ]

    def references(*models: str) -> tuple[list[str], str]:
        found = backtest(store, AS_OF, Tables(sequences(store), covering), [one for one in both if one.model in models])
        return pq.read_table(found.path / "folds.parquet")["reference"].to_pylist(), (found.path / "report.md").read_text()

    names, text = references("usual", "new")
    assert names == ["usual", "usual"] and "the difference to usual, paired by user" in text
    assert references("new")[0] == ["new", "new"], "where there is no baseline"


def test_a_reference_that_is_measured_anyway_is_measured_once(store: Store) -> None:
    (fold,) = folds(AS_OF, "1d")
    rules = replace(RULES, evaluation=EVALUATION.model_copy(update={"metrics": ("Intersection(model='popular')", "NDCG")}))
    of = [Listed(fold, name, list_fold(store, AS_OF, terms(store, fold, rules), "popular")) for name in ("popular", "beliebt-ä")]
    made = backtest(store, AS_OF, Tables(sequences(store), rules), of, references=["popular", "beliebt-ä", "popular"])
    measured = pq.read_table(made.path / "metrics.parquet", filters=[("model", "=", "popular"), ("k", "=", 5)])
    measured = measured.filter(pc.equal(measured["slice"], "all"))["metric"].to_pylist()
    assert measured == ['Intersection(model="popular")', "NDCG", 'Intersection(model="beliebt-ä")']


def test_other_folds_are_another_backtest_though_the_lists_are_equal(store: Store) -> None:
    rules = replace(RULES, scoring=Scoring(exclude_seen=False))
    (whole,), (last,) = folds(AS_OF, "1d"), folds(AS_OF, "1d", last_only=True)
    lists = [list_fold(store, AS_OF, terms(store, fold, rules), "popular") for fold in (whole, last)]
    assert whole.name == last.name and lists[0].content == lists[1].content
    made = [
        backtest(store, AS_OF, Tables(sequences(store), rules), [Listed(f, "popular", of)])
        for f, of in zip((whole, last), lists, strict=True)
    ]
    relevant = [pq.read_table(one.path / "folds.parquet")["relevant_pairs"][0].as_py() for one in made]
    assert made[0].version != made[1].version and relevant[0] > relevant[1]


def test_means_are_over_the_folds_in_which_there_is_a_value() -> None:
    nobody = {"fold": "b", "model": "m", "n_users": 0, "NDCG@10": float("nan"), "peak_memory_bytes": 7}
    (row,) = model_rows([{"fold": "a", "model": "m", "n_users": 4, "NDCG@10": 0.5, "peak_memory_bytes": 9}, nobody])
    assert row == {"model": "m", "folds": 2, "n_users": 2, "NDCG@10": 0.5, "peak_memory_bytes": 9}
    assert verdict([nobody]) == "There was nobody to test on in any fold."
