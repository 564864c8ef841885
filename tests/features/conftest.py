"""Tiny sources, and a features step on them: one thread, checks of volume and freshness off unless a test asks for them."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from recsys.config import Data, Events, Features
from recsys.features.tables import build_features
from recsys.store import Artifact, Store
from recsys.windows import parse_as_of

AS_OF = parse_as_of("2024-03-11")
RUN_START = parse_as_of("2024-06-01")
QUIET = {"threads": 1, "min_day_volume": 0.0, "max_age": "365d"}

# user, item, time, device. The last event lies after AS_OF; user 1 repeats item 10.
CLICKS = [
    (1, 10, "2024-03-09 10:15:00", "phone"),
    (2, 10, "2024-03-09 10:45:00", "phone"),
    (1, 20, "2024-03-09 11:00:00", "desktop"),
    (1, 10, "2024-03-10 12:30:00", None),
    (3, 30, "2024-03-10 23:59:59.5", "phone"),
    (2, 20, "2024-03-11 00:00:00", "phone"),
]


@pytest.fixture
def duck() -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to write sources with."""
    with duckdb.connect(config={"threads": 1}) as connection:
        yield connection


@pytest.fixture
def clicks(duck: duckdb.DuckDBPyConnection, tmp_path: Path) -> Callable[..., str]:
    """Writes CLICKS (or other rows of that shape) to a file; its ending says the format. Returns the path."""

    def write(name: str = "clicks.parquet", rows: Sequence[tuple[Any, ...]] = CLICKS, select: str = "*") -> str:
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        duck.execute("create or replace table clicks (user_id bigint, item_id bigint, event_at timestamp, device varchar)")
        duck.executemany("insert into clicks values (?, ?, ?, ?)", rows)
        options = "(format csv, header)" if ".csv" in name else "(format json)" if ".json" in name else "(format parquet)"
        duck.execute(f"copy (select {select} from clicks order by rowid) to '{path}' {options}")
        return str(path)

    return write


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Artifact]:
    """Runs the step on a data group, or on events of a path."""

    def run(
        data: Data | str, as_of: datetime = AS_OF, *, store: str = "store", started: datetime = RUN_START,
        previous: Artifact | None = None, rebuild: bool = False, **features: Any,
    ) -> Artifact:  # fmt: skip
        group = data if isinstance(data, Data) else Data(events=Events(path=data, time="event_at", categorical=("device",)))
        return build_features(
            Store(tmp_path / store), as_of, group, Features(**{**QUIET, **features}), previous=previous, started=started, rebuild=rebuild
        )

    return run


Rows = list[tuple[Any, ...]]


@pytest.fixture
def rows() -> Callable[..., Rows]:
    """Reads a table's rows in the file's order, of the columns named."""

    def read(artifact: Artifact, table: str, *columns: str) -> Rows:
        found = pq.read_table(artifact.path / f"{table}.parquet", columns=list(columns) or None)
        return list(zip(*(column.to_pylist() for column in found.columns), strict=True))

    return read
