"""What stands under the name of a table of a PostgreSQL server, and what a table that takes its place gets of it."""

import time
from dataclasses import dataclass
from typing import Any

import psycopg

from recsys.errors import ExportError
from recsys.publishing.copies import is_copy
from recsys.sql import quoted

Server = psycopg.Connection[tuple[Any, ...]]

LOCK_TRIES = 40  # a minute in all, for readers to finish


@dataclass(frozen=True)
class Relation:
    """What stands under the table's name before it is replaced."""

    place: str
    oid: int
    kind: str
    row_security: bool
    owner: str
    mark: str | None
    columns: list[str]

    @classmethod
    def find(cls, server: Server, schema: str, name: str) -> "Relation | None":
        found = server.execute(_RELATION, [schema, name]).fetchone()
        return cls(qualified(schema, name), *found) if found is not None else None

    def check_replaceable(self) -> None:
        """ExportError where it is no copy of the lists, or replacing it would lose more than its rows."""
        if self.kind != "r":
            raise ExportError("it is there, and no ordinary table: name another one")
        if not is_copy(self.columns, self.mark):
            raise ExportError(f"it holds other columns ({', '.join(self.columns)}) and is not replaced: name another table")
        if self.row_security:
            raise ExportError("it has row security, which a new table in its place would not have: grant access in another way")

    def build_indexes(self, server: Server, side: str, new: str) -> dict[str, str]:
        """The same indexes on the new table, but for the primary key: their names now → in the end."""
        found = server.execute(_INDEXES, [self.oid]).fetchall()
        for number, (_, unique, rest) in enumerate(found):
            server.execute(f"create {'unique ' if unique else ''}index {quoted(f'{new}_{number}')} on {side} {rest}")
        return {f"{new}_{number}": name for number, (name, *_) in enumerate(found)}

    def lock(self, server: Server) -> None:
        """Wait for those who read. Only a second each time: whoever comes after us in the server's queue waits with us."""
        for _ in range(LOCK_TRIES):
            try:
                with server.transaction():
                    server.execute("set local lock_timeout = '1s'")
                    server.execute(f"lock table {self.place} in access exclusive mode")
                return
            except psycopg.errors.LockNotAvailable:
                time.sleep(0.5)
        raise ExportError("somebody held a lock on it all the time, as a transaction does that has read it and stays open", may_pass=True)

    def hand_over(self, server: Server, side: str) -> None:
        """Give the new table this one's owner and grants, and no others."""
        server.execute(f"alter table {side} owner to {quoted(self.owner)}")
        for _, _, grantee, _ in server.execute(_GRANTS, [side] * 2).fetchall():  # by default privileges
            server.execute(f"revoke all on {side} from {grantee}")
        for privilege, column, grantee, option in server.execute(_GRANTS, [self.place] * 2).fetchall():
            server.execute(f"grant {privilege}{column} on {side} to {grantee}{option}")


def qualified(schema: str, name: str) -> str:
    return f"{quoted(schema)}.{quoted(name)}"


_RELATION = """
    select
        pg_class.oid,
        relkind::text,
        relrowsecurity,
        pg_get_userbyid(relowner),
        obj_description(pg_class.oid, 'pg_class'),
        array(
            select attname::text from pg_attribute
            where attrelid = pg_class.oid and attnum > 0 and not attisdropped
            order by attnum
        )
    from pg_class
    join pg_namespace on pg_namespace.oid = relnamespace
    where nspname = %s and relname = %s
"""

# What stands in the definition after the table's name.
_INDEXES = """
    with definitions as (
        select
            indexes.relname as name,
            indisunique as is_unique,
            pg_get_indexdef(indexrelid) as definition,
            format(
                'CREATE %%sINDEX %%I ON %%I.%%I ',
                case when indisunique then 'UNIQUE ' else '' end, indexes.relname, nspname, tables.relname
            ) as before
        from pg_index
        join pg_class as indexes on indexes.oid = indexrelid
        join pg_class as tables on tables.oid = indrelid
        join pg_namespace on pg_namespace.oid = tables.relnamespace
        where indrelid = %s and not indisprimary and indisvalid
    )

    select name::text, is_unique, substr(definition, length(before) + 1) from definitions order by name
"""

# Of the table and of its columns, to everybody but the owner. A grantee of 0 is the public.
_GRANTS = """
    with entries as (
        select relowner, null::name as attname, (aclexplode(relacl)).* from pg_class where oid = %s::regclass
        union all
        select relowner, attname, (aclexplode(attacl)).*
        from pg_attribute
        join pg_class on pg_class.oid = attrelid
        where attrelid = %s::regclass
    )

    select
        privilege_type,
        coalesce(' (' || quote_ident(attname) || ')', ''),
        case when grantee = 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end,
        case when is_grantable then ' with grant option' else '' end
    from entries
    where grantee <> relowner
"""
