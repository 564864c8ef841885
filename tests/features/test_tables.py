"""The tables by hand: what a few clicks come to, whatever format and ids they come in."""

import hashlib
import random
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from recsys.config import Data, Events, Items, Shop, Users
from recsys.errors import ConfigError, ContractError, RecsysError, SourceError
from recsys.schema import Schema
from recsys.store import Artifact
from recsys.windows import parse_as_of

AS_OF = parse_as_of("2024-03-11")
TABLES = ("events", "item_activity", "items", "users", "seen", "blocked", "profile")
DERIVED = (
    "hour", "weekday", "gap_seconds", "user_events_before", "item_age_seconds",
    "item_events_10m", "item_events_1h", "item_events_6h", "item_events_1d", "item_events_7d",
)  # fmt: skip

# user, item, time, device. The last event lies after AS_OF; user 1 repeats item 10.
CLICKS = [
    (1, 10, "2024-03-09 10:15:00", "phone"),
    (2, 10, "2024-03-09 10:45:00", "phone"),
    (1, 20, "2024-03-09 11:00:00", "desktop"),
    (1, 10, "2024-03-10 12:30:00", None),
    (3, 30, "2024-03-10 23:59:59.5", "phone"),
    (2, 20, "2024-03-11 00:00:00", "phone"),
]

Build = Callable[..., Artifact]
Clicks = Callable[..., str]
Rows = Callable[..., list[tuple[Any, ...]]]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_events_have_what_was_known_at_them(build: Build, clicks: Clicks, rows: Rows) -> None:
    events = build(clicks(), n_shards=1)
    assert rows(
        events, "events", "shard", "user_id", "item_id", "event_at", "event_order", "event_type", "weight", "session_id", "device"
    ) == [
        (0, 1, 10, at("2024-03-09 10:15"), 0, None, 1.0, None, "phone"),
        (0, 1, 20, at("2024-03-09 11:00"), 1, None, 1.0, None, "desktop"),
        (0, 1, 10, at("2024-03-10 12:30"), 2, None, 1.0, None, None),
        (0, 2, 10, at("2024-03-09 10:45"), 0, None, 1.0, None, "phone"),
        (0, 3, 30, at("2024-03-10 23:59:59.5"), 0, None, 1.0, None, "phone"),
    ]
    assert rows(events, "events", *DERIVED) == [
        (10, 6, None, 0, 0.0, 0, 0, 0, 0, 0),  # a Saturday
        (11, 6, 2700.0, 1, 0.0, 0, 0, 0, 0, 0),
        (12, 7, 91800.0, 2, 94500.0, 0, 0, 0, 0, 2),  # at 12:00, item 10 had two events in a week, none in a day
        (10, 6, None, 0, 1800.0, 0, 0, 0, 0, 0),  # another event of its hour is not counted
        (23, 7, None, 0, 0.0, 0, 0, 0, 0, 0),
    ]


def test_the_other_tables(build: Build, clicks: Clicks, rows: Rows) -> None:
    tables = build(clicks(), n_shards=1)
    assert rows(tables, "items", "item_id", "first_event_at", "last_event_at", "n_events", "eligible") == [
        (10, at("2024-03-09 10:15"), at("2024-03-10 12:30"), 3, True),
        (20, at("2024-03-09 11:00"), at("2024-03-09 11:00"), 1, True),
        (30, at("2024-03-10 23:59:59.5"), at("2024-03-10 23:59:59.5"), 1, True),
    ]
    assert rows(tables, "users", "shard", "user_id", "n_events", "first_event_at", "last_event_at") == [
        (0, 1, 3, at("2024-03-09 10:15"), at("2024-03-10 12:30")),
        (0, 2, 1, at("2024-03-09 10:45"), at("2024-03-09 10:45")),
        (0, 3, 1, at("2024-03-10 23:59:59.5"), at("2024-03-10 23:59:59.5")),
    ]
    assert rows(tables, "seen") == [
        (0, 1, 10, None, at("2024-03-09 10:15")),
        (0, 1, 20, None, at("2024-03-09 11:00")),
        (0, 2, 10, None, at("2024-03-09 10:45")),
        (0, 3, 30, None, at("2024-03-10 23:59:59.5")),
    ]
    assert rows(tables, "blocked") == []
    assert tables.counts["events"] == 5 and tables.counts["event_rows_read"] == 6 and tables.counts["event_rows_at_or_after_as_of"] == 1


def test_activity_by_hand(build: Build, clicks: Clicks, rows: Rows) -> None:
    activity = rows(build(clicks()), "item_activity")
    counts = {(item, hour): counts for item, hour, *counts in activity}
    hours = [hour for item, hour, *_ in activity if item == 10]
    assert hours == [at("2024-03-09 11:00") + timedelta(hours=n) for n in range(38)], "from the hour after the first event to as_of"
    by_hour = {
        "2024-03-09 11:00": [0, 2, 2, 2, 2], "2024-03-09 12:00": [0, 0, 2, 2, 2], "2024-03-09 16:00": [0, 0, 2, 2, 2],
        "2024-03-09 17:00": [0, 0, 0, 2, 2], "2024-03-10 10:00": [0, 0, 0, 2, 2], "2024-03-10 11:00": [0, 0, 0, 0, 2],
        "2024-03-10 12:00": [0, 0, 0, 0, 2], "2024-03-10 13:00": [0, 1, 1, 1, 3], "2024-03-11 00:00": [0, 0, 0, 1, 3],
    }  # fmt: skip
    assert {hour: counts[10, at(hour)] for hour in by_hour} == by_hour
    assert counts[30, at("2024-03-11 00:00")] == [1, 1, 1, 1, 1] and len(activity) == 38 + 37 + 1


def test_activity_is_what_counting_finds(build: Build, clicks: Clicks, rows: Rows) -> None:
    draw = random.Random(7)
    as_of = at("2024-03-25 08:20")  # not a full hour
    times = [as_of - timedelta(seconds=draw.randrange(1, 20 * 86400)) for _ in range(60)]
    events = [(n % 5, draw.randrange(4), time.isoformat(), "phone") for n, time in enumerate(times)]
    expected = {}
    for item in range(4):
        for ago in range(20 * 24):
            hour = as_of.replace(minute=0) - timedelta(hours=ago)
            own = [time for (_, of, _, _), time in zip(events, times, strict=True) if of == item]
            counts = [sum(hour - timedelta(hours=window) <= time < hour for time in own) for window in (1 / 6, 1, 6, 24, 168)]
            if any(counts):
                expected[item, hour] = counts
    found = {(item, hour): counts for item, hour, *counts in rows(build(clicks(rows=events), parse_as_of(as_of)), "item_activity")}
    assert found == expected


@pytest.mark.parametrize("name", ["clicks.csv", "clicks.csv.gz", "clicks.jsonl", "clicks.json.gz"])
def test_every_format_makes_the_same_tables(build: Build, clicks: Clicks, rows: Rows, name: str) -> None:
    parquet, other = build(clicks()), build(clicks(name))
    for table in TABLES[:-1]:
        assert rows(other, table) == rows(parquet, table), table
    assert Schema.load(other.path) == Schema.load(parquet.path)


@pytest.mark.parametrize("name", ["clicks", "archive.clicks", "recent"])
def test_a_database_makes_the_same_tables(build: Build, clicks: Clicks, rows: Rows, tmp_path: Path, name: str) -> None:
    parquet = clicks()
    with duckdb.connect(str(tmp_path / "shop's.duckdb")) as con:
        con.execute(f"create schema archive; create table clicks as from '{parquet}'; create table archive.clicks as from clicks")
        con.execute("create view recent as from clicks; create table items as select 40 as item_id, 'a' as kind")
    database = str(tmp_path / "shop's.duckdb")
    events = Events(attach=database, table=name, time="event_at", categorical=("device",))
    tables = build(Data(events=events, items=Items(attach=database, table="items", categorical=("kind",))), max_orphan_share=1.0)
    for table in ("events", "users", "seen"):
        assert rows(tables, table) == rows(build(parquet), table), table
    assert rows(tables, "items", "item_id", "kind", "n_events")[-1] == (40, "a", 0)


@pytest.mark.parametrize(
    "id_", ["'user ' || user_id", "('6f9619ff-8b86-d011-b42d-00000000000' || user_id)::uuid", "('0' || user_id)::varchar"]
)
@pytest.mark.parametrize("name", ["clicks.parquet", "clicks.csv", "clicks.jsonl"])
def test_string_ids_stay_as_they_are(build: Build, clicks: Clicks, rows: Rows, id_: str, name: str) -> None:
    tables = build(clicks(name, select=f"* replace ({id_} as user_id)"))
    with duckdb.connect() as con:
        expected = [user for (user,) in con.execute(f"select ({id_})::varchar from range(1, 4) users (user_id)").fetchall()]
    assert sorted(user for (user,) in rows(tables, "users", "user_id")) == expected
    assert {column.name: column.type for column in Schema.load(tables.path).select("user", "item", table="events")} == {
        "user_id": "VARCHAR",
        "item_id": "BIGINT",
    }


def test_shards_and_the_sample_follow_from_the_id_alone(build: Build, clicks: Clicks, rows: Rows) -> None:
    data = Data(events=Events(path=clicks(rows=[(user, 1, "2024-03-10 10:00", "phone") for user in range(-100, 100)]), time="event_at"))
    halves = {user: hashlib.md5(str(user).encode()).digest() for user in range(-100, 100)}
    shards = {user: int.from_bytes(digest[8:], "little") % 7 for user, digest in halves.items()}
    assert dict(rows(build(data, n_shards=7), "users", "user_id", "shard")) == shards
    sampled = build(data.model_copy(update={"sample_users": 0.25}))
    expected = {user for user, digest in halves.items() if int.from_bytes(digest[:8], "little") < 2**64 / 4}
    assert {user for (user,) in rows(sampled, "users", "user_id")} == expected
    assert sampled.counts["event_rows_of_other_users"] == 200 - len(expected) and sampled.counts["events"] == len(expected)


def test_rows_after_as_of_change_nothing(build: Build, clicks: Clicks) -> None:
    later = [(1, 10, "2024-03-11 00:00:01", "desktop"), (9, 90, "2024-03-12 10:00:00", "tv"), (1, 10, "2024-04-01 10:00:00", None)]
    before, after = build(clicks()), build(clicks("more.parquet", rows=[*CLICKS, *later]))
    assert after.version != before.version and after.content == before.content, "one file that has grown is another source of the same rows"
    assert after.counts["event_rows_at_or_after_as_of"] == 4


def test_two_builds_are_equal_to_the_byte(build: Build, clicks: Clicks) -> None:
    path = clicks(rows=[(n % 50, n % 13, f"2024-03-{1 + n % 10:02} {n % 24:02}:00:00", "phone") for n in range(3000)])
    one, two = build(path), build(path, store="other", threads=2, memory_limit="200MB")
    for table in TABLES:
        assert (one.path / f"{table}.parquet").read_bytes() == (two.path / f"{table}.parquet").read_bytes(), table
    assert (one.path / "manifest.json").read_bytes() == (two.path / "manifest.json").read_bytes()
    assert not list(one.path.parents[2].rglob("source_*")), "nothing of the work is left in the store"


def test_repeated_rows_are_dropped_and_counted(build: Build, clicks: Clicks, rows: Rows) -> None:
    tables = build(clicks(rows=[*CLICKS, CLICKS[0], CLICKS[0], (1, 10, "2024-03-09 10:15:00", "desktop")]))
    assert tables.counts["event_rows_repeated"] == 2 and tables.counts["events"] == 6, "another device is another event"
    kept = rows(tables, "events", "user_id", "event_at", "device")
    assert [device for user, moment, device in kept if user == 1 and moment == at("2024-03-09 10:15")] == ["phone", "desktop"]


def test_ties_keep_the_order_of_files_and_rows(build: Build, clicks: Clicks, rows: Rows, tmp_path: Path) -> None:
    for name, items in {"b": (4, 3), "a": (2, 9), "c": (1,)}.items():
        for ending in ("csv", "parquet", "jsonl"):
            clicks(f"{ending}/{name}.{ending}", rows=[(1, item, "2024-03-10 10:00", "phone") for item in items])
    for ending in ("csv", "parquet", "jsonl"):
        assert rows(build(str(tmp_path / f"data/{ending}/*.{ending}")), "events", "item_id", "event_order") == [
            (2, 0), (9, 1), (4, 2), (3, 3), (1, 4),
        ]  # fmt: skip


def test_a_declared_order_decides_ties(build: Build, clicks: Clicks, rows: Rows) -> None:
    ties = [(1, item, "2024-03-10 10:00", "phone") for item in (5, 7, 6)]
    path = clicks(rows=[*ties, (1, 1, "2024-03-10 09:00", "phone")], select="*, 100 - item_id as position")
    events = Events(path=path, time="event_at", order="position")
    assert rows(build(Data(events=events)), "events", "item_id") == [(1,), (7,), (6,), (5,)]


def test_data_with_an_order_only(build: Build, clicks: Clicks, rows: Rows) -> None:
    path = clicks(select="user_id, item_id, -rowid as position, device")
    tables = build(Data(events=Events(path=path, order="position", categorical=("device",))), n_shards=1)
    assert rows(tables, "events", "user_id", "item_id", "event_at", "event_order", "user_events_before", "device") == [
        (1, 10, None, 0, 0, None), (1, 20, None, 1, 1, "desktop"), (1, 10, None, 2, 2, "phone"),
        (2, 20, None, 0, 0, "phone"), (2, 10, None, 1, 1, "phone"), (3, 30, None, 0, 0, "phone"),
    ]  # fmt: skip
    schema = Schema.load(tables.path)
    assert not schema.has_times and rows(tables, "item_activity") == []
    assert schema.names("categorical", "numeric") == ("device", "user_events_before")
    assert set(pq.read_schema(tables.path / "events.parquet").names).isdisjoint(set(DERIVED) - {"user_events_before"})
    assert rows(tables, "seen", "user_id", "item_id", "first_event_at") == [
        (1, 10, None),
        (1, 20, None),
        (2, 10, None),
        (2, 20, None),
        (3, 30, None),
    ]


def test_windows_of_history_and_seen(build: Build, clicks: Clicks, rows: Rows) -> None:
    old = [(4, 40, "2024-03-05 00:00:00", "phone"), (4, 40, "2024-02-29 23:59:59", "phone"), (5, 50, "2024-03-09 00:00:00", "phone")]
    data = Data(events=Events(path=clicks(rows=[*CLICKS, *old]), time="event_at"), history="2d", seen="10d")
    tables = build(data)
    assert tables.counts["event_rows_before_window"] == 1
    assert sorted(rows(tables, "events", "user_id", "item_id")) == [(1, 10), (1, 10), (1, 20), (2, 10), (3, 30), (5, 50)]
    assert (4, 40, at("2024-03-05")) in rows(tables, "seen", "user_id", "item_id", "first_event_at")
    assert (40, 0, None) in rows(tables, "items", "item_id", "n_events", "first_event_at"), "seen, so that it has to be known"
    assert (4, 0, None) in rows(tables, "users", "user_id", "n_events", "first_event_at")


def declared(clicks: Clicks, duck: duckdb.DuckDBPyConnection, **changes: Any) -> Data:
    """CLICKS with columns of every role, and tables of items and users."""
    events = clicks(
        select="""*, 'view' as kind, 0.5 * user_id as stars, 'session ' || user_id as visit, item_id > 15 as bought,
        [1.5, user_id]::float[2] as place, 'from ' || device as note, 3.0 as price, user_id::integer as floor, [device, 'any'] as tags"""
    )
    folder = Path(events).parent
    items = "select i as item_id, [i, 1] as shelves, i / 4 as size, 'Item ' || i as title from (values (10), (20), (99)) t (i)"
    duck.execute(f"copy ({items}) to '{folder}/items.parquet'")
    duck.execute(f"copy (select u as user_id, u::smallint as region from (values (1), (2), (3), (7)) t(u)) to '{folder}/users.parquet'")
    return Data(**{
        "events": Events(
            path=events, time="event_at", type="kind", weight="stars", session="visit", label=("bought",), vector=("place",),
            text=("note",), numeric=("price",), log_numeric=("floor",), categorical=("device",), multi_categorical=("tags",),
        ),
        "items": Items(path=f"{folder}/items.parquet", multi_categorical=("shelves",), numeric=("size",), text=("title",)),
        "users": Users(path=f"{folder}/users.parquet", categorical=("region",)),
        **changes,
    })  # fmt: skip


def test_declared_columns_and_their_roles(build: Build, clicks: Clicks, duck: duckdb.DuckDBPyConnection, rows: Rows) -> None:
    tables = build(declared(clicks, duck))
    (event,) = (row for row in rows(
        tables, "events", "user_id", "event_type", "weight", "session_id", "bought", "place", "note", "price", "floor", "tags"
    ) if row[0] == 2)  # fmt: skip
    assert event == (2, "view", 1.0, "session 2", 0, [1.5, 2.0], "from phone", 3.0, 2.0, ["phone", "any"])
    assert rows(tables, "items", "item_id", "shelves", "size", "title", "n_events", "eligible") == [
        (10, [10, 1], 2.5, "Item 10", 3, True), (20, [20, 1], 5.0, "Item 20", 1, True), (30, None, None, None, 1, True),
        (99, [99, 1], 24.75, "Item 99", 0, True),
    ]  # fmt: skip
    assert sorted(rows(tables, "users", "user_id", "region", "n_events")) == [(1, 1, 3), (2, 2, 1), (3, 3, 1), (7, 7, 0)]
    assert tables.counts["events_without_declared_item"] == 1 and tables.counts["events_without_declared_user"] == 0
    found = {
        (column.table, column.name): (column.role, column.scale, column.type, column.size) for column in Schema.load(tables.path).columns
    }
    assert found == {
        ("events", "user_id"): ("user", "none", "BIGINT", 0), ("events", "item_id"): ("item", "none", "BIGINT", 0),
        ("events", "event_at"): ("time", "none", "TIMESTAMP", 0), ("events", "event_type"): ("type", "none", "VARCHAR", 0),
        ("events", "weight"): ("weight", "none", "FLOAT", 0), ("events", "session_id"): ("session", "none", "VARCHAR", 0),
        ("events", "bought"): ("label", "none", "BIGINT", 0), ("events", "device"): ("categorical", "none", "VARCHAR", 0),
        ("events", "tags"): ("multi_categorical", "none", "VARCHAR[]", 0), ("events", "price"): ("numeric", "standard", "DOUBLE", 0),
        ("events", "floor"): ("numeric", "log", "DOUBLE", 0), ("events", "place"): ("vector", "none", "FLOAT[]", 2),
        ("events", "note"): ("text", "none", "VARCHAR", 0),
        ("events", "hour"): ("categorical", "none", "BIGINT", 0), ("events", "weekday"): ("categorical", "none", "BIGINT", 0),
        ("events", "gap_seconds"): ("numeric", "log", "DOUBLE", 0), ("events", "user_events_before"): ("numeric", "log", "BIGINT", 0),
        ("events", "item_age_seconds"): ("numeric", "log", "DOUBLE", 0),
        **{("events", f"item_events_{window}"): ("numeric", "log", "INTEGER", 0) for window in ("10m", "1h", "6h", "1d", "7d")},
        ("items", "item_id"): ("item", "none", "BIGINT", 0), ("items", "shelves"): ("multi_categorical", "none", "BIGINT[]", 0),
        ("items", "size"): ("numeric", "standard", "DOUBLE", 0), ("items", "title"): ("text", "none", "VARCHAR", 0),
        ("users", "user_id"): ("user", "none", "BIGINT", 0), ("users", "region"): ("categorical", "none", "BIGINT", 0),
    }  # fmt: skip


def test_every_table_and_the_last_day_have_a_profile(build: Build, clicks: Clicks, rows: Rows) -> None:
    tables = build(clicks())
    profile = {(table, column): facts for table, column, *facts in rows(tables, "profile")}
    assert profile["events", "device"][:6] == ["VARCHAR", 5, 1, 2, "desktop", "phone"]
    assert profile["events", "gap_seconds"][:7] == ["DOUBLE", 5, 3, 2, "2700.0", "91800.0", 47250.0]
    assert profile["last_day", "device"][1:3] == [2, 1], "of the 24 hours before as_of"
    assert {table for table, _ in profile} == {*TABLES, "stg_events", "last_day"} - {"profile"}
    assert tables.manifest["profile"]["events"]["device"]["nulls"] == 1
    assert rows(tables, "days") == [(at("2024-03-10"), 3, 2, 2, 2, 2), (at("2024-03-11"), 2, 2, 2, 1, 1)]


def test_one_user_with_a_million_events(build: Build, duck: duckdb.DuckDBPyConnection, rows: Rows, tmp_path: Path) -> None:
    path = str(tmp_path / "million.parquet")
    moment = "timestamp '2024-03-10 23:59:59' - to_seconds(i)"
    duck.execute(
        f"copy (select 1 as user_id, i % 1000 as item_id, {moment} as event_at, 'robot' as device from range(1000000) t (i)) to '{path}'"
    )
    tables = build(path, memory_limit="400MB")
    assert rows(tables, "users", "user_id", "n_events") == [(1, 1_000_000)]
    order = pq.read_table(tables.path / "events.parquet", columns=["event_order"])["event_order"]
    assert order.to_numpy().tolist() == list(range(1_000_000))


def test_a_killed_run_leaves_nothing_in_the_way(build: Build, duck: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    path = str(tmp_path / "clicks.parquet")
    moment = "timestamp '2024-03-10 23:59:59' - to_seconds(i % 50000)"
    duck.execute(
        f"copy (select i % 9000 as user_id, i as item_id, {moment} as event_at, 'tv' as device from range(200000) t (i)) to '{path}'"
    )
    script = f"""
from recsys.config import Data, Events, Features
from recsys.features.tables import build_features
from recsys.store import Store
from recsys.windows import parse_as_of
data = Data(events=Events(path={path!r}, time="event_at", categorical=("device",)))
features = Features(threads=1, min_day_volume=0.0, max_age="365d")
build_features(Store({str(tmp_path / "store")!r}), parse_as_of("2024-03-11"), data, features)
"""
    killed = subprocess.Popen([sys.executable, "-c", script])
    while killed.poll() is None and not list(tmp_path.glob("store/.scratch/*/features/stg_events.parquet")):
        time.sleep(0.01)
    assert killed.poll() is None, "it was killed at work"
    killed.kill()
    killed.wait()
    assert not (tmp_path / "store/features").exists()
    assert build(path).counts["events"] == 200_000
    assert not [left for left in (tmp_path / "store").rglob("*") if "stg_events" in left.name or "spill" in left.name]


def test_ids_of_another_type_than_before(build: Build, clicks: Clicks) -> None:
    yesterday = build(clicks(), parse_as_of("2024-03-10"))
    assert build(clicks(), previous=yesterday)
    with pytest.raises(ContractError, match=r"item_id is VARCHAR in .*text.parquet .*but was BIGINT in the features of 2024-03-10"):
        build(clicks("text.parquet", select="* replace (item_id::varchar as item_id)"), previous=yesterday)


def test_limits_of_memory(build: Build, clicks: Clicks) -> None:
    with pytest.raises(ConfigError, match="features.memory_limit='plenty'"):
        build(clicks(), memory_limit="plenty")
    with pytest.raises(RecsysError, match="features.memory_limit=1MB, even with spilling"):
        build(clicks(rows=[(n, n, "2024-03-10 10:00", "phone") for n in range(2000)]), memory_limit="1MB")


def test_the_demo_shop_has_to_be_prepared(build: Build) -> None:
    with pytest.raises(ConfigError, match="recsys.demo.prepare"):
        build(Data(demo=Shop()))


def test_as_of_before_any_data(build: Build, clicks: Clicks) -> None:
    with pytest.raises(
        SourceError, match=r"no rows between .* and as_of 2020-01-01.* has rows from 2024-03-09 10:15:00 to 2024-03-11 00:00:00"
    ):
        build(clicks(), parse_as_of("2020-01-01"))
    with pytest.raises(SourceError, match="none is in the history from 2024-03-10 23:00:00"):
        early = clicks("early.parquet", rows=[click for click in CLICKS if click[2] < "2024-03-10"])
        build(Data(events=Events(path=early, time="event_at"), history="1h"))
