"""Quality at equal settings: NDCG@10 of leave-one-out on ML-1M, ours and RecTools' SASRecModel, over some seeds, as markdown.

    python -m benchmarks.parity --data data --folder /tmp/parity --epochs 10

The last event of every user is held out, all items are ranked, seen ones left out. What was measured before is read from
`folder`, so that it goes on where it was stopped, and several at once may share the work.
"""

import argparse
import json
import statistics
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import inputs
from benchmarks.measuring import Task
from benchmarks.sides import machine, measured, ndcg_at_10

# By name of a contender: its side, and how its task differs.
CONTENDERS: dict[str, tuple[str, dict[str, Any]]] = {
    "RecTools": ("RecTools", {}),
    "ours": ("ours", {}),
    "ours, attention dropout": ("ours", {"attention_dropout": 0.2}),
    "ours, positions and initial weights of the recipe": ("ours", {"start": "recipe"}),
}
REFERENCE = "RecTools"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder with ml-1m/; generated, with nothing to learn, without it")
    parser.add_argument("--input", default="ml-1m", choices=inputs.INPUTS)
    parser.add_argument("--folder", type=Path, required=True, help="for the inputs and what was measured")
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), choices=CONTENDERS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--max-events", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--loss", default="softmax", choices=["softmax", "sampled"])
    parser.add_argument("--n-negatives", type=int, default=256, help="of both, where the loss is sampled; ours share theirs")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    file, origin = inputs.write(given.input, given.folder, given.data)
    earlier, last = inputs.leave_one_out(file)
    names = ("width", "max_events", "epochs", "loss", "n_negatives", "threads")
    task = Task("train", earlier, **{name: getattr(given, name) for name in names})
    found = [result(given.folder, name, seed, task, last) for seed in given.seeds for name in CONTENDERS if name in given.contenders]
    pq.write_table(pa.Table.from_pylist(found), given.folder / "parity.parquet")
    print(section(found, origin))


def result(folder: Path, name: str, seed: int, task: Task, last: Path) -> dict[str, Any]:
    """What is known of a contender with a seed: measured now, unless it was before."""
    side, differences = CONTENDERS[name]
    own = replace(task, seed=seed, **differences)
    file = folder / f"{own.digest}-{side}.json"
    if not file.exists():
        lists = file.with_suffix(".parquet")
        facts = measured(side, replace(own, lists=lists))
        known = {"measured_on": f"{date.today()}", **machine(), "contender": name, "seed": seed, "side": side}
        settings = {"width": task.width, "max_events": task.max_events, "epochs": task.epochs, "loss": task.loss}
        found = {**known, **settings, "ndcg_at_10": ndcg_at_10(lists, last), "seconds": facts["seconds"], "facts": json.dumps(facts)}
        file.write_text(json.dumps(found))
        print(f"{name}, seed {seed}: NDCG@10 {found['ndcg_at_10']:.4f}", file=sys.stderr, flush=True)
    return json.loads(file.read_text())


def section(found: list[dict[str, Any]], origin: str) -> str:
    """The results as markdown."""
    by_name = {name: [r["ndcg_at_10"] for r in found if r["contender"] == name] for name in dict.fromkeys(r["contender"] for r in found)}
    reference = by_name.get(REFERENCE, [])
    rows = [f"| contender | NDCG@10 by seed | mean | minus {REFERENCE} | two standard errors |", "|---|---|---|---|---|"]
    for name, values in by_name.items():
        rows.append(
            f"| {name} | {', '.join(f'{v:.4f}' for v in values)} | {statistics.mean(values):.4f} | {compared(name, values, reference)} |"
        )
    first = found[0]
    settings = f"d={first['width']}, L={first['max_events']}, {first['epochs']} epochs, loss {first['loss']}"
    return "\n".join(
        [f"{origin}; {settings}; leave-one-out, all items ranked, seen ones left out; commit {first['commit'][:10]}.", "", *rows]
    )


def compared(name: str, values: list[float], reference: list[float]) -> str:
    """Difference of the means and two standard errors of it, as two cells; empty without three seeds or so of both."""
    if name == REFERENCE or min(len(values), len(reference)) < 2:
        return "|"
    error = sum(statistics.variance(v) / len(v) for v in (values, reference)) ** 0.5
    return f"{statistics.mean(values) - statistics.mean(reference):+.4f} | {2 * error:.4f}"


if __name__ == "__main__":
    main()
