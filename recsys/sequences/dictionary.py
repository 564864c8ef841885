"""Codes: the row of an item in `items.parquet`, of a category's value in `values/{column}.parquet`. Null is −1."""

from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.arrays import single
from recsys.schema import Column, Schema, file_name
from recsys.sql import quoted


@dataclass(frozen=True)
class Coding:
    """What the codes of a night stand for."""

    item_id: pa.Array  # (V,) ascending
    values: dict[str, pa.Array]  # by column, ascending

    def items(self, item_id: pa.ChunkedArray) -> pa.Array:
        """int32 codes of item ids, null where an item is not in the dictionary."""
        return single(pc.index_in(item_id, value_set=self.item_id))

    def column(self, column: pa.ChunkedArray, kind: Column) -> pa.Array:
        """A feature or label as histories store it: categories by code, lists of them too, the rest as it is.

        >>> coding = Coding(pa.array([7]), {"genre": pa.array(["drama", "war"])})
        >>> coding.column(pa.chunked_array([["war", None]]), Column("genre", "items", "categorical")).to_pylist()
        [1, -1]
        """
        if kind.name not in self.values:
            return single(column)
        if kind.role != "multi_categorical":
            return self._of(single(column), kind.name)
        lists = single(column)
        offsets = np.concatenate([[0], np.cumsum(pc.list_value_length(lists), dtype=np.int32)])
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), self._of(lists.flatten(), kind.name))

    def _of(self, values: pa.Array, name: str) -> pa.Array:
        return pc.fill_null(pc.index_in(values, value_set=self.values[name]), -1)


def write_dictionary(connection: duckdb.DuckDBPyConnection, schema: Schema, folder: Path) -> Coding:
    """Writes `items.parquet` and `values/` from the connection's views `items`, `events` and `users`."""
    (folder / "values").mkdir()
    values = {column.name: _values(connection, column) for column in schema.columns if column.is_coded}
    for name, known in values.items():
        pq.write_table(pa.table({"value": known}), folder / "values" / f"{file_name(name)}.parquet", compression="zstd")
    features, texts = schema.features("items"), schema.names("text", table="items")
    items = connection.sql(
        f"""
        -- One row per item that had an event or is declared.
        select item_id, coalesce(eligible, false) as eligible, epoch_us(first_event_at) as first_event_at, n_events::bigint as n_events,
            {", ".join([*map(stored, features), *map(quoted, texts)]) or "null"},
        from items
        order by item_id
        """
    ).to_arrow_table()
    coding = Coding(single(items["item_id"]), values)
    for column in features:
        place = items.column_names.index(column.name)
        items = items.set_column(place, column.name, coding.column(items[column.name], column))
    kept = ["item_id", "eligible", "first_event_at", "n_events", *(c.name for c in features), *texts]
    pq.write_table(items.select(kept), folder / "items.parquet", compression="zstd")
    return coding


def _values(connection: duckdb.DuckDBPyConnection, column: Column) -> pa.Array:
    name = f"unnest({quoted(column.name)})" if column.role == "multi_categorical" else quoted(column.name)
    query = f"select distinct value from (select {name} as value from {column.table}) where value is not null order by value"
    return single(connection.sql(query).to_arrow_table()["value"])


def stored(column: Column) -> str:
    """SQL of a feature or label on its way into an artifact: float32 (null where it is none), lists without nulls."""
    name = quoted(column.name)
    if column.role == "multi_categorical":
        return f"list_filter(coalesce({name}, []), lambda value: value is not null) as {name}"
    if column.role == "vector":
        return f"{name}::float[] as {name}"
    if column.role == "numeric" or (column.role == "label" and not column.is_coded):
        return f"if(isfinite({name}::double), try_cast({name} as float), null) as {name}"
    return name
