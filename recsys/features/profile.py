"""What a table looks like: one row per column, in one pass over the table."""

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from recsys.features.columns import kind
from recsys.sql import quoted

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


PROFILE = pa.schema({
    "table": pa.string(), "column": pa.string(), "type": pa.string(), "rows": pa.int64(), "nulls": pa.int64(), "distinct": pa.int64(),
    "min": pa.string(), "max": pa.string(), "mean": pa.float64(),
})  # fmt: skip


def profile(con: "DuckDBPyConnection", table: str) -> list[dict[str, Any]]:
    """One dict per column: table, column, type, rows, nulls, distinct (approximate), min, max (as text), mean.

    A list has no min, max and mean. Means are rounded to 6 digits, since the order of adding up floats is not fixed.
    """
    columns = {name: type_ for name, type_, *_ in con.execute(f"describe {quoted(table)}").fetchall()}
    parts = ["count(*)"]
    for name, type_ in columns.items():
        column, is_list = quoted(name), kind(type_) == "list"
        parts += [f"count({column})", f"approx_count_distinct({column})"]
        parts += ["null", "null"] if is_list else [f"min({column})::varchar", f"max({column})::varchar"]
        parts.append(f"avg({column})" if kind(type_) in ("integer", "wide_integer", "float") else "null")
    rows, *facts = con.execute(f"select {', '.join(parts)} from {quoted(table)}").fetchall()[0]
    found = []
    for place, (name, type_) in enumerate(columns.items()):
        count, distinct, least, most, mean = facts[5 * place : 5 * place + 5]
        found.append({
            "table": table, "column": name, "type": type_, "rows": rows, "nulls": rows - count, "distinct": distinct,
            "min": least, "max": most, "mean": None if mean is None else float(f"{mean:.6g}"),
        })  # fmt: skip
    return found
