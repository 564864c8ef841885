"""Whole nights with other inputs, item tables and fusions, named in the configuration's text."""

from datetime import datetime, timezone
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from flows.nightly import nightly
from recsys import published
from recsys.config import Data, Evaluation, Model, Promotion, Shop, Training
from recsys.model.saving import load
from recsys.store import Store

pytestmark = pytest.mark.usefixtures("prefect_server")

RICH = Model(
    width=16,
    max_events=10,
    inputs=(
        'Inputs(features=["hour", "gap_seconds"], layer_norm=true, projection=MLP(sizes=[32]), noise=[SwapNoise(p=0.1)], '
        'embeddings=[Category(columns=["tags", "interests"], shared=true), SoftOneHot(columns=["dwell_seconds"])])'
    ),
    items='Factorised(inner=Combined(blocks=[IdEmbedding(), Features(features=["brand", "price"])]), inner_width=8)',
    fusion='UserFeatures(features=["age"], embeddings=[UserId(width=4)], how="multiply")',
)


def test_a_night_with_a_part_of_every_kind(tmp_path: Path) -> None:
    state = nightly(
        as_of=datetime(2025, 6, 2, tzinfo=timezone.utc),
        store=str(tmp_path),
        data=Data(demo=Shop(n_users=120, n_items=40)),
        model=RICH,
        training=Training(max_epochs=2, learning_rate=0.01, users_per_batch=32, n_validation_users=50),
        evaluation=Evaluation(n_bootstrap=100),
        promotion=Promotion(min_users=1, min_lift=-1.0, min_refit_overlap=0.0),
        return_state=True,
    )
    assert state.is_completed(), state
    now = published.current(Store(tmp_path))
    assert now is not None and now.source == "candidate"
    network, vocabulary = load(Store(tmp_path).open(now.artifacts["training"]).path)
    assert set(network.user_columns) == {"interests", "age", "user_id"} and vocabulary.user_id is not None
    users = pq.read_table(Store(tmp_path).open(now.artifacts["sequences"]).path / "users")
    lists = pq.read_table(Store(tmp_path).open(now.artifacts["scoring"]).path / "recommendations")
    assert set(lists["user_id"].to_pylist()) == set(users["user_id"].to_pylist())
