"""What changed between two nights, on tables small enough to count."""

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys import difference, published
from recsys.difference import Change, Overlap
from recsys.errors import StoreError
from recsys.store import Artifact, Draft, Store

FIRST, SECOND = (datetime(2017, 10, day, tzinfo=timezone.utc) for day in (15, 16))


def artifact(
    store: Store, step: str, as_of: datetime, config: dict[str, Any], table: str = "", rows: Any = (), **inputs: Artifact
) -> Artifact:
    def build(draft: Draft) -> None:
        if table:
            (draft.path / table).parent.mkdir(exist_ok=True)
            pq.write_table(pa.Table.from_pylist(list(rows)), draft.path / table)

    return store.ensure(step, as_of, config, inputs, build, code="recsys.windows")


def lists(store: Store, as_of: datetime, by_user: dict[int, list[int]], **inputs: Artifact) -> Artifact:
    rows = [{"user_id": user, "rank": rank, "item_id": item} for user, items in by_user.items() for rank, item in enumerate(items, start=1)]
    return artifact(store, "scoring", as_of, {}, "recommendations/part-000.parquet", rows, **inputs)


def column(table: str, name: str, rows: int, nulls: int = 0, distinct: int = 10, mean: float | None = None) -> dict[str, Any]:
    return {"table": table, "column": name, "type": "BIGINT", "rows": rows, "nulls": nulls, "distinct": distinct, "mean": mean}


def test_settings_that_differ_are_named_with_their_step(tmp_path: Path) -> None:
    store = Store(tmp_path)
    one = artifact(store, "training", FIRST, {"cut": "15", "model": {"width": 16, "encoder": "SASRec()"}, "old": 1})
    other = artifact(store, "training", SECOND, {"cut": "16", "model": {"width": 32, "encoder": "SASRec()"}})
    assert list(difference.configuration({"training": one}, {"training": other, "scoring": other})) == [
        Change("training", "model.width", 16, 32),
        Change("training", "old", 1, None),
    ]
    assert list(difference.configuration({"training": one}, {"training": one})) == []


def test_of_the_data_what_is_notable(tmp_path: Path) -> None:
    before = [column("events", "user_id", 1000), column("items", "old", 50)]
    before.append(column("events", "price", 1000, nulls=5, mean=10.0))
    after = [
        column("events", "user_id", 1200, distinct=30),
        column("events", "price", 1200, nulls=60, mean=10.5),
        column("items", "new", 50),
    ]
    made = [artifact(Store(tmp_path), "features", day, {}, "profile.parquet", rows) for day, rows in ((FIRST, before), (SECOND, after))]
    assert list(difference.profile(*made)) == [
        Change("events", "rows", 1000, 1200),
        Change("events", "price: nulls", 0.005, 0.05),
        Change("events", "user_id: distinct", 10, 30),
        Change("items", "new", None, "BIGINT"),
        Change("items", "old", "BIGINT", None),
    ]


def test_metrics_of_all_users_stand_side_by_side(tmp_path: Path) -> None:
    def rows(**values: float) -> list[dict[str, Any]]:
        return [
            {"contender": name, "slice": s, "metric": "NDCG", "k": 10, "value": v} for name, v in values.items() for s in ("all", "new")
        ]

    one = artifact(Store(tmp_path), "evaluation", FIRST, {}, "metrics.parquet", rows(candidate=0.1, popular=0.05))
    other = artifact(Store(tmp_path), "evaluation", SECOND, {}, "metrics.parquet", rows(candidate=0.2, current=0.1))
    assert difference.metrics(one, other) == [
        Change("candidate", "NDCG@10", 0.1, 0.2),
        Change("popular", "NDCG@10", 0.05, None),
        Change("current", "NDCG@10", None, 0.1),
    ]


def test_lists_overlap_by_user(tmp_path: Path) -> None:
    store = Store(tmp_path)
    one = lists(store, FIRST, {1: [10, 11, 12, 13], 2: [10, 11], 3: [20]})
    other = lists(store, SECOND, {1: [10, 13, 30, 31], 2: [11, 30], 4: [40]})
    expected = Overlap(users=(3, 3), users_of_both=2, same_items=0.5, same_first=0.5, items=(5, 6), items_of_both=3)
    assert difference.lists(one.path, other.path) == expected
    assert difference.lists(one.path, one.path) == Overlap((3, 3), 3, 1.0, 1.0, (5, 5), 5)


def test_lists_of_nobody_in_common(tmp_path: Path) -> None:
    found = difference.lists(lists(Store(tmp_path), FIRST, {1: [10]}).path, lists(Store(tmp_path), SECOND, {2: [11]}).path)
    assert found == Overlap((1, 1), 0, 0.0, 0.0, (1, 1), 0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A night published twice, in two configurations, and one that never was."""
    store = Store(tmp_path)
    for width in (16, 32):
        model = artifact(store, "training", FIRST, {"width": width}, "epochs.parquet", [{"epoch": width}])
        scoring = lists(store, FIRST, {1: [width]}, training=model)
        published.publish(store, published.promotion(FIRST, str(width), "candidate", {"scoring": scoring}, ("better",)))
    artifact(store, "features", SECOND, {})
    return store


def test_a_night_is_named_by_its_date_or_a_promotion_of_it_by_its_id(store: Store) -> None:
    first, second = published.history(store)
    assert difference.night(store, "2017-10-15")["training"].manifest["config"] == {"width": 32}
    assert difference.night(store, first.id[:5])["training"].manifest["config"] == {"width": 16}
    assert difference.night(store, second.id) == difference.night(store, "2017-10-15")
    assert set(difference.night(store, "2017-10-16")) == {"features"}


def test_what_is_not_there_is_said(store: Store) -> None:
    with pytest.raises(StoreError, match="no such promotion '2017-10-20'"):
        difference.night(store, "2017-10-20")
    first = published.history(store)[0]
    for made in store.artifacts("scoring") + store.artifacts("training"):
        store.remove(made)
    with pytest.raises(StoreError, match=f"Of 2017-10-15 {first.id} nothing is left"):
        difference.night(store, first.id)
