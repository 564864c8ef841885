"""What it takes to beat "most clicked lately" where items live for hours: ingredients of a model, one after another, on globo.

    python -m benchmarks.news --data data --folder news                           every row, both nights; the recipe on a week
    python -m benchmarks.news --data data --folder news --nights 2017-10-16       the night that choices are made on
    python -m benchmarks.news --list                                              what the rows are

Each night is one `recsys backtest --deployment globo`: the day before it is held out, models are trained on a fifth of everybody, and
all are asked for the same users and articles. What was chosen was chosen on the test day 2017-10-15; 2017-10-16 is read once per row.
A run that was stopped goes on with the same command and code: features, sequences, trainings and lists stay in `folder`. Of some rows
(`--rows`, the reference among them) the results get these, and keep the others.
"""

import argparse
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import report
from benchmarks.sides import machine
from recsys.evaluation.backtest import fold_rows
from recsys.store import Artifact, Store
from recsys.windows import label

RESULTS = Path(__file__).parent / "results"
TITLE = "globo: what it takes to beat popular lately"
NIGHTS = ("2017-10-16", "2017-10-17")
WEEK = 7  # days, the recipe alone
REFERENCE = "lately_1h"
SETTINGS = {
    "evaluation.k": "[10]",
    "evaluation.metrics": "[NDCG, HitRate]",
    "training.max_epochs": 1,
    "training.limit_train_batches": 0.2,
    "training.min_item_events": 50,
    "training.n_validation_users": 0,
    "backtest.references": f"[{REFERENCE}]",
}


@dataclass(frozen=True)
class Row:
    """A contender: its text in `backtest.models`, and what it has that the one before it has not."""

    text: str
    adds: str


UNIFORM = "SampledSoftmax(n_negatives=256)"
IN_BATCH = "SampledSoftmax(n_negatives=256, negatives=InBatch(), log_q=true)"
ROWS = {
    REFERENCE: Row('popular_lately(window="1h")', "most clicked in the last hour"),
    "lately_3h": Row('popular_lately(window="3h")', "most clicked in the last 3 hours"),
    "lately_6h": Row('popular_lately(window="6h")', "most clicked in the last 6 hours"),
    "ids": Row("sasrec()", "ids only"),
    "blocks": Row("esasrec()", "LiGR's blocks, sampled softmax"),
    "prior": Row(f"esasrec(heads=[NextItem(loss={UNIFORM}, prior=Activity())])", "+ a prior of recent activity"),
    "in_batch": Row(f"esasrec(heads=[NextItem(loss={IN_BATCH}, prior=Activity())])", "+ negatives from the batch"),
    "cosine": Row(f"esasrec(heads=[NextItem(loss={UNIFORM}, similarity=Cosine(), prior=Activity())])", "+ the prior, ids by cosine"),
    "both": Row(f"esasrec(heads=[NextItem(loss={IN_BATCH}, similarity=Cosine(), prior=Activity())])", "+ both"),
    "news": Row("news()", "+ HSTU's units, which know how long ago each click was: the recipe `news`"),
    "context": Row('news(inputs=Inputs(features=["region", "device_group", "referrer"]))', "+ region, device and referrer of each click"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder with globo/")
    parser.add_argument("--folder", type=Path, help="for the store")
    parser.add_argument("--nights", nargs="+", default=list(NIGHTS), metavar="NIGHT")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS, metavar="ROW")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--list", action="store_true", help="print the rows")
    given = parser.parse_args()
    if given.list:
        print("\n".join(f"{name:12} {row.adds:60} {row.text}" for name, row in ROWS.items()))
        return
    if given.data is None or given.folder is None:
        parser.error("name --data and --folder")
    where = (given.folder, given.data, given.threads)
    measured = [row for night in given.nights for row in days_of(night, 1, given.rows, *where)]
    print(section(measured))
    if set(given.nights) == set(NIGHTS):
        if {REFERENCE, "news"} <= set(given.rows):
            measured += days_of(NIGHTS[-1], WEEK, [REFERENCE, "news"], *where)
        write(measured)


def write(measured: list[dict[str, Any]]) -> None:
    """Puts rows into the results, in the place of those of the same contender, backtest and day."""
    file = RESULTS / "news.parquet"
    earlier = pq.read_table(file).to_pylist() if file.exists() else []
    rows = {(row["row"], row["n_days"], row["day"]): row for row in [*earlier, *measured]}
    in_order = [rows[key] for name in ROWS for key in sorted(rows) if key[0] == name]
    RESULTS.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(in_order), file)
    nights, week = ([row for row in in_order if row["n_days"] == n_days] for n_days in (1, WEEK))
    parts = [section(nights), *([week_of(week)] if week else [])]
    report.put(RESULTS.with_name("results.md"), TITLE, "\n\n".join(parts))


def days_of(night: str, n_days: int, names: list[str], folder: Path, data: Path, threads: int) -> list[dict[str, Any]]:
    """What the backtest of the days before a night measures, a row per day and contender. It runs as a process of its own."""
    models = [f"{name}={ROWS[name].text}" for name in names]
    settings = {**SETTINGS, "training.threads": threads, "backtest.n_folds": n_days}
    about = {"measured_on": f"{date.today()}", "threads": threads, "n_days": n_days, **machine()}
    command = ["backtest", "--deployment", "globo", "--as-of", night, "--store", str(folder / "store")]
    command += [word for model in models for word in ("--model", model)]
    command += [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    places = {"RECSYS_DATA": str(data.resolve()), "OMP_NUM_THREADS": str(threads)}
    subprocess.run([Path(sys.executable).with_name("recsys"), *command], check=True, env=os.environ | places)
    store = Store(folder / "store")
    return [{**about, **row} for row in told(store, newest(store, night, n_days, names))]


def newest(store: Store, night: str, n_days: int, names: list[str]) -> Artifact:
    """The last backtest that compared these contenders on so many days."""
    asked = (night, n_days, names)
    there = {one: one.manifest["config"] for one in store.artifacts("backtest")}
    found = [one for one, config in there.items() if (label(one.as_of), len(config["folds"]), config["models"]) == asked]
    return max(found, key=lambda one: (one.path / "run.json").stat().st_mtime)


def told(store: Store, backtest: Artifact) -> list[dict[str, Any]]:
    """A row per day and contender: its metrics, how much it is ahead of the reference with the interval of that, and what it took."""
    measured = pq.read_table(backtest.path / "metrics.parquet").to_pylist()
    ahead = {(row["fold"], row["model"]): row for row in measured if (row["slice"], row["metric"]) == ("all", "NDCG")}
    return [
        {
            "day": fold["fold"],
            "row": fold["model"],
            "n_users": fold["n_users"],
            "ndcg_at_10": fold["NDCG@10"],
            "hit_rate_at_10": fold["HitRate@10"],
            **{name: ahead[fold["fold"], fold["model"]][name] for name in ("difference", "low", "high")},
            "training_seconds": fold["training_seconds"],
        }
        for fold in fold_rows(store, backtest)
    ]


def section(measured: list[dict[str, Any]]) -> str:
    """The results as markdown: a row per contender, and for each day what it reaches and how far it is from the last hour's clicks."""
    found = {(row["row"], row["day"]): row for row in measured}
    days = list(dict.fromkeys(row["day"] for row in measured))
    titles = [title for day in days for title in (f"{day[5:]}: NDCG@10", "against 1 h", "HR@10", "fit, s")]
    lines = [f"| contender | {' | '.join(titles)} |", "|---" * (1 + len(titles)) + "|"]
    for name in dict.fromkeys(row["row"] for row in measured):
        cells = [cell for day in days for cell in cells_of(found[name, day])]
        lines.append(f"| {ROWS[name].adds} | {' | '.join(cells)} |")
    about = measured[0]
    users = ", ".join(f"{found[about['row'], day]['n_users']:,} on {day}" for day in days)
    dates, commits = (sorted({row[of] for row in measured}) for of in ("measured_on", "commit"))
    opening = [
        f"Test users: {users}. A fifth of an epoch, seed 1. What was chosen was",
        "chosen on 10-15, and 10-16 was read once per row; prototypes were read on it before, of which none was chosen by it.",
        "In brackets, the 95 % interval of the difference, paired by user.",
        f"{about['cpu']}, threads: {about['threads']}, shared with other work; {', '.join(dates)};",
        f"commit {', '.join(map(report.short, commits))}; `python -m benchmarks.news --data data --folder news`.",
    ]
    contenders = [f"* {row.adds}: `{row.text}`" for row in ROWS.values()]
    return "\n".join([*opening, "", *lines, "", *contenders])


def week_of(measured: list[dict[str, Any]]) -> str:
    """The recipe beside the last hour's clicks on each day, and on the mean of days, as markdown."""
    found = {(row["row"], row["day"]): row for row in measured}
    lines = ["| test day | last hour: NDCG@10, HR@10 | `news`: NDCG@10, HR@10 | NDCG@10 against 1 h |", "|---|---|---|---|"]
    for day in dict.fromkeys(row["day"] for row in measured):
        pairs = [f"{row['ndcg_at_10']:.4f}, {row['hit_rate_at_10']:.4f}" for row in (found[REFERENCE, day], found["news", day])]
        lines.append(f"| {day} | {' | '.join(pairs)} | {cells_of(found['news', day])[1]} |")
    means = {
        name: [statistics.fmean(row[of] for row in measured if row["row"] == name) for of in ("ndcg_at_10", "hit_rate_at_10")]
        for name in (REFERENCE, "news")
    }
    pairs = [f"{ndcg:.4f}, {hit_rate:.4f}" for ndcg, hit_rate in means.values()]
    commits = ", ".join(dict.fromkeys(report.short(row["commit"]) for row in measured))
    lines = [f"The newest {WEEK} days as folds of one backtest, commit {commits}.", "", *lines]
    return "\n".join([*lines, f"| mean | {' | '.join(pairs)} | {means['news'][0] - means[REFERENCE][0]:+.4f} |"])


def cells_of(row: dict[str, Any]) -> list[str]:
    """NDCG@10, the difference, HR@10 and seconds of a contender on a day; a baseline takes none."""
    difference = "" if row["difference"] is None else f"{row['difference']:+.4f} ({row['low']:+.4f} … {row['high']:+.4f})"
    seconds = "" if row["training_seconds"] is None else f"{row['training_seconds']:.0f}"
    return [f"{row['ndcg_at_10']:.4f}", difference, f"{row['hit_rate_at_10']:.4f}", seconds]


if __name__ == "__main__":
    main()
