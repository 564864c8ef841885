"""Copies in PostgreSQL, on a real server: whole for every reader, with what hung on the table before, and secrets kept."""

import itertools
import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from recsys import published
from recsys.config import Export
from recsys.errors import ConfigError, ExportError
from recsys.publishing import relations
from recsys.publishing.copies import COLUMNS
from recsys.publishing.exports import export, places
from recsys.publishing.postgres import Postgres
from recsys.store import Store

NUMBERS = itertools.count()
PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))


@pytest.fixture(scope="module")
def server() -> Iterator[Path]:
    """A server of these tests alone: the folder of its socket. It trusts everybody who reaches it."""
    if not PROGRAMS:
        pytest.skip("no PostgreSQL server in /usr/lib/postgresql: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="recsys-postgres-"))
    somebody: dict[str, Any] = {}
    if os.geteuid() == 0:  # as whom the server refuses to run
        somebody = {"user": "nobody", "group": "nogroup", "extra_groups": []}
        shutil.chown(folder, "nobody", "nogroup")
        folder.chmod(0o755)

    def run(program: str, *arguments: str) -> None:
        command = [PROGRAMS[-1] / program, "-D", folder / "data", *arguments]
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, **somebody)

    run("initdb", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
    run("pg_ctl", "start", "-w", "-l", f"{folder}/log", "-o", f"-k {folder} -c listen_addresses='' -c fsync=off")
    with psycopg.connect(host=str(folder), user="postgres", autocommit=True) as admin:
        for role in ("recsys", "reader", "stranger"):
            admin.execute(f"create role {role} login")
    yield folder
    run("pg_ctl", "stop", "-m", "immediate")
    shutil.rmtree(folder)


@dataclass(frozen=True)
class Database:
    folder: Path
    name: str

    @property
    def connection(self) -> str:
        return f"host={self.folder} dbname={self.name} user=recsys password=hunter2"

    def connect(self, user: str = "postgres") -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(host=str(self.folder), dbname=self.name, user=user, autocommit=True)

    def __call__(self, query: str, user: str = "postgres") -> list[tuple[Any, ...]]:
        with self.connect(user) as connection:
            cursor = connection.execute(query)
            return cursor.fetchall() if cursor.description else []


@pytest.fixture
def database(server: Path, monkeypatch: pytest.MonkeyPatch) -> Database:
    """A new database of the role `recsys`; SHOP_DSN says how to reach it, with a password."""
    there = Database(server, f"shop_{next(NUMBERS)}")
    Database(server, "postgres")(f"create database {there.name} owner recsys")
    there("create schema shop authorization recsys")
    monkeypatch.setenv("SHOP_DSN", there.connection)
    return there


WANTED = [Export(format="postgres", path="${SHOP_DSN}", table="shop.lists")]
TABLES = "select schemaname || '.' || relname from pg_stat_user_tables order by 1"
READ = "select * from shop.lists order by user_id, rank"


@pytest.mark.parametrize("ids", ["integers", "strings"])
def test_a_copy_is_what_was_published(
    store: Store, nights: list[datetime], shop: Any, with_strings: Any, database: Database, ids: str
) -> None:
    shop = with_strings if ids == "strings" else shop
    done = shop.promoted(store, nights[0])
    assert export(store, done, WANTED) == [f"PostgreSQL {database.name} at {database.folder}, table shop.lists"]
    assert database(READ) == shop.values()
    id_type = "text" if ids == "strings" else "bigint"
    columns = "select column_name, data_type from information_schema.columns where table_schema = 'shop' order by ordinal_position"
    assert database(columns) == [
        ("user_id", id_type), ("rank", "integer"), ("item_id", id_type), ("score", "real"), ("source", "text"),
    ]  # fmt: skip
    assert database("select pg_get_indexdef(indexrelid), indisprimary from pg_index where indrelid = 'shop.lists'::regclass") == [
        ("CREATE UNIQUE INDEX lists_pkey ON shop.lists USING btree (user_id, rank)", True)
    ]
    ((mark,),) = database("select obj_description('shop.lists'::regclass)")
    assert json.loads(mark) == {"promotion": done.id, "as_of": nights[0].isoformat(), "source": "candidate"}


def test_ids_of_all_kinds_come_through(store: Store, nights: list[datetime], shop: Any, database: Database) -> None:
    odd = ["", " ", "a,b", 'say "it"', "two\nlines", "\\.", "\\N", "null", "Ж", "tab\t"]
    names = dict(enumerate(odd, start=10))
    shop = replace(shop, k=len(odd), as_id=lambda number: names.get(number, str(number)))
    export(store, shop.promoted(store, nights[0]), WANTED)
    assert {item for _, _, item, _, _ in database(READ)} == set(odd)


def test_a_copy_is_written_when_it_is_due_only(store: Store, nights: list[datetime], shop: Any, database: Database) -> None:
    first = shop.promoted(store, nights[0])
    assert export(store, first, WANTED)
    table = database("select 'shop.lists'::regclass::oid")
    assert not export(store, first, WANTED) and database("select 'shop.lists'::regclass::oid") == table
    assert export(store, first, WANTED, rebuild=True) and database("select 'shop.lists'::regclass::oid") != table
    second = shop.promoted(store, nights[1], shop.rows()[:6])
    assert export(store, second, WANTED) and len(database(READ)) == 6
    assert database(TABLES) == [("shop.lists",)], "the table of the night before is gone"
    assert export(store, published.rollback(store, "bad lists"), WANTED) and len(database(READ)) == len(shop.rows())
    database("drop table shop.lists")
    assert export(store, first, WANTED) and len(database(READ)) == len(shop.rows())


def test_readers_see_one_whole_night_or_the_other(store: Store, nights: list[datetime], shop: Any, database: Database) -> None:
    versions = [[{**row, "score": score} for row in shop.rows()] for score in (0.25, 0.5)]
    export(store, shop.promoted(store, nights[0], versions[0]), WANTED)
    seen: set[tuple[float, ...]] = set()
    errors: list[Exception] = []
    stop = threading.Event()

    def watch() -> None:
        try:
            with database.connect() as connection:
                while not stop.is_set():
                    seen.add(tuple(score for (score,) in connection.execute("select score from shop.lists").fetchall()))
        except Exception as error:
            errors.append(error)

    reader = threading.Thread(target=watch)
    reader.start()
    try:
        for turn in range(10):
            export(store, shop.promoted(store, nights[1], versions[turn % 2]), WANTED)
    finally:
        stop.set()
        reader.join()
    assert not errors and seen and seen <= {tuple(score for _ in shop.rows()) for score in (0.25, 0.5)}


def test_a_reader_whose_snapshot_is_older_finds_a_whole_night(store: Store, nights: list[datetime], shop: Any, database: Database) -> None:
    export(store, shop.promoted(store, nights[0]), WANTED)
    with database.connect() as connection, connection.transaction():
        connection.execute("set transaction isolation level repeatable read")
        connection.execute("select count(*) from pg_class")  # from here on it sees what was committed before
        export(store, shop.promoted(store, nights[1], shop.rows()[:6]), WANTED)
        assert len(connection.execute("select * from shop.lists").fetchall()) == 6


def test_owner_grants_and_indexes_are_kept(store: Store, nights: list[datetime], shop: Any, database: Database) -> None:
    database("alter default privileges in schema shop grant select on tables to stranger", user="recsys")
    database("grant usage on schema shop to reader, stranger")
    database("create role owners; grant owners to recsys; grant create on schema shop to owners")
    export(store, shop.promoted(store, nights[0]), WANTED)
    database("alter table shop.lists owner to owners")
    database("grant select on shop.lists to reader with grant option; revoke select on shop.lists from stranger")
    database("grant update (score), select (user_id, rank) on shop.lists to public")
    database('create index "by item" on shop.lists (item_id) where rank <= 3; create unique index once on shop.lists (user_id, item_id)')
    facts = [
        "select indexdef from pg_indexes where schemaname = 'shop' order by 1",
        "select relowner, relacl from pg_class where oid = 'shop.lists'::regclass",
        "select attname, attacl from pg_attribute where attrelid = 'shop.lists'::regclass and attnum > 0 order by attnum",
    ]
    before = [database(fact) for fact in facts]
    export(store, shop.promoted(store, nights[1], shop.rows()[:6]), WANTED)
    export(store, shop.promoted(store, nights[2]), WANTED)
    assert [database(fact) for fact in facts] == before and len(before[0]) == 3
    assert len(database(READ, user="reader")) == len(shop.rows())
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        database(READ, user="stranger")
    assert database("select count(rank) from shop.lists", user="stranger") == [(len(shop.rows()),)]


REFUSED = {
    "create table shop.lists (user_id bigint, name text)": "it holds other columns (user_id, name) and is not replaced",
    "create view shop.lists as select 1 as user_id": "no ordinary table",
    f"create table shop.lists ({', '.join(f'{name} int' for name in COLUMNS)}); alter table shop.lists enable row level security":
        "it has row security",
}  # fmt: skip


@pytest.mark.parametrize("there", REFUSED, ids=["table", "view", "row-security"])
def test_what_is_no_copy_stays(store: Store, nights: list[datetime], shop: Any, database: Database, there: str) -> None:
    database(there, user="recsys")
    with pytest.raises(ExportError, match=re.escape(REFUSED[there])) as caught:
        export(store, shop.promoted(store, nights[0]), WANTED)
    assert not caught.value.may_pass
    database("select user_id from shop.lists")


def test_a_copy_that_fails_changes_nothing_and_leaves_nothing(store: Store, nights: list[datetime], shop: Any, database: Database) -> None:
    export(store, shop.promoted(store, nights[0]), WANTED)
    twice = shop.promoted(store, nights[1], [*shop.rows(), shop.rows()[0]])
    with pytest.raises(ExportError, match="Key .user_id, rank.=.1, 1. is duplicated") as caught:
        export(store, twice, WANTED)
    assert not caught.value.may_pass
    assert database(READ) == shop.values() and database(TABLES) == [("shop.lists",)]

    database("create view shop.best as select * from shop.lists where rank = 1")
    with pytest.raises(ExportError, match="view shop.best depends on table shop.lists. What hangs on the table"):
        export(store, shop.promoted(store, nights[2]), WANTED)
    database("drop view shop.best")
    assert export(store, shop.promoted(store, nights[2]), WANTED)


def test_a_lock_that_somebody_holds_passes(
    store: Store, nights: list[datetime], shop: Any, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relations, "LOCK_TRIES", 1)
    export(store, shop.promoted(store, nights[0]), WANTED)
    second = shop.promoted(store, nights[1], shop.rows()[:6])
    with database.connect() as connection, connection.transaction():
        connection.execute(READ)
        with pytest.raises(ExportError, match="somebody held a lock on it all the time") as caught:
            export(store, second, WANTED)
        assert caught.value.may_pass and database(READ) == shop.values(), "others read on"
    assert export(store, second, WANTED) and len(database(READ)) == 6


def test_a_connection_that_ends_in_the_middle_leaves_the_night_before(
    store: Store, nights: list[datetime], shop: Any, database: Database
) -> None:
    export(store, shop.promoted(store, nights[0]), WANTED)
    second = shop.promoted(store, nights[1], shop.rows()[:6])
    waiting = "select pg_terminate_backend(pid) from pg_stat_activity where query like 'lock table%' and wait_event_type = 'Lock'"
    with database.connect() as connection, ThreadPoolExecutor() as threads:
        with connection.transaction():
            connection.execute(READ)  # so that the export, all loaded, has to wait
            failing = threads.submit(export, store, second, WANTED)
            while not database(waiting):
                assert not failing.done()
            with pytest.raises(ExportError, match="terminating connection") as caught:
                failing.result()
    assert caught.value.may_pass and database(READ) == shop.values() and database(TABLES) == [("shop.lists",)]
    assert export(store, second, WANTED)


def test_two_stores_may_copy_to_one_table(tmp_path: Path, nights: list[datetime], shop: Any, database: Database) -> None:
    stores = [Store(tmp_path / name) for name in "abc"]
    done = [shop.promoted(store, nights[0], shop.rows()[: 3 * n]) for n, store in enumerate(stores, start=1)]
    with ThreadPoolExecutor() as threads:
        written = list(threads.map(lambda pair: export(*pair, WANTED), zip(stores, done, strict=True)))
    assert all(written) and len(database(READ)) in (3, 6, 9) and database(TABLES) == [("shop.lists",)]


UNREACHABLE = {
    "host=127.0.0.1 port=1 dbname=shop user=recsys password=hunter2": ("Connection refused", True),
    "host={folder} dbname=nowhere user=recsys password=hunter2": ('database "nowhere" does not exist', True),
    "host={folder} dbname={name} user=nobody password=hunter2": ('role "nobody" does not exist', True),
    "host={folder} dbname={name} user=stranger password=hunter2": ("permission denied for schema shop. The role needs usage", False),
}


@pytest.mark.parametrize("connection", UNREACHABLE)
def test_errors_say_what_and_where_and_no_secret(
    store: Store, nights: list[datetime], shop: Any, database: Database, monkeypatch: pytest.MonkeyPatch, connection: str
) -> None:
    says, may_pass = UNREACHABLE[connection]
    monkeypatch.setenv("SHOP_DSN", connection.format(folder=database.folder, name=database.name))
    done = shop.promoted(store, nights[0])
    with pytest.raises(ExportError) as caught:
        export(store, done, WANTED)
    assert says in str(caught.value) and "table shop.lists: " in str(caught.value) and caught.value.may_pass == may_pass
    told = [*traceback.format_exception(caught.value), *map(str, places(store, WANTED)), *map(repr, places(store, WANTED))]
    assert "hunter2" not in "".join(told)
    assert published.current(store) == done, "the lists are published all the same"


def test_a_missing_schema_is_said(store: Store, nights: list[datetime], shop: Any, database: Database) -> None:
    with pytest.raises(ExportError, match='schema "other" does not exist. Create the schema'):
        export(store, shop.promoted(store, nights[0]), [Export(format="postgres", path="${SHOP_DSN}", table="other.lists")])


def test_the_environment_says_where(
    store: Store, nights: list[datetime], shop: Any, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PGHOST": str(database.folder), "PGDATABASE": database.name, "PGUSER": "recsys"}.items():
        monkeypatch.setenv(name, value)
    odd = 'top "10"; drop table x'
    database("grant create on schema public to recsys")
    export(store, shop.promoted(store, nights[0]), [Export(format="postgres", table=odd)])
    assert database('select count(*) from "top ""10""; drop table x"') == [(len(shop.rows()),)]


ANYTHING = "p@ss'w0rd/b?c#%40 &x=1\\:${NOT_SET}"
CONNECTIONS = [
    "postgresql://me:${RECSYS_TEST_SECRET}@db.example:5433/shop",
    "postgresql://me@db.example:5433/shop?password=${RECSYS_TEST_SECRET}&connect_timeout=3",
    "host=db.example port=5433 dbname=shop user=me password=${RECSYS_TEST_SECRET}",
    "host=db.example port=5433 password = '${RECSYS_TEST_SECRET}' dbname=shop user=me",
]


@pytest.mark.parametrize("connection", CONNECTIONS)
def test_a_password_may_hold_any_character(store: Store, monkeypatch: pytest.MonkeyPatch, connection: str) -> None:
    monkeypatch.setenv("RECSYS_TEST_SECRET", ANYTHING)
    (place,) = places(store, [Export(format="postgres", path=connection)])
    assert isinstance(place, Postgres)
    asked = conninfo_to_dict(place.connection)
    asked.pop("connect_timeout", None)
    assert asked == {"host": "db.example", "port": "5433", "dbname": "shop", "user": "me", "password": ANYTHING}
    assert str(place) == "PostgreSQL shop at db.example, table public.recommendations"


def test_so_may_a_user_and_the_rest_of_an_address_stays(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_TEST_USER", "me@tenant")
    monkeypatch.setenv("RECSYS_TEST_SECRET", "a/b")
    monkeypatch.setenv("RECSYS_TEST_HOSTS", "a.example:5433,b.example:5434")
    (place,) = places(
        store, [Export(format="postgres", path="postgresql://${RECSYS_TEST_USER}:${RECSYS_TEST_SECRET}@${RECSYS_TEST_HOSTS}/shop")]
    )
    assert isinstance(place, Postgres) and conninfo_to_dict(place.connection) == {
        "host": "a.example,b.example", "port": "5433,5434", "dbname": "shop", "user": "me@tenant", "password": "a/b",
    }  # fmt: skip


def test_places_that_cannot_be_one_are_refused_without_their_secrets(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_TEST_DSN", "hunter2 is no connection string")
    monkeypatch.setenv("RECSYS_TEST_SECRET", "hunter2")
    monkeypatch.setenv("RECSYS_TEST_RAW", "postgresql://me:p@hunter2@db.example/shop")
    refused = {
        "is no connection string": Export(format="postgres", path="${RECSYS_TEST_DSN}"),
        "has an @ too many": Export(format="postgres", path="${RECSYS_TEST_RAW}"),
        "holds a password": Export(format="postgres", path="postgresql://me:hunter2@${NOT_SET}/shop"),
        "postgres holds a password": Export(format="postgres", path="host=${NOT_SET} password = hunter2 and no more"),
        "NOT_SET, which is not set": Export(format="postgres", path="postgresql://me:${RECSYS_TEST_SECRET}@${NOT_SET}/shop"),
        "is longer than 58 bytes": Export(format="postgres", table="Ж" * 30),
    }
    for says, given in refused.items():
        with pytest.raises(ConfigError, match=re.escape(says)) as caught:
            places(store, [given])
        assert "hunter2" not in str(caught.value)
    (place,) = places(store, [Export(format="postgres", path="postgresql://me:${RECSYS_TEST_SECRET}@db.example/shop")])
    assert str(place) == "PostgreSQL shop at db.example, table public.recommendations" and "hunter2" not in repr(place)
    with pytest.raises(ConfigError, match="is named twice"):
        places(store, [Export(format="postgres"), Export(format="postgres")])
