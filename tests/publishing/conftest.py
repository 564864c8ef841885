"""A small shop by hand: the sequences and scoring artifacts of a night, with every kind of user that a contract looks at."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys import published
from recsys.published import Promotion
from recsys.store import Artifact, Draft, Store

Row = dict[str, Any]


def identity(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Shop:
    """Items 10 … 21, of which 20 and 21 are not eligible. `seen` and `blocked` are item ids by user."""

    seen: dict[int, list[int]] = field(default_factory=lambda: {1: [10, 11], 3: [15], 4: [10, 11, 12, 13, 14, 15, 16, 21]})
    blocked: dict[int, list[int]] = field(default_factory=lambda: {1: [11, 12], 4: [17]})
    shards: tuple[tuple[int, ...], ...] = ((1, 2, 3), (4, 5))
    items: tuple[int, ...] = tuple(range(10, 22))
    ineligible: frozenset[int] = frozenset({20, 21})
    k: int = 3
    as_id: Callable[[int], Any] = identity  # str for string ids

    def left(self, user: int, exclude_seen: bool = True) -> list[int]:
        """Items that may be recommended to the user, by a plain loop."""
        gone = set(self.blocked.get(user, [])) | (set(self.seen.get(user, [])) if exclude_seen else set()) | self.ineligible
        return [item for item in self.items if item not in gone]

    def rows(self, exclude_seen: bool = True) -> list[Row]:
        """Lists that keep every contract: the first k items left, the last of a full list a popular one."""
        rows = []
        for user in (user for shard in self.shards for user in shard):
            for place, item in enumerate(self.left(user, exclude_seen)[: self.k]):
                source = "popular_lately" if place == self.k - 1 else "candidate"
                rows.append({"user_id": user, "rank": place + 1, "item_id": item, "score": 1.0 - place / 8, "source": source})
        return rows

    def sequences(self, store: Store, as_of: datetime) -> Artifact:
        return store.ensure("sequences", as_of, {"shop": repr(self)}, {}, self._write_sequences, code="recsys.windows")

    def scoring(
        self, store: Store, as_of: datetime, rows: list[Row], schema: pa.Schema | None = None, predictions: Sequence[Row] = ()
    ) -> Artifact:
        """The lists of all shards, and predictions where there are some; `schema` where that of the lists is not to be the right one."""

        def build(draft: Draft) -> None:
            (draft.path / "recommendations").mkdir()
            for number, shard in enumerate(self.shards):
                own = [r for r in rows if r["user_id"] in shard or (number == 0 and not any(r["user_id"] in s for s in self.shards))]
                own = [{**r, "user_id": self.as_id(r["user_id"]), "item_id": self.as_id(r["item_id"])} for r in own]
                table = pa.Table.from_pylist(own, schema or self._lists_schema())
                pq.write_table(table, draft.path / "recommendations" / f"part-{number:03d}.parquet")

            if predictions:
                (draft.path / "predictions").mkdir()
                said = [{**r, "user_id": self.as_id(r["user_id"])} for r in predictions]
                types = {
                    "user_id": self._lists_schema().field("user_id").type,
                    "head": pa.string(),
                    "class": pa.string(),
                    "value": pa.float32(),
                }
                pq.write_table(pa.Table.from_pylist(said, pa.schema(list(types.items()))), draft.path / "predictions" / "part-000.parquet")

        config = {"rows": rows, "schema": str(schema), "ids": self.as_id.__name__, "predictions": str(predictions)}
        return store.ensure("scoring", as_of, config, {}, build, code="recsys.windows")

    def promoted(self, store: Store, as_of: datetime, rows: list[Row] | None = None) -> Promotion:
        """The night, published with these lists."""
        lists = self.scoring(store, as_of, self.rows() if rows is None else rows)
        return published.publish(store, published.promotion(as_of, "c", "candidate", {"scoring": lists}, ("Better.",)))

    def values(self) -> list[tuple[Any, ...]]:
        """The rows as a copy has them, with this shop's kind of ids."""
        return [(self.as_id(r["user_id"]), r["rank"], self.as_id(r["item_id"]), r["score"], r["source"]) for r in self.rows()]

    def _lists_schema(self) -> pa.Schema:
        id_type = pa.int64() if self.as_id is identity else pa.string()
        types = {"user_id": id_type, "rank": pa.int32(), "item_id": id_type, "score": pa.float32(), "source": pa.string()}
        return pa.schema(list(types.items()))

    def _write_sequences(self, draft: Draft) -> None:
        items = {"item_id": [self.as_id(i) for i in self.items], "eligible": [i not in self.ineligible for i in self.items]}
        pq.write_table(pa.table(items), draft.path / "items.parquet")
        for number, shard in enumerate(self.shards):
            part = f"part-{number:03d}.parquet"
            users: dict[str, Any] = {"user_id": [self.as_id(user) for user in shard], "n_events": [1] * len(shard)}
            for table, count, pairs in (("seen", "n_seen", self.seen), ("blocked", "n_blocked", self.blocked)):
                users[count] = [len(pairs.get(user, [])) for user in shard]
                codes = [self.items.index(item) for user in shard for item in sorted(pairs.get(user, []))]
                (draft.path / table).mkdir(exist_ok=True)
                pq.write_table(pa.table({"item_code": pa.array(codes, pa.int32())}), draft.path / table / part)
            (draft.path / "users").mkdir(exist_ok=True)
            pq.write_table(pa.table(users), draft.path / "users" / part)


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def with_strings(shop: Shop) -> Shop:
    return replace(shop, as_id=str)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def nights() -> list[datetime]:
    return [datetime(2017, 10, day, tzinfo=timezone.utc) for day in (15, 16, 17)]
