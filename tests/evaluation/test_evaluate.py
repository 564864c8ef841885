import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from recsys import demo
from recsys.config import Data, Evaluation, Features, Model, Scoring, Sequences, Shop
from recsys.dictionary import Dictionary
from recsys.errors import ConfigError
from recsys.evaluation.evaluate import check_evaluation, evaluate
from recsys.features.tables import build_features
from recsys.histories import Histories
from recsys.model import saving
from recsys.model.blocks import Blocks, build
from recsys.model.vocabulary import Vocabulary
from recsys.ranking.metrics import Metric, named
from recsys.recipes import resolve
from recsys.scoring.recommend import recommend
from recsys.sequences.build import build_sequences
from recsys.slots import choices
from recsys.store import Artifact, Draft, Store
from recsys.windows import Cut

AS_OF = datetime(2025, 2, 15, tzinfo=timezone.utc)
DAY_BEFORE = AS_OF - timedelta(days=1)
DATA = Data(demo=Shop(n_users=150, n_items=80), history="90d", seen="90d")  # all there ever was: windows cut nothing off
EVALUATION = Evaluation(k=(5, 10), popular_windows=("1d", "7d"), n_bootstrap=200)
FEATURES = '["device", "hour", "gap_seconds", "item_events_1d"]'  # what an event says of itself is the same every night
MODEL = Model(recipe="sasrec_preln", width=16, max_events=20, inputs=f"Inputs(features={FEATURES})")


@dataclass(frozen=True)
class Shops:
    """Sequences of two nights of one small shop, and models with random weights."""

    store: Store

    def sequences(self, as_of: datetime = AS_OF, n_shards: int = 2) -> Artifact:
        data = demo.prepare(DATA, as_of, self.store.root / "demo")
        tables = build_features(self.store, as_of, data, Features(n_shards=n_shards))
        return build_sequences(self.store, as_of, Sequences(), tables)

    def model(self, seed: int, moment: datetime = DAY_BEFORE) -> Artifact:
        cut = Cut(at=moment)
        sequences = self.sequences()

        def write(draft: Draft) -> None:
            histories, dictionary = Histories.load(sequences.path), Dictionary.load(sequences.path)
            vocabulary = Vocabulary.fit(histories, dictionary, histories.cut(cut))
            resolved = resolve(MODEL)
            resolved = Blocks.of(resolved).in_canonical_text()
            torch.manual_seed(seed)
            saving.save(draft.path, build(resolved, vocabulary), resolved, vocabulary)

        return self.store.ensure("training", AS_OF, {"cut": str(cut), "seed": seed}, {}, write, code="recsys.windows")


@pytest.fixture(scope="module")
def shops(tmp_path_factory):
    return Shops(Store(tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="module")
def evaluated(shops):
    return evaluate(shops.store, AS_OF, EVALUATION, Scoring(), 1, shops.sequences(), shops.model(1), None)


def rows_of(artifact, name):
    return pq.read_table(artifact.path / f"{name}.parquet").to_pylist()


def test_contenders_share_users_and_their_relevant_items(evaluated):
    by_contender: dict[str, list[tuple]] = {}
    for row in rows_of(evaluated, "users"):
        by_contender.setdefault(row["contender"], []).append((row["user_id"], row["n_relevant"], row["n_history"]))
    assert set(by_contender) == {"candidate", "popular", "popular_lately"}
    assert by_contender["candidate"] == by_contender["popular"] == by_contender["popular_lately"]
    assert len(by_contender["candidate"]) == evaluated.counts["test_users"] > 30
    assert sum(n for _, n, _ in by_contender["candidate"]) == evaluated.counts["relevant_pairs"]


def test_evaluating_is_predicting_from_what_was_before(shops, evaluated):
    """The lists that the same model makes on the night before, from tables that know nothing of the holdout, score the same."""
    window = next(row["window"] for row in rows_of(evaluated, "baselines") if row["chosen"])
    relevant = relevant_items(shops.sequences())
    for contender, model in [("candidate", shops.model(1)), ("popular_lately", None), ("popular", None)]:
        lists = recommend(shops.store, DAY_BEFORE, Scoring(k=10), shops.sequences(DAY_BEFORE), model, contender, window)
        listed: dict[int, list[int]] = {}
        for file in sorted((lists.path / "recommendations").glob("*.parquet")):
            for row in pq.read_table(file).to_pylist():
                listed.setdefault(row["user_id"], []).append(row["item_id"])
        for row in (row for row in rows_of(evaluated, "users") if row["contender"] == contender):
            wanted, items = relevant[row["user_id"]], listed[row["user_id"]]
            gains = sum(1 / np.log2(rank + 2) for rank, item in enumerate(items) if item in wanted)
            ideal = sum(1 / np.log2(rank + 2) for rank in range(min(10, len(wanted))))
            assert row["NDCG@10"] == pytest.approx(gains / ideal)
            assert row["HitRate@5"] == any(item in wanted for item in items[:5])


def relevant_items(sequences):
    """{user_id: item ids of the last day that anybody had before}, by a loop."""
    histories, dictionary = Histories.load(sequences.path), Dictionary.load(sequences.path)
    ends = histories.cut(Cut(at=DAY_BEFORE))
    ids = dictionary.item_id.to_pylist()
    had = [histories.item_code[a:b].tolist() for a, b in zip(histories.offsets[:-1], ends, strict=True)]
    held = [histories.item_code[a:b].tolist() for a, b in zip(ends, histories.offsets[1:], strict=True)]
    known = {item for own in had for item in own}
    users = histories.user_id.to_pylist()
    return {user: {ids[i] for i in new if i in known and i not in old} for user, old, new in zip(users, had, held, strict=True)}


def test_no_result_depends_on_shards(shops, evaluated):
    other = evaluate(shops.store, AS_OF, EVALUATION, Scoring(), 1, shops.sequences(n_shards=5), shops.model(1), None)
    assert other.version != evaluated.version
    for name in ("users", "baselines"):
        assert rows_of(other, name) == rows_of(evaluated, name)
    assert rows_of(other, "metrics") == rows_of(evaluated, "metrics")


def test_a_current_model_is_the_reference(shops):
    found = evaluate(shops.store, AS_OF, EVALUATION, Scoring(), 1, shops.sequences(), shops.model(1), shops.model(2))
    rows = {(r["contender"], r["metric"], r["k"]): r for r in rows_of(found, "metrics") if r["slice"] == "all"}
    assert rows["current", "NDCG", 10]["difference"] is None
    for metric in ("NDCG", "HitRate", "Recall", "MAP", "MRR", "MeanInvUserFreq", "Serendipity"):
        row = rows["candidate", metric, 10]
        assert row["difference"] == pytest.approx(row["value"] - rows["current", metric, 10]["value"], abs=1e-8)
        assert row["low"] <= row["difference"] <= row["high"]
    assert "the current model" in (found.path / "report.md").read_text()


def test_a_model_against_itself_is_no_better_and_no_worse(shops):
    found = evaluate(shops.store, AS_OF, EVALUATION, Scoring(), 1, shops.sequences(), shops.model(1), shops.model(1))
    rows = [r for r in rows_of(found, "metrics") if r["contender"] == "candidate" and r["metric"] != "CatalogCoverage"]
    assert {(r["difference"], r["low"], r["high"]) for r in rows if r["slice"] == "all"} == {(0.0, 0.0, 0.0)}
    assert {(r["difference"], r["low"], r["high"]) for r in rows} <= {(0.0, 0.0, 0.0), (0.0, None, None)}  # of a handful of users


def test_the_report_says_what_the_tables_say(evaluated):
    text = (evaluated.path / "report.md").read_text()
    assert "# Evaluation of 2025-02-15" in text
    assert f"{evaluated.counts['holdout_events']:,} events" in text
    assert f"{evaluated.metrics['candidate']['NDCG@10']:.4f}" in text
    assert "There is no current model, or none that may be compared fairly." in text
    assert "Fewer than 10 users have none, nor has CatalogCoverage: a resample" in text
    chosen = next(row for row in rows_of(evaluated, "baselines") if row["chosen"])
    assert f"Lately means the last {chosen['window']}" in text


def test_the_page_has_the_same_numbers_and_looks_at_the_lists(shops, evaluated):
    html = (evaluated.path / "report.html").read_text()
    assert "<h1>Evaluation of 2025-02-15</h1>" in html and f"{evaluated.metrics['candidate']['NDCG@10']:.4f}" in html
    for title in ("All test users", "Trade-offs", "Slices", "Popularity of what is recommended", "Some users"):
        assert f"<h2>{title}</h2>" in html
    assert "AvgRecPopularity@5, events" in html and html.count("<svg") == 3, "these models come without the epochs of a training"
    shown = re.findall(r"<caption>User (\d+): ", html)
    users = {row["user_id"] for row in rows_of(evaluated, "users")}
    assert len(shown) == 6 and {int(user) for user in shown} <= users
    titles = [title for title in Dictionary.load(shops.sequences().path).texts["title"].to_pylist() if title]
    assert sum(f"{title} (" in html for title in titles) > 20
    assert len(html) < 400_000


def test_only_so_many_users_are_drawn(shops):
    few = evaluate(
        shops.store, AS_OF, EVALUATION.model_copy(update={"max_users": 20}), Scoring(), 1, shops.sequences(), shops.model(1), None
    )
    assert few.counts["test_users"] == 20 < few.counts["test_users_found"]
    assert {row["n_users"] for row in rows_of(few, "metrics") if row["slice"] == "all"} == {20}
    assert "20 were drawn" in (few.path / "report.md").read_text()


def test_the_same_again_is_the_same_bytes(shops, evaluated):
    heard = []
    assert evaluate(shops.store, AS_OF, EVALUATION, Scoring(), 1, shops.sequences(), shops.model(1), None).reused
    content = evaluated.content
    again = evaluate(
        shops.store, AS_OF, EVALUATION, Scoring(), 1, shops.sequences(), shops.model(1), None, rebuild=True, progress=heard.append
    )
    assert again.content == content and not again.reused
    assert heard == sorted(heard) and heard[-1] == 1.0


def test_nobody_to_test_on_is_an_answer(shops):
    """A holdout of a minute before midnight: the shop is closed."""
    evaluation = EVALUATION.model_copy(update={"holdout": "1m"})
    start = AS_OF - timedelta(minutes=1)
    found = evaluate(shops.store, AS_OF, evaluation, Scoring(), 1, shops.sequences(), shops.model(1, start), None)
    assert found.counts["test_users"] == 0 and found.metrics["candidate"].keys() == {"CatalogCoverage@5", "CatalogCoverage@10"}
    assert "There is nothing to test on." in (found.path / "report.md").read_text()


def test_a_model_that_saw_the_holdout_is_refused(shops):
    with pytest.raises(ConfigError, match="was trained on what was before .* and the holdout begins at .* compare its twin"):
        evaluate(shops.store, AS_OF, EVALUATION, Scoring(), 1, shops.sequences(), shops.model(1), shops.model(1, AS_OF))


# ---------------------------------------------------------------- what is measured

EVERY = tuple(name if name != "Debiased" else "Debiased(metric=NDCG)" for name in choices(Metric))


@pytest.fixture(scope="module")
def everything(shops):
    """Every metric, sliced by columns of every kind."""
    evaluation = EVALUATION.model_copy(update={"metrics": ("NDCG", *set(EVERY) - {"NDCG"}), "slices": ("country", "age", "tags", "price")})
    return evaluate(shops.store, AS_OF, evaluation, Scoring(), 1, shops.sequences(), shops.model(1), None)


def test_every_metric_in_every_slice_at_every_k(everything):
    rows = rows_of(everything, "metrics")
    slices = {row["slice"] for row in rows}
    assert len(rows) == 3 * len(slices) * len(EVERY) * len(EVALUATION.k)
    for kind in (
        "users with 20 events",
        "users known for",
        "items known for",
        "users with country ",
        "users with age ",
        "items with tags ",
    ):
        assert any(name.startswith(kind) for name in slices), kind
    assert {row["metric"] for row in rows} == set(named(EVERY))
    assert all(row["low"] <= row["difference"] <= row["high"] for row in rows if row["low"] is not None)
    per_user = rows_of(everything, "users")[0].keys()
    assert {f"{name}@{k}" for name in set(named(EVERY)) - {"CatalogCoverage"} for k in EVALUATION.k} < per_user


def test_lists_are_as_long_as_the_metrics_look_and_others_do_not_notice(everything, evaluated):
    shared = {(row["contender"], row["metric"], row["k"]): row["value"] for row in rows_of(evaluated, "metrics") if row["slice"] == "all"}
    found = {(row["contender"], row["metric"], row["k"]): row["value"] for row in rows_of(everything, "metrics") if row["slice"] == "all"}
    assert shared.items() <= found.items()
    assert found["candidate", "PartialAUC", 10] > 0


def test_what_cannot_be_measured_is_an_error_before_anything_is_done(shops):
    def ask(**changes):
        check_evaluation(EVALUATION.model_copy(update=changes), shops.sequences())

    ask(metrics=EVERY, slices=("country", "price"))
    with pytest.raises(ConfigError, match="evaluation.metrics: 'NDGC': there is no Metric 'NDGC'. Did you mean NDCG"):
        ask(metrics=("NDGC",))
    with pytest.raises(ConfigError, match="evaluation.slices: 'contry' .* Did you mean country"):
        ask(slices=("contry",))
    with pytest.raises(
        ConfigError, match="evaluation.metrics: IntraListDiversity.* 'tag' is no categorical column of the items. Did you mean tags"
    ):
        ask(metrics=('IntraListDiversity(columns=["tag"])',))


# ---------------------------------------------------------------- what docs/evaluate.md says

DOCUMENT = (Path(__file__).parents[2] / "docs" / "evaluate.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", DOCUMENT, flags=re.MULTILINE | re.DOTALL)


def test_a_metric_of_ones_own(shops, tmp_path):
    """The document's class, named in a configuration: it is measured, and its code is part of the version."""
    (tmp_path / "team").mkdir()
    file = tmp_path / "team" / "metrics.py"
    (source,) = blocks("python")
    file.write_text(source)
    evaluation = EVALUATION.model_copy(update={"metrics": ("MRR", "team.metrics.DiscountedHits(decay=0.5)")})

    def found():
        return evaluate(shops.store, AS_OF, evaluation, Scoring(), 1, shops.sequences(), shops.model(1), None, code=str(tmp_path))

    first = found()
    of_users = [row for row in rows_of(first, "users") if row["contender"] == "popular"]
    assert all(row["team.metrics.DiscountedHits(decay=0.5)@5"] >= 0.5 ** (1 / row["MRR@5"] - 1) for row in of_users if row["MRR@5"])
    assert any(row["MRR@5"] for row in of_users)
    file.write_text(source.replace("np.arange(k)", "np.arange(1, k + 1)"))
    assert found().version != first.version


def test_the_documents_queries_run(shops, evaluated):
    over_nights, of_users = (sql.replace("store/demo", str(shops.store.root)) for sql in blocks("sql"))
    assert {row[1] for row in duckdb.sql(over_nights).fetchall()} >= {"candidate", "popular"}
    rows = duckdb.sql(of_users.replace("users.parquet", str(evaluated.path / "users.parquet"))).fetchall()
    assert len(rows) == evaluated.counts["test_users"]


def test_the_document_names_every_metric_and_the_default_ones():
    assert all(f"`{name}" in DOCUMENT for name in choices(Metric))
    assert "  ".join(Evaluation().metrics) in DOCUMENT
