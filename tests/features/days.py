"""Sources of events, a file per day."""

from pathlib import Path
from typing import Any

import duckdb

from recsys.config import Data, Events

DAYS = ("2024-03-08", "2024-03-09", "2024-03-10")


def write(path: Path, select: str) -> str:
    """The rows of a query as a file; its ending says the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(config={"threads": 1}) as con:
        form = {".csv": "(format csv, header)", ".jsonl": "(format json)"}.get(path.suffix, "(format parquet)")
        con.execute(f"copy ({select}) to '{path}' {form}")
    return str(path)


def day(date: str, rows: int = 4) -> str:
    return f"select i % 2 as user_id, i as item_id, timestamp '{date} 10:00:00' + to_minutes(i::int) as event_at from range({rows}) t (i)"


def folder(root: Path, ending: str, days: tuple[str, ...] = DAYS, partition: bool = False) -> str:
    """A file per day. Returns the pattern of all."""
    for date in days:
        write(root / (f"date={date}/part{ending}" if partition else f"{date}{ending}"), day(date))
    return f"{root}/*/*{ending}" if partition else f"{root}/*{ending}"


def events(path: str, **changes: Any) -> Data:
    return Data(events=Events(**{"path": path, "time": "event_at", **changes}))
