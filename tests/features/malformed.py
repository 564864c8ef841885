"""Sources that are wrong in one way each, and what has to be said of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb

from recsys.config import Data, Events, Items, Users
from tests.features.days import DAYS, day, events, write


def clicks_with(change: str, ending: str = ".parquet", **settings: Any) -> Callable[[Path], Data]:
    """Events of which the select list was changed."""
    return lambda root: events(write(root / f"clicks{ending}", f"select {change} from ({day(DAYS[2])})"), **settings)


def file(name: str, content: bytes | str, **settings: Any) -> Callable[[Path], Data]:
    def make(root: Path) -> Data:
        (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return events(str(root / name), **settings)

    return make


def truncated(root: Path) -> Data:
    path = Path(write(root / "clicks.parquet", day(DAYS[2], rows=5000)))
    path.write_bytes(path.read_bytes()[:-20])
    return events(str(path))


def damaged(root: Path) -> Data:
    """The footer is whole, the rows are not."""
    path = Path(write(root / "clicks.parquet", day(DAYS[2], rows=5000)))
    content = bytearray(path.read_bytes())
    content[100:2000] = bytes(1900)
    path.write_bytes(content)
    return events(str(path))


def two(first: str, second: str, **settings: Any) -> Callable[[Path], Data]:
    """Two files of which the second differs."""

    def make(root: Path) -> Data:
        write(root / "a.parquet", f"select {first} from ({day(DAYS[1])})")
        write(root / "b.parquet", f"select {second} from ({day(DAYS[2])})")
        return events(f"{root}/*.parquet", **settings)

    return make


def beside(**tables: str) -> Callable[[Path], Data]:
    def make(root: Path) -> Data:
        kinds: dict[str, Any] = {"items": Items, "users": Users}
        others = {name: kinds[name](path=write(root / f"{name}.parquet", select)) for name, select in tables.items()}
        return Data(events=Events(path=write(root / "clicks.parquet", day(DAYS[2])), time="event_at"), **others)

    return make


def database(table: str, name: str = "shop.duckdb") -> Callable[[Path], Data]:
    def make(root: Path) -> Data:
        with duckdb.connect(str(root / "shop.duckdb")) as con:
            con.execute(f"create or replace table clicks as {day(DAYS[2])}")
        (root / "no.duckdb").write_text("no database, this")
        return Data(events=Events(attach=str(root / name), table=table, time="event_at"))

    return make


TEXT_HEADER = "user_id,item_id,event_at\n"

# What is wrong → the source, and what the message has to say: where, what, how often, what to do.
MALFORMED: dict[str, tuple[Callable[[Path], Data], list[str]]] = {
    "missing file": (lambda root: events(f"{root}/clicks-*.parquet"), ["data.events.path", "no file matches", "clicks-*.parquet"]),
    "folder": (lambda root: events(str(root)), ["is a folder", "/**/*.parquet"]),
    "empty file": (file("clicks.parquet", ""), ["clicks.parquet is empty (0 bytes)", "take it away"]),
    "no rows": (lambda root: events(write(root / "clicks.parquet", day(DAYS[2], rows=0))), ["clicks.parquet has no rows"]),
    "csv with a header only": (file("clicks.csv", TEXT_HEADER), ["clicks.csv has no rows"]),
    "truncated parquet": (truncated, ["clicks.parquet cannot be read", "cut off"]),
    "damaged parquet": (damaged, ["clicks.parquet cannot be read"]),
    "text under another name": (file("clicks.parquet", TEXT_HEADER * 9), ["clicks.parquet cannot be read"]),
    "csv with a short line": (file("clicks.csv", TEXT_HEADER + "1,2,2024-03-10T10:00:00Z\n" * 3 + "1,2\n"), ["clicks.csv cannot be read"]),
    "csv that is not UTF-8": (
        file("clicks.csv", TEXT_HEADER.encode() + "Müller,2,2024-03-10T10:00:00Z\n".encode("latin1")),
        ["clicks.csv cannot be read", "utf-8"],
    ),
    "cut off json": (
        file("clicks.jsonl", '{"user_id": 1, "item_id": 2, "event_at": "2024-03-10T10:00:00Z"}\n{"user_id": 1, "item'),
        ["clicks.jsonl cannot be read"],
    ),
    "unknown ending": (file("clicks.orc", "ORC"), ["clicks.orc has none of the known endings .parquet", "with .gz or .zst"]),
    "missing column": (
        clicks_with("* rename (item_id as itemid)"),
        ["clicks.parquet has no column 'item_id' (declared as item)", "Nearest there: itemid"],
    ),
    "missing column in csv": (
        clicks_with("* rename (item_id as itemid)", ".csv"),
        ["clicks.csv has no column 'item_id' (declared as item)", "Nearest there: itemid"],
    ),
    "missing feature": (
        clicks_with("*, 1 as devize", categorical=("device",)),
        ["has no column 'device' (declared as categorical)", "Nearest there: devize"],
    ),
    "a file without a column": (two("*, 'x' as device", "*", categorical=("device",)), ["b.parquet has no column 'device'"]),
    "float ids": (
        clicks_with("* replace (nullif(user_id, 0)::double as user_id)"),
        ["'user_id' (user) is DOUBLE in", "4 rows, 2 of them null, as {1.0, 1.0}", "cast it to an integer"],
    ),
    "float ids in csv": (
        clicks_with("* replace (item_id::double as item_id)", ".csv"),
        ["'item_id' (item) is DOUBLE", "4 rows", "as {0.0, 1.0, 2.0}"],
    ),
    "ids of a strange type": (
        clicks_with("* replace ({'id': user_id} as user_id)"),
        ["'user_id' (user) is STRUCT(id BIGINT)", "an id is an integer or a string"],
    ),
    "ids of mixed type in json": (
        file(
            "clicks.jsonl",
            '{"user_id": 1, "item_id": 2, "event_at": "2024-03-10T10:00:00Z"}\n{"user_id": "a", "item_id": 2, "event_at": null}\n',
        ),
        ["'user_id' (user) is JSON", "2 rows", 'as {1, "a"}'],
    ),
    "ids of two types": (
        two("*", "* replace (user_id::varchar as user_id)"),
        ["the id 'user_id' is BIGINT in", "a.parquet", "but VARCHAR in", "b.parquet"],
    ),
    "ids beyond BIGINT": (
        clicks_with("* replace (18446744073709551615::ubigint as user_id)"),
        ["is UBIGINT", "4 rows", "as {18446744073709551615", "write them as strings"],
    ),
    "null session": (
        clicks_with("*, 1.5 as visit", session="visit"),
        ["'visit' (session) is DECIMAL(2,1)", "an id is an integer or a string"],
    ),
    "integer time": (
        clicks_with("* replace (epoch(event_at)::bigint as event_at)"),
        ["'event_at' (time) is BIGINT", 'set data.events.time_unit to "s", "ms" or "us"'],
    ),
    "unit of no integer": (clicks_with("*", time_unit="s"), ["'event_at' (time) is TIMESTAMP", "time_unit is for integers"]),
    "dates": (clicks_with("* replace (event_at::date as event_at)"), ["'event_at' (time) is DATE", "data.events.time_is_date: true"]),
    "time of day": (clicks_with("* replace (event_at::time as event_at)"), ["'event_at' (time) is TIME", "a time is a timestamp"]),
    "float time": (
        clicks_with("* replace (epoch(event_at) as event_at)", time_unit="s"),
        ["'event_at' (time) is DOUBLE", "time_unit is for integers"],
    ),
    "order by text": (clicks_with("*, item_id::varchar as n", order="n"), ["'n' (order) is VARCHAR", "'10' comes before '9'"]),
    "category of floats": (
        clicks_with("*, 0.5::double as device", categorical=("device",)),
        ["'device' (categorical) is DOUBLE", "as {0.5, 0.5, 0.5}", "numeric"],
    ),
    "category of lists": (
        clicks_with("*, [1] as device", categorical=("device",)),
        ["'device' (categorical) is INTEGER[]", "multi_categorical"],
    ),
    "lists as text": (
        clicks_with("*, 'a|b' as tags", multi_categorical=("tags",)),
        ["'tags' (multi_categorical) is VARCHAR", "as {a|b", "Write it as a list"],
    ),
    "numbers as text": (
        clicks_with("*, '5 EUR' as price", numeric=("price",)),
        ["'price' (numeric) is VARCHAR", "as {5 EUR", "a number is asked for"],
    ),
    "vector of text": (
        clicks_with("*, ['a'] as place", vector=("place",)),
        ["'place' (vector) is VARCHAR[]", "a vector is a list of numbers"],
    ),
    "weight as text": (clicks_with("*, 'much' as stars", weight="stars"), ["'stars' (weight) is VARCHAR", "as {much"]),
    "label of lists": (clicks_with("*, [1] as bought", label=("bought",)), ["'bought' (label) is INTEGER[]"]),
    "no partition": (clicks_with("*", partition="date"), ["lies in no folder date=", "leave `partition` out"]),
    "no database": (database("clicks", "other.duckdb"), ["data.events.attach: there is no file", "other.duckdb"]),
    "no such table": (database("klicks"), ["has no table 'klicks'", "It has: main.clicks"]),
    "not a database": (database("clicks", "no.duckdb"), ["no.duckdb cannot be read", "not a valid DuckDB database"]),
    "other ids in the items": (
        beside(items="select 'a' as item_id"),
        ["item_id is BIGINT in the events", "but VARCHAR in the items", "items.parquet"],
    ),
    "other ids in the users": (
        beside(users="select 'a' as user_id"),
        ["user_id is BIGINT in the events", "but VARCHAR in the users", "users.parquet"],
    ),
    "items twice": (
        beside(items="select 1 as item_id from range(2)"),
        ["items.parquet", "item_id_unique: 1 repeated, as {item_id: 1, n_rows: 2}", "keep the newest"],
    ),
    "null ids": (
        clicks_with("* replace (nullif(user_id, 0) as user_id)"),
        ["clicks.parquet", "user_id_present: 2 of 4 rows", "row: 1", "filter it where the file is written"],
    ),
    "null ids in csv": (clicks_with("* replace (nullif(user_id, 0) as user_id)", ".csv"), ["clicks.csv", "user_id_present: 2 of 4 rows"]),
    "unreadable times": (
        clicks_with("* replace ('10/03/2024 10:00' as event_at)", ".csv"),
        ["clicks.csv", "event_at_readable: 4 of 4 rows", "raw_time: 10/03/2024 10:00"],
    ),
    "dates as text": (
        clicks_with("* replace ('2024-03-10' as event_at)", ".csv"),
        ["event_at_has_time_of_day: 4 of 4 rows", "data.events.time_is_date: true"],
    ),
    "milliseconds as seconds": (
        clicks_with("* replace (epoch_ms(event_at) as event_at)", time_unit="s"),
        ["event_at_not_after_run_start: 4 of 4 rows", "data.events.time_unit"],
    ),
    "milliseconds as microseconds": (
        clicks_with("* replace (epoch_ms(event_at) as event_at)", time_unit="us"),
        ["no rows between", "1970-01-20", "the unit of the time column"],
    ),
}
