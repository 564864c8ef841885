"""Every recipe, at a small size, learns the demo shop: it ranks better than popularity, and no better than can be known."""

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from recsys import demo, recipes, windows
from recsys.config import Data, Evaluation, Features, Model, Scoring, Sequences, Shop, Training
from recsys.evaluation.evaluate import evaluate
from recsys.features.tables import build_features
from recsys.sequences.build import build_sequences
from recsys.store import Artifact, Store
from recsys.training.train import train

AS_OF = datetime(2026, 3, 1, tzinfo=timezone.utc)
SHOP = Shop(n_users=1500, n_items=200)
SMALL: dict[str, Any] = {"width": 64, "max_events": 12}  # smaller than what the recipes were published with
# Epochs of about 24 steps. Those that predict few events of a history, or hide its neighbours, take longer to take off.
EPOCHS = {"bert4rec": 40, "gsasrec": 50, "next_action": 10, "next_action_causal": 10, "next_action_albert_causal": 40, "albert": 60}
LONGER: dict[str, dict[str, Any]] = {"albert": {"max_events": 30}}  # more events to hide
USUAL_EPOCHS = 6


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Artifact]:
    folder: Path = tmp_path_factory.mktemp("recipes")
    store, data = Store(folder / "store"), demo.prepare(Data(demo=SHOP), AS_OF, folder / "shop")
    return store, build_sequences(store, AS_OF, Sequences(), build_features(store, AS_OF, data, Features()))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", recipes.names())
def test_it_beats_popularity_on_the_demo_shop(night: tuple[Store, Artifact], recipe: str) -> None:
    store, sequences = night
    cut = windows.holdout(AS_OF, "1d")
    assert cut.at is not None
    fitting = Training(max_epochs=EPOCHS.get(recipe, USUAL_EPOCHS), learning_rate=4e-3, patience=60, users_per_batch=64)
    sizes = SMALL | LONGER.get(recipe, {})
    model = train(store, AS_OF, Model(recipe=recipe, **sizes), fitting, 1, sequences, cut, key="user")
    compared = evaluate(store, AS_OF, Evaluation(), Scoring(), 1, sequences, model, None)
    metrics = compared.path / "metrics.parquet"
    where = "metric = 'NDCG' and k = 10 and slice = 'all'"
    reached = dict(duckdb.sql(f"select contender, value from read_parquet('{metrics}') where {where}").fetchall())
    who = duckdb.sql(f"select user_id from read_parquet('{compared.path}/users.parquet') where contender = 'candidate'").fetchall()
    best = float(demo.best_lists(SHOP, np.array([user for (user,) in who]), cut.at, k=10).ndcg.mean())
    print(f"{recipe:28} {reached['candidate']:.3f} = {reached['candidate'] / best:.0%} of the best, popular {reached['popular']:.3f}")
    assert 1.5 * max(reached["popular"], reached["popular_lately"]) < reached["candidate"] < 1.05 * best, (reached, best)
