"""Several models over several folds: every metric of every fold, and the means over folds beside what each model took."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from recsys.evaluation.baselines import DIGITS
from recsys.evaluation.comparison import SCHEMA, Comparison
from recsys.evaluation.folds import Rules, read_lists
from recsys.evaluation.slices import Slice
from recsys.histories import Dictionary, Histories
from recsys.model import own_parts
from recsys.ranking.metrics import Past, named, specs
from recsys.store import Artifact, Draft, Store
from recsys.windows import Fold

METRICS = pa.schema(
    [("fold", pa.string()), *(pa.field("model", f.type) if f.name == "contender" else f for f in SCHEMA if f.name != "slice")]
)


@dataclass(frozen=True)
class Listed:
    """A model's lists of one fold."""

    fold: Fold
    model: str
    lists: Artifact


def backtest(
    store: Store,
    as_of: datetime,
    rules: Rules,
    sequences: Artifact,
    listed: Sequence[Listed],
    *,
    references: Sequence[str] = (),
    tested: Sequence[str] = (),
    rebuild: bool = False,
) -> Artifact:
    """The artifact with `metrics.parquet`, fold × model × k × metric, and `folds.parquet`, what was asked for in each fold.

    Of every fold there are lists of the same models. `references` are those whose lists the others' are intersected with, as
    metrics of their own; the first is whom all are compared with in each fold, paired by user. `tested` stand in the tables;
    all do unless said.
    """
    evaluation = rules.evaluation
    metrics = [metric for metric in rules.metrics() if not references or metric != "Intersection"]  # with the first of them
    metrics += [f"Intersection(model={json.dumps(name)})" for name in references]
    measured = specs(metrics, "evaluation.metrics")
    names = list(dict.fromkeys(one.model for one in listed))
    config = {
        "metrics": list(measured), "k": evaluation.k, "n_bootstrap": evaluation.n_bootstrap, **rules.versioned(),
        "models": names, "tested": list(tested or names), "references": list(references),
    }  # fmt: skip

    def build(draft: Draft) -> None:
        histories, dictionary = Histories.load(sequences.path, columns=()), Dictionary.load(sequences.path)
        rows: list[dict[str, Any]] = []
        facts: list[dict[str, Any]] = []
        for fold, of_fold in _by_fold(listed):  # one at a time in memory: there may be hundreds
            compared = _Compared(rules, histories, dictionary, fold, of_fold)
            rows += compared.metrics(metrics, references, tested or names)
            facts.append(compared.facts())
        pq.write_table(pa.Table.from_pylist(rows, METRICS), draft.path / "metrics.parquet", compression="zstd")
        pq.write_table(pa.Table.from_pylist(facts), draft.path / "folds.parquet", compression="zstd")
        draft.counts = {"folds": len(facts), "models": len(names), "test_users": sum(fold["test_users"] for fold in facts)}

    inputs = {"sequences": sequences} | {_name(one.fold.name, one.model): one.lists for one in listed}
    sources = own_parts.sources({cls for spec in measured.values() for cls in spec.classes()}, rules.code)
    return store.ensure("backtest", as_of, config, inputs, build, code=__name__, sources=sources, rebuild=rebuild)


class _Compared:
    """One fold: its ground, and everybody's lists on it."""

    def __init__(self, rules: Rules, histories: Histories, dictionary: Dictionary, fold: Fold, listed: Sequence[Listed]) -> None:
        self.rules, self.dictionary, self.fold = rules, dictionary, fold
        self.past, self.ground = rules.ground(histories, dictionary, fold)
        user_id = self.past.user_id.take(pa.array(self.ground.users))
        self.lists = {one.model: read_lists(one.lists, user_id, dictionary) for one in listed}

    def metrics(self, metrics: Sequence[str], references: Sequence[str], tested: Sequence[str]) -> Iterator[dict[str, Any]]:
        """A row per model, k and metric, of those that are tested."""
        evaluation = self.rules.evaluation
        learnt = self.past.cut(self.fold.learn)
        comparison = Comparison(
            self.lists, self.ground, Past.of(self.past, learnt, self.dictionary), [Slice("all", np.arange(len(self.ground.users)))],
            named(metrics), evaluation.k, evaluation.n_bootstrap, self.rules.seed, *references[:1],
        )  # fmt: skip
        rows = comparison.table().drop_columns("slice").to_pylist()
        for row in sorted(rows, key=lambda row: list(self.lists).index(row["contender"])):
            if row["contender"] in tested:
                yield {"fold": self.fold.name, "model": row.pop("contender"), **row}

    def facts(self) -> dict[str, Any]:
        """Where the fold begins and ends, and what became of all that it holds out."""
        return {name: str(value) for name, value in vars(self.fold).items()} | self.ground.counts


def _by_fold(listed: Sequence[Listed]) -> Iterator[tuple[Fold, list[Listed]]]:
    for fold in dict.fromkeys(one.fold for one in listed):
        yield fold, [one for one in listed if one.fold == fold]


def fold_rows(store: Store, backtest: Artifact) -> list[dict[str, Any]]:
    """A row per fold and model: `fold`, `model`, `n_users`, every metric as `NDCG@10`, and the seconds and the peak memory (bytes) of
    its training and of its lists, from their run.json, whenever they were made; a baseline has no training.
    """
    rows: dict[str, dict[str, Any]] = {}
    for measured in pq.read_table(backtest.path / "metrics.parquet").to_pylist():
        fold, model = measured["fold"], measured["model"]
        row = rows.setdefault(_name(fold, model), {"fold": fold, "model": model, "n_users": 0})
        row["n_users"] = max(row["n_users"], measured["n_users"])
        row[f"{measured['metric']}@{measured['k']}"] = measured["value"]
    lists = backtest.manifest["inputs"]
    return [{**row, **_costs(store, store.open(lists[name]))} for name, row in rows.items()]


def model_rows(folds: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row per model: means over the folds in which there is a value; of the memory, the most.

    >>> model_rows([{"fold": "a", "model": "m", "n_users": 3, "NDCG@10": 0.5}, {"fold": "b", "model": "m", "n_users": 5, "NDCG@10": 0.25}])
    [{'model': 'm', 'folds': 2, 'n_users': 4.0, 'NDCG@10': 0.375}]
    """
    found = []
    for model in dict.fromkeys(row["model"] for row in folds):
        own = [row for row in folds if row["model"] == model]
        names = [name for name in own[0] if name not in ("fold", "model")]
        found.append({"model": model, "folds": len(own), **{name: _over_folds(name, [row[name] for row in own]) for name in names}})
    return found


def verdict(folds: Sequence[Mapping[str, Any]]) -> str:
    """Which model is best by the first metric, in words."""
    models = model_rows(folds)
    metric = next(name for name in models[0] if "@" in name)
    best = max((row for row in models if row[metric] is not None), key=lambda row: row[metric], default=None)
    if best is None:
        return "There was nobody to test on in any fold."
    over = "in one fold" if best["folds"] == 1 else f"on the average of {best['folds']} folds"
    return f"The best {metric} {over} is that of {best['model']}, {best[metric]:.4f}, of {len(models)} contenders."


def write_csv(folder: Path, folds: Sequence[Mapping[str, Any]]) -> None:
    """`folds.csv` and `models.csv`: the rows of the same names."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in {"folds": folds, "models": model_rows(folds)}.items():
        pa.csv.write_csv(pa.Table.from_pylist(list(rows)), folder / f"{name}.csv")


def _over_folds(name: str, values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None and value == value]
    if not there:
        return None
    return max(there) if name.endswith("_bytes") else round(sum(there) / len(there), DIGITS)


def _costs(store: Store, lists: Artifact) -> dict[str, float | None]:
    """Of the lists and of the training that they come from."""
    origin = lists.manifest["inputs"].get("training")
    training, listing = None if origin is None else _run(store.open(origin)), _run(lists)
    return {
        "training_seconds": training["seconds"] if training else None,
        "listing_seconds": listing["seconds"],
        "peak_memory_bytes": max(run["peak_memory_bytes"] for run in (training, listing) if run),
    }


def _run(artifact: Artifact) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((artifact.path / "run.json").read_text())
    return found


def _name(fold: str, model: str) -> str:
    """What a model's lists of a fold are called among the inputs."""
    return f"{fold}/{model}"
