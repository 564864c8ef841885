from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from recsys import demo
from recsys.config import Data, Evaluation, Features, Model, Scoring, Sequences, Shop
from recsys.errors import ConfigError
from recsys.evaluation.evaluate import evaluate
from recsys.features.tables import build_features
from recsys.histories import Dictionary, Histories
from recsys.model import saving
from recsys.model.blocks import Blocks, build
from recsys.model.vocabulary import Vocabulary
from recsys.recipes import resolve
from recsys.scoring.recommend import recommend
from recsys.sequences.build import build_sequences
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
    return evaluate(shops.store, AS_OF, EVALUATION, True, 1, shops.sequences(), shops.model(1), None)


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
    other = evaluate(shops.store, AS_OF, EVALUATION, True, 1, shops.sequences(n_shards=5), shops.model(1), None)
    assert other.version != evaluated.version
    for name in ("users", "baselines"):
        assert rows_of(other, name) == rows_of(evaluated, name)
    assert rows_of(other, "metrics") == rows_of(evaluated, "metrics")


def test_a_current_model_is_the_reference(shops):
    found = evaluate(shops.store, AS_OF, EVALUATION, True, 1, shops.sequences(), shops.model(1), shops.model(2))
    rows = {(r["contender"], r["metric"], r["k"]): r for r in rows_of(found, "metrics") if r["slice"] == "all"}
    assert rows["current", "NDCG", 10]["difference"] is None
    for metric in ("NDCG", "HitRate", "Recall", "MAP", "MRR", "MeanInvUserFreq", "Serendipity"):
        row = rows["candidate", metric, 10]
        assert row["difference"] == pytest.approx(row["value"] - rows["current", metric, 10]["value"], abs=1e-8)
        assert row["low"] <= row["difference"] <= row["high"]
    assert "the current model" in (found.path / "report.md").read_text()


def test_a_model_against_itself_is_no_better_and_no_worse(shops):
    found = evaluate(shops.store, AS_OF, EVALUATION, True, 1, shops.sequences(), shops.model(1), shops.model(1))
    rows = [r for r in rows_of(found, "metrics") if r["contender"] == "candidate" and r["metric"] != "CatalogCoverage"]
    assert all((r["difference"], r["low"], r["high"]) == (0.0, 0.0, 0.0) for r in rows)


def test_the_report_says_what_the_tables_say(evaluated):
    text = (evaluated.path / "report.md").read_text()
    assert "# Evaluation of 2025-02-15" in text
    assert f"{evaluated.counts['holdout_events']:,} events" in text
    assert f"{evaluated.metrics['candidate']['NDCG@10']:.4f}" in text
    assert "There is no current model that was trained before the holdout." in text
    chosen = next(row for row in rows_of(evaluated, "baselines") if row["chosen"])
    assert f"Lately means the last {chosen['window']}" in text


def test_only_so_many_users_are_drawn(shops):
    few = evaluate(shops.store, AS_OF, EVALUATION.model_copy(update={"max_users": 20}), True, 1, shops.sequences(), shops.model(1), None)
    assert few.counts["test_users"] == 20 < few.counts["test_users_found"]
    assert {row["n_users"] for row in rows_of(few, "metrics") if row["slice"] == "all"} == {20}
    assert "20 were drawn" in (few.path / "report.md").read_text()


def test_the_same_again_is_the_same_bytes(shops, evaluated):
    heard = []
    assert evaluate(shops.store, AS_OF, EVALUATION, True, 1, shops.sequences(), shops.model(1), None).reused
    content = evaluated.content
    again = evaluate(shops.store, AS_OF, EVALUATION, True, 1, shops.sequences(), shops.model(1), None, rebuild=True, progress=heard.append)
    assert again.content == content and not again.reused
    assert heard == sorted(heard) and heard[-1] == 1.0


def test_nobody_to_test_on_is_an_answer(shops):
    """A holdout of a minute before midnight: the shop is closed."""
    evaluation = EVALUATION.model_copy(update={"holdout": "1m"})
    start = AS_OF - timedelta(minutes=1)
    found = evaluate(shops.store, AS_OF, evaluation, True, 1, shops.sequences(), shops.model(1, start), None)
    assert found.counts["test_users"] == 0 and found.metrics["candidate"].keys() == {"CatalogCoverage@5", "CatalogCoverage@10"}
    assert "There is nothing to test on." in (found.path / "report.md").read_text()


def test_a_model_that_saw_the_holdout_is_refused(shops):
    with pytest.raises(ConfigError, match="was trained on what was before .* and the holdout begins at .* compare its twin"):
        evaluate(shops.store, AS_OF, EVALUATION, True, 1, shops.sequences(), shops.model(1), shops.model(1, AS_OF))
