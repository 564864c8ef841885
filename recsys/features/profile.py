"""What the tables of a night look like: a row per column in profile.parquet, and a row per day of its events in days.parquet.

Equal tables give equal bytes: sums are of integers, distinct values are counted in registers that know no order
(HyperLogLog), and where quantiles are of a sample, its rows are picked by what is in them.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.features import queries
from recsys.features.columns import kind
from recsys.schema import Role, Schema
from recsys.sql import quoted

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

LAST_DAY = "last_day"  # the events of the 24 hours before as_of, which tonight's data added
TOP = 100  # most frequent values that are kept of a column; numbers with more different ones have quantiles only
SAMPLE = 100_000  # rows that quantiles are taken of, nearly or more, where a table has more: right to a third of a percent of the rows

PROFILE = pa.schema({
    "table": pa.string(), "column": pa.string(), "type": pa.string(), "rows": pa.int64(), "nulls": pa.int64(), "distinct": pa.int64(),
    "min": pa.string(), "max": pa.string(), "mean": pa.float64(), "std": pa.float64(), "quantiles": pa.list_(pa.float64()),
    "top": pa.list_(pa.struct({"value": pa.string(), "rows": pa.int64()})),
})  # fmt: skip

Content = Literal["category", "number", "other"]

_ROLES: dict[Role, Content] = {
    "categorical": "category", "multi_categorical": "category", "type": "category", "numeric": "number", "weight": "number",
    "user": "other", "item": "other", "session": "other", "vector": "other", "text": "other",
}  # fmt: skip
_IDS = ("user_id", "item_id", "session_id", "source_order")
_ORIGINS = {"stg_events": "events", "stg_items": "items", "stg_users": "users", LAST_DAY: "events"}
_STEPS = 2**30  # between a column's least and greatest number, in which its mean and deviation are added up


def write_profile(con: "DuckDBPyConnection", folder: Path, tables: Iterable[str], schema: Schema) -> dict[str, Any]:
    """profile.parquet and days.parquet of the connection's tables. Returns for the manifest: table → column → facts.

    Of events with times the last day is profiled as a table of its own, `last_day`: in a whole history a bad day is lost.
    """
    described = sorted(tables)
    if schema.has_times:
        con.execute(f"create view {LAST_DAY} as select * from events where event_at >= getvariable('as_of') - interval 1 day")
        queries.write(con, "days", _DAYS, folder, ("ends_at",))
        described.append(LAST_DAY)
    roles = {(column.table, column.name): column.role for column in schema.columns}
    rows: list[dict[str, Any]] = []
    for table in described:
        origin = _ORIGINS.get(table, table)
        rows += profile(con, table, {column: role for (place, column), role in roles.items() if place == origin})
    pq.write_table(pa.Table.from_pylist(rows, PROFILE), folder / "profile.parquet", compression="zstd")
    nested: dict[str, Any] = {}
    for row in rows:
        short = {name: value for name, value in row.items() if name not in ("table", "column", "quantiles", "top")}
        nested.setdefault(row["table"], {})[row["column"]] = short
    return nested


def profile(con: "DuckDBPyConnection", table: str, roles: Mapping[str, Role]) -> list[dict[str, Any]]:
    """One dict per column, as PROFILE has it. A column without a role is described by its type.

    `distinct` is exact where there is a `top`, and else an estimate, off by up to a quarter. `min` and `max` are text; a list has none.
    Numbers have `mean` and `std` (of the rows, not of a population that they are drawn from; six digits) and `quantiles`:
    the least number that 0 %, 1 %, … 100 % of them do not exceed. Categories, and numbers of few values, have their most
    frequent values in `top`; a last one that is null stands for all others. Of a list the elements are counted.
    """
    columns = {name: type_ for name, type_, *_ in con.execute(f"describe {quoted(table)}").fetchall()}
    rows, facts = _facts(con, table, columns)
    contents = {name: content(name, type_, roles.get(name)) for name, type_ in columns.items()}
    ranges = {name: _range(con, table, name, facts[name]["min"], facts[name]["max"]) for name in columns if contents[name] == "number"}
    numbers = {name: found for name, found in ranges.items() if found is not None}
    moments = _moments(con, table, columns, numbers)
    quantiles = _quantiles(con, table, rows, list(numbers))
    found = []
    for name, type_ in columns.items():
        fact, distinct, top = facts[name], facts[name]["distinct"], None
        if contents[name] == "category" or (contents[name] == "number" and distinct <= TOP):
            distinct, top = _top(con, table, name, type_)
        mean, std = moments.get(name, (None, None))
        found.append({
            "table": table, "column": name, "type": type_, "rows": rows, "nulls": rows - fact["present"],
            "distinct": distinct, "min": fact["min"], "max": fact["max"], "mean": mean, "std": std,
            "quantiles": quantiles.get(name), "top": top,
        })  # fmt: skip
    return found


def content(name: str, type_: str, role: Role | None) -> Content:
    """Whether the values of a column are categories (lists of them too), numbers, or neither: ids, times, texts, vectors."""
    if name in _IDS:
        return "other"
    if role in _ROLES:
        return _ROLES[role]
    inner = type_.rstrip("[]") if kind(type_) == "list" else type_
    if kind(inner) in ("text", "boolean"):
        return "category"
    return "number" if kind(type_) in ("integer", "wide_integer", "float") else "other"


def _facts(con: "DuckDBPyConnection", table: str, columns: Mapping[str, str]) -> tuple[int, dict[str, dict[str, Any]]]:
    """Rows of the table, and of each column what one pass over it tells."""
    packs = []
    for name, type_ in columns.items():
        column = quoted(name)
        least, most = ("null", "null") if kind(type_) == "list" else (f"min({column})::varchar", f"max({column})::varchar")
        packs.append(f"{{'present': count({column}), 'distinct': approx_count_distinct({column}), 'min': {least}, 'max': {most}}}")
    rows, *facts = con.execute(f"select count(*), {', '.join(packs)} from {quoted(table)}").fetchall()[0]
    return rows, dict(zip(columns, facts, strict=True))


def _range(con: "DuckDBPyConnection", table: str, name: str, least: str | None, most: str | None) -> tuple[float, float] | None:
    """The least and greatest finite number of a column; None where there is none."""
    if least is None or most is None:
        return None
    low, high = float(least), float(most)
    if not isfinite(low) or not isfinite(high):
        finite = f"select {quoted(name)}::double as number from {quoted(table)} where isfinite(number)"
        low, high = con.execute(f"select min(number), max(number) from ({finite})").fetchall()[0]
    return None if low is None else (low, high)


def _moments(
    con: "DuckDBPyConnection", table: str, types: Mapping[str, str], ranges: Mapping[str, tuple[float, float]]
) -> dict[str, tuple[float, float]]:
    """Mean and deviation of each column, added up as integers: a sum of floats depends on its order, which is not fixed."""
    spread = {name: (low, high - low) for name, (low, high) in ranges.items() if 1e-290 < high - low < float("inf")}
    found = {name: (_short(low), 0.0) for name, (low, high) in ranges.items() if low == high}
    if not spread:
        return found
    steps = ", ".join(
        f"(({_finite(name, types)} - ({low!r})) * {_STEPS / span!r})::bigint as {quoted(name)}" for name, (low, span) in spread.items()
    )
    sums = ", ".join(f"[count({name}), sum({name}), sum({name} * {name})]" for name in map(quoted, spread))
    totals = con.execute(f"select {sums} from (select {steps} from {quoted(table)})").fetchall()[0]
    for (name, (low, span)), (n, total, squares) in zip(spread.items(), totals, strict=True):
        variance = (squares * n - total**2) / n**2
        found[name] = (_short(low + span * (total / n / _STEPS)), _short(span * variance**0.5 / _STEPS))
    return found


def _quantiles(con: "DuckDBPyConnection", table: str, rows: int, names: Sequence[str]) -> dict[str, list[float] | None]:
    """Of as many rows as hashes pick, at least SAMPLE or nearly so where there are more: in whatever order a table lies, the same."""
    if not names:
        return {}
    every = max(1, rows // SAMPLE)
    numbers = ", ".join(f"{quoted(name)}::double as {quoted(name)}" for name in names)
    sample = con.execute(f"select {numbers} from {quoted(table)} as profiled_row where hash(profiled_row) % {every} = 0").fetchnumpy()
    return {name: _percentiles(np.ma.compressed(sample[name])) for name in names}


def _percentiles(numbers: np.ndarray) -> list[float] | None:
    """Of the finite ones among them (n,), the least that 0, 1, … 100 % of them do not exceed; None where there are none."""
    ordered = np.sort(numbers[np.isfinite(numbers)])
    ranks = np.maximum(-(-np.arange(101) * len(ordered) // 100) - 1, 0)
    return ordered[ranks].tolist() if len(ordered) else None


def _top(con: "DuckDBPyConnection", table: str, name: str, type_: str) -> tuple[int, list[dict[str, Any]]]:
    """How many different values there are, and the most frequent ones."""
    value = f"unnest({quoted(name)})" if kind(type_) == "list" else quoted(name)
    counted = con.execute(f"""
        select value, count(*) as n_rows, sum(n_rows) over () as total, count(*) over () as distinct_values
        from (select {value}::varchar as value from {quoted(table)})
        where value is not null
        group by value
        order by n_rows desc, value
        limit {TOP}
    """).fetchall()
    if not counted:
        return 0, []
    top = [{"value": value, "rows": n_rows} for value, n_rows, *_ in counted]
    *_, total, distinct = counted[0]
    others = int(total) - sum(row["rows"] for row in top)
    return distinct, [*top, {"value": None, "rows": others}] if others else top


def _finite(name: str, types: Mapping[str, str]) -> str:
    """SQL of a number, null where it is none or infinite."""
    column = quoted(name)
    return f"if(isfinite({column}), {column}, null)::double" if types[name] in ("FLOAT", "DOUBLE") else f"{column}::double"


def _short(number: float) -> float:
    return float(f"{number:.6g}")


def _days_ago(moment: str) -> str:
    return f"(epoch_us(getvariable('as_of')) - epoch_us({moment}) - 1) // 86_400_000_000"


# One row per 24 hours up to as_of, from the first that have events; the last row is the last day, which may have none.
_DAYS = f"""
with
daily as (
    select {_days_ago("event_at")} as days_ago, count(*) as events, count(distinct user_id) as users, count(distinct item_id) as items,
    from events group by days_ago
),
new_users as (
    select {_days_ago("first_event_at")} as days_ago, count(*) as new_users from users where first_event_at is not null group by days_ago
),
new_items as (
    select {_days_ago("first_event_at")} as days_ago, count(*) as new_items from items where first_event_at is not null group by days_ago
),
days as (
    select unnest(range((select max(days_ago) from daily) + 1)) as days_ago
)
select
    getvariable('as_of') - to_days(days_ago::integer) as ends_at,
    coalesce(events, 0) as events,
    coalesce(users, 0) as users,
    coalesce(items, 0) as items,
    coalesce(new_users, 0) as new_users,
    coalesce(new_items, 0) as new_items,
from days left join daily using (days_ago) left join new_users using (days_ago) left join new_items using (days_ago)
"""
