"""The step: a decision as an artifact, of an evaluation as an artifact."""

import json
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.config import Promotion
from recsys.errors import StoreError
from recsys.evaluation.comparison import LIFTS
from recsys.page import PLACE_OF_DECISION
from recsys.promotion.policy import Decision, decide, judge
from recsys.promotion.results import Measured
from recsys.store import Artifact, Draft, Store
from tests.promotion.evenings import better_on_average, evening, measured

NIGHT = datetime(2017, 10, 17, tzinfo=timezone.utc)


def evaluation(store: Store, contenders: dict[str, Measured], k: int = 10, window: str | None = "6h", metric: str = "NDCG") -> Artifact:
    """An evaluation artifact with these results, and with others that must not be read instead."""

    def build(draft: Draft) -> None:
        rows = []
        for name, c in contenders.items():
            decoy = {"contender": name, "n_users": 7, "difference": None, "low": None, "high": None, "value": 0.99}
            paired = {"difference": c.difference, "low": c.low, "high": c.high}
            rows += [
                {**decoy, "slice": "all", "metric": "MRR", "k": k},
                {**decoy, "slice": "all", "metric": metric, "k": k + 10},
                {**decoy, "slice": "new users", "metric": metric, "k": k},
                {**decoy, **paired, "slice": "all", "metric": metric, "k": k, "value": c.value, "n_users": c.n_users},
                {**decoy, "slice": "all", "metric": "CatalogCoverage", "k": k, "value": c.coverage, "n_users": c.n_users},
            ]
            for part, of_part in c.slices.items():
                paired = {"difference": of_part.difference, "low": of_part.low, "high": of_part.high}
                rows.append(
                    {**decoy, **paired, "slice": part, "metric": metric, "k": k, "value": of_part.value, "n_users": of_part.n_users}
                )
        other = {"difference": 0.99}
        lifts = [
            {"contender": name, "baseline": baseline, "metric": of, "k": at, **found}
            for name, c in contenders.items()
            for baseline, paired in c.lifts.items()
            for of, at, found in ((metric, k, asdict(paired)), ("MRR", k, other), (metric, k + 10, other))
        ]
        pq.write_table(pa.Table.from_pylist(rows), draft.path / "metrics.parquet")
        pq.write_table(pa.Table.from_pylist(lifts, LIFTS), draft.path / "lifts.parquet")
        windows = [{"window": w, "ndcg_at_10": 0.1, "chosen": w == window} for w in ("1h", "6h")]
        pq.write_table(pa.Table.from_pylist(windows), draft.path / "baselines.parquet")
        (draft.path / "report.html").write_text(f"<h1>Tonight</h1>{PLACE_OF_DECISION}")

    config = {name: asdict(c) for name, c in contenders.items()}
    return store.ensure("evaluation", NIGHT, {**config, "k": k, "window": window}, {}, build, code="recsys.windows")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_a_decision_is_an_artifact_that_reads_back(store: Store) -> None:
    contenders = evening(0.105, current=0.11)
    artifact = decide(store, NIGHT, Promotion(), evaluation(store, contenders))
    decision = Decision.load(artifact)
    assert decision == judge(contenders, Promotion(), popular_window="6h")
    assert artifact.metrics == {"published": "current", "held": False}
    table = pq.read_table(artifact.path / "decision.parquet").to_pylist()
    assert [(row["contender"], row["published"]) for row in table] == [
        ("current", True),
        ("candidate", False),
        ("popular_lately", False),
        ("popular", False),
    ]
    assert [row["reasons"] for row in table] == list(decision.reasons)
    assert json.loads((artifact.path / "decision.json").read_text())["popular_window"] == "6h"


def test_the_same_evaluation_is_decided_once_and_another_policy_anew(store: Store) -> None:
    results = evaluation(store, evening(0.12))
    first = decide(store, NIGHT, Promotion(), results)
    assert decide(store, NIGHT, Promotion(), results).reused
    assert decide(store, NIGHT, Promotion(min_lift=0.5), results).version != first.version
    other = decide(store, NIGHT, Promotion(), results, alone="nobody is there")
    assert other.version != first.version and Decision.load(other).reasons[0].endswith("; nobody is there.")


def test_in_a_trial_the_page_says_that_nothing_was_published(store: Store) -> None:
    results = evaluation(store, evening(0.12))
    night, trial = (decide(store, NIGHT, Promotion(), results, trial=trial) for trial in (False, True))
    assert Decision.load(trial) == Decision.load(night) and trial.version != night.version
    of_night, of_trial = ((made.path / "report.html").read_text() for made in (night, trial))
    assert "<strong>The decision</strong>" in of_night and "Nothing was published" not in of_night
    assert "<strong>Nothing was published. In a night this would be the decision</strong>" in of_trial


def test_the_policys_own_metric_and_length_of_list_decide(store: Store) -> None:
    artifact = decide(store, NIGHT, Promotion(metric="Recall()", k=20), evaluation(store, evening(0.12), k=20, metric="Recall"))
    assert Decision.load(artifact).reasons[0].startswith("The candidate is published: on 1,234 test users its Recall@20 of 0.1200 is")


def test_limits_of_slices_are_of_the_evaluations_slices(store: Store) -> None:
    results = evaluation(store, better_on_average(0.06))
    assert Decision.load(decide(store, NIGHT, Promotion(slice_tolerance={"users known for less": 0.1}), results)).published == "current"
    assert Decision.load(decide(store, NIGHT, Promotion(slice_tolerance={"users known for 7": 0.1}), results)).published == "candidate"


def test_data_without_times_has_no_window(store: Store) -> None:
    contenders = evening(0.12)
    del contenders["popular_lately"]
    decision = Decision.load(decide(store, NIGHT, Promotion(), evaluation(store, contenders, window=None)))
    assert (decision.published, decision.popular_window) == ("candidate", "")


@pytest.mark.parametrize("kept", [(), ("popular",), ("candidate",), ("candidate", "popular", "stranger")])
def test_an_evaluation_that_lacks_a_contender_is_no_ground_for_a_decision(store: Store, kept: tuple[str, ...]) -> None:
    contenders = {name: c for name, c in {**evening(0.12), "stranger": measured(0.1)}.items() if name in kept}
    broken = evaluation(store, contenders or {"candidate": measured(0.1)}, k=10 if kept else 30)
    with pytest.raises(StoreError, match="NDCG at 10 is needed for the candidate, a baseline"):
        decide(store, NIGHT, Promotion(), broken)
    assert store.artifacts("promotion") == []
