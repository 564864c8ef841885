"""What is read and what is refused; and that a version names what was read, not where it lay or when it was written."""

import os
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from recsys.config import Data, Events, Items
from recsys.errors import ConfigError, ContractError, RecsysError, SourceError
from recsys.store import Artifact
from recsys.windows import parse_as_of
from tests.features.days import DAYS, day, events, folder, write
from tests.features.malformed import MALFORMED

Build = Callable[..., Artifact]
Clicks = Callable[..., str]
Rows = Callable[..., list[tuple[Any, ...]]]

TOMORROW = "2024-03-11"


LAYOUTS = [(".parquet", True), (".parquet", False), (".csv", True), (".csv", False), (".jsonl", False)]


@pytest.mark.parametrize(("ending", "partition"), LAYOUTS)
def test_the_file_of_another_day_changes_no_version(build: Build, tmp_path: Path, ending: str, partition: bool) -> None:
    data = events(folder(tmp_path / "in", ending, partition=partition), partition="date" if partition else None)
    data = data.model_copy(update={"history": "2d", "seen": "2d"})
    night = build(data)
    assert night.counts["events"] == 8 and night.counts["event_rows_read"] == 8, "the day before the window is not read"
    folder(tmp_path / "in", ending, days=(TOMORROW,), partition=partition)
    assert build(data).reused, "tomorrow's file has arrived"
    path = "in/date={}/part" if partition else "in/{}"
    (tmp_path / f"{path.format(DAYS[0])}{ending}").unlink()
    assert build(data).reused, "what lies before the window has gone"
    write(tmp_path / f"{path.format(DAYS[1])}{ending}", day(DAYS[1], rows=5))
    assert build(data).version != night.version, "a day of the window has changed"


def test_rows_of_tomorrow_in_a_database_change_no_version(build: Build, tmp_path: Path) -> None:
    database = str(tmp_path / "shop.duckdb")
    data = Data(events=Events(attach=database, table="clicks", time="event_at"))
    with duckdb.connect(database) as con:
        con.execute(f"create table clicks as {day(DAYS[2])}")
    night = build(data)
    with duckdb.connect(database) as con:
        con.execute(f"insert into clicks {day(TOMORROW)}")
    assert build(data).reused
    with duckdb.connect(database) as con:
        con.execute("update clicks set item_id = 7 where item_id = 1")
    assert build(data).version != night.version


@pytest.mark.parametrize(("ending", "partition"), LAYOUTS)
def test_moving_and_touching_changes_no_version(build: Build, tmp_path: Path, ending: str, partition: bool, monkeypatch: Any) -> None:
    folder(tmp_path / "here=1/in", ending, partition=partition)
    pattern = "${PLACE}/in/*/*" if partition else "${PLACE}/in/*"
    monkeypatch.setenv("PLACE", str(tmp_path / "here=1"))
    night = build(events(pattern, partition="date" if partition else None))
    shutil.move(tmp_path / "here=1", tmp_path / "there=2")
    for file in (tmp_path / "there=2").rglob("*"):
        os.utime(file, (1, 1))
    monkeypatch.setenv("PLACE", str(tmp_path / "there=2"))
    assert build(events(pattern, partition="date" if partition else None)) == night


def test_a_change_of_equal_size_is_a_change(build: Build, tmp_path: Path) -> None:
    for ending in (".csv", ".jsonl", ".parquet"):
        path = tmp_path / f"clicks{ending}"
        night = build(events(write(path, day(DAYS[2]))), store=ending)
        size = path.stat().st_size
        write(path, day(DAYS[2]).replace("i as item_id", "case i when 3 then 7 else i end as item_id"))
        assert path.stat().st_size == size and build(events(str(path)), store=ending).version != night.version


def test_files_outside_the_window_are_not_opened(build: Build, tmp_path: Path) -> None:
    pattern = folder(tmp_path / "in", ".parquet", partition=True)
    for date in ("2024-01-01", TOMORROW):
        (tmp_path / f"in/date={date}").mkdir()
        (tmp_path / f"in/date={date}/part.parquet").write_text("not written yet")
    (tmp_path / "in" / f"date={DAYS[2]}" / "_SUCCESS").write_text("a marker, not data")
    data = events(pattern.replace("*.parquet", "*"), partition="date").model_copy(update={"history": "2d", "seen": "2d"})
    assert build(data).counts["events"] == 8
    with pytest.raises(SourceError, match="2024-03-11/part.parquet cannot be read"):
        build(data, parse_as_of("2024-03-12"))


@pytest.mark.parametrize(
    ("values", "as_of"),
    [
        (("2024-02", "2024-03"), "2024-03-11"),
        (("20240309", "20240310"), "2024-03-11"),
        (("2024-03-10T09", "2024-03-10T10"), "2024-03-10T11:00"),
    ],
)
def test_partitions_by_month_day_and_hour(build: Build, tmp_path: Path, values: tuple[str, str], as_of: str) -> None:
    times = {"2024-02": "2024-02-29 23:59", "2024-03": "2024-03-01", "20240309": "2024-03-09", "20240310": "2024-03-10",
             "2024-03-10T09": "2024-03-10 09:59", "2024-03-10T10": "2024-03-10 10:00"}  # fmt: skip
    for value in values:
        write(tmp_path / f"in/date={value}/part.parquet", f"select 1 as user_id, 2 as item_id, timestamp '{times[value]}' as event_at")
    assert build(events(f"{tmp_path}/in/*/*.parquet", partition="date"), parse_as_of(as_of)).counts["events"] == 2


def test_the_partition_can_be_the_time(build: Build, rows: Rows, tmp_path: Path) -> None:
    for date in (*DAYS, TOMORROW):
        write(tmp_path / f"in/date={date}/part.parquet", "select 1 as user_id, i as item_id from range(2) t (i)")
    tables = build(events(f"{tmp_path}/in/*/*.parquet", time="date", time_is_date=True, partition="date"))
    assert rows(tables, "events", "item_id", "event_at") == [(item, datetime.fromisoformat(date)) for date in DAYS for item in (0, 1)]


def test_a_future_row_in_a_file_of_its_own_is_found(build: Build, tmp_path: Path) -> None:
    pattern = folder(tmp_path, ".parquet", days=(*DAYS, "2033-01-01"))
    with pytest.raises(
        ContractError, match="event_at_not_after_run_start: 4 of 16 rows, as .*2033-01-01.parquet, row: 1.*data.events.time_unit"
    ):
        build(events(pattern))


MOMENT = datetime(2024, 3, 10, 11, 30, 0, 250_000)


@pytest.mark.parametrize(
    ("column", "settings"),
    [
        ("timestamp '2024-03-10 11:30:00.25'", {}),
        ("timestamptz '2024-03-10 12:30:00.25+01:00'", {}),
        ("timestamp_ns '2024-03-10 11:30:00.250000'", {}),
        ("timestamp_ms '2024-03-10 11:30:00.25'", {}),
        ("'2024-03-10 11:30:00.25'", {}),
        ("'2024-03-10T04:30:00.25-07:00'", {}),
        ("'2024-03-10T11:30:00.25Z'", {}),
        ("1710070200250000", {"time_unit": "us"}),
        ("1710070200250", {"time_unit": "ms"}),
    ],
)
@pytest.mark.parametrize("ending", [".parquet", ".csv", ".jsonl"])
def test_times_become_utc(build: Build, rows: Rows, tmp_path: Path, column: str, settings: dict[str, str], ending: str) -> None:
    path = write(tmp_path / f"clicks{ending}", f"select 1 as user_id, 2 as item_id, {column} as event_at")
    assert rows(build(events(path, **settings)), "events", "event_at") == [(MOMENT,)]


@pytest.mark.parametrize("ending", [".parquet", ".csv", ".jsonl"])
def test_seconds_and_dates(build: Build, rows: Rows, tmp_path: Path, ending: str) -> None:
    seconds = write(tmp_path / f"seconds{ending}", "select 1 as user_id, 2 as item_id, 1710070200 as event_at")
    assert rows(build(events(seconds, time_unit="s")), "events", "event_at") == [(datetime(2024, 3, 10, 11, 30),)]
    dates = write(
        tmp_path / f"dates{ending}", "select 1 as user_id, i as item_id, date '2024-03-10' as event_at, -i as n from range(3) t (i)"
    )
    found = rows(build(events(dates, time_is_date=True, order="n")), "events", "event_at", "item_id")
    assert found == [(datetime(2024, 3, 10), 2), (datetime(2024, 3, 10), 1), (datetime(2024, 3, 10), 0)]


def test_csv_as_people_write_it(build: Build, rows: Rows, tmp_path: Path) -> None:
    a = '\ufeffuser_id;item_id;event_at;"the ""place"""\r\n007;1;2024-03-10T10:00:00Z;"Rome; Via\r\nAppia"\r\n8;2;2024-03-10T10:00:00Z;\r\n'
    b = 'event_at;the "place";extra;item_id;user_id\n2024-03-10T11:00:00Z;Ulm;x;3;8\n'.replace('the "place"', '"the ""place"""')
    for name, text in (("a", a), ("b", b)):
        (tmp_path / f"{name}.csv").write_bytes(text.encode())
    tables = build(events(f"{tmp_path}/*.csv", categorical=('the "place"',)))
    assert sorted(rows(tables, "events", "user_id", "item_id", 'the "place"')) == [
        ("007", 1, "Rome; Via\r\nAppia"),
        ("8", 2, None),
        ("8", 3, "Ulm"),
    ]


def test_large_integer_ids_in_csv_are_strings(build: Build, rows: Rows, tmp_path: Path) -> None:
    path = write(tmp_path / "clicks.csv", f"select * replace (18446744073709551000::hugeint + user_id as user_id) from ({day(DAYS[2])})")
    assert sorted(rows(build(events(path)), "users", "user_id")) == [("18446744073709551000",), ("18446744073709551001",)]


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_sources_are_answered(build: Build, case: str, tmp_path: Path) -> None:
    make, says = MALFORMED[case]
    with pytest.raises(RecsysError) as error:
        build(make(tmp_path))
    message = str(error.value)
    assert not [part for part in says if part not in message], message
    assert len(message) < 2500 and not (tmp_path / "store/features").exists(), "nothing half-written is visible"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("1,2,2024-03-10T10:00:00Z,9,9", "Found: 4"),
        ("1,2", "Found: 2"),
        ('1,"2,2024-03-10T10:00:00Z', "unterminated quote"),
        ("\xff,2,2024-03-10T10:00:00Z", "utf-8"),
    ],
)
def test_of_many_csv_files_the_broken_one_is_named_with_its_line(build: Build, tmp_path: Path, line: str, says: str) -> None:
    pattern = folder(tmp_path / "in", ".csv", days=tuple(f"2024-03-{number:02}" for number in range(1, 11)))
    (tmp_path / "in/2024-03-02.csv").write_text("\n")
    with (tmp_path / "in/2024-03-07.csv").open("a", encoding="latin1") as file:
        file.write(f"{line}\n1,2,2024-03-10T10:00:00Z\n")
    with pytest.raises(SourceError, match=r"^\S+/in/2024-03-07.csv cannot be read: .*CSV Error on Line: 6") as error:
        build(events(pattern))
    assert says in str(error.value)


def test_mixed_formats(build: Build, tmp_path: Path) -> None:
    for ending in (".csv", ".parquet"):
        write(tmp_path / f"clicks{ending}", day(DAYS[2]))
    with pytest.raises(SourceError, match="several formats, as .*clicks.csv and .*clicks.parquet"):
        build(events(f"{tmp_path}/clicks*"))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            {"events": {"categorical": ("device",), "text": ("device",)}},
            "data.events gives the column 'device' two roles, categorical and text",
        ),
        ({"events": {"numeric": ("event_at",)}}, "two roles, time and numeric"),
        (
            {"events": {"categorical": ("size",)}, "items": {"numeric": ("Size",)}},
            "data.items and data.events both declare a column 'Size'",
        ),
        (
            {"items": {"numeric": ("weight",)}},
            "data.items declares a numeric column 'weight', a name that features gives to a column of its own",
        ),
        ({"events": {"categorical": ("hour",)}}, "'hour', a name that features gives"),
    ],
)
def test_names_that_clash(build: Build, settings: dict[str, Any], says: str, tmp_path: Path) -> None:
    kinds: dict[str, Any] = {"events": Events, "items": Items}
    common: dict[str, Any] = {
        "events": {"path": f"{tmp_path}/clicks.parquet", "time": "event_at"},
        "items": {"path": f"{tmp_path}/items.parquet"},
    }
    tables = {name: kinds[name](**common[name], **settings.get(name, {})) for name in {"events", *settings}}
    with pytest.raises(ConfigError, match=says) as error:
        build(Data(**tables))
    assert "eave one out" in str(error.value) or "Rename it where the file is written" in str(error.value)


def test_a_table_needs_its_database(build: Build) -> None:
    with pytest.raises(ConfigError, match="say in data.events.attach in which database file it is"):
        build(Data(events=Events(table="clicks", time="event_at")))
