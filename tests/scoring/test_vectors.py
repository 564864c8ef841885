"""Vectors and item-to-item lists, beside the lists of a night and on demand."""

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recsys.config import Scoring
from recsys.model.catalogue import Catalogue
from recsys.scoring import vectors
from recsys.scoring.recommend import recommend
from recsys.windows import everything

AS_OF = datetime(2025, 3, 2, tzinfo=timezone.utc)


def test_similar_items_are_those_that_point_the_same_way() -> None:
    """Four directions in the plane; length does not matter, and no item is like itself."""
    catalogue = Catalogue(torch.tensor([[1.0, 0.0], [5.0, 5.0], [0.0, 2.0], [-3.0, 0.0]]))
    rows = vectors.similar_items(pa.array([10, 20, 30, 40]), catalogue, 2).to_pylist()
    half = pytest.approx(np.sqrt(0.5))
    found = {(row["item_id"], row["rank"]): (row["similar_item_id"], row["score"]) for row in rows}
    assert found[10, 1] == (20, half) and found[10, 2] == (30, pytest.approx(0))
    assert found[20, 1] == (10, half) and found[20, 2] == (30, half), "ties in order of the items"
    assert found[40, 1] == (30, pytest.approx(0)) and found[40, 2] == (20, pytest.approx(-np.sqrt(0.5)))
    assert all(row["item_id"] != row["similar_item_id"] for row in rows) and len(rows) == 8


def test_lists_are_short_where_there_are_few_items() -> None:
    assert len(vectors.similar_items(pa.array([1, 2, 3]), Catalogue(torch.eye(3)), 10)) == 3 * 2


@pytest.fixture(scope="module")
def scored(night: Any) -> Any:
    """A night that asks for everything."""
    scoring = Scoring(k=10, vectors=True, similar_items=5, exclude_seen=False)
    return recommend(night.store, AS_OF, scoring, night.sequences(), night.model(), "candidate", "6h")


def test_the_vectors_products_are_the_scores(night: Any, scored: Any) -> None:
    items = pq.read_table(scored.path / "vectors" / "items.parquet").to_pylist()
    users = [row for file in sorted((scored.path / "vectors" / "users").glob("*")) for row in pq.read_table(file).to_pylist()]
    item, user = ({row[key]: np.array(row["vector"]) for row in rows} for key, rows in (("item_id", items), ("user_id", users)))
    lists = [row for file in sorted((scored.path / "recommendations").glob("*")) for row in pq.read_table(file).to_pylist()]
    by_model = [row for row in lists if row["source"] == "candidate"]
    assert {row["user_id"] for row in by_model} == set(user) and 1 not in user, "user 1 has no history"
    assert scored.counts["user_vectors"] == len(user)
    for row in by_model:
        assert item[row["item_id"]] @ user[row["user_id"]] == pytest.approx(row["score"], abs=1e-4)
    assert set(item) <= {1000 + code for code in np.flatnonzero(night.world.eligible)}


def test_similar_items_of_a_night_are_by_cosine(scored: Any) -> None:
    items = pq.read_table(scored.path / "vectors" / "items.parquet").to_pydict()
    matrix = np.array(items["vector"])
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    cosine = matrix @ matrix.T - 2 * np.eye(len(matrix))
    similar = pq.read_table(scored.path / "similar_items.parquet").to_pylist()
    place = {item: row for row, item in enumerate(items["item_id"])}
    assert len(similar) == 5 * len(matrix)
    for row in similar:
        own = cosine[place[row["item_id"]]]
        assert row["score"] == pytest.approx(np.sort(own)[-row["rank"]], abs=1e-5)
        assert row["score"] == pytest.approx(own[place[row["similar_item_id"]]], abs=1e-5)


def test_on_demand_they_are_the_same(night: Any, scored: Any, tmp_path: Path) -> None:
    counts = vectors.write_vectors(tmp_path / "vectors", night.model().path, night.sequences().path, everything(AS_OF, True))
    vectors.write_similar(tmp_path / "similar_items.parquet", night.model().path, night.sequences().path, 5)
    files = [file.relative_to(tmp_path) for file in tmp_path.rglob("*.parquet")]
    assert len(files) == 1 + 1 + 3  # items, similar items, three shards of users
    for file in files:
        assert pq.read_table(tmp_path / file).equals(pq.read_table(scored.path / file))
    assert counts == {"items": len(pq.read_table(scored.path / "vectors" / "items.parquet")), "users": scored.counts["user_vectors"]}


def test_nothing_of_it_unless_asked(night: Any) -> None:
    for artifact in (
        recommend(night.store, AS_OF, Scoring(), night.sequences(), night.model(), "candidate", "6h"),
        recommend(night.store, AS_OF, Scoring(vectors=True, similar_items=5), night.sequences(), None, "popular", ""),
    ):
        assert sorted(path.name for path in artifact.path.iterdir()) == ["manifest.json", "recommendations", "run.json"]
