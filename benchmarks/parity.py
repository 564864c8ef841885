"""Quality at equal settings: NDCG@10 of leave-one-out on ML-1M, ours and RecTools' SASRecModel, over some seeds, as markdown.

    python -m benchmarks.parity --data data --folder /tmp/parity --epochs 10

The last event of every user is held out, all items are ranked, seen ones left out. What was measured before is read from
`folder`, so that it goes on where it was stopped, and several at once may share the work.
"""

import argparse
import json
import shlex
import statistics
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import inputs, report
from benchmarks.measuring import Task
from benchmarks.sides import machine, measured, ndcg_at_10

# By name of a contender: its side, and how its task differs.
CONTENDERS: dict[str, tuple[str, dict[str, Any]]] = {
    "RecTools": ("RecTools", {}),
    "ours": ("ours", {}),
    "ours, no dropout of attention": ("ours", {"attention_dropout": 0.0}),
    "ours, positions and initial weights of the recipe": ("ours", {"start": "recipe"}),
}
REFERENCE = "RecTools"
RESULTS = Path(__file__).parent / "results"
TITLES = {"softmax": "Quality at equal settings", "sampled": "Quality at equal settings, sampled negatives"}


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
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    file, origin = inputs.write(given.input, given.folder, given.data)
    earlier, last = inputs.leave_one_out(file)
    task = Task("train", earlier, **{name: getattr(given, name) for name in ("width", "max_events", "epochs", "loss", "threads")})
    found = [result(given.folder, name, seed, task, last) for seed in given.seeds for name in CONTENDERS if name in given.contenders]
    text = section(found, origin, command(given))
    print(text)
    if given.input == "ml-1m" and given.data and {REFERENCE, "ours"} <= set(given.contenders):
        RESULTS.mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist(found), RESULTS / f"parity-{given.loss}.parquet")
        report.put(RESULTS.with_name("results.md"), TITLES[given.loss], text)


def command(given: argparse.Namespace) -> str:
    """What was typed; where the data lie is nobody's concern."""
    places = {str(given.data): "data", str(given.folder): "FOLDER"}
    return shlex.join(["python", "-m", "benchmarks.parity", *(places.get(word, word) for word in sys.argv[1:])])


def result(folder: Path, name: str, seed: int, task: Task, last: Path) -> dict[str, Any]:
    """What is known of a contender with a seed: measured now, unless it was before."""
    side, differences = CONTENDERS[name]
    own = replace(task, seed=seed, **differences)
    file = folder / f"{own.digest}-{side}.json"
    if not file.exists():
        lists = file.with_suffix(".parquet")
        facts = measured(side, replace(own, lists=lists))
        known = {"measured_on": f"{date.today()}", **machine(), "contender": name, "seed": seed, "side": side}
        settings = {name: getattr(own, name) for name in ("width", "max_events", "epochs", "loss", "n_negatives")}
        found = {**known, **settings, "ndcg_at_10": ndcg_at_10(lists, last), "seconds": facts["seconds"], "facts": json.dumps(facts)}
        file.write_text(json.dumps(found))
        print(f"{name}, seed {seed}: NDCG@10 {found['ndcg_at_10']:.4f}", file=sys.stderr, flush=True)
    return json.loads(file.read_text())


def section(found: list[dict[str, Any]], origin: str, command: str) -> str:
    """The results as markdown."""
    by_name = {name: [r["ndcg_at_10"] for r in found if r["contender"] == name] for name in dict.fromkeys(r["contender"] for r in found)}
    reference = by_name.get(REFERENCE, [])
    rows = [f"| contender | NDCG@10 by seed | mean | minus {REFERENCE} | two standard errors |", "|---|---|---|---|---|"]
    for name, values in by_name.items():
        by_seed = ", ".join(f"{value:.4f}" for value in values)
        rows.append(f"| {name} | {by_seed} | {statistics.mean(values):.4f} | {compared(name, values, reference)} |")
    first = found[0]
    loss = f"sampled softmax, {first['n_negatives']} negatives" if first["loss"] == "sampled" else "full softmax"
    settings = f"d={first['width']}, L={first['max_events']}, {first['epochs']} epochs, {loss}"
    told = [
        f"`{command}`; {report.about(found)}.",
        f"{origin}; {settings}; leave-one-out, all items ranked, seen ones left out.",
        f"{'; '.join(report.versions_by_side(found))}.",
    ]
    return "\n".join([*told, "", *rows])


def compared(name: str, values: list[float], reference: list[float]) -> str:
    """Difference of the means and two standard errors of it, as two cells; empty where one has a single seed."""
    if name == REFERENCE or min(len(values), len(reference)) < 2:
        return "|"
    error = sum(statistics.variance(v) / len(v) for v in (values, reference)) ** 0.5
    return f"{statistics.mean(values) - statistics.mean(reference):+.4f} | {2 * error:.4f}"


if __name__ == "__main__":
    main()
