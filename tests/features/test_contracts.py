"""Every rule can fail: for each there is a row that breaks it, and the message says which, where, how often and what to do."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from recsys.config import Data, Events, Features, Items, Users
from recsys.errors import ContractError
from recsys.features import queries
from recsys.features.checks import check_table
from recsys.features.contracts import COLUMNS, KEYS, source_rules, table_rules
from recsys.features.sources import Window, find
from recsys.sql import connect
from recsys.store import Artifact
from recsys.windows import ACTIVITY, naive, parse_as_of
from recsys.wording import counted

AS_OF = parse_as_of("2024-03-11")
RUN_START = parse_as_of("2024-06-01")
WINDOW = Window(naive(AS_OF), naive(parse_as_of("2024-02-10")), naive(parse_as_of("2023-12-12")), naive(RUN_START))
N_SHARDS = 4

Build = Callable[..., Artifact]

# A good source of each kind, as SQL over numbered rows (i), and where its file goes.
SOURCES = {
    "events": (
        """select 'u' || i % 3 as who, 'i' || i as what, strftime(timestamp '2024-03-10' + to_hours(i::int), '%Y-%m-%d %H:%M:%S') as moment,
        i / 2 as stars, i * 1.5 as price, i as dwell, [i, 1.0]::float[] as place from range(6) t (i)""",
        "date=2024-03-10/events.parquet",
    ),
    "days": ("select i % 3 as who, i as what, date '2024-03-10' as moment, from range(6) t (i)", "events.parquet"),
    "steps": ("select i % 3 as who, i as what, i as step from range(6) t (i)", "events.parquet"),
    "items": ("select 'i' || i as what, [i, 1.0]::float[] as look, i * 2.5 as size, i as sold from range(6) t (i)", "items.parquet"),
    "users": ("select 'u' || i as who, 20 + i as age from range(6) t (i)", "users.parquet"),
}

# kind of source → rule → what to do to its first row (i = 0), or to the select.
BROKEN_SOURCES: dict[str, dict[str, str]] = {
    "events": {
        "user_id_present": "null as who",
        "user_id_not_blank": "' ' as who",
        "item_id_present": "null as what",
        "item_id_not_blank": "'' as what",
        "event_at_present": "null as moment",
        "event_at_readable": "'10th of March' as moment",
        "event_at_has_time_of_day": "'2024-03-10' as moment",
        "event_at_not_after_run_start": "'2024-06-01T00:00:00.000001Z' as moment",
        "event_at_in_partition": "'2024-03-10T00:30:00+01:00' as moment",
        "weight_present": "null as stars",
        "weight_finite": "'inf'::float as stars",
        "weight_not_negative": "-0.5 as stars",
        "price_finite": "'-inf'::double as price",
        "dwell_finite": "'inf'::double as dwell",
        "dwell_not_negative": "-1 as dwell",
        "place_of_one_length": "[1.0]::float[] as place",
        "place_of_numbers": "[1.0, null]::float[] as place",
    },
    "days": {
        "user_id_present": "null as who",
        "item_id_present": "null as what",
        "event_at_present": "null as moment",
        "event_at_readable": "'?' as moment",
        "event_at_not_after_run_start": "date '2024-06-02' as moment",
        "event_at_is_date": "timestamp '2024-03-10 00:00:01' as moment",
    },
    "steps": {"user_id_present": "null as who", "item_id_present": "null as what", "declared_order_present": "null as step"},
    "items": {
        "item_id_present": "null as what",
        "item_id_not_blank": "'' as what",
        "item_id_unique": "'i1' as what",
        "size_finite": "'inf'::double as size",
        "sold_finite": "'inf'::double as sold",
        "sold_not_negative": "-1 as sold",
        "look_of_one_length": "[1.0, 2, 3]::float[] as look",
        "look_of_numbers": "['nan'::float, 0] as look",
    },
    "users": {
        "user_id_present": "null as who",
        "user_id_not_blank": "'\t' as who",
        "user_id_unique": "'u1' as who",
        "age_finite": "'inf'::double as age",
    },
}

# table → rule → how to break it in a copy of a good table.
FIRST = "where rowid = 0"
BROKEN_TABLES: dict[str, dict[str, str]] = {
    "item_activity": {
        **{f"{name}_present": f"update item_activity set {name} = null {FIRST}" for name in COLUMNS["item_activity"]},
        "hour_at_full": f"update item_activity set hour_at = hour_at + interval 1 second {FIRST}",
        "hour_at_in_window": f"update item_activity set hour_at = timestamp '2024-03-11 01:00' {FIRST}",
        "events_10m_at_least_0": f"update item_activity set events_10m = -1 {FIRST}",
        "events_7d_at_least_1": f"update item_activity set {', '.join(f'events_{window} = 0' for window in ACTIVITY)} {FIRST}",
        "events_10m_not_above_events_1h": f"update item_activity set events_10m = events_1h + 1 {FIRST}",
        "events_1h_not_above_events_6h": f"update item_activity set events_1h = events_6h + 1 {FIRST}",
        "events_6h_not_above_events_1d": f"update item_activity set events_6h = events_1d + 1 {FIRST}",
        "events_1d_not_above_events_7d": f"update item_activity set events_1d = events_7d + 1 {FIRST}",
    },
    "events": {
        **{f"{name}_present": f"update events set {name} = null {FIRST}" for name in COLUMNS["events"] if name != "event_type"},
        "shard_in_range": f"update events set shard = 4 {FIRST}",
        "event_at_in_window": f"update events set event_at = timestamp '2024-03-11' {FIRST}",
        **{
            f"{name}_at_least_0": f"update events set {name} = -1 {FIRST}"
            for name in ("event_order", "weight", "user_events_before", "gap_seconds", "item_age_seconds", "item_events_10m")
        },
        "item_events_10m_not_above_item_events_1h": f"update events set item_events_10m = item_events_1h + 1 {FIRST}",
        "item_events_1h_not_above_item_events_6h": f"update events set item_events_1h = item_events_6h + 1 {FIRST}",
        "item_events_6h_not_above_item_events_1d": f"update events set item_events_6h = item_events_1d + 1 {FIRST}",
        "item_events_1d_not_above_item_events_7d": f"update events set item_events_1d = item_events_7d + 1 {FIRST}",
        "hour_in_range": f"update events set hour = 24 {FIRST}",
        "weekday_in_range": f"update events set weekday = 0 {FIRST}",
    },
    "items": {
        **{f"{name}_present": f"update items set {name} = null {FIRST}" for name in ("item_id", "n_events", "eligible")},
        "n_events_at_least_0": f"update items set n_events = -1 {FIRST}",
        "first_event_at_in_window": f"update items set first_event_at = timestamp '2024-02-09' {FIRST}",
        "last_event_at_in_window": f"update items set last_event_at = timestamp '2024-03-11' {FIRST}",
        "first_event_at_not_above_last_event_at": f"update items set first_event_at = last_event_at + interval 1 second {FIRST}",
    },
    "users": {
        **{f"{name}_present": f"update users set {name} = null {FIRST}" for name in ("shard", "user_id", "n_events")},
        "shard_in_range": f"update users set shard = -1 {FIRST}",
        "n_events_at_least_0": f"update users set n_events = -1 {FIRST}",
        "first_event_at_in_window": f"update users set first_event_at = timestamp '2024-02-09' {FIRST}",
        "last_event_at_in_window": f"update users set last_event_at = timestamp '2024-03-11' {FIRST}",
        "first_event_at_not_above_last_event_at": "update users set first_event_at = last_event_at + interval 1 hour where user_id = 'u1'",
    },
    "seen": {
        **{f"{name}_present": f"update seen set {name} = null {FIRST}" for name in ("shard", "user_id", "item_id")},
        "shard_in_range": f"update seen set shard = 4 {FIRST}",
        "first_event_at_in_window": f"update seen set first_event_at = timestamp '2023-12-11' {FIRST}",
    },
    "blocked": {
        **{f"{name}_present": f"update blocked set {name} = null {FIRST}" for name in COLUMNS["blocked"]},
        "shard_in_range": f"update blocked set shard = 4 {FIRST}",
    },
}


def data(kind: str, folder: Path, broken: str | None = None) -> Data:
    """The good sources, and of one kind one whose first row is broken."""
    written = {}
    with duckdb.connect() as con:
        for name, (select, file) in SOURCES.items():
            path = folder / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            numbered = f"select *, row_number() over () as n from ({select})"
            if name == kind and broken is not None:
                column = broken.rpartition(" as ")[2]
                numbered = (
                    f"select * exclude ({column}), {broken} from ({numbered}) where n = 1 union all by name from ({numbered}) where n > 1"
                )
            con.execute(f"copy (select * exclude (n) from ({numbered}) order by n) to '{path}'")
            written[name] = str(folder / name / file.replace("2024-03-10", "*"))
    events = {
        "days": Events(path=written["days"], user="who", item="what", time="moment", time_is_date=True),
        "steps": Events(path=written["steps"], user="who", item="what", order="step"),
    }
    if kind in events:
        return Data(events=events[kind])
    return Data(
        events=Events(
            path=written["events"], user="who", item="what", time="moment", partition="date", weight="stars", numeric=("price",),
            log_numeric=("dwell",), vector=("place",),
        ),
        items=Items(path=written["items"], item="what", vector=("look",), numeric=("size",), log_numeric=("sold",)),
        users=Users(path=written["users"], user="who", numeric=("age",)),
    )  # fmt: skip


@pytest.mark.parametrize("kind", SOURCES)
def test_there_is_a_breaking_row_for_every_source_rule(kind: str, tmp_path: Path) -> None:
    table: Any = kind if kind in ("items", "users") else "events"
    with connect(Features(threads=1)) as con:
        source = find(con, data(kind, tmp_path), WINDOW)[table]
    names = [rule.name for rule in source_rules(source, WINDOW)]
    assert len(set(names)) == len(names)
    unique = {f"{table.removesuffix('s')}_id_unique"} if table != "events" else set()
    assert {*names, *unique} == set(BROKEN_SOURCES[kind])
    assert all(rule.advice for rule in source_rules(source, WINDOW))


@pytest.mark.parametrize(("kind", "rule"), [(kind, rule) for kind, rules in BROKEN_SOURCES.items() for rule in rules])
def test_every_source_rule_can_fail(build: Build, kind: str, rule: str, tmp_path: Path) -> None:
    with pytest.raises(ContractError) as error:
        build(data(kind, tmp_path, BROKEN_SOURCES[kind][rule]))
    message = str(error.value)
    file = tmp_path / kind / SOURCES[kind][1]
    assert str(file) in message.splitlines()[0]
    (finding,) = (line.strip() for line in message.splitlines() if line.strip().startswith(f"{rule}: "))
    if rule.endswith("_unique"):
        assert finding.startswith(f"{rule}: 1 repeated, as {{") and "n_rows: 2" in finding
    else:
        assert finding.startswith(f"{rule}: 1 of 6 rows, as {{") and f"file: {file}, row: 1}}" in finding
    assert finding.rpartition("}. ")[2], "what to do"


@pytest.mark.parametrize(
    ("kind", "rule"), [(kind, rule) for kind, rules in BROKEN_SOURCES.items() for rule in rules if not rule.endswith("_unique")]
)
def test_a_row_that_breaks_a_rule_can_be_set_aside(build: Build, kind: str, rule: str, tmp_path: Path) -> None:
    night = build(data(kind, tmp_path, BROKEN_SOURCES[kind][rule]), quarantine=0.2)
    table = kind if kind in ("items", "users") else "events"
    (kept,) = pq.read_table(night.path / f"quarantined_{table}.parquet").to_pylist()
    assert rule in kept["broken_rules"] and (kept["source_file"].split("/")[-1], kept["source_row"]) == (f"{table}.parquet", 1)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A features artifact with rows in every table."""
    from recsys.features.tables import build_features
    from recsys.store import Store

    folder = tmp_path_factory.mktemp("good")
    (folder / "mine/rules").mkdir(parents=True)
    (folder / "mine/rules/blocked_pairs.sql").write_text("select 'u1' as user_id, 'i0' as item_id")
    group = data("events", folder).model_copy(update={"sql_overlay": str(folder / "mine")})
    return build_features(Store(folder / "store"), AS_OF, group, Features(threads=1, n_shards=N_SHARDS), started=RUN_START).path


@pytest.fixture
def copies(good: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """The artifact's tables as tables that can be changed."""
    with duckdb.connect(config={"threads": 1}) as con:
        for table in KEYS:
            con.execute(f"create table {table} as from '{good}/{table}.parquet'")
        yield con


def check(con: duckdb.DuckDBPyConnection, table: str) -> None:
    check_table(con, table, {"user_id": "VARCHAR", "item_id": "VARCHAR"}, WINDOW, N_SHARDS, f"sql/features/{table}.sql")


@pytest.mark.parametrize("table", KEYS)
def test_there_is_a_breaking_row_for_every_table_rule(copies: duckdb.DuckDBPyConnection, table: str) -> None:
    names = [rule.name for rule in table_rules(table, WINDOW, N_SHARDS)]
    assert len(set(names)) == len(names)
    assert set(names) == set(BROKEN_TABLES[table])
    assert copies.execute(f"select count(*) from {table}").fetchall()[0][0], "rows to be broken"
    check(copies, table)


@pytest.mark.parametrize(("table", "rule"), [(table, rule) for table, rules in BROKEN_TABLES.items() for rule in rules])
def test_every_table_rule_can_fail(copies: duckdb.DuckDBPyConnection, table: str, rule: str) -> None:
    copies.execute(BROKEN_TABLES[table][rule])
    rows = copies.execute(f"select count(*) from {table}").fetchall()[0][0]
    with pytest.raises(ContractError) as error:
        check(copies, table)
    assert f"  {rule}: 1 of {counted(rows, 'row')}, as {{" in str(error.value)
    assert f"The table is made by sql/features/{table}.sql" in str(error.value)


@pytest.mark.parametrize("table", KEYS)
def test_every_key_is_unique(copies: duckdb.DuckDBPyConnection, table: str) -> None:
    copies.execute(f"insert into {table} from {table} {FIRST}")
    with pytest.raises(ContractError, match=f"{'_'.join(KEYS[table])}_unique: 1 repeated, as .*n_rows: 2"):
        check(copies, table)


@pytest.mark.parametrize(("table", "column"), [(table, column) for table, columns in COLUMNS.items() for column in columns])
def test_every_column_has_its_type(copies: duckdb.DuckDBPyConnection, table: str, column: str) -> None:
    other = "1" if COLUMNS[table][column] in ("string", "id") else f"{column}::varchar"
    copies.execute(f"create or replace table {table} as select * replace ({other} as {column}) from {table}")
    with pytest.raises(ContractError, match=f"expected column '{column}' to have type"):
        check(copies, table)
    copies.execute(f"alter table {table} drop column {column}")
    if column not in KEYS[table]:
        with pytest.raises(ContractError, match=f"column '{column}' not found"):
            check(copies, table)


def daily(path: Path, counts: dict[str, int], users: int = 3) -> str:
    """Events on some days: so many on each."""
    days = ", ".join(f"('{day}', {n})" for day, n in counts.items())
    with duckdb.connect() as con:
        con.execute(f"""
            copy (select i % {users} as user_id, i as item_id, day::timestamp + to_seconds(i) as event_at
            from (values {days}) days (day, n), unnest(range(n)) t (i)) to '{path}'
        """)
    return str(path)


USUAL = {f"2024-03-0{day}": 40 for day in range(3, 10)}

# check → events of each day, declared ids that the items and users tables have, settings, what is said
BROKEN_CHECKS: dict[str, tuple[dict[str, int], str | None, str | None, dict[str, Any], str]] = {
    "low_day_volume": (
        {**USUAL, "2024-03-10": 9},
        None,
        None,
        {"min_day_volume": 0.25},
        "1 row, as {n_events: 9, median_before: 40.0, min_share: 0.25}",
    ),
    "stale_events": (USUAL, None, None, {"max_age": "1d"}, "1 row, as {newest_event_at: 2024-03-09 00:00:39, as_of: 2024-03-11 00:00:00}"),
    "orphan_items": (USUAL, "range(19)", None, {"max_orphan_share": 0.5}, "21 rows, as {item_id: 19, n_events: 7, orphan_share: 0.525}"),
    "orphan_users": (USUAL, None, "range(1)", {"max_orphan_share": 0.6}, "2 rows, as {user_id: 1, n_events: 91, orphan_share: 0.65}"),
}


def test_there_is_breaking_data_for_every_check() -> None:
    assert {check.name for check in queries.collect().checks} == set(BROKEN_CHECKS)


@pytest.mark.parametrize("check", BROKEN_CHECKS)
def test_every_check_can_fail(build: Build, check: str, tmp_path: Path) -> None:
    days, items, users, settings, says = BROKEN_CHECKS[check]
    kinds: dict[str, Any] = {"item": Items, "user": Users}
    tables = {}
    with duckdb.connect() as con:
        for name, ids in (("item", items), ("user", users)):
            if ids:
                con.execute(f"copy (select unnest({ids}) as {name}_id) to '{tmp_path}/{name}s.parquet'")
                tables[f"{name}s"] = kinds[name](path=f"{tmp_path}/{name}s.parquet")
    group = Data(events=Events(path=daily(tmp_path / "events.parquet", days), time="event_at"), **tables)
    with pytest.raises(ContractError) as error:
        build(group, **settings)
    (finding,) = (line.strip() for line in str(error.value).splitlines()[1:])
    assert finding.startswith(f"{check}: {says}")
    assert f"features.{next(iter(settings))}" in finding and f"sql/checks/{check}.sql" in finding
    assert build(group, max_orphan_share=1.0), "with the checks turned down"


@pytest.mark.parametrize(
    ("days", "passes"),
    [
        ({**USUAL, "2024-03-10": 10}, True),  # a quarter is enough
        ({"2024-03-10": 1}, True),  # nothing to compare with
        ({"2024-03-09": 40, "2024-03-10": 9}, False),
        ({"2024-03-06": 40, "2024-03-10": 1}, True),  # most days have none
        ({**USUAL}, False),  # the last day has none
        ({"2024-03-01": 400, **dict.fromkeys(USUAL, 4), "2024-03-10": 1}, True),  # only 7 days before count
    ],
)
def test_volume_of_the_last_day(build: Build, days: dict[str, int], passes: bool, tmp_path: Path) -> None:
    path = daily(tmp_path / "events.parquet", days)
    group = Data(events=Events(path=path, time="event_at"))
    if passes:
        assert build(group, min_day_volume=0.25)
    else:
        with pytest.raises(ContractError, match="low_day_volume"):
            build(group, min_day_volume=0.25)


def test_counts_are_true_beyond_the_sample(build: Build, tmp_path: Path) -> None:
    with duckdb.connect() as con:
        con.execute(f"""copy (select case when i % 2 = 0 then i end as user_id, i as item_id, timestamp '2024-03-10' as event_at
            from range(5000) t (i)) to '{tmp_path}/events.parquet'""")
    with pytest.raises(ContractError, match="user_id_present: 2,500 of 5,000 rows") as error:
        build(Data(events=Events(path=f"{tmp_path}/events.parquet", time="event_at")))
    assert len(str(error.value)) < 1500
