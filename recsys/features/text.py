"""CSV and JSON lines: types are found by reading, values kept as they were written, content known once it is read."""

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from recsys.config import Table
from recsys.errors import SourceError
from recsys.features.columns import declared, kind
from recsys.features.formats import FILE_SHIFT, Facts, Reader, in_calendar
from recsys.sql import literal, quoted

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


class Text(Reader):
    """Files without statistics: what they hold is known once they are read."""

    def facts(self, con: "DuckDBPyConnection", event_at: str | None, types: Mapping[str, str], window: str) -> list[Facts]:
        columns = ", ".join(quoted(column.source) for column in declared(self.config) if column.source in types)
        rows = self.rows(f"{event_at or 'null::timestamp'} as event_at, hash({columns}) as content", types)
        with self.reading():
            found = con.execute(
                _CONTENTS.format(rows=rows, shift=FILE_SHIFT, first=in_calendar("min(event_at)"), last=in_calendar("max(event_at)"))
            ).fetchall()
        facts = {file: Facts(*held) for file, *held in found}
        return [facts.get(file, Facts(0, None, None, "empty")) for file in range(len(self.paths))]

    def _numbered(self, select: str, function: str) -> str:
        """Rows numbered as they come: over all files, since no format but parquet counts within one."""
        return (
            f"select {select}, (file_index::bigint << {FILE_SHIFT}) + __row as source_order "
            f"from (select *, file_index, row_number() over () - 1 as __row from {function})"
        )


# One row per file: rows, range of their times unless one is unreadable (so that the file is read, and the time reported),
# and a digest of its rows in their order, whatever the number of the first.
_CONTENTS = """
with
numbered as (
    select
        source_order >> {shift} as file,
        source_order & ((1::bigint << {shift}) - 1) as number,
        event_at,
        content,
        (content >> 32)::hugeint as part,
    from ({rows})
)
select
    file,
    count(*),
    case when count(*) = count(event_at) then {first} end,
    case when count(*) = count(event_at) then {last} end,
    concat_ws('-', count(*), sum(content), sum(part * number) - min(number) * sum(part)),
from numbered
group by file
"""


@dataclass(frozen=True)
class Csv(Text):
    """Comma-separated files with a header, UTF-8, quoted by `"`; also with tabs, semicolons or bars."""

    delimiter: str = ","

    @classmethod
    def open(cls, con: "DuckDBPyConnection", table: str, config: Table, paths: tuple[str, ...]) -> "Csv":
        """The delimiter is the one under which the header has most of the declared columns."""
        names = {column.source for column in declared(config)}
        readers = [cls(table, config, paths, delimiter) for delimiter in (",", "\t", ";", "|")]
        line = readers[0].only(paths[0])._first_line(con)
        return max(readers, key=lambda reader: len(names & set(reader._split(line))))

    def columns(self, con: "DuckDBPyConnection") -> dict[str, str]:
        """The same; DuckDB's guess at many files says neither which of them cannot be read nor in which line."""
        try:
            return super().columns(con)
        except SourceError:
            for path in self.paths:
                self.only(path)._check_lines(con)
            raise

    def _check_lines(self, con: "DuckDBPyConnection") -> None:
        """SourceError with the line of a single file that has other columns than its header, or cannot be read."""
        n_columns = max(1, len(self._split(self._first_line(con))))  # a blank file can be read
        columns = {f"column{number}": "VARCHAR" for number in range(n_columns)}
        with self.reading():
            con.execute(
                f"select bit_xor(hash(rows)) from read_csv({self.files}, {self._format}, auto_detect=false, hive_partitioning=false, "
                f"columns={columns}) rows"
            )

    def _first_line(self, con: "DuckDBPyConnection") -> str:
        """The header of a single file."""
        self.bind(con)
        with self.reading():
            line = con.execute(
                f"select line from read_csv({self.files}, auto_detect=false, hive_partitioning=false, header=false, strict_mode=false, "
                "delim='\x01', quote='', escape='', columns={'line': 'VARCHAR'}) limit 1"
            ).fetchone()
        return line[0] if line and line[0] else ""

    def _split(self, line: str) -> list[str]:
        return next(csv.reader(io.StringIO(line), delimiter=self.delimiter), [])

    @property
    def _format(self) -> str:
        # All is said that DuckDB would guess: its guesses skip lines that do not fit.
        return f"header=true, skip=0, comment='', delim='{self.delimiter}', quote='\"', escape='\"', strict_mode=true, null_padding=false"

    @property
    def _dialect(self) -> str:
        return f"{self.files}, union_by_name=true, {self.hive}, {self._format}"

    @property
    def _described(self) -> str:
        return f"read_csv({self._dialect}, sample_size=-1)"

    def types(self, con: "DuckDBPyConnection") -> dict[str, str]:
        """Guessed from all rows for numbers; ids are integers only where all are written as plain ones (no `007`)."""
        types = self.columns(con)
        for column in declared(self.config):
            if column.source not in types:
                continue  # said to be missing by `sources`, or made by SQL
            found = kind(types[column.source])
            is_number = found in ("integer", "wide_integer", "float")
            if column.role in ("user", "item", "session") and is_number:
                types[column.source] = self._id_type(con, column.source, types[column.source])
            elif column.role in ("categorical", "type", "text") or not (is_number or column.role == "order"):
                types[column.source] = "VARCHAR"
        return types

    def rows(self, select: str, types: Mapping[str, str]) -> str:
        return self._numbered(select, f"read_csv({self._dialect}, all_varchar=true)")

    def _id_type(self, con: "DuckDBPyConnection", column: str, guessed: str) -> str:
        name = quoted(column)
        with self.reading():
            are_plain, are_digits = con.execute(f"""
                select bool_and(regexp_full_match({name}, '-?(0|[1-9][0-9]{{0,17}})')), bool_and(regexp_full_match({name}, '-?[0-9]+'))
                from read_csv({self._dialect}, all_varchar=true)
            """).fetchall()[0]
        return "BIGINT" if are_plain is not False else "VARCHAR" if are_digits else guessed


class Json(Text):
    """JSON lines, or files with one JSON array of objects."""

    @property
    def _described(self) -> str:
        return f"read_json({self.files}, union_by_name=true, {self.hive}, sample_size=-1)"

    def types(self, con: "DuckDBPyConnection") -> dict[str, str]:
        """As found in all rows; what is a string in the file stays one."""
        guessed = r"^(UUID|DATE|TIME|TIMESTAMP\w*( WITH TIME ZONE)?)(?=$|\[)"
        return {name: re.sub(guessed, "VARCHAR", type_) for name, type_ in self.columns(con).items()}

    def rows(self, select: str, types: Mapping[str, str]) -> str:
        there = [column.source for column in declared(self.config) if column.source in types]
        columns = ", ".join(f"{literal(name)}: {literal(types[name])}" for name in there)
        return self._numbered(select, f"read_json({self.files}, {self.hive}, columns={{{columns}}})")
