"""How a source is read: which columns it has, its rows in order, what each of its files holds. CSV and JSON: `text.py`.

A reader names the files of one table in path order. Their list is bound to the connection as a variable
(`{table}_files`), identifiers are quoted, and every row gets a `source_order`: numbers of its file and of the row.
"""

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Self
from urllib.parse import unquote

from recsys.config import Events, Table
from recsys.errors import SourceError
from recsys.features.columns import UNITS, declared
from recsys.sql import literal, quoted

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

REMOTE = ("s3://", "gs://", "gcs://", "r2://", "http://", "https://")
FILE_SHIFT = 40  # source_order = file << 40 | row: in the file for parquet, in all of them for other formats


@dataclass(frozen=True)
class Facts:
    """What a file holds. Times are None where they are not known, or none is there."""

    rows: int
    first_at: datetime | None
    last_at: datetime | None
    digest: str


@dataclass(frozen=True)
class Reader(ABC):
    """The files of one source table; `paths` in the order in which their rows count."""

    table: str
    config: Table
    paths: tuple[str, ...]

    @property
    def place(self) -> str:
        """For messages."""
        return self.paths[0] if len(self.paths) == 1 else f"{self.paths[0]} and {len(self.paths) - 1} more"

    @property
    def files(self) -> str:
        """SQL of the bound list of files."""
        return f"getvariable('{self.table}_files')"

    @property
    def above(self) -> str:
        """The folder that the path names before its first wildcard: where the data lie, not what they are."""
        return re.split(r"[*?\[{]", self.config.resolved_path() or self.paths[0])[0].rpartition("/")[0]

    @property
    def keys_above(self) -> dict[str, str]:
        return dict(_keys(self.above))

    @property
    def keys(self) -> tuple[dict[str, str], ...]:
        """Of each file, what its folders below that say: `click_date=2017-10-01/part.parquet` → `{"click_date": "2017-10-01"}`."""
        n_above = len(_keys(self.above))  # counted, since DuckDB may write that folder otherwise: a//b as a/b
        return tuple(dict(_keys(path.rpartition("/")[0])[n_above:]) for path in self.paths)

    @property
    def hive(self) -> str:
        """SQL option: whether folders' keys are columns. Left to itself, DuckDB would also take those above, for the file's own."""
        first, *others = (set(keys) for keys in self.keys)
        return f"hive_partitioning={str(bool(first) and all(other == first for other in others)).lower()}"

    def only(self, *paths: str) -> Self:
        return replace(self, paths=paths)

    def reading(self) -> AbstractContextManager[None]:
        """Where its files are read."""
        return readable(self.place, *self.paths)

    def bind(self, con: "DuckDBPyConnection") -> None:
        """Make the connection able to run what the other methods return."""
        con.execute(f"set variable {self.table}_files = $1", [list(self.paths)])

    def columns(self, con: "DuckDBPyConnection") -> dict[str, str]:
        """Column → DuckDB type over all files. SourceError where one cannot be read."""
        self.bind(con)
        with self.reading():
            return {name: type_ for name, type_, *_ in con.execute(f"describe select * from {self._described}").fetchall()}

    def types(self, con: "DuckDBPyConnection") -> dict[str, str]:
        """The same, with what the format's guesses would spoil left as it was written."""
        return self.columns(con)

    @property
    @abstractmethod
    def _described(self) -> str:
        """SQL of the table function or table that has all columns."""

    @abstractmethod
    def rows(self, select: str, types: Mapping[str, str]) -> str:
        """SQL: the select list for every row, and `source_order`."""

    @abstractmethod
    def facts(self, con: "DuckDBPyConnection", event_at: str | None, types: Mapping[str, str], window: str) -> list[Facts]:
        """Of each file. `event_at` is the SQL of the time; `window` a condition on it, which rows of interest meet."""


class Parquet(Reader):
    """Parquet files: what they hold stands in their footers."""

    @property
    def _described(self) -> str:
        return f"read_parquet({self.files}, union_by_name=true, {self.hive})"

    def rows(self, select: str, types: Mapping[str, str]) -> str:
        return f"select {select}, (file_index::bigint << {FILE_SHIFT}) + file_row_number as source_order from {self._described}"

    def facts(self, con: "DuckDBPyConnection", event_at: str | None, types: Mapping[str, str], window: str) -> list[Facts]:
        events = self.config if isinstance(self.config, Events) else None
        moment = "try_cast({} as timestamptz) at time zone 'UTC'"
        if events is not None and events.time_unit:
            moment = f"try(make_timestamp(try_cast({{}} as bigint) * {UNITS[events.time_unit]}))"
        query = _FOOTERS.format(
            files=self.files, first=moment.format("stats_min_value"), last=moment.format("stats_max_value"),
            earliest=in_calendar("min(first_at) filter (is_time)"), latest=in_calendar("max(last_at) filter (is_time)"),
        )  # fmt: skip
        self.bind(con)
        with self.reading():
            found = {path: Facts(*facts) for path, *facts in con.execute(query, [events.time if events else None]).fetchall()}
        return [found[path] for path in self.paths]


# One row per file: rows, range of the time column where every row group states it, size and a digest of the footer.
_FOOTERS = """
with
files as (
    select file_name, num_rows, file_size_bytes from parquet_file_metadata({files})
),
chunks as (
    select *, path_in_schema = $1 and type <> 'BYTE_ARRAY' as is_time, {first} as first_at, {last} as last_at
    from parquet_metadata({files})
),
footers as (
    select
        file_name,
        case when bool_and(first_at is not null) filter (is_time) then {earliest} end as first_at,
        case when bool_and(last_at is not null) filter (is_time) then {latest} end as last_at,
        string_agg(concat_ws(
            '|', row_group_num_rows, path_in_schema, type, num_values, stats_min_value, stats_max_value, stats_null_count,
            compression, encodings, data_page_offset, total_compressed_size, total_uncompressed_size
        ), chr(10) order by row_group_id, column_id) as content,
    from chunks
    group by file_name
)
select file_name, num_rows, first_at, last_at, concat_ws('-', file_size_bytes, sha256(content)),
from files left join footers using (file_name)
"""


@dataclass(frozen=True)
class Attached(Reader):
    """A table or view of a database file; `paths` holds that file."""

    name: tuple[str, ...] = ()  # schema, table

    @property
    def place(self) -> str:
        return f"{'.'.join(self.name)} of {self.paths[0]}"

    @property
    def database(self) -> str:
        """One per file: DuckDB attaches a file once only."""
        return f"source_{hashlib.md5(self.paths[0].encode()).hexdigest()[:12]}"

    @property
    def _described(self) -> str:
        return ".".join(quoted(part) for part in (self.database, *self.name))

    def bind(self, con: "DuckDBPyConnection") -> None:
        there = {name for name, *_ in con.execute("select database_name from duckdb_databases()").fetchall()}
        if self.database not in there:
            with readable(self.paths[0]):
                con.execute(f"attach {literal(self.paths[0])} as {self.database} (read_only)")
        con.execute(f"set search_path = 'memory,{self.database}'")  # a view names tables of its own database

    def rows(self, select: str, types: Mapping[str, str]) -> str:
        return f"select {select}, __row as source_order from (select *, row_number() over () - 1 as __row from {self._described})"

    def facts(self, con: "DuckDBPyConnection", event_at: str | None, types: Mapping[str, str], window: str) -> list[Facts]:
        """Of the rows that meet the condition, so that tomorrow's rows change nothing."""
        columns = ", ".join(quoted(column.source) for column in declared(self.config) if column.source in types)
        select = f"{event_at or 'null::timestamp'} as event_at, hash({columns}) as content"
        with self.reading():
            found = con.execute(f"""
                select
                    count(*),
                    case when count(event_at) = count(*) then {in_calendar("min(event_at)")} end,
                    case when count(event_at) = count(*) then {in_calendar("max(event_at)")} end,
                    concat_ws('-', count(*) filter ({window}), sum(content) filter ({window})),
                from (select {select} from {self._described})
            """).fetchall()
        return [Facts(*found[0])]


def _keys(folder: str) -> list[tuple[str, str]]:
    """`/shop=rome/click_date=2017-10-01` → `[("shop", "rome"), ("click_date", "2017-10-01")]`."""
    return [(key, unquote(value)) for key, value in re.findall(r"(?:^|/)([^/=]+)=([^/]*)", folder)]


@contextmanager
def readable(place: str, *paths: str) -> Iterator[None]:
    """DuckDB's errors while reading, as answers that name the file. A network's are left as they are: they may pass."""
    import duckdb

    try:
        yield
    except duckdb.OutOfMemoryException:
        raise
    except duckdb.Error as error:
        if "No space left" in str(error) or (isinstance(error, duckdb.IOException) and place.startswith(REMOTE)):
            raise
        place = next((path for path in paths if path in str(error)), place)
        said = re.split(r"\n(?:LINE |Possible |The search space)", str(error))[0].strip()
        advice = "Is a file empty, cut off, of another format, or being written? Put it right, or take it away."
        raise SourceError(f"{place} cannot be read: {said}\n{advice}") from error


def in_calendar(moment: str) -> str:
    """SQL of a time, brought into the years that Python's datetime has."""
    return f"greatest(timestamp '0001-01-01', least(timestamp '9999-12-31', {moment}))"
