"""What a night would do, of nights that would stop; of those that would not, test_nightly has a whole one."""

from datetime import datetime, timedelta, timezone
from pathlib import Path

from flows.plan import plan
from flows.run import Run
from recsys.config import Data, Drift, Features, Levels, Night, Shop
from recsys.rehearsal import Rehearsal
from recsys.store import Store

FIRST = datetime(2025, 6, 2, tzinfo=timezone.utc)
ALWAYS = Features(drift=Drift(volume=Levels(stop=1, warn=1)))  # no table has less than one times the rows


def test_a_plan_says_that_drift_would_stop_the_night(tmp_path: Path) -> None:
    def run(store: Store, as_of: datetime) -> Run:
        return Run(store, as_of, Night(data=Data(demo=Shop(n_users=150, n_items=50)), features=ALWAYS), datetime.now(timezone.utc))

    store = Store(tmp_path)
    for as_of in (FIRST - timedelta(days=1), FIRST):
        tables = run(store, as_of).features()
    tonight = run(Rehearsal(tmp_path), FIRST)
    assert [(line.step, line.does) for line in plan(tonight)][:2] == [("features", "reused"), ("sequences", "runs")], "nobody knows yet"
    stops = run(store, FIRST).drift(tables).metrics["stops"]
    features, drift = plan(tonight)
    assert (features.step, features.does) == ("features", "reused")
    assert (drift.step, drift.does, drift.reasons) == ("drift", "stops", tuple(stops)) and "rows" in stops[0]
