"""Folders named `key=value`: a column where a wildcard stands for them, and only where the data lie above the first one."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recsys.config import Events, Features
from recsys.errors import SourceError
from recsys.features.files import Span, locate
from recsys.sql import connect
from recsys.store import Artifact
from recsys.windows import parse_as_of
from tests.features.conftest import QUIET
from tests.features.days import DAYS, day, events, write

Build = Callable[..., Artifact]
Rows = Callable[..., list[tuple[Any, ...]]]

ENDINGS = (".parquet", ".csv", ".jsonl")


def shops(**columns: str) -> str:
    """Clicks with columns of the file's own."""
    return f"select *, {', '.join(f'{literal} as {name}' for name, literal in columns.items())} from ({day(DAYS[2])})"


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_folder_that_a_wildcard_stands_for_is_a_column(build: Build, rows: Rows, tmp_path: Path, ending: str) -> None:
    for shop in ("rome", "ulm"):
        write(tmp_path / f"shop={shop}/part{ending}", day(DAYS[2], rows=1 if shop == "ulm" else 2))
    tables = build(events(f"{tmp_path}/*/*{ending}", categorical=("shop",)))
    assert sorted(rows(tables, "events", "item_id", "shop")) == [(0, "rome"), (0, "ulm"), (1, "rome")]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_folder_above_the_first_wildcard_leaves_the_column_as_it_is(build: Build, rows: Rows, tmp_path: Path, ending: str) -> None:
    write(tmp_path / f"shop=rome/clicks{ending}", shops(shop="'ulm'"))
    night = build(events(f"{tmp_path}/shop=rome/*{ending}", categorical=("shop",)))
    assert set(rows(night, "events", "shop")) == {("ulm",)}
    shutil.move(tmp_path / "shop=rome", tmp_path / "shop=bonn")
    assert build(events(f"{tmp_path}/shop=bonn/*{ending}", categorical=("shop",))).content == night.content


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("pattern", ["shop=rome/*", "shop=rome/clicks", "/shop=rome//*"])
def test_a_folder_above_the_first_wildcard_is_no_column(build: Build, tmp_path: Path, ending: str, pattern: str) -> None:
    write(tmp_path / f"shop=rome/clicks{ending}", day(DAYS[2]))
    with pytest.raises(SourceError, match="has no column 'shop'.*A folder shop=… is one only where a wildcard of data.events.path stands"):
        build(events(f"{tmp_path}/{pattern}{ending}", categorical=("shop",)))


def test_keys_above_and_below_the_first_wildcard(build: Build, rows: Rows, tmp_path: Path) -> None:
    for date in DAYS:
        write(tmp_path / f"in/shop=rome/date={date}/part.parquet", f"select *, 'ulm' as Shop, 'tv' as device from ({day(date)})")
    pattern = f"{tmp_path}/in/shop=rome/date=*/*.parquet"
    night = build(events(pattern, partition="date", categorical=("device",)))
    assert set(rows(night, "events", "device")) == {("tv",)}
    with pytest.raises(SourceError) as error:
        build(events(pattern, partition="date", categorical=("Shop",)))
    assert "data.events: 'Shop' is declared as categorical" in str(error.value)
    assert f"{tmp_path}/in/shop=rome lies in a folder shop=…" in str(error.value) and "shop=*" in str(error.value)
    assert set(rows(build(events(f"{tmp_path}/in/shop=*/date=*/*.parquet", categorical=("Shop",))), "events", "Shop")) == {("rome",)}


@pytest.mark.parametrize("ending", ENDINGS)
def test_folders_of_different_keys_are_no_columns(build: Build, tmp_path: Path, ending: str) -> None:
    write(tmp_path / f"in/shop=rome/part{ending}", day(DAYS[1]))
    write(tmp_path / f"in/shop=ulm/floor=2/part{ending}", day(DAYS[2]))
    pattern = f"{tmp_path}/in/**/*{ending}"
    assert build(events(pattern)).counts["events"] == 8
    with pytest.raises(SourceError, match="has no column 'shop'.*and all files lie in folders of the same keys"):
        build(events(pattern, categorical=("shop",)))


def test_where_the_store_lies_changes_no_column(build: Build, rows: Rows, clicks: Callable[..., str]) -> None:
    plain, below = build(clicks()), build(clicks(), store="device=oven/user_id=7/store")
    assert rows(below, "events", "user_id", "device") == rows(plain, "events", "user_id", "device")
    assert below.content == plain.content


@pytest.mark.parametrize(
    ("value", "start", "end"),
    [
        ("2017-11-05", "2017-11-05", "2017-11-06"),
        ("2017-1-5", "2017-01-05", "2017-01-06"),
        ("20171105", "2017-11-05", "2017-11-06"),
        ("2017-11", "2017-11-01", "2017-12-01"),
        ("201711", "2017-11-01", "2017-12-01"),
        ("201712", "2017-12-01", "2018-01-01"),
        ("2017-11-05T06", "2017-11-05T06:00", "2017-11-05T07:00"),
        ("2017-11-05%2006", "2017-11-05T06:00", "2017-11-05T07:00"),
        ("2017-11-05-06", "2017-11-05T06:00", "2017-11-05T07:00"),
    ],
)
def test_what_a_partition_covers(tmp_path: Path, value: str, start: str, end: str) -> None:
    write(tmp_path / f"date={value}/part.parquet", day(DAYS[2]))
    with connect(Features(**QUIET)) as con:
        found = locate(con, "events", Events(path=f"{tmp_path}/*/*.parquet", time="event_at", partition="date"))
    assert found.spans == (Span(parse_as_of(start).replace(tzinfo=None), parse_as_of(end).replace(tzinfo=None)),)


@pytest.mark.parametrize("value", ["2017", "20171", "2017115", "201713", "171105", "05-11-2017"])
def test_a_partition_that_is_no_date(build: Build, tmp_path: Path, value: str) -> None:
    write(tmp_path / f"date={value}/part.parquet", day(DAYS[2]))
    with pytest.raises(SourceError, match=f"date={value} in .* is no date: write 2017-10-01, 2017-10 or 2017-10-01T06"):
        build(events(f"{tmp_path}/*/*.parquet", partition="date"))
