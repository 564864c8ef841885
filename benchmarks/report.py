"""What was measured, as a parquet file with one row per measurement, and as markdown."""

import json
import re
import statistics
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.rows import ROWS, Row

SCHEMA = pa.schema(
    {
        "run_at": pa.timestamp("us", "UTC"),
        "commit": pa.string(),
        "command": pa.string(),
        "cpu": pa.string(),
        "cores": pa.int32(),
        "memory_gib": pa.float64(),
        "load": pa.float64(),  # average of the last minute before the measurement: what else ran
        "row": pa.string(),
        "side": pa.string(),
        "repeat": pa.int32(),
        "input": pa.string(),
        "settings": pa.string(),  # JSON
        "seconds": pa.float64(),
        "peak_gib": pa.float64(),
        "rate_share": pa.float64(),
        "error": pa.string(),
        "facts": pa.string(),  # JSON: versions, counts
    }
)
UNITS = {"seconds": "{:,.2f} s", "peak_gib": "{:.2f} GiB", "rate_share": "{:.0%}"}


def append(file: Path, measurement: dict[str, Any]) -> None:
    """One row more."""
    earlier = [pq.read_table(file, schema=SCHEMA)] if file.exists() else []
    written = file.with_suffix(".part")
    pq.write_table(pa.concat_tables([*earlier, pa.Table.from_pylist([measurement], SCHEMA)]), written)
    written.replace(file)


def line(measurement: dict[str, Any]) -> str:
    """One measurement, to be seen while it goes on."""
    seconds, peak, error = measurement["seconds"], measurement["peak_gib"], measurement["error"]
    found = ", ".join([*([f"{seconds:.2f} s"] if seconds else []), *([f"{peak:.2f} GiB"] if peak else []), *([error] if error else [])])
    return f"{measurement['row']}, {measurement['side']}: {found}"


def section(file: Path) -> str:
    """The table of the last run of each row, and where and how it was measured."""
    measured = (
        duckdb.sql(f"""
        select * from read_parquet('{file}')
        qualify run_at = max(run_at) over (partition by row)
        order by run_at, row, repeat
    """)
        .to_arrow_table()
        .to_pylist()
    )
    rows = [text for name, row in ROWS.items() for text in table_rows(row, [m for m in measured if m["row"] == name])]
    header = ["| work | d, L, users | first | | second | | second / first | reach | peak GiB |", "|---|---|---|---|---|---|---|---|---|"]
    return "\n".join([*header, *rows, "", *surroundings(measured)])


def put(document: Path, title: str, text: str) -> None:
    """Makes the text the section of that title: in the place of the one that is there, or at the end.

    What people wrote below it under headings of their own (###) stays.
    """
    before, *sections = re.split(r"^(?=## )", document.read_text(), flags=re.MULTILINE)
    new = f"## {title}\n\n{text.strip()}\n"
    found = [number for number, section in enumerate(sections) if section.splitlines()[0] == f"## {title}"]
    if found:
        _, *remarks = re.split(r"^(?=### )", sections[found[0]].rstrip("\n") + "\n", maxsplit=1, flags=re.MULTILINE)
        is_last = found[0] == len(sections) - 1
        sections[found[0]] = "\n".join([new, *remarks]) + ("" if is_last else "\n")
    else:
        sections = [*sections, new] if not sections else [*sections[:-1], sections[-1].rstrip("\n") + "\n\n", new]
    document.write_text("".join([before, *sections]))


def table_rows(row: Row, measured: list[dict[str, Any]]) -> list[str]:
    """A line for each pair of sides of which the first was measured."""
    by_side = {side.label: [m for m in measured if m["side"] == side.label] for side in row.sides}
    lines = []
    for numbers, reach in zip(row.pairs, row.reach, strict=True):
        pair = [label for label in (row.sides[number].label for number in numbers) if by_side[label]]
        if not pair:
            continue
        cells = [cell(label, by_side[label], row.of) for label in pair] + ["|"] * (2 - len(pair))
        memory = " / ".join(f"{peak:.2f}" for label in pair if (peak := median(by_side[label], "peak_gib")) is not None)
        shape = json.loads(by_side[pair[0]][0]["settings"])
        sizes = f"{shape['width']}, {shape['max_events']}, {shape['users_per_batch']}"
        ratio = quotient(*(median(by_side[label], row.of) for label in pair))
        lines.append(f"| {row.title}{steps(by_side[pair[0]])} | {sizes} | {' | '.join(cells)} | {ratio} | {reach} | {memory} |")
    return lines


def steps(measured: list[dict[str, Any]]) -> str:
    """How many of an epoch's steps a repeat has measured, where it was not the whole epoch."""
    facts = json.loads(measured[0]["facts"])
    some = facts.get("measured_steps", 0) < facts.get("steps", 0) - 1  # the first warms up
    return f", by {facts['measured_steps']} of {facts['steps']} steps" if some else ""


def quotient(first: float | None, second: float | None = None) -> str:
    """The second over the first; nothing where one is not known."""
    return f"{second / first:.2f}" if first and second else ""


def cell(label: str, measured: list[dict[str, Any]], of: str) -> str:
    """A side and its median, with the smallest and the largest value; or its error: two cells."""
    values = [m[of] for m in measured if m[of] is not None]
    failed = [m["error"] for m in measured if m["error"]]
    if failed:
        return f"{label} | fails: {failed[0].splitlines()[0]}"
    spread = f" ({UNITS[of].format(min(values))} … {UNITS[of].format(max(values))})" if len(values) > 1 else ""
    return f"{label} | {UNITS[of].format(statistics.median(values))}{spread}"


def median(measured: list[dict[str, Any]], of: str) -> float | None:
    """Of those that have a value, None where one failed."""
    values = [m[of] for m in measured if m[of] is not None]
    return statistics.median(values) if values and not any(m["error"] for m in measured) else None


def surroundings(measured: list[dict[str, Any]]) -> list[str]:
    """Machine, versions, inputs and commands."""
    machines = {f"{m['cpu']}, {m['cores']} cores, {m['memory_gib']} GiB" for m in measured}
    tables = sorted({f"* {m['row']}: {m['input']}" for m in measured})
    commands = [
        f"* {run_at:%Y-%m-%d %H:%M} UTC, commit {short(commit)}, load before it {load:.1f}: `{command}`"
        for run_at, commit, command, load in runs(measured)
    ]
    packages = [f"* {side}" for side in versions_by_side(measured)]
    return [f"Measured on {'; '.join(sorted(machines))}.", "", *commands, "", *packages, "", *tables]


def about(measured: list[dict[str, Any]]) -> str:
    """Machines, the first and the last day, and commits of rows that tell them."""
    machines = "; ".join(dict.fromkeys(f"{row['cpu']}, {row['cores']} cores" for row in measured))
    dates = [row["measured_on"] for row in measured]
    commits = ", ".join(dict.fromkeys(short(row["commit"]) for row in measured))
    return f"{machines}; {' to '.join(dict.fromkeys((min(dates), max(dates))))}; commit {commits}"


def versions(measured: list[dict[str, Any]]) -> str:
    """Those of `sides.machine`, each once; empty where no row tells them, as rows did not always."""
    return "; ".join(dict.fromkeys(row["versions"] for row in measured if row.get("versions")))


def versions_by_side(measured: list[dict[str, Any]]) -> list[str]:
    """Of each side whose facts tell them."""
    told = {row["side"].split(",")[0]: json.loads(row["facts"]).get("versions") for row in measured}
    return [f"{side}: {', '.join(f'{name} {version}' for name, version in found.items())}" for side, found in told.items() if found]


def short(commit: str | None) -> str:
    """Ten digits of it, with what is said behind it."""
    return f"{commit[:10]}{commit[40:]}" if commit else "?"


def runs(measured: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """(run_at, commit, command, load) of each run that is in the table; the load is that before its first measurement."""
    first = {m["run_at"]: m for m in reversed(measured)}
    return sorted((m["run_at"], m["commit"], m["command"], m["load"]) for m in first.values())
