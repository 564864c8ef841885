"""Copies as tables of a PostgreSQL server.

The night is loaded into a table beside the one that is there, which gets the same indexes, owner and grants; then the names
change. All of it is one transaction: readers see the night before until it is committed, and whatever ends it early leaves
nothing behind.
"""

import hashlib
import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import quote

import duckdb
import psycopg
import pyarrow.csv
from psycopg.conninfo import conninfo_to_dict

from recsys.config import expand
from recsys.errors import ConfigError, ExportError
from recsys.publishing.copies import COLUMNS, About, marked, read_mark, rows
from recsys.publishing.relations import Relation, Server, qualified
from recsys.sql import literal, quoted

BATCH_ROWS = 100_000
LONGEST_NAME = 63 - len("_pkey")  # bytes; the server cuts longer ones off

_NAMED = re.compile(r"\$\{[\w:-]+\}")  # from the environment, or a block
_PASSWORD = re.compile(r"://[^/@]*:(?!\0)[^/@]*@|password\s*=\s*(?!'?\0)\S")  # written out
_CREDENTIALS = re.compile(rf"(?<=://)[^/@]*(?=@)|password\s*=\s*'?{_NAMED.pattern}")
_ADVICE = {
    "42501": "The role needs usage and create on the schema, and has to own the table, or be in the role that does.",
    "3F000": "Create the schema, and grant the role usage and create on it.",
    "2BP01": "What hangs on the table would be lost with it: let it read the table by another way, as a function does, or drop it.",
}


@dataclass(frozen=True)
class Postgres:
    """The lists as a table with the primary key `user_id, rank`; the mark is the table's comment.

    `connection` is a connection string of libpq. It may hold a password, so that it is never shown.
    """

    connection: str = field(repr=False)
    schema: str
    name: str

    @classmethod
    def at(cls, connection: str, schema: str, name: str) -> "Postgres":
        """`connection` as it is configured. ConfigError where it is none, or holds a password in plain text."""
        if _PASSWORD.search(_NAMED.sub("\0", connection)):
            raise ConfigError(
                "publishing.exports: the `path` of postgres holds a password. Take it from the environment, as ${NAME} or PGPASSWORD."
            )
        text = _expanded(connection)
        try:
            given = conninfo_to_dict(text)
        except psycopg.ProgrammingError:  # which quotes the text
            raise ConfigError(
                "publishing.exports: the `path` of postgres is no connection string (it is not shown, for it may hold a password). "
                "Write postgresql://user@host/database, or leave it out for PGHOST, PGDATABASE and the other PG* variables."
            ) from None
        if re.match("[^/@].*@", str(given.get("host", ""))):  # which is told, and the end of a password
            raise ConfigError(
                "publishing.exports: the `path` of postgres has an @ too many (it is not shown, for it may hold a password). "
                "In an address, a password is percent-encoded, its @ as %40; as a ${NAME} of its own it stays as it is."
            )
        if len(name.encode()) > LONGEST_NAME:
            raise ConfigError(f"publishing.exports: the table's name {name!r} is longer than {LONGEST_NAME} bytes. Shorten it.")
        return cls(text, schema, name)

    def shows(self) -> About | None:
        with self._transaction() as server:
            relation = Relation.find(server, self.schema, self.name)
            return read_mark(relation.mark) if relation is not None else None

    def write(self, lists: str, about: About) -> None:
        key = hashlib.md5(f"{self.schema}.{self.name}".encode()).hexdigest()[:12]
        with self._transaction() as server:
            server.execute("select pg_advisory_xact_lock(hashtext(%s))", [key])  # two stores that copy to one table take turns
            old, new = Relation.find(server, self.schema, self.name), f"recsys_next_{key}"
            if old is not None:
                old.check_replaceable()
            side = qualified(self.schema, new)
            _load(server, lists, side)
            server.execute(f"comment on table {side} is {literal(marked(about))}")
            indexes = {f"{new}_pkey": f"{self.name}_pkey"}
            if old is not None:
                indexes |= old.build_indexes(server, side, new)
            server.execute(f"analyze {side}")
            if old is not None:
                old.lock(server)
                old.hand_over(server, side)
                server.execute(f"drop table {old.place}")
            server.execute(f"alter table {side} rename to {quoted(self.name)}")
            for built, name in indexes.items():
                server.execute(f"alter index {qualified(self.schema, built)} rename to {quoted(name)}")

    @contextmanager
    def _transaction(self) -> Iterator[Server]:
        """Committed at the end, and rolled back by an error: an ExportError, which says what the server said."""
        wait_s = conninfo_to_dict(self.connection).get("connect_timeout") or 10
        try:
            with psycopg.connect(self.connection, client_encoding="utf8", application_name="recsys", connect_timeout=wait_s) as server:
                yield server
        except psycopg.Error as error:
            said = (
                error.diag.message_primary or " ".join(str(error).split()),
                error.diag.message_detail,
                _ADVICE.get(error.sqlstate or ""),
            )
            # No server, one that stops, a full disk, a lock: another try may find it otherwise.
            passes = isinstance(error, psycopg.OperationalError)
            raise ExportError(". ".join(text.rstrip(".") for text in said if text) + ".", passes) from None

    def __str__(self) -> str:
        given = conninfo_to_dict(self.connection)
        database, host = given.get("dbname") or os.environ.get("PGDATABASE"), given.get("host") or os.environ.get("PGHOST")
        where = f"{f' {database}' if database else ''}{f' at {host}' if host else ''}"
        return f"PostgreSQL{where}, table {self.schema}.{self.name}"


def _expanded(connection: str) -> str:
    """The connection string with what its names stand for, which is told nowhere. A user or a password may hold any character."""
    in_place = partial(quote, safe="") if "://" in connection else partial(re.sub, r"(\W)", r"\\\1")  # RFC 3986; libpq

    def filled(part: re.Match[str]) -> str:
        return _NAMED.sub(lambda name: in_place(expand(name[0], secret=True)), part[0])

    return expand(_CREDENTIALS.sub(filled, connection), secret=True)


def _load(server: Server, lists: str, side: str) -> None:
    """The rows into a new table. Frozen, so that a reader whose snapshot is older than the change of names finds them too."""
    with duckdb.connect() as connection:
        types = {
            name: "text" if kind == "VARCHAR" else "bigint" for name, kind, *_ in connection.execute(f"describe {rows(lists)}").fetchall()
        }
        types |= {"rank": "integer", "score": "real", "source": "text"}
        server.execute(f"create table {side} ({', '.join(f'{name} {types[name]}' for name in COLUMNS)})")
        batches = connection.execute(rows(lists)).to_arrow_reader(BATCH_ROWS)
        with server.cursor() as cursor, cursor.copy(f"copy {side} from stdin (format csv, freeze)") as copy:
            for batch in batches:
                text = io.BytesIO()
                pyarrow.csv.write_csv(batch, text, pyarrow.csv.WriteOptions(include_header=False))
                copy.write(text.getvalue())
    server.execute(f"alter table {side} add primary key (user_id, rank)")
