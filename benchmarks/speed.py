"""This project and its incumbent side by side: the same works on the same events, alternating, as a parquet file and markdown.

    python -m benchmarks.speed --data data                                 every row
    python -m benchmarks.speed --rows train-kion recommend-kion --repeats 5
    python -m benchmarks.speed --list                                      what the rows are

Each measurement is a process of its own. Of an epoch the seconds are those of its training steps, with what loads their batches:
neither reading and preparing the events counts, on either side, nor the first step, which warms up. `--share 0.25` runs a quarter
of the steps of an epoch and tells what all of them would take. A row's table is that of its last run.
"""

import argparse
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from benchmarks import inputs, products, report
from benchmarks.measuring import Task
from benchmarks.rows import ROWS, Row, Side
from benchmarks.sides import machine, tried

RESULTS = Path(__file__).parent / "results"
TITLE = "Side by side with RecTools"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS, metavar="ROW")
    parser.add_argument("--list", action="store_true", help="print the rows")
    parser.add_argument("--data", type=Path, help="a folder with ml-1m/ and globo/; without it all events are generated")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--share", type=float, default=1.0, help="of the steps of an epoch, where those are measured")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sides", nargs="+", choices=["ours", "RecTools"], default=["ours", "RecTools"])
    parser.add_argument("--input", choices=inputs.INPUTS, help="the same events for all rows: tiny, for a try")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of speed.parquet; the default's table goes into results.md")
    given = parser.parse_args()
    if given.list:
        print("\n".join(f"{name:16} {row.title}" for name, row in ROWS.items()))
        return
    run = {"run_at": datetime.now(timezone.utc), "command": command(given), **machine()}
    given.results.mkdir(parents=True, exist_ok=True)
    file = given.results / "speed.parquet"
    with tempfile.TemporaryDirectory(prefix="speed-") as folder:
        for name in given.rows:
            for measurement in measurements(name, Path(folder), given):
                report.append(file, {**run, **measurement})
                print(report.line(measurement), file=sys.stderr, flush=True)
    section = report.section(file)
    print(section)
    if given.results == RESULTS:
        report.put(RESULTS.with_name("results.md"), TITLE, section)


def command(given: argparse.Namespace) -> str:
    """What was typed; where the data lie is nobody's concern."""
    places = {str(given.data): "data", str(given.results): "results"}
    return shlex.join(["python", "-m", "benchmarks.speed", *(places.get(word, word) for word in sys.argv[1:])])


def measurements(name: str, folder: Path, given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One after the other, the sides alternating."""
    row = ROWS[name]
    sides = [side for side in row.sides if side.process in given.sides]
    tables = {side.label: given.input or side.input or row.input for side in sides}
    written = {table: inputs.write(table, folder, given.data) for table in set(tables.values())}
    for repeat in range(min(given.repeats, row.repeats or given.repeats)):
        for side in sides:
            file, origin = written[tables[side.label]]
            share = {"share": given.share} if row.takes_share else {}
            fixed = {"threads": given.threads, "lists": file.with_suffix(".lists.parquet") if side.work == "whole" else None}
            task = Task(side.work, file, **{**share, **fixed, **row.settings, **side.settings})
            yield {"row": name, "side": side.label, "repeat": repeat, "input": origin, **measurement(row, side, task)}


def measurement(row: Row, side: Side, task: Task) -> dict[str, Any]:
    """What a process measured, or why it did not."""
    load = os.getloadavg()[0]
    facts = tried(side.process, task)
    columns = {name: facts.pop(name, None) for name in ("seconds", "peak_gib", "error")}
    if row.of == "rate_share" and columns["seconds"]:
        columns["rate_share"] = rate_share(task, columns["seconds"], facts)
    settings = {f.name: getattr(task, f.name) for f in fields(task) if f.name not in ("events", "lists")}
    return {**columns, "load": load, "settings": json.dumps(settings), "facts": json.dumps(facts)}


def rate_share(task: Task, seconds: float, facts: dict[str, Any]) -> float:
    """The operations of the epoch's products in a second, as a share of what 2048 × 2048 products reach; adds both to the facts."""
    lengths = duckdb.sql(f"select count(*) as n from read_parquet('{task.events}') group by user_id").fetchnumpy()["n"]
    places = np.minimum(lengths - 1, task.max_events)
    operations = products.flops(places, task.width, facts["items"], task.n_blocks)
    tokens = int(places.sum() * task.users_per_batch / (places > 0).sum())
    facts["rates"] = products.rates(tokens, task.width, facts["items"], task.threads)
    facts["operations"] = operations
    return operations / seconds / facts["rates"]["2048 cubed"]


if __name__ == "__main__":
    main()
