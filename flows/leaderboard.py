"""The tables of a backtest in the terminal: a column per model; a row per metric, and where there are several folds a row per fold."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from flows import console
from recsys.store import Artifact, Store
from recsys.wording import counted

MAX_FOLDS = 40  # the newest ones are printed; all are in folds.parquet
COSTS = {"training_seconds": "seconds of training", "listing_seconds": "seconds of listing", "peak_memory_bytes": "GiB at the peak"}


def show_backtest(store: Store, backtest: Artifact) -> None:
    """Means over folds at the first k, the first with intervals, and what each model took, a column per model; then the first metric
    in every fold.
    """
    from recsys.evaluation.backtest import fold_rows, model_rows  # imports torch

    folds = fold_rows(store, backtest)
    models = model_rows(folds)
    measured = [name for name in folds[0] if "@" in name]
    shown = [name for name in measured if name.endswith(measured[0].rpartition("@")[2])]
    rows = [[name, *(_number(row[name]) for row in models)] for name in shown]
    rows[1:1] = _differences(backtest, [row["model"] for row in models], shown[0])
    rows += [[words, *(_cost(name, row[name]) for row in models)] for name, words in COSTS.items()]
    n_folds, n_users = models[0]["folds"], models[0]["n_users"]
    users = counted(round(n_users), "test user")
    over = f"means over {n_folds} folds with {users} each" if n_folds > 1 else users
    console.say(f"\n{backtest}: {over}")
    console.say(console.table("", ["", *(_heading(row["model"]) for row in models)], rows))
    if n_folds > 1:
        _show_folds(folds, measured[0])
    console.say(f"All of it, with intervals, is in {console.short(backtest.path)}; report.html is a page for the browser.")


def _differences(backtest: Artifact, models: Sequence[str], metric: str) -> list[list[str]]:
    """The metric's mean less that of whom all are compared with, and the ends of its interval."""
    import pyarrow.parquet as pq

    rows = pq.read_table(backtest.path / "means.parquet").to_pylist()
    means = {row["model"]: row for row in rows if f"{row['metric']}@{row['k']}" == metric}
    words = {"difference": f"less {rows[0]['reference']}", "low": "95 % interval from", "high": "to"}
    found = [["  " + text, *(_signed(means[model][name]) for model in models)] for name, text in words.items()]
    return [row for row in found if any(row[1:])]


def _show_folds(folds: Sequence[Mapping[str, Any]], metric: str) -> None:
    value = {(row["fold"], row["model"]): row[metric] for row in folds}
    names, models = dict.fromkeys(row["fold"] for row in folds), dict.fromkeys(row["model"] for row in folds)
    rows = [[fold, *(_number(value[fold, model]) for model in models)] for fold in list(names)[-MAX_FOLDS:]]
    console.say(f"\n{metric} by fold")
    console.say(console.table("", ["fold", *map(_heading, models)], rows))


def _heading(model: str) -> str:
    """A model's name in lines about as narrow as a number."""
    return re.sub(r"(?<=[_(,])\s*(?=\w)", "\n", model)


def _cost(name: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"{value / 2**30:.2f}" if name.endswith("_bytes") else f"{value:.1f}"


def _signed(value: float | None) -> str:
    return "" if value is None or value != value else f"{value:+z.4f}"


def _number(value: float | None) -> str:
    if value is None or value != value:
        return ""
    if 0 < abs(value) < 0.001:
        return f"{value:.1e}"
    return f"{value:.4f}" if abs(value) < 100 else f"{value:,.0f}"
