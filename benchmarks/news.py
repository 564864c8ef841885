"""What it takes to beat "most clicked lately" where items live for hours: ingredients of a model, one after another, on globo.

    python -m benchmarks.news --data data --folder news                           every row, both nights; some on a week
    python -m benchmarks.news --data data --folder news --nights 2017-10-16       the night that choices are made on
    python -m benchmarks.news --list                                              what the rows are

Each night is one `recsys backtest --deployment globo`: the day before it is held out, models are trained on a fifth of everybody, and
all are asked for the same users and articles. What was chosen was chosen on test days before 2017-10-16, which is read beside them.
A row that learns from the newest hours or days alone has a backtest of the week of its own.
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
from recsys.windows import Fold, folds, parse_as_of

RESULTS = Path(__file__).parent / "results"
TITLE = "globo: what it takes to beat popular lately"
NIGHTS = ("2017-10-16", "2017-10-17")
WEEK = 7  # days
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
    newest: str | None = None  # learns from so long before a night alone
    goes_on: bool = False  # with the weights of the night before

    @property
    def said(self) -> str:
        """The settings that go with the text."""
        if self.newest is None:
            return ""
        return f" with `backtest.train_window={self.newest}`, `continuing={str(self.goes_on).lower()}`, a whole epoch"


UNIFORM = "SampledSoftmax(n_negatives=256)"
IN_BATCH = "SampledSoftmax(n_negatives=256, negatives=InBatch(), log_q=true)"
INPUTS = ["item_events_10m", "item_events_1h", "item_events_1d", "item_age_seconds", "gap_seconds"]
ROWS = {
    REFERENCE: Row('popular_lately(window="1h")', "most clicked in the last hour"),
    "lately_10m": Row('popular_lately(window="10m")', "most clicked in the last 10 minutes"),
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
    "inputs": Row(f"news(inputs=Inputs(features={INPUTS}))", "+ each click's recent clicks of its article, its age, and the time since"),
    "whole": Row("news(limit_train_batches=1.0)", "`news`, a whole epoch"),
    "newest_3d": Row("news()", "`news`, from the newest 3 days alone", newest="3d"),
    "newest_1d": Row("news()", "`news`, going on each night with the newest day alone", newest="1d", goes_on=True),
    "newest_6h": Row("news()", "`news`, going on each night with the newest 6 hours alone", newest="6h", goes_on=True),
}
OF_A_WEEK = (REFERENCE, "lately_10m", "news")  # in one backtest, and the rows with `newest` in one each


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
    if REFERENCE not in given.rows:
        parser.error(f"--rows: {REFERENCE}, which the others are compared with, has to be one of them")
    where = (given.folder, given.data, given.threads)
    of_a_night = [name for name in given.rows if ROWS[name].newest is None]
    measured = [row for night in given.nights for row in days_of(night, 1, of_a_night, *where)]
    print(section(measured))
    if set(given.nights) == set(NIGHTS):
        compared = [list(OF_A_WEEK)] if "news" in given.rows else []
        compared += [[REFERENCE, name] for name in given.rows if ROWS[name].newest]
        measured += [row for names in compared for row in days_of(NIGHTS[-1], WEEK, names, *where)]
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
    parts = [section(nights), *([week_of(week)] if {REFERENCE, "news"} <= {row["row"] for row in week} else [])]
    report.put(RESULTS.with_name("results.md"), TITLE, "\n\n".join(parts))


def days_of(night: str, n_days: int, names: list[str], folder: Path, data: Path, threads: int) -> list[dict[str, Any]]:
    """What the backtest of the days before a night measures, a row per day and contender. It runs as a process of its own."""
    models = [f"{name}={ROWS[name].text}" for name in names]
    settings = {**SETTINGS, "training.threads": threads, "backtest.n_folds": n_days}
    last = ROWS[names[-1]]
    if last.newest:  # all of these: of a day about as many steps as a fifth of everything has
        settings |= {"backtest.train_window": last.newest, "backtest.continuing": last.goes_on, "training.limit_train_batches": 1.0}
    about = {"measured_on": f"{date.today()}", "threads": threads, "n_days": n_days, **machine()}
    command = ["backtest", "--deployment", "globo", "--as-of", night, "--store", str(folder / "store")]
    command += [word for model in models for word in ("--model", model)]
    command += [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    places = {"RECSYS_DATA": str(data.resolve()), "OMP_NUM_THREADS": str(threads)}
    subprocess.run([Path(sys.executable).with_name("recsys"), *command], check=True, env=os.environ | places)
    store = Store(folder / "store")
    cuts = folds(parse_as_of(night), "1d", n_days, train_window=last.newest)
    return [{**about, **row} for row in told(store, newest(store, cuts, names))]


def newest(store: Store, cuts: list[Fold], names: list[str]) -> Artifact:
    """The last backtest that compared these contenders on these folds."""
    asked = ([{name: str(value) for name, value in vars(fold).items()} for fold in cuts], names)
    there = {one: one.manifest["config"] for one in store.artifacts("backtest")}
    found = [one for one, config in there.items() if (config["folds"], config["models"]) == asked]
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
    users = ", ".join(f"{found[measured[0]['row'], day]['n_users']:,} on {day}" for day in days)
    opening = [
        f"Test users: {users}. A fifth of an epoch unless said, seed 1. What was chosen was chosen on",
        "days before 10-16, which was read for each row, and for what was tried before these (below), and chose nothing.",
        "In brackets, the 95 % interval of the difference, paired by user.",
        f"{report.about(measured)}, threads: {measured[0]['threads']}, shared with other work; {report.versions(measured)};",
        "`python -m benchmarks.news --data data --folder news`.",
    ]
    contenders = [f"* {row.adds}: `{row.text}`{row.said}" for row in ROWS.values()]
    return "\n".join([*opening, "", *lines, "", *contenders])


def week_of(measured: list[dict[str, Any]]) -> str:
    """Contenders beside each other on each day, and on the mean of days, as markdown."""
    names = list(dict.fromkeys(row["row"] for row in measured))
    found = {(row["row"], row["day"]): row for row in measured}
    lines = [f"| test day: NDCG@10, HR@10 | {' | '.join(ROWS[name].adds for name in names)} | `news` against 1 h |"]
    lines.append("|---" * (2 + len(names)) + "|")
    for day in dict.fromkeys(row["day"] for row in measured):
        pairs = [f"{found[name, day]['ndcg_at_10']:.4f}, {found[name, day]['hit_rate_at_10']:.4f}" for name in names]
        lines.append(f"| {day} | {' | '.join(pairs)} | {cells_of(found['news', day])[1]} |")
    means = {
        name: [statistics.fmean(row[of] for row in measured if row["row"] == name) for of in ("ndcg_at_10", "hit_rate_at_10")]
        for name in names
    }
    pairs = [f"{ndcg:.4f}, {hit_rate:.4f}" for ndcg, hit_rate in means.values()]
    lines.append(f"| mean | {' | '.join(pairs)} | {means['news'][0] - means[REFERENCE][0]:+.4f} |")
    commits = ", ".join(dict.fromkeys(report.short(row["commit"]) for row in measured))
    return "\n".join([f"The newest {WEEK} days as folds of a backtest; commit {commits}.", "", *lines])


def cells_of(row: dict[str, Any]) -> list[str]:
    """NDCG@10, the difference, HR@10 and seconds of a contender on a day; a baseline takes none."""
    difference = "" if row["difference"] is None else f"{row['difference']:+.4f} ({row['low']:+.4f} … {row['high']:+.4f})"
    seconds = "" if row["training_seconds"] is None else f"{row['training_seconds']:.0f}"
    return [f"{row['ndcg_at_10']:.4f}", difference, f"{row['hit_rate_at_10']:.4f}", seconds]


if __name__ == "__main__":
    main()
