"""Copies of the published lists: whole, of the current night, and written only when they are due."""

import json
import resource
import sys
import threading
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from recsys import published
from recsys.config import Export
from recsys.errors import ConfigError, ExportError
from recsys.publishing.exports import export, places
from recsys.store import Store

FORMATS = ["parquet", "csv", "jsonl", "duckdb"]


def place(tmp_path: Path, format: str) -> Export:
    return Export(format=format, path=str(tmp_path / "out" / ("lists.duckdb" if format == "duckdb" else "lists")))


def read(tmp_path: Path, format: str, columns: str = "*") -> list[tuple[Any, ...]]:
    folder = tmp_path / "out"
    if format == "duckdb":
        with duckdb.connect(folder / "lists.duckdb", read_only=True) as connection:
            return connection.execute(f"select {columns} from recommendations").fetchall()
    return duckdb.sql(f"select {columns} from '{folder}/lists/recommendations.{format}'").fetchall()


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("ids", ["integers", "strings"])
def test_a_copy_is_what_was_published(
    store: Store, nights: list[datetime], shop: Any, with_strings: Any, tmp_path: Path, format: str, ids: str
) -> None:
    shop = with_strings if ids == "strings" else shop
    done = shop.promoted(store, nights[0])
    assert len(export(store, done, [place(tmp_path, format)])) == 1
    if format == "jsonl" and ids == "integers":
        assert (tmp_path / "out/lists/recommendations.jsonl").read_text().splitlines()[0] == (
            '{"user_id":1,"rank":1,"item_id":13,"score":1.0,"source":"candidate"}'
        )
    if format == "csv":  # has no types: integers that were strings come back as integers
        assert (tmp_path / "out/lists/recommendations.csv").read_text().splitlines()[:2] == [
            "user_id,rank,item_id,score,source",
            "1,1,13,1.0,candidate",
        ]
    else:
        assert read(tmp_path, format) == shop.values()


@pytest.mark.parametrize("format", FORMATS)
def test_a_copy_is_written_when_it_is_due_only(store: Store, nights: list[datetime], shop: Any, tmp_path: Path, format: str) -> None:
    wanted = [place(tmp_path, format)]
    first = shop.promoted(store, nights[0])
    assert export(store, first, wanted) and not export(store, first, wanted)
    second = shop.promoted(store, nights[1], shop.rows()[:6])
    assert export(store, second, wanted) and len(read(tmp_path, format)) == 6
    assert export(store, first, wanted) == []  # not what is published now
    assert len(read(tmp_path, format)) == 6
    back = published.rollback(store, "bad lists")
    assert export(store, back, wanted) and len(read(tmp_path, format)) == len(shop.rows())


@pytest.mark.parametrize("format", FORMATS)
def test_a_copy_that_somebody_removed_or_altered_is_due_again(
    store: Store, nights: list[datetime], shop: Any, tmp_path: Path, format: str
) -> None:
    wanted, done = [place(tmp_path, format)], shop.promoted(store, nights[0])
    export(store, done, wanted)
    if format == "duckdb":
        with duckdb.connect(tmp_path / "out" / "lists.duckdb") as connection:
            connection.execute("comment on table recommendations is 'mine'")
    else:
        (tmp_path / "out" / "lists" / f"recommendations.{format}").unlink()
    assert export(store, done, wanted)
    assert len(read(tmp_path, format)) == len(shop.rows())


def test_a_copy_that_was_cut_short_is_due_again(
    store: Store, nights: list[datetime], shop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [place(tmp_path, "csv")]
    export(store, shop.promoted(store, nights[0]), wanted)
    second = shop.promoted(store, nights[1], shop.rows()[:6])

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", killed)
        with pytest.raises(KeyboardInterrupt):
            export(store, second, wanted)
    assert len(read(tmp_path, "csv")) == len(shop.rows())  # still the whole night before
    assert export(store, second, wanted)
    assert sorted(p.name for p in (tmp_path / "out" / "lists").iterdir()) == ["recommendations.csv", "recommendations.csv.json"]


@pytest.mark.parametrize("format", FORMATS)
def test_a_disk_that_refuses_leaves_the_night_before(store: Store, nights: list[datetime], shop: Any, tmp_path: Path, format: str) -> None:
    wanted = [place(tmp_path, format)]
    export(store, shop.promoted(store, nights[0]), wanted)
    there = sorted((tmp_path / "out").rglob("*"))
    second = shop.promoted(store, nights[1], shop.rows()[:6])
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, most))  # bytes of a file: as a full disk or a quota
    try:
        with pytest.raises(ExportError, match="copies could not be written") as caught:
            export(store, second, wanted)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    assert caught.value.may_pass and len(read(tmp_path, format)) == len(shop.rows())
    left = set((tmp_path / "out").rglob("*")) - set(there)
    assert {path.suffix for path in left} <= {".wal"}, "nothing half-written stays in the way but DuckDB's log, which it takes up again"
    assert export(store, second, wanted) and len(read(tmp_path, format)) == 6


@pytest.mark.parametrize("format", ["parquet", "csv"])
def test_readers_see_one_whole_night_or_the_other(store: Store, nights: list[datetime], shop: Any, tmp_path: Path, format: str) -> None:
    wanted = [place(tmp_path, format)]
    versions = [[{**row, "score": score} for row in shop.rows()] for score in (0.25, 0.5)]
    export(store, shop.promoted(store, nights[0], versions[0]), wanted)
    seen: set[tuple[float, ...]] = set()
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            seen.add(tuple(sorted(score for (score,) in read(tmp_path, format, "score"))))

    reader = threading.Thread(target=watch)
    reader.start()
    try:
        for turn in range(10):
            export(store, shop.promoted(store, nights[1], versions[turn % 2]), wanted)
    finally:
        stop.set()
        reader.join()
    whole = [tuple(score for _ in shop.rows()) for score in (0.25, 0.5)]
    assert seen and seen <= set(whole)


def test_other_tables_of_a_database_are_left_alone(store: Store, nights: list[datetime], shop: Any, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with duckdb.connect(tmp_path / "out" / "lists.duckdb") as connection:
        connection.execute("create table mine as select 42 as answer")
    path, done = str(tmp_path / "out" / "lists.duckdb"), shop.promoted(store, nights[0])
    odd = Export(format="duckdb", path=path, table='top "10"; drop table mine')
    assert export(store, done, [odd]) == [f'{path}, table top "10"; drop table mine']
    assert export(store, done, [Export(format="duckdb", path=path, table="shop.lists")]) == [f"{path}, table shop.lists"]
    with pytest.raises(ExportError, match=r"table mine: it holds other columns \(answer\) and is not replaced"):
        export(store, done, [Export(format="duckdb", path=path, table="mine")])
    with duckdb.connect(tmp_path / "out" / "lists.duckdb", read_only=True) as connection:
        assert connection.execute("select answer from mine").fetchall() == [(42,)]
        assert connection.execute('select count(*) from "top ""10""; drop table mine"').fetchall() == [(len(shop.rows()),)]
        assert connection.execute("select count(*) from shop.lists").fetchall() == [(len(shop.rows()),)]
        comments = connection.execute("select comment from duckdb_tables() where comment is not null").fetchall()
    assert [json.loads(comment)["as_of"] for (comment,) in comments] == [nights[0].isoformat()] * 2


def test_several_copies_of_one_night(store: Store, nights: list[datetime], shop: Any, tmp_path: Path) -> None:
    wanted = [place(tmp_path, format) for format in FORMATS]
    assert len(export(store, shop.promoted(store, nights[0]), wanted)) == len(FORMATS)
    assert [len(read(tmp_path, format)) for format in FORMATS] == [len(shop.rows())] * len(FORMATS)


def test_places_come_from_the_environment(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_TEST_OUT", str(tmp_path))
    assert [str(p) for p in places(store, [Export(format="csv", path="${RECSYS_TEST_OUT}/lists")])] == [
        f"{tmp_path}/lists/recommendations.csv"
    ]
    with pytest.raises(ConfigError, match="RECSYS_TEST_NOWHERE, which is not set"):
        places(store, [Export(format="csv", path="${RECSYS_TEST_NOWHERE}")])


def test_a_driver_that_is_not_there_is_named_with_the_way_to_the_pinned_one(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "recsys.publishing.postgres", raising=False)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigError, match=r"postgres needs its driver .*: make .venv/installed EXTRAS=postgres"):
        places(store, [Export(format="postgres", path="postgresql://db/shop")])


def test_places_that_cannot_be_one_are_refused(store: Store, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    store.root.mkdir()
    (tmp_path / "link").symlink_to(store.root)
    refused = {
        "lies in the store": Export(format="parquet", path=str(store.root)),
        "csv is written to a folder of this machine, or s3://bucket/folder, not to gs://": Export(format="csv", path="gs://bucket/lists"),
        "duckdb is written to a file of this machine": Export(format="duckdb", path="s3://bucket/lists.duckdb"),
        "duckdb needs a database file, but .*folder is a folder": Export(format="duckdb", path=str(tmp_path / "folder")),
        "csv needs a folder, but .*file is a file": Export(format="csv", path=str(tmp_path / "file")),
    }
    for says, given in refused.items():
        with pytest.raises(ConfigError, match=says):
            places(store, [given])
    for around in (tmp_path / "link" / "out", tmp_path / "folder" / ".." / "store"):
        with pytest.raises(ConfigError, match="lies in the store"):
            places(store, [Export(format="csv", path=str(around))])
    with pytest.raises(ConfigError, match="is named twice"):
        places(
            store, [Export(format="csv", path=str(tmp_path / "out")), Export(format="csv", path=str(tmp_path / "folder" / ".." / "out"))]
        )
