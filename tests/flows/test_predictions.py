"""A night with heads of labels: the demo shop's two labels are learned, measured, and predicted for every user with a history."""

from datetime import datetime, timezone
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from flows.nightly import nightly
from recsys import published
from recsys.config import Data, Evaluation, Model, Promotion, Shop, Training
from recsys.store import Store

pytestmark = pytest.mark.usefixtures("prefect_server")

AS_OF = datetime(2025, 6, 2, tzinfo=timezone.utc)
HEADS = (
    "NextItem()",
    'Binary(label="purchased")',
    'Regression(label="hours_until_return")',
    'Binary(label="purchased", of="event", name="purchased_of_events")',
)


@pytest.mark.slow
def test_a_night_predicts_what_its_heads_have_learned(tmp_path: Path) -> None:
    state = nightly(
        as_of=AS_OF,
        store=str(tmp_path),
        data=Data(demo=Shop(n_users=1000, n_items=400)),
        model=Model(width=32, max_events=30, heads=HEADS),
        training=Training(max_epochs=6, learning_rate=0.01, users_per_batch=64),
        evaluation=Evaluation(n_bootstrap=100),
        promotion=Promotion(min_users=1, min_lift=-1.0, min_refit_overlap=0.0),
        return_state=True,
    )
    assert state.is_completed(), state
    store = Store(tmp_path)
    now = published.current(store)
    assert now is not None and now.source == "candidate"

    epochs = pq.read_table(store.open(now.artifacts["twin"]).path / "epochs.parquet").to_pylist()
    best = max(epochs, key=lambda row: row["ndcg_at_10"])
    assert {"purchased/auroc", "purchased/log_loss", "hours_until_return/mae", "hours_until_return/rmse", "skill"} <= best.keys()
    assert best["purchased_of_events/auroc"] > 0.55, "what is bought depends on its kind, and the next article is often of the same kind"
    assert store.open(now.artifacts["twin"]).metrics["purchased/auroc"] == best["purchased/auroc"]

    scoring, sequences = (store.open(now.artifacts[name]) for name in ("scoring", "sequences"))
    with duckdb.connect() as con:
        con.execute(f"create view predictions as from '{scoring.path}/predictions/*.parquet'")
        con.execute(f"create view users as from '{sequences.path}/users/*.parquet'")
        said = "select head, count(*), count(class), min(value), max(value), avg(value) from predictions group by head order by head"
        hours, *purchased = con.execute(said).fetchall()
        (n_users,) = con.execute("select count(*) from users where n_events > 0").fetchall()[0]
        assert con.execute("select count(*) from predictions anti join users using (user_id)").fetchall() == [(0,)]
    assert [row[:3] for row in (hours, *purchased)] == [
        (name, n_users, 0) for name in ("hours_until_return", "purchased", "purchased_of_events")
    ]
    for _, _, _, least, most, mean in purchased:
        assert 0 < least < most < 1 and 0.1 < mean < 0.4
    assert 15 < hours[-1] < 60
    assert scoring.counts["predictions"] == 3 * n_users
    checks = pq.read_table(store.open(now.artifacts["publishing"]).path / "checks.parquet").to_pylist()
    assert {"rule": "predictions", "value": 0.0, "limit": 0.0, "passed": True} in checks
