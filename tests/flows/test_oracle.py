"""The demo deployment against the shop's oracle: how close its model comes to the best that can be known."""

from datetime import datetime, timezone
from pathlib import Path

import duckdb
import numpy as np

from flows import deployments
from recsys import demo, windows
from recsys.evaluation.evaluate import evaluate
from recsys.features.tables import build_features
from recsys.sequences.build import build_sequences
from recsys.store import Store
from recsys.training.train import train

AS_OF = datetime(2026, 3, 1, tzinfo=timezone.utc)


def test_the_demo_model_reaches_nine_tenths_of_the_known_best_and_twice_popularity(tmp_path: Path) -> None:
    night, store = deployments.night(deployments.deployed("demo")), Store(tmp_path / "store")
    assert night.data.demo is not None
    cut = windows.holdout(AS_OF, night.evaluation.holdout)
    assert cut.at is not None
    features = build_features(store, AS_OF, demo.prepare(night.data, AS_OF, tmp_path / "shop"), night.features)
    sequences = build_sequences(store, AS_OF, night.sequences, features)
    candidate = train(store, AS_OF, night.model, night.training, night.seed, sequences, cut, key=night.sequences.key)
    compared = evaluate(store, AS_OF, night.evaluation, night.scoring, night.seed, sequences, candidate, None)

    reached = dict(read(compared.path, "contender, value", "metric = 'NDCG' and k = 10 and slice = 'all'"))
    users = np.array([user for (user,) in read(compared.path, "user_id", "contender = 'candidate'", "users")])
    best = float(demo.best_lists(night.data.demo, users, cut.at, k=10).ndcg.mean())
    assert reached["candidate"] >= 0.9 * best, (reached, best)
    assert reached["candidate"] >= 2 * max(reached["popular"], reached["popular_lately"]), (reached, best)
    assert reached["candidate"] <= 1.05 * best, "better than the best that can be known: the future has leaked"


def read(folder: Path, columns: str, where: str, table: str = "metrics") -> list[tuple]:
    return duckdb.sql(f"select {columns} from read_parquet('{folder}/{table}.parquet') where {where}").fetchall()
