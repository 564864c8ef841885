"""Several models over several folds: every metric of every fold, and the means over folds beside what each model took."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from recsys.evaluation.baselines import DIGITS
from recsys.evaluation.comparison import SCHEMA, Comparison
from recsys.evaluation.folds import read_lists
from recsys.evaluation.means import Means, mean_of_defined
from recsys.evaluation.report import document
from recsys.evaluation.report.folds import FoldsReport
from recsys.evaluation.report.popularity import Shares
from recsys.evaluation.report.training import Epochs, read_epochs
from recsys.evaluation.report.users import Users
from recsys.evaluation.slices import slices
from recsys.evaluation.terms import Tables, Terms
from recsys.model import own_parts
from recsys.parts import part
from recsys.ranking.metrics import Past, named, specs
from recsys.ranking.metrics.diversity import Intersection
from recsys.store import Artifact, Draft, Store
from recsys.windows import Fold, label

METRICS = pa.schema([("fold", pa.string()), *(pa.field("model", f.type) if f.name == "contender" else f for f in SCHEMA)])


@dataclass(frozen=True)
class Listed:
    """A model's lists of one fold."""

    fold: Fold
    model: str
    lists: Artifact


def backtest(
    store: Store,
    as_of: datetime,
    tables: Tables,
    listed: Sequence[Listed],
    *,
    references: Sequence[str] = (),
    tested: Sequence[str] = (),
    rebuild: bool = False,
) -> Artifact:
    """The artifact with `metrics.parquet`, fold × model × slice × k × metric, `means.parquet`, over the folds, `folds.parquet`, what was
    asked for in each fold, and all of it for people in `report.html` and `report.md`.

    Of every fold there are lists of the same models. `references` are those whose lists the others' are intersected with, as
    metrics of their own; the first is whom all are compared with in each fold, paired by user, and without one the fold's best
    baseline. `tested` stand in the tables; all do unless said.
    """
    rules, evaluation = tables.rules, tables.rules.evaluation
    metrics = [metric for metric in rules.metrics() if not references or metric != "Intersection"]  # with the first of them
    metrics += [str(part(Intersection, model=name)) for name in references]
    metrics = list(dict.fromkeys(metrics))  # a reference's may be among what is measured anyway
    measured = specs(metrics, "evaluation.metrics")
    names = list(dict.fromkeys(one.model for one in listed))
    config = {
        "metrics": list(measured), "k": evaluation.k, "n_bootstrap": evaluation.n_bootstrap, "slices": evaluation.slices,
        **rules.versioned(), "models": names, "tested": list(tested or names), "references": list(references),
        "folds": [_spelt(fold) for fold, _ in _by_fold(listed)],  # lists may be equal where what is asked for is not
    }  # fmt: skip

    fitted = _fitted(store, [one for one in listed if one.fold == listed[-1].fold])

    def build(draft: Draft) -> None:
        rows: list[dict[str, Any]] = []
        facts: list[dict[str, Any]] = []
        means = Means(tables.histories.n_users, evaluation.n_bootstrap, rules.seed)
        for fold, of_fold in _by_fold(listed):  # one at a time in memory: there may be hundreds
            compared = _Compared(Terms(fold, tables), of_fold)
            comparison = compared.comparison(metrics, references)
            of_all = comparison.table().to_pylist()
            means.add(comparison, of_all)
            rows += compared.rows(of_all, tested or names)
            facts.append({**_spelt(fold), "reference": comparison.reference, **compared.ground.counts})
        over_folds = means.table(tested or names, compared.baselines)
        pq.write_table(pa.Table.from_pylist(rows, METRICS), draft.path / "metrics.parquet", compression="zstd")
        pq.write_table(over_folds, draft.path / "means.parquet", compression="zstd")
        pq.write_table(pa.Table.from_pylist(facts), draft.path / "folds.parquet", compression="zstd")
        draft.counts = {"folds": len(facts), "models": len(names), "test_users": sum(fold["test_users"] for fold in facts)}
        epochs = {name: read_epochs(model.path) for name, model in fitted.items()}
        report = _report(label(as_of), compared, comparison, rows, over_folds.to_pylist(), facts, epochs).document()
        (draft.path / "report.md").write_text(report.markdown())
        (draft.path / "report.html").write_text(report.html())

    inputs = {"sequences": tables.sequences} | {_name(one.fold.name, one.model): one.lists for one in listed}
    sources = {
        "metrics": own_parts.sources({cls for spec in measured.values() for cls in spec.classes()}, rules.code),
        "trainings": {name: model.content for name, model in fitted.items()},
    }
    return store.ensure(
        "backtest", as_of, config, inputs, build, code=__name__, sources=sources, sql=[document.PAGE], rebuild=rebuild
    )  # fmt: skip


class _Compared:
    """One fold: its ground, and everybody's lists on it."""

    def __init__(self, terms: Terms, listed: Sequence[Listed]) -> None:
        self.rules, self.dictionary, self.fold = terms.rules, terms.tables.dictionary, terms.fold
        self.past, self.ground = terms.past, terms.ground
        user_id = self.past.user_id.take(pa.array(self.ground.users))
        self.lists = {one.model: read_lists(one.lists, user_id, self.dictionary) for one in listed}
        self.baselines = [one.model for one in listed if "training" not in one.lists.manifest["inputs"]]

    def comparison(self, metrics: Sequence[str], references: Sequence[str]) -> Comparison:
        """Of everybody's lists, against the first of the references."""
        evaluation, learn = self.rules.evaluation, self.fold.learn
        return Comparison(
            self.lists, self.ground, Past.of(self.past, self.past.cut(learn), self.dictionary),
            slices(self.ground, self.past, self.dictionary, learn, evaluation.slices),
            named(metrics), evaluation.k, evaluation.n_bootstrap, self.rules.seed,
            against=references[0] if references else "", baselines=self.baselines,
        )  # fmt: skip

    def rows(self, found: Iterable[Mapping[str, Any]], tested: Sequence[str]) -> Iterator[dict[str, Any]]:
        """The rows of the comparison's table as a model's, of those that are tested, in their order."""
        for row in sorted(found, key=lambda row: list(self.lists).index(row["contender"])):
            if row["contender"] in tested:
                yield {"fold": self.fold.name, "model": row["contender"], **{name: row[name] for name in METRICS.names[2:]}}


def _spelt(fold: Fold) -> dict[str, str]:
    return {name: str(value) for name, value in vars(fold).items()}


def _by_fold(listed: Sequence[Listed]) -> Iterator[tuple[Fold, list[Listed]]]:
    for fold in dict.fromkeys(one.fold for one in listed):
        yield fold, [one for one in listed if one.fold == fold]


def _fitted(store: Store, listed: Sequence[Listed]) -> dict[str, Artifact]:
    """The trainings that lists come from, by model."""
    origins = {one.model: one.lists.manifest["inputs"].get("training") for one in listed}
    return {model: store.open(origin) for model, origin in origins.items() if origin is not None}


def _report(
    night: str,
    newest: _Compared,
    comparison: Comparison,
    rows: Sequence[Mapping[str, Any]],
    means: Sequence[Mapping[str, Any]],
    facts: Sequence[Mapping[str, Any]],
    epochs: Mapping[str, Epochs],
) -> FoldsReport:
    """The tables for people, and a look at the lists of the newest fold at the first k; at those of the best two models for some users."""
    folds = list(_wide(rows).values())
    units = {name: metric.unit for name, metric in comparison.metrics.items()}
    found = FoldsReport(night, rows, means, facts, verdict(folds), units, epochs=epochs)
    if not len(newest.ground.users):
        return found
    k, lists = newest.rules.evaluation.k[0], {name: comparison.lists[name] for name in found.models}
    users = Users.of(comparison, newest.past, newest.dictionary, ranked(model_rows(folds))[:2], k)
    return replace(found, shares=Shares.of(lists, newest.ground.relevant, comparison.past, k), users=users)


def fold_rows(store: Store, backtest: Artifact) -> list[dict[str, Any]]:
    """A row per fold and model: `fold`, `model`, `n_users`, every metric as `NDCG@10`, and the seconds and the peak memory (bytes) of
    its training and of its lists, from their run.json, whenever they were made; a baseline has no training. What all contenders of
    a fold share, its ground and its window of what is popular lately, is in nobody's seconds.
    """
    rows = _wide(pq.read_table(backtest.path / "metrics.parquet").to_pylist())
    lists = backtest.manifest["inputs"]
    return [{**row, **_costs(store, store.open(lists[name]))} for name, row in rows.items()]


def _wide(measured: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """A row per fold and model, of all users, by the name that its lists have among the inputs, with a column for each metric at each k."""
    rows: dict[str, dict[str, Any]] = {}
    for one in (one for one in measured if one["slice"] == "all"):
        fold, model = one["fold"], one["model"]
        row = rows.setdefault(_name(fold, model), {"fold": fold, "model": model, "n_users": 0})
        row["n_users"] = max(row["n_users"], one["n_users"])
        row[f"{one['metric']}@{one['k']}"] = one["value"]
    return rows


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
    metric = _first(models)
    best = next((row for row in models if row["model"] in ranked(models)[:1]), None)
    if best is None:
        return "There was nobody to test on in any fold."
    over = "in one fold" if best["folds"] == 1 else f"on the average of {best['folds']} folds"
    return f"The best {metric} {over} is that of {best['model']}, {best[metric]:.4f}, of {len(models)} contenders."


def ranked(models: Sequence[Mapping[str, Any]]) -> list[str]:
    """The models by the first metric, the best one first, without those that have no value."""
    metric = _first(models)
    known = [row for row in models if row[metric] is not None]
    return [row["model"] for row in sorted(known, key=lambda row: row[metric], reverse=True)]


def _first(models: Sequence[Mapping[str, Any]]) -> str:
    return next(name for name in models[0] if "@" in name)


def write_csv(folder: Path, folds: Sequence[Mapping[str, Any]]) -> None:
    """`folds.csv` and `models.csv`: the rows of the same names."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in {"folds": folds, "models": model_rows(folds)}.items():
        pa.csv.write_csv(pa.Table.from_pylist(list(rows)), folder / f"{name}.csv")


def _over_folds(name: str, values: Sequence[float | None]) -> float | None:
    if name.endswith("_bytes"):
        return max((value for value in values if value is not None), default=None)
    mean = mean_of_defined(values)
    return None if mean != mean else round(mean, DIGITS)


def _costs(store: Store, lists: Artifact) -> dict[str, float | None]:
    """Of the lists and of the training that they come from."""
    origin = lists.manifest["inputs"].get("training")
    training, listing = None if origin is None else _run(store.open(origin)), _run(lists)
    return {  # a training that went on after it was stopped has the seconds of all of its epochs, and of the last run besides
        "training_seconds": max(training["seconds"], sum(training.get("epoch_seconds", ()))) if training else None,
        "listing_seconds": listing["listing_seconds"],
        "peak_memory_bytes": max(run["peak_memory_bytes"] for run in (training, listing) if run),
    }


def _run(artifact: Artifact) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((artifact.path / "run.json").read_text())
    return found


def _name(fold: str, model: str) -> str:
    """What a model's lists of a fold are called among the inputs."""
    return f"{fold}/{model}"
