"""What to read for a night: the files that can hold rows of its window, their columns, and a fingerprint of them.

The fingerprint is made of what the files hold (parquet: size and footer; other formats: their rows) and of the keys in
their folders' names, never of modification times or of where they lie: copying or moving data changes no version, and
neither does the file of another day.
"""

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from recsys.config import Data, Events, Table
from recsys.errors import SourceError
from recsys.features.columns import Declared, WrongType, check_names, declared, expression, kind
from recsys.features.files import Span, locate
from recsys.features.formats import FILE_SHIFT, Facts, Parquet, Reader
from recsys.features.text import Text
from recsys.schema import Table as TableName
from recsys.sql import quoted
from recsys.wording import counted

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


@dataclass(frozen=True)
class Window:
    """The moments of a run, as DuckDB takes them: UTC without a zone."""

    as_of: datetime
    history_start: datetime
    seen_start: datetime
    run_start: datetime  # by the clock: no event can be later

    @property
    def start(self) -> datetime:
        return min(self.history_start, self.seen_start)

    def meets(self, first: datetime | None, last: datetime | None) -> bool:
        """Whether rows between these times, both inclusive, can be of the window, or later than the run itself."""
        if first is None or last is None:
            return True
        return (first < self.as_of and last >= self.start) or last > self.run_start


@dataclass(frozen=True)
class Source:
    """One table to be read: its files, the columns that the configuration names, and what identifies its content."""

    table: TableName
    config: Table
    reader: Reader
    columns: tuple[Declared, ...]
    types: Mapping[str, str]  # of the source's columns, as DuckDB names them
    spans: tuple[Span | None, ...] = ()  # of each file
    fingerprint: Any = None
    first_rows: tuple[int, ...] = ()  # number of each file's first row, as source_order counts

    @property
    def place(self) -> str:
        return self.reader.place

    @property
    def has_times(self) -> bool:
        return isinstance(self.config, Events) and self.config.time is not None

    @property
    def id_types(self) -> dict[str, str]:
        """`user_id`, `item_id` → BIGINT or VARCHAR."""
        ids = (column for column in self.columns if column.role in ("user", "item"))
        return {column.name: "VARCHAR" if kind(self.types[column.source]) == "text" else "BIGINT" for column in ids}

    @property
    def names(self) -> tuple[str, ...]:
        """Of its files, below the folder that the configuration names without wildcards: wherever the data lie, the same."""
        above = self.reader.above
        return tuple(path.removeprefix(f"{above}/") for path in self.reader.paths)

    def locate(self, source_order: int) -> tuple[str, int]:
        """File of a row, and its number in it, from 1."""
        file, row = divmod(source_order, 1 << FILE_SHIFT)
        return self.reader.paths[file], row - self.first_rows[file] + 1

    def bind(self, con: "DuckDBPyConnection") -> None:
        """Make the connection able to run `select()`."""
        self.reader.bind(con)
        con.execute(f"set variable {self.table}_starts = $1::timestamp[]", [[span and span.start for span in self.spans]])
        con.execute(f"set variable {self.table}_ends = $1::timestamp[]", [[span and span.end for span in self.spans]])

    def select(self) -> str:
        """SQL: every row with the columns of the staging view, before anything is left out."""
        chosen = {column.name: expression(column, self.types[column.source], self.config) for column in self.columns}
        if self.table == "events":
            time = next((column for column in self.columns if column.role == "time"), None)
            is_written = time is not None and kind(self.types[time.source]) in ("text", "integer", "wide_integer")
            chosen["raw_time"] = f"{quoted(time.source)}::varchar" if time and is_written else "null::varchar"
            undeclared = {
                "event_at": "null::timestamp", "declared_order": "null::bigint", "event_type": "null::varchar", "weight": "1::float",
                "session_id": "null::varchar",
            }  # fmt: skip
            chosen = dict.fromkeys(("user_id", "item_id"), "") | undeclared | chosen  # in this order
        rows = self.reader.rows(", ".join(f"{sql} as {quoted(name)}" for name, sql in chosen.items()), self.types)
        if not any(self.spans):
            return rows
        place = f"[(source_order >> {FILE_SHIFT}) + 1]"
        starts, ends = f"getvariable('{self.table}_starts'){place}", f"getvariable('{self.table}_ends'){place}"
        return f"select *, {starts} as partition_start, {ends} as partition_end from ({rows})"


def find(
    con: "DuckDBPyConnection", data: Data, window: Window, derived: Collection[str] = (), labels: Collection[str] = ()
) -> dict[TableName, Source]:
    """The sources of the night. Tables in `derived` may lack declared features: the user's own SQL adds those; and events
    may lack the `labels`, which SQL computes."""
    tables: dict[TableName, Table | None] = {"events": data.events, "items": data.items, "users": data.users}
    configs = {table: config for table, config in tables.items() if config is not None}
    check_names(configs)
    made: dict[TableName, Collection[str]] = {table: _features(config) if table in derived else () for table, config in configs.items()}
    made["events"] = {*made["events"], *labels}
    sources = {table: _find(con, table, config, window, made[table]) for table, config in configs.items()}
    events = sources["events"]
    for table, source in sources.items():
        for name, type_ in source.id_types.items():
            if type_ != events.id_types[name]:
                raise SourceError(
                    f"{name} is {events.id_types[name]} in the events ({events.place}), but {type_} in the {table} ({source.place}): "
                    "5 and '5' would not meet. Cast one where the file is written."
                )
    return sources


def _features(config: Table) -> set[str]:
    return {column.name for column in declared(config) if column.is_feature}


def _find(con: "DuckDBPyConnection", table: TableName, config: Table, window: Window, made: Collection[str]) -> Source:
    found = locate(con, table, config)
    kept = [file for file, span in enumerate(found.spans) if span is None or (span.start < window.as_of and span.end > window.start)]
    if not kept:
        days = [span for span in found.spans if span is not None]
        raise SourceError(_no_rows(found.reader, window, min(day.start for day in days), max(day.end for day in days)))
    reader = found.reader.only(*(found.reader.paths[file] for file in kept))
    types = reader.types(con)
    columns = _columns(reader, types, declared(config), made)
    facts = dict(zip(kept, _facts(con, Source(table, config, reader, columns, types), window), strict=True))
    held = [file for file, fact in facts.items() if fact.rows and (table != "events" or window.meets(fact.first_at, fact.last_at))]
    if not held:
        times = [moment for fact in facts.values() for moment in (fact.first_at, fact.last_at) if moment is not None]
        raise SourceError(_no_rows(reader, window, min(times), max(times)) if times else f"{table}: {reader.place} has no rows.")
    if len(held) < len(kept):
        reader = reader.only(*(found.reader.paths[file] for file in held))
        types = reader.types(con)
    _check_each_file(con, reader, columns)
    fingerprint = [[keys, facts[file].digest] for keys, file in zip(reader.keys, held, strict=True)]
    first_rows = accumulate((facts[file].rows if isinstance(reader, Text) else 0 for file in held[:-1]), initial=0)
    spans = tuple(found.spans[file] for file in held)
    source = Source(table, config, reader, columns, types, spans, fingerprint, tuple(first_rows))
    _check_types(con, source)
    return source


def _columns(reader: Reader, there: Mapping[str, str], asked: Sequence[Declared], made: Collection[str]) -> tuple[Declared, ...]:
    """Those of the asked columns that are there; SourceError for the first that is not, unless it is one that SQL has `made`."""
    for column in asked:
        if column.source not in there and column.name not in made:
            close = difflib.get_close_matches(column.source, there, n=3, cutoff=0.4) or list(there)[:8]
            folders = (
                f" A folder {column.source}=… is one only where a wildcard of data.{reader.table}.path stands for it, and all files lie in "
                "folders of the same keys."
            )
            is_key = any(f"/{column.source}=" in f"/{path}" for path in reader.paths)
            raise SourceError(
                f"{reader.table}: {reader.place} has no column {column.source!r} (declared as {column.role}). Nearest there: "
                f"{', '.join(close)}.{folders if is_key else ''} Correct data.{reader.table}, or write the column"
                + (f" (or compute it: data.sql_overlay, labels/{column.name}.sql)." if column.role == "label" else ".")
            )
    return tuple(column for column in asked if column.source in there)


def _facts(con: "DuckDBPyConnection", source: Source, window: Window) -> list[Facts]:
    time = next((column for column in source.columns if column.role == "time"), None)
    event_at = _typed(con, source, time) if time else None
    inside = f"event_at >= timestamp '{window.start}' and event_at < timestamp '{window.as_of}'" if time else "true"
    return source.reader.facts(con, event_at, source.types, inside)


def _check_each_file(con: "DuckDBPyConnection", reader: Reader, columns: Sequence[Declared]) -> None:
    """Every file has every column, and ids of one kind: over all files, DuckDB would fill and cast in silence."""
    first: dict[str, tuple[str, str]] = {}
    for path in reader.paths:
        there = reader.only(path).columns(con)
        _columns(reader.only(path), there, columns, ())
        for column in columns:
            if column.role in ("user", "item") and isinstance(reader, Parquet):
                type_, other = first.setdefault(column.source, (there[column.source], path))
                if (kind(type_) == "text") != (kind(there[column.source]) == "text"):
                    raise SourceError(
                        f"{reader.table}: the id {column.source!r} is {type_} in {other}, but {there[column.source]} in {path}: 5 and "
                        "'5' would be two. Write both files with one type."
                    )
    reader.bind(con)


def _check_types(con: "DuckDBPyConnection", source: Source) -> None:
    """Every column can have its role."""
    for column in source.columns:
        _typed(con, source, column)
        if column.role in ("user", "item", "session") and kind(source.types[column.source]) == "wide_integer":
            name = quoted(column.source)
            beyond = f"try_cast({name} as bigint) is null and {name} is not null"
            if _sample(con, source, column, beyond)[0]:
                raise _wrong_type(con, source, column, "these values are too large for BIGINT: write them as strings", beyond)


def _typed(con: "DuckDBPyConnection", source: Source, column: Declared) -> str:
    try:
        return expression(column, source.types[column.source], source.config)
    except WrongType as reason:
        raise _wrong_type(con, source, column, str(reason)) from None


def _wrong_type(con: "DuckDBPyConnection", source: Source, column: Declared, reason: str, where: str = "true") -> SourceError:
    rows, nulls, sample = _sample(con, source, column, where)
    return SourceError(
        f"{source.table}: column {column.source!r} ({column.role}) is {source.types[column.source]} in {source.place}: "
        f"{counted(rows, 'row')}, {nulls:,} of them null{', as {' + ', '.join(sample) + '}' if sample else ''}. But {reason}."
    )


def _sample(con: "DuckDBPyConnection", source: Source, column: Declared, where: str) -> tuple[int, int, list[str]]:
    """Rows and nulls of a column under a condition, and its first values."""
    name = quoted(column.source)
    rows = f"from ({source.reader.rows(name, source.types)}) where {where}"
    with source.reader.reading():
        counts = con.execute(f"select count(*), count(*) filter ({name} is null) {rows}").fetchall()[0]
        sample = con.execute(f"select {name}::varchar {rows} and {name} is not null order by source_order limit 3").fetchall()
    return counts[0], counts[1], [" ".join(value.split()) for (value,) in sample]


def _no_rows(reader: Reader, window: Window, first: datetime, last: datetime) -> str:
    return (
        f"{reader.table}: no rows between {window.start} and as_of {window.as_of}. {reader.place} has rows from {first} to {last}. "
        "Choose another as_of or a longer data.history, or look at the zone and the unit of the time column."
    )
