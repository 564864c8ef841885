"""Memory that does not grow with the number of users, and parts that are made in several processes."""

import tracemalloc
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recsys.config import Model, Scoring
from recsys.dictionary import Dictionary
from recsys.errors import ConfigError, RecsysError
from recsys.histories import Histories
from recsys.model import saving
from recsys.model.blocks import build
from recsys.model.vocabulary import Vocabulary
from recsys.recipes import resolve
from recsys.schema import Schema
from recsys.scoring import recommend as module
from recsys.scoring.recommend import recommend
from recsys.store import Artifact, Draft, Store
from recsys.windows import microseconds

AS_OF = datetime(2025, 3, 2, tzinfo=timezone.utc)
N_ITEMS, N_EVENTS = 50, 10
MODEL = resolve(Model(recipe="sasrec", width=8, max_events=4, encoder="SASRec(n_blocks=1)"))


def sequences(store: Store, n_users: int) -> Artifact:
    """One shard of users with ten events each, all of which they have seen."""

    def write(draft: Draft) -> None:
        Schema((), True).save(draft.path)
        item = np.random.default_rng(0).permuted(np.tile(np.arange(N_ITEMS, dtype=np.int32), (n_users, 1)), axis=1)[:, :N_EVENTS]
        moment = np.tile(microseconds(AS_OF) - 10**9 + np.arange(N_EVENTS), n_users)
        n_own, seen = np.full(n_users, N_EVENTS), np.sort(item, axis=1).ravel()
        never, codes = pa.array([None] * N_ITEMS, pa.int64()), np.arange(N_ITEMS)
        first = {"eligible": np.full(N_ITEMS, True), "first_event_at": never, "n_events": np.full(N_ITEMS, 1)}
        tables = {
            "users": {"user_id": np.arange(n_users), "n_events": n_own, "n_seen": n_own, "n_blocked": 0 * n_own},
            "histories": {"item_code": item.ravel(), "event_at": moment, "weight": np.ones(n_users * N_EVENTS, np.float32)},
            "seen": {"item_code": seen, "first_event_at": moment},
            "blocked": {"item_code": np.zeros(0, np.int32)},
        }
        pq.write_table(pa.table({"item_id": codes, **first}), draft.path / "items.parquet")
        for name, columns in tables.items():
            (draft.path / name).mkdir()
            pq.write_table(pa.table(columns), draft.path / name / "part-000.parquet", row_group_size=4096)

    return store.ensure("sequences", AS_OF, {"n_users": n_users}, {}, write, code="recsys.windows")


def model(store: Store, of: Artifact) -> Artifact:
    def write(draft: Draft) -> None:
        histories, dictionary = Histories.load(of.path), Dictionary.load(of.path)
        vocabulary = Vocabulary.fit(histories, dictionary, histories.offsets[1:])
        torch.manual_seed(0)
        saving.save(draft.path, build(MODEL, vocabulary), MODEL, vocabulary)

    return store.ensure("training", AS_OF, {}, {"sequences": of}, write, code="recsys.windows")


def test_memory_does_not_grow_with_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what numpy and Arrow hold, a user more costs some counts, not a history (280 bytes here), a list or a row of a table."""
    monkeypatch.setattr(module, "USERS_PER_ROW_GROUP", 1024)
    monkeypatch.setattr("recsys.arrays.BATCH_ROWS", 4096)
    store, peaks = Store(tmp_path), []
    trained = model(store, sequences(store, 2000))
    usual = pa.default_memory_pool()
    for n_users in (2000, 2000, 20_000):  # the first one warms up
        shards = sequences(store, n_users)
        pool = pa.proxy_memory_pool(usual)
        pa.set_memory_pool(pool)
        tracemalloc.start()
        try:
            done = recommend(store, AS_OF, Scoring(k=5, users_per_tile=1024), shards, trained, "candidate", "1d", rebuild=True)
            peaks.append(tracemalloc.get_traced_memory()[1] + pool.max_memory())
        finally:
            tracemalloc.stop()
            pa.set_memory_pool(usual)
        assert done.counts["items_from_candidate"] == 5 * n_users
    assert peaks[2] - peaks[1] < 60 * (20_000 - 2000)


def test_processes_change_nothing(night: Any) -> None:
    """Every byte of every table, and the counts; progress is told part by part."""
    told: dict[int, list[float]] = {1: [], 2: []}
    made = []
    for n in told:
        scoring = Scoring(k=10, vectors=True, processes=n, threads=1, users_per_tile=64)
        asked = (night.store, AS_OF, scoring, night.sequences(), night.model(), "candidate", "6h")
        done = recommend(*asked, progress=told[n].append, rebuild=True)
        made.append(({f.relative_to(done.path): f.read_bytes() for f in done.path.rglob("*.parquet")}, done.counts))
    assert made[0] == made[1] and len(made[0][0]) == 3 + 3 + 1
    assert all(heard == sorted(heard) and heard[-1] == 1.0 for heard in told.values()) and len(told[2]) == 3


def test_what_goes_wrong_in_a_process_is_said(tmp_path: Path, night: Any) -> None:
    asked = sequences(Store(tmp_path), 10)
    (asked.path / "seen" / "part-000.parquet").unlink()
    with pytest.raises((RecsysError, ConfigError), match=r"seen.part-000.parquet is missing"):
        recommend(Store(tmp_path), AS_OF, Scoring(processes=2), asked, None, "popular", "")
