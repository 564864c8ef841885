"""Copies as tables of a DuckDB file, beside whatever else is in it."""

from dataclasses import dataclass
from pathlib import Path

import duckdb

from recsys.errors import ExportError
from recsys.publishing.copies import About, is_copy, marked, read_mark, rows
from recsys.sql import literal, quoted

_TABLE = """
    select duckdb_tables.comment, list(column_name)
    from duckdb_tables() join duckdb_columns() using (database_name, schema_name, table_name)
    where schema_name = $schema and table_name = $name group by all
"""


@dataclass(frozen=True)
class Table:
    """The lists as a table of a database file, replaced in one transaction; the mark is the table's comment."""

    path: Path
    schema: str
    name: str

    def shows(self) -> About | None:
        if not self.path.exists():
            return None
        with duckdb.connect(self.path, read_only=True) as connection:
            return read_mark(self._found(connection)[0])

    def write(self, lists: str, about: About) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        name = f"{quoted(self.schema)}.{quoted(self.name)}"
        with duckdb.connect(self.path) as connection:
            mark, columns = self._found(connection)
            if columns and not is_copy(columns, mark):
                raise ExportError(f"it holds other columns ({', '.join(columns)}) and is not replaced: name another table")
            connection.execute("begin")
            connection.execute(f"create schema if not exists {quoted(self.schema)}")
            connection.execute(f"create or replace table {name} as {rows(lists)}")
            connection.execute(f"comment on table {name} is {literal(marked(about))}")
            connection.execute("commit")

    def _found(self, connection: duckdb.DuckDBPyConnection) -> tuple[str | None, list[str]]:
        """The comment and the columns of the table that is there."""
        return next(iter(connection.execute(_TABLE, {"schema": self.schema, "name": self.name}).fetchall()), (None, []))

    def __str__(self) -> str:
        return f"{self.path}, table {self.name if self.schema == 'main' else f'{self.schema}.{self.name}'}"
