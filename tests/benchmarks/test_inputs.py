"""The events that benchmarks run on: lengths as published, the same for everybody, and what is held out."""

from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.inputs import INPUTS, KION, ML_1M, Lengths, generated, leave_one_out, write


@pytest.mark.parametrize(("lengths", "mean", "median", "shortest"), [(KION, 5.7, 3, 2), (ML_1M, 165, 93, 19)])
def test_lengths_are_those_of_the_public_tables(lengths: Lengths, mean: float, median: float, shortest: int) -> None:
    drawn = lengths.draw(200_000, np.random.default_rng(1))
    assert drawn.min() == shortest
    assert drawn.mean() == pytest.approx(mean, rel=0.03)
    assert np.median(drawn) == pytest.approx(median, rel=0.03)


def test_a_generated_table_has_every_item_and_every_user_in_order() -> None:
    table = generated(n_users=500, n_items=800)
    assert table.equals(generated(n_users=500, n_items=800)), "the seed says all"
    assert not table.equals(generated(n_users=500, n_items=800, seed=8))
    user, item, at = (table[name].to_numpy() for name in ("user_id", "item_id", "happened_at"))
    assert len(table) > 800 and set(user) == set(range(500)) and set(item) == set(range(800))
    assert (np.diff(at)[np.diff(user) == 0] > np.timedelta64(0)).all()


def test_a_table_of_fewer_events_than_items_has_each_item_once_at_most() -> None:
    item = generated(n_users=10, n_items=100_000)["item_id"].to_numpy()
    assert len(set(item)) == len(item)


def test_without_a_data_folder_everything_is_generated_and_says_so(tmp_path: Path) -> None:
    file, origin = write("kion", tmp_path, data=None)
    events = pq.read_metadata(file).num_rows
    assert origin == f"generated: {events:,} events, 3,000 users, 7,376 items"
    assert write("ml-1m", tmp_path, data=tmp_path / "nothing")[1].startswith("generated: ")


def test_public_tables_are_read_from_the_data_folder(tmp_path: Path) -> None:
    (tmp_path / "ml-1m").mkdir()
    rows = {"user_id": [2, 1, 1], "item_id": [5, 7, 6], "position": [0, 1, 0]}
    pq.write_table(pa.table(rows), tmp_path / "ml-1m" / "events.parquet")
    file, origin = write("ml-1m", tmp_path, data=tmp_path)
    assert origin == "ml-1m, public data: 3 events, 2 users, 3 items"
    assert pq.read_table(file)["item_id"].to_pylist() == [6, 7, 5]


def test_the_last_event_of_each_user_is_held_out(tmp_path: Path) -> None:
    at = np.array([1, 2, 2, 5, 4], dtype="datetime64[s]")  # user 1 ends with a tie: the later row is the later event
    pq.write_table(pa.table({"user_id": [1, 1, 1, 2, 2], "item_id": [10, 11, 12, 20, 21], "happened_at": at}), tmp_path / "e.parquet")
    earlier, last = leave_one_out(tmp_path / "e.parquet")
    assert pq.read_table(earlier).select(["user_id", "item_id"]).to_pydict() == {"user_id": [1, 1, 2], "item_id": [10, 11, 21]}
    assert pq.read_table(last).to_pydict() == {"user_id": [1, 2], "item_id": [12, 20]}


@pytest.mark.parametrize("name", sorted(INPUTS.keys() - {"3m", "million-items", "kion-x100"}))  # those take seconds
def test_every_input_can_be_made(name: str, tmp_path: Path) -> None:
    file, _ = write(name, tmp_path, data=None)
    columns = duckdb.read_parquet(str(file)).columns
    assert columns == ["user_id", "item_id", "happened_at"]
