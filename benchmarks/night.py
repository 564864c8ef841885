"""One whole night from the command line, timed from outside: step timings, metrics table and counts as markdown.

    python benchmarks/night.py --deployment globo --as-of 2017-10-17 --store /somewhere/with/space

It prints a section for `benchmarks/results.md`: aggregates only, no rows, ids or lists of the data.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import duckdb

from recsys import published
from recsys.store import Artifact, Store
from recsys.windows import parse_as_of

STEPS = ("features", "sequences", "training", "evaluation", "promotion", "scoring", "publishing")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deployment", default="globo")
    parser.add_argument("--as-of", default="2017-10-17")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[])
    given = parser.parse_args()
    command = ["recsys", "nightly", "--deployment", given.deployment, "--as-of", given.as_of, "--store", str(given.store)]
    command += [word for value in given.set for word in ("--set", value)]
    started = time.perf_counter()
    subprocess.run([str(Path(sys.executable).with_name(command[0])), *command[1:]], check=True)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(section(Store(given.store), given.as_of, command, seconds, peak))


def section(store: Store, as_of: str, command: list[str], seconds: float, peak: float) -> str:
    """The night as markdown: what ran, how long each step took, what came out."""
    moment = parse_as_of(as_of)
    night = [a for step in STEPS for a in store.artifacts(step) if a.as_of == moment]
    run = json.loads((night[0].path / "run.json").read_text())
    packages = ", ".join(f"{name} {version}" for name, version in run["packages"].items())
    shown = [word if not word.startswith(str(store.root)) else "STORE" for word in command]
    return "\n".join(
        [
            f"## {command[3]}, night of {as_of}",
            "",
            f"`{' '.join(shown)}`, {date.today()}: {seconds / 60:.1f} minutes from the command line, peak memory {peak:.1f} GB.",
            f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores; Python {run['python']}, {packages}; "
            f"commit {(run['commit'] or '?')[:10]}.",
            "",
            timings(night),
            "",
            metrics(next(a for a in night if a.step == "evaluation")),
            "",
            outcome(store, next(a for a in night if a.step == "scoring")),
        ]
    )


def timings(night: list[Artifact]) -> str:
    rows = ["| step | seconds | files | MB | counts |", "|---|---|---|---|---|"]
    for artifact in night:
        run = json.loads((artifact.path / "run.json").read_text())
        files = artifact.manifest["files"].values()
        counts = ", ".join(f"{name} {value:,}" for name, value in artifact.counts.items() if isinstance(value, (int, float)))
        size = sum(f["bytes"] for f in files) / 1e6
        rows.append(f"| {artifact.step} {artifact.version} | {run['seconds']:.1f} | {len(files)} | {size:.1f} | {counts} |")
    return "\n".join(rows)


def metrics(evaluation: Artifact) -> str:
    found = duckdb.sql(
        f"""
        select contender, metric, k, value, n_users, difference, low, high
        from read_parquet('{evaluation.path}/metrics.parquet')
        where slice = 'all'
        order by metric, k, contender
        """
    ).fetchall()
    rows = ["| contender | metric | k | value | users | difference (95 %) |", "|---|---|---|---|---|---|"]
    for contender, metric, k, value, users, difference, low, high in found:
        between = "" if low is None else f" ({low:+.4f} … {high:+.4f})"  # coverage has no interval
        interval = "" if difference is None else f"{difference:+.4f}{between}"
        rows.append(f"| {contender} | {metric} | {k} | {value:.4f} | {users:,} | {interval} |")
    return "\n".join(rows)


def outcome(store: Store, scoring: Artifact) -> str:
    users, rows, items = duckdb.sql(
        f"select count(distinct user_id), count(*), count(distinct item_id) from read_parquet('{scoring.path}/recommendations/*.parquet')"
    ).fetchone() or (0, 0, 0)
    sources = duckdb.sql(
        f"select source, count(*) from read_parquet('{scoring.path}/recommendations/*.parquet') group by 1 order by 2 desc"
    ).fetchall()
    now = published.current(store)
    why = " ".join(now.reasons) if now and now.moment == scoring.as_of else "not published"
    by = ", ".join(f"{source} {count:,}" for source, count in sources)
    return f"Lists for {users:,} users, {rows:,} rows, {items:,} different items ({by}). Published: {why}"


if __name__ == "__main__":
    main()
