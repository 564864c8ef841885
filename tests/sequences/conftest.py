"""Small *features* artifacts, made by hand as docs/artifacts.md describes them."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.config import Features, Sequences
from recsys.schema import Column, Schema, known_at
from recsys.sequences.build import LIMITS, build_sequences
from recsys.store import Artifact, Store
from recsys.windows import ACTIVITY

FIRST_HOUR = datetime(2025, 3, 1)
AS_OF = datetime(2025, 3, 10, tzinfo=timezone.utc)

Row = dict[str, Any]


@dataclass(frozen=True)
class Tables:
    """What the sources have. An event's `hour` counts from 2025-03-01; without times, events are in the given order."""

    events: Sequence[Row]
    older: Sequence[Row] = ()  # events of the seen window before the history
    items: Sequence[Row] = ()  # what is declared
    users: Sequence[Row] = ()
    blocked: Sequence[Row] = ()
    activity: Sequence[Row] = ()
    columns: Sequence[Column] = ()  # features, labels and texts
    has_times: bool = True
    n_shards: int = 1

    def types(self, table: str) -> dict[str, pa.DataType]:
        return {c.name: ARROW[c.type] for c in self.columns if c.table == table}


ARROW = {
    "BIGINT": pa.int64(),
    "VARCHAR": pa.string(),
    "DOUBLE": pa.float64(),
    "FLOAT[]": pa.list_(pa.float32()),
    "VARCHAR[]": pa.list_(pa.string()),
    "BIGINT[]": pa.list_(pa.int64()),
}
TIME = pa.timestamp("us")

Build = Callable[..., Artifact]


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """`build(sequences=Sequences(…), events=[…], items=[…] …)`: the sequences artifact of such tables, in a store of its own."""

    def artifact(sequences: Sequences | None = None, *, limits: Features = LIMITS, **tables: Any) -> Artifact:
        given, store = Tables(**tables), Store(tmp_path_factory.mktemp("store"))
        features = store.ensure("features", AS_OF, {}, {}, lambda draft: _write(given, draft.path), code="recsys.schema")
        return build_sequences(store, AS_OF, sequences or Sequences(), features, limits=limits)

    return artifact


def _write(tables: Tables, folder: Path) -> None:
    ids = [(row["user_id"], row["item_id"]) for row in (*tables.events, *tables.older)]
    user_type, item_type = (pa.array([pair[place] for pair in ids]).type for place in range(2))

    def write(name: str, rows: list[Row], key: list[str], **types: pa.DataType) -> None:
        known = {"shard": pa.int32(), "user_id": user_type, "item_id": item_type, "event_type": pa.string(), **types}
        schema = pa.schema([(column, known[column]) for column in dict.fromkeys([*key, *types])])
        rows = sorted(rows, key=lambda row: [(row[column] is not None, row[column]) for column in key])
        pq.write_table(pa.Table.from_pylist(rows, schema), folder / f"{name}.parquet", compression="zstd")

    def events_of(rows: Sequence[Row]) -> list[Row]:
        found = [{"event_type": None, "session_id": None, "weight": 1.0, **row, "event_at": _moment(row)} for row in rows]
        return [{**row, "shard": zlib.crc32(str(row["user_id"]).encode()) % tables.n_shards} for row in found]

    events = sorted(events_of(tables.events), key=lambda row: row.get("hour", 0))
    labels = [c.name for c in tables.columns if c.role == "label" and tables.has_times]
    for row, name in product(events, labels):  # known at the event, unless the row says since which hour
        known = row["event_at"] if known_at(name) not in row else _moment({"hour": row[known_at(name)]})
        row[known_at(name)] = None if row[name] is None else known
    for place, row in enumerate(events):
        row["event_order"] = sum(before["user_id"] == row["user_id"] for before in events[:place])
    shard = {row["user_id"]: row["shard"] for row in events_of([*tables.events, *tables.older])}
    shard |= {row["user_id"]: zlib.crc32(str(row["user_id"]).encode()) % tables.n_shards for row in tables.users}
    sessions = pa.array([row["session_id"] for row in events]).type if any(row["session_id"] is not None for row in events) else pa.int64()
    write(
        "events", events, ["shard", "user_id", "event_order"], item_id=item_type, event_order=pa.int64(), event_at=TIME,
        event_type=pa.string(), weight=pa.float32(), session_id=sessions, **tables.types("events"),
        **dict.fromkeys(map(known_at, labels), TIME),
    )  # fmt: skip

    pairs: dict[tuple[Any, ...], Row] = {}
    for row in sorted(events_of(tables.older), key=lambda row: row.get("hour", 0)) + events:
        pairs.setdefault((row["user_id"], row["item_id"], row["event_type"]), {**row, "first_event_at": row["event_at"]})
    write("seen", list(pairs.values()), ["shard", "user_id", "item_id", "event_type"], first_event_at=TIME)
    write("blocked", [{**row, "shard": shard[row["user_id"]]} for row in tables.blocked], ["shard", "user_id", "item_id"])

    declared = {"item_id": {row["item_id"]: row for row in tables.items}, "user_id": {row["user_id"]: row for row in tables.users}}
    for name, key, order in (("items", "item_id", ["item_id"]), ("users", "user_id", ["shard", "user_id"])):
        rows = []
        for value in {pair[key == "item_id"] for pair in ids} | set(declared[key]):
            moments = [row["event_at"] for row in events if row[key] == value]
            about = {"n_events": len(moments), "first_event_at": min(moments, default=None) if tables.has_times else None, "eligible": True}
            rows.append({key: value, "shard": shard.get(value), **about, **declared[key].get(value, {})})
        extra = {"n_events": pa.int64(), "first_event_at": TIME, **({"eligible": pa.bool_()} if name == "items" else {})}
        write(name, rows, order, **extra | tables.types(name))
    counts = dict.fromkeys((f"events_{window}" for window in ACTIVITY), pa.int32())
    write("item_activity", [{**row, "hour_at": _moment(row)} for row in tables.activity], ["hour_at", "item_id"], hour_at=TIME, **counts)

    keys = (Column("user_id", "events", "user"), Column("item_id", "events", "item"))
    keys += (Column("event_type", "events", "type"),) if any(row["event_type"] for row in events) else ()
    keys += (Column("session_id", "events", "session"),) if any(row["session_id"] is not None for row in events) else ()
    keys += (Column("event_at", "events", "time"),) if tables.has_times else ()
    Schema((*keys, *tables.columns), tables.has_times).save(folder)


def _moment(row: Row) -> datetime | None:
    return FIRST_HOUR + timedelta(hours=row["hour"]) if "hour" in row else None
