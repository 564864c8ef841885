"""Rows that break a contract, set aside: the night is made of the others, and what was wrong is kept with its place."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from recsys.config import Data, Events, Items
from recsys.errors import ContractError
from recsys.store import Artifact

Build = Callable[..., Artifact]

# user, item, time, weight. Of ten events, two break rules: the one in row 2 breaks two.
ROWS = [(f"u{n % 3}", n, f"2024-03-10 {n:02}:00:00", 1.0) for n in range(10)]
BROKEN = {1: ("u1", None, "10th of March", 1.0), 7: ("u2", 7, "2024-03-10 07:00:00", -2.0)}


def events(folder: Path, rows: list[tuple[Any, ...]]) -> Events:
    """In two daily files, five rows each."""
    with duckdb.connect() as con:
        con.execute("create table rows (who varchar, what bigint, moment varchar, stars double)")
        con.executemany("insert into rows values (?, ?, ?, ?)", rows)
        for part in (0, 1):
            (folder / f"part={part}").mkdir(parents=True, exist_ok=True)
            con.execute(f"copy (from rows order by rowid limit 5 offset {5 * part}) to '{folder}/part={part}/events.parquet'")
    return Events(path=f"{folder}/*/events.parquet", user="who", item="what", time="moment", weight="stars")


@pytest.fixture
def broken(tmp_path: Path) -> Data:
    return Data(events=events(tmp_path / "data", [BROKEN.get(n, row) for n, row in enumerate(ROWS)]))


def test_the_night_is_made_of_the_other_rows(build: Build, broken: Data, tmp_path: Path) -> None:
    night = build(broken, quarantine=0.2)
    assert (night.counts["event_rows_read"], night.counts["event_rows_quarantined"], night.counts["events"]) == (10, 2, 8)
    good = Data(events=events(tmp_path / "good", [row for n, row in enumerate(ROWS) if n not in BROKEN]))
    for table in ("events", "items", "users", "seen"):
        same = [pq.read_table(made.path / f"{table}.parquet") for made in (night, build(good, store="other"))]
        assert same[0].equals(same[1]), table


def test_what_is_set_aside_is_kept_with_its_rules_and_place(build: Build, broken: Data) -> None:
    kept = pq.read_table(build(broken, quarantine=0.2).path / "quarantined_events.parquet").to_pylist()
    shown = [[row[name] for name in ("source_file", "source_row", "broken_rules", "user_id", "raw_time")] for row in kept]
    assert shown == [
        ["part=0/events.parquet", 2, ["item_id_present", "event_at_readable"], "u1", "10th of March"],
        ["part=1/events.parquet", 3, ["weight_not_negative"], "u2", "2024-03-10 07:00:00"],
    ]
    assert [row["weight"] for row in kept] == [1.0, -2.0] and kept[0]["event_at"] is None


@pytest.mark.parametrize("share", [0.0, 0.19])
def test_more_than_the_share_stops_the_run_as_ever(build: Build, broken: Data, share: float) -> None:
    with pytest.raises(ContractError, match="item_id_present: 1 of 10 rows.*\n.*event_at_readable: 1 of 10") as error:
        build(broken, quarantine=share)
    assert f"features.quarantine ({share:g}) sets aside" in str(error.value)


def test_where_every_row_is_good_nothing_is_kept(build: Build, tmp_path: Path) -> None:
    night = build(Data(events=events(tmp_path / "good", ROWS)), quarantine=0.5)
    assert night.counts["event_rows_quarantined"] == 0 and not list(night.path.glob("quarantined*"))


def test_what_was_set_aside_is_the_same_wherever_the_data_lie(build: Build, broken: Data, tmp_path: Path) -> None:
    one = build(broken, quarantine=0.2)
    (tmp_path / "data").rename(tmp_path / "moved")
    moved = broken.model_copy(
        update={"events": Events(path=f"{tmp_path}/moved/*/events.parquet", user="who", item="what", time="moment", weight="stars")}
    )
    other = build(moved, quarantine=0.2, store="other")
    assert (one.version, one.content) == (other.version, other.content)


def test_no_row_is_chosen_among_two_of_one_item(build: Build, broken: Data, tmp_path: Path) -> None:
    duckdb.sql(f"copy (select unnest([1, 1, 2]) as what) to '{tmp_path}/items.parquet'")
    data = broken.model_copy(update={"items": Items(path=f"{tmp_path}/items.parquet", item="what")})
    with pytest.raises(ContractError, match="item_id_unique: 1 repeated"):
        build(data, quarantine=1.0)
