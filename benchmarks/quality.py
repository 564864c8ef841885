"""Published results reproduced with the project's own backtest: leave-one-out on ML-1M, all items ranked, seen ones left out.

    python -m benchmarks.quality --data data --folder quality                    every recipe, one after the other
    python -m benchmarks.quality --data data --folder quality --rows sasrec hstu
    python -m benchmarks.quality --list                                          what the rows are

The newest film of each person is asked for at the end. The one before it says when training stops, for half of the people, drawn
by seed, which is as many as a training lets validate: theirs is not learnt from, that of the others is.
A run that was stopped goes on after its last epoch, with the same command and code. What was measured stays in `folder`, with its
commit, and is not measured again. A row that fails is named at the end, after the others.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from benchmarks import report
from benchmarks.sides import machine
from recsys.digest import of_value
from recsys.store import Artifact, Store

RESULTS = Path(__file__).parent / "results"
METRICS = {"ndcg_at_10": "NDCG@10", "hit_rate_at_10": "HR@10"}
TITLE = "Published results on ML-1M"
N_PEOPLE, N_FILMS = 6040, 3416
AS_OF = "2003-03-01"  # a label: what goes on tomorrow is the same run


@dataclass(frozen=True)
class Published:
    """What somebody reports, and where."""

    ndcg: float
    hit_rate: float
    source: str


@dataclass(frozen=True)
class Row:
    """A model of ours, the settings it is trained with, and what it has to reach."""

    recipe: str
    reach: float  # NDCG@10
    published: Published | None = None
    model: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = (1,)
    reach_hit_rate: float | None = None  # HR@10, where that is asked for too

    @property
    def asked(self) -> dict[str, float]:
        """The least of each metric that it has to reach."""
        least = {"ndcg_at_10": self.reach, "hit_rate_at_10": self.reach_hit_rate}
        return {name: value for name, value in least.items() if value is not None}

    def configuration(self, seed: int) -> dict[str, Any]:
        """A backtest of one model and one fold, as the command line takes it. Threads stay out: they change no version."""
        events = {"path": "${RECSYS_DATA}/ml-1m/events.parquet", "order": "position"}
        return {
            "seed": seed,
            "data": {"events": events},
            "model": {"recipe": self.recipe, **self.model},
            "training": {"max_epochs": 200, "patience": 10, "n_validation_users": N_PEOPLE, **self.training},
            "evaluation": {"holdout": "last-1", "k": [10], "metrics": ["NDCG", "HitRate"]},
            "backtest": {"models": ["candidate"]},
        }


def annealed(n_epochs: int, **more: Any) -> dict[str, Any]:
    """Many steps in few epochs: a quarter of the usual batch, at twice the usual rate, which falls to nothing."""
    rate = {"learning_rate": 0.002, "schedule": "WarmupCosine(warmup=0.05)"}
    return {"max_epochs": n_epochs, "patience": n_epochs, "users_per_batch": 32, **rate, **more}


KLENITSKIY = "Klenitskiy & Vasilev 2023, arXiv:2309.07602"
SASREC = {"width": 128, "max_events": 200, "encoder": "SASRec(n_heads=1, attention_dropout=0.2)"}
ROWS = {
    "sasrec": Row("sasrec", 0.180, Published(0.1821, 0.3152, KLENITSKIY), SASREC, reach_hit_rate=0.310),  # as published
    "whole_histories": Row(  # a quarter of the people have seen more than 200 films, a third of all events
        "sasrec",
        0.186,
        model=SASREC,
        training=annealed(25, long_histories="windows"),
        seeds=(1, 2, 3),
    ),
    "gsasrec": Row("gsasrec", 0.172, Published(0.1726, 0.3003, "Petrov & Macdonald 2023, arXiv:2308.07192"), {"width": 128}, annealed(50)),
    "hstu": Row(
        "hstu",
        0.171,
        Published(0.1718, 0.3023, "RecTools 0.19, tutorial of HSTU, position bias only"),
        {"encoder": "HSTU(n_blocks=2, n_heads=1, dropout=0.2, time_bias=false)"},  # these events have an order only
        {"patience": 20},
    ),
    "esasrec": Row(
        "esasrec",
        0.177,
        Published(0.1772, 0.3133, "Tikhonovich et al. 2025, arXiv:2508.06450, on the file with 3,706 films"),
        {"width": 128, "max_events": 200},
        annealed(25, long_histories="windows"),
    ),
    "gru4rec": Row(
        "gru4rec",
        0.160,
        Published(0.1648, 0.2811, KLENITSKIY),
        {"width": 256, "max_events": 200},
        annealed(15, long_histories="windows"),
    ),
    "bert4rec": Row(
        "bert4rec",
        0.153,
        Published(0.1537, 0.2843, "Petrov & Macdonald 2022, arXiv:2207.07483, the best of several implementations"),
        {"width": 128, "max_events": 200, "objective": "MaskedLM(probability=0.4)"},  # more to learn from in a step
        annealed(40, long_histories="windows"),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder with ml-1m/")
    parser.add_argument("--folder", type=Path, help="for the store and for what was measured")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS, metavar="ROW")
    parser.add_argument("--seeds", nargs="+", type=int, help="those of the rows unless said")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--list", action="store_true", help="print the rows")
    given = parser.parse_args()
    if given.list:
        print("\n".join(line(name, row) for name, row in ROWS.items()))
        return
    if given.data is None or given.folder is None:
        parser.error("name --data and --folder")
    given.folder.mkdir(parents=True, exist_ok=True)
    failed = [f"{name}, seed {seed}" for name in given.rows for seed in given.seeds or ROWS[name].seeds if not told(name, seed, given)]
    if measured := known(given.folder):
        RESULTS.mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist(measured), RESULTS / "quality.parquet")
        text = section(measured)
        print(text)
        report.put(RESULTS.with_name("results.md"), TITLE, text)
    if failed:
        sys.exit(f"Not measured: {'; '.join(failed)}. What stopped them stands above.")


def line(name: str, row: Row) -> str:
    """A row's name, what it has to reach, and its seeds."""
    asked = ", ".join(f"{METRICS[metric]} ≥ {least:.3f}" for metric, least in row.asked.items())
    return f"{name:15} {asked}, seeds {', '.join(map(str, row.seeds))}"


def told(name: str, seed: int, given: argparse.Namespace) -> bool:
    """Whether a row is measured, once it is said; one that stops does not stop those after it."""
    try:
        found = result(name, seed, given)
    except Exception as error:
        print(f"{name}, seed {seed}: {error}", file=sys.stderr, flush=True)
        return False
    print(f"{name}, seed {seed}: NDCG@10 {found['ndcg_at_10']:.4f}, HR@10 {found['hit_rate_at_10']:.4f}", file=sys.stderr, flush=True)
    return True


def known(folder: Path) -> list[dict[str, Any]]:
    """The table's rows: what this folder has, and what stands in the results already, of settings that are still those of the row."""
    there = RESULTS / "quality.parquet"
    earlier = pq.read_table(there).to_pylist() if there.exists() else []
    newer = [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]
    rows = {(found["row"], found["seed"]): found for found in [*earlier, *newer] if _is_of_its_row(found)}
    return [{"versions": None, **rows[key]} for key in sorted(rows)]  # rows did not always tell them; a table has the columns of the first


def _is_of_its_row(found: dict[str, Any]) -> bool:
    row = ROWS.get(found["row"])
    return row is not None and json.loads(found["configuration"]) == row.configuration(found["seed"])


def result(name: str, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """What is known of a row with a seed: measured now, unless it was before with these settings."""
    configuration = ROWS[name].configuration(seed)
    run = f"{name}-{seed}-{of_value(configuration)[:8]}"
    file = given.folder / f"{run}.json"
    if not file.exists():
        about = {"measured_on": f"{date.today()}", **machine()}
        found = measured(configuration, given.folder / run, given.data, given.threads)
        file.write_text(json.dumps({"row": name, "seed": seed, **about, **found}))
    return json.loads(file.read_text())


def measured(configuration: dict[str, Any], folder: Path, data: Path, threads: int) -> dict[str, Any]:
    """The backtest as a process of its own; what its tables and the training say."""
    folder.mkdir(parents=True, exist_ok=True)
    settings, store, program = folder / "backtest.yaml", folder / "store", Path(sys.executable).with_name("recsys")
    settings.write_text(yaml.safe_dump(configuration))
    command: list[str | Path] = [program, "backtest", "--config", settings, "--store", store, "--csv", folder]
    command += ["--as-of", AS_OF, "--set", f"training.threads={threads}"]
    places = {"RECSYS_DATA": str(data.resolve()), "OMP_NUM_THREADS": str(threads)}
    subprocess.run(command, check=True, env=os.environ | places)
    with (folder / "models.csv").open() as lines:
        (row,) = csv.DictReader(lines)
    training, run = max(((one, _run(one)) for one in Store(store).artifacts("training")), key=lambda found: str(found[1]["started_at"]))
    return {
        "commit": run["commit"],  # of the code that learnt
        "ndcg_at_10": float(row["NDCG@10"]),
        "hit_rate_at_10": float(row["HitRate@10"]),
        "validation_ndcg_at_10": training.metrics["ndcg_at_10"],
        "best_epoch": training.metrics["best_epoch"],
        "n_epochs": training.metrics["n_epochs"],
        "epoch_seconds": statistics.median(run["epoch_seconds"]),
        "peak_gib": float(row["peak_memory_bytes"]) / 2**30,
        "threads": threads,
        "configuration": json.dumps(configuration),
    }


def _run(artifact: Artifact) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((artifact.path / "run.json").read_text())
    return found


def section(measured: list[dict[str, Any]]) -> str:
    """The results as markdown, a line per row and seed."""
    both = "NDCG@10, HR@10"
    header = f"| row | seed | NDCG@10 | HR@10 | reach {both} | published {both} | epochs (best) | s an epoch, threads | settings |"
    rows = [header, "|---|---|---|---|---|---|---|---|---|"]
    for found in measured:
        row = ROWS[found["row"]]
        theirs = row.published
        own = {"recipe": row.recipe, **row.model, **row.training}
        cells = [
            found["row"],
            found["seed"],
            f"{found['ndcg_at_10']:.4f}",
            f"{found['hit_rate_at_10']:.4f}",
            reach(row, found),
            "" if theirs is None else f"{theirs.ndcg:.4f}, {theirs.hit_rate:.4f} ({theirs.source})",
            f"{found['n_epochs']} ({found['best_epoch']})",
            f"{found['epoch_seconds']:.0f}, {found['threads']}",
            ", ".join(f"{name}={value}" for name, value in own.items()),
        ]
        rows.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join([*opening(measured), "", *rows])


def reach(row: Row, found: dict[str, Any]) -> str:
    """What is asked for, with a tick if all of it is reached."""
    reached = all(found[metric] >= least for metric, least in row.asked.items())
    return ", ".join(f"{least:.3f}" for least in row.asked.values()) + (" ✓" if reached else "")


def opening(measured: list[dict[str, Any]]) -> list[str]:
    """What was asked for, how and where."""
    about = [report.about(measured), report.versions(measured), "`python -m benchmarks.quality --data data --folder quality`"]
    return [
        f"The last of {N_PEOPLE:,} people's films is asked for, among all {N_FILMS:,}, without those they had seen; training stops by the",
        "NDCG@10 of the one before of half of the people, which is not learnt from. No setting was chosen by the test; where it was read",
        "a second time, that is said below.",
        f"{'; '.join(filter(None, about))}.",
    ]


if __name__ == "__main__":
    main()
