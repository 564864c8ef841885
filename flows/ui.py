"""What a run shows in the Prefect UI, beside its log: tables, the report, the decision, samples and folders.

An artifact's key starts with the name of the store's folder, so that the history of `globo-metrics` is that of one data set.
"""

import json
import re
from collections.abc import Iterable, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from prefect import get_run_logger, runtime
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact

from flows import record
from flows.lists import Lists
from recsys.config import Promotion
from recsys.pruning import Waste
from recsys.store import Artifact, Store
from recsys.windows import label
from recsys.wording import counted

MAX_ROWS = 1000  # of a table: more are no table for people
MAX_BYTES = 1_200_000  # of an artifact as the server writes it into an event, which may have 1,500,000
SAMPLE_USERS = 20


def key(store: str, name: str) -> str:
    """The key of an artifact in the UI: lower-case letters, digits and dashes is all that it may have."""
    return re.sub(r"[^a-z0-9]+", "-", f"{store}-{name}".lower()).strip("-")


def reported(artifact: Artifact) -> Artifact:
    """The artifact, after a line in the log with its rows and seconds, and a link to its folder in the UI."""
    seconds = json.loads((artifact.path / "run.json").read_text())["seconds"]
    made = f"reused, made in {seconds:.1f} s" if artifact.reused else f"{seconds:.1f} s"
    rows = ", ".join(f"{table} {counted(n, 'row')}" for table, n in _rows_by_table(artifact).items())
    get_run_logger().info("%s: %s. %s", artifact, made, rows or artifact.path)
    name = _key(artifact, f"{runtime.task_run.name}-folder")
    create_link_artifact(artifact.path.as_uri(), link_text=str(artifact), key=name, description=rows)
    return artifact


def show_profile(tables: Artifact) -> None:
    """Every column in a line: quantiles and frequent values of it are in the file."""
    columns = pq.read_table(tables.path / "profile.parquet").to_pylist()
    _show(map(_described, columns), _key(tables, "profile"), f"Columns of the tables of {tables}")


def show_drift(drift: Artifact) -> None:
    """Measures beside the most similar of the last nights, those that reached a level first."""
    rows = pq.read_table(drift.path / "drift.parquet").to_pylist()
    rows.sort(key=lambda row: ("stop", "warn", "").index(row["level"]))
    n = drift.counts
    found = f"{counted(n['warnings'], 'warning')}, {counted(n['stops'], 'stop')}; compared with {counted(n['nights'], 'night')}"
    _show(rows, _key(drift, "drift"), f"{drift}: {found}")


def show_epochs(model: Artifact, role: str) -> None:
    _table(model, "epochs.parquet", f"training-{role}", "Epochs of")


def show_report(comparison: Artifact) -> None:
    _report(comparison)
    rows = pq.read_table(comparison.path / "metrics.parquet").to_pylist()
    rows.sort(key=lambda row: row["slice"] != "all")  # of many slices, those of everybody are not left out
    _show(rows, _key(comparison, "metrics"), f"Contenders, slices and metrics of {comparison}")
    _table(comparison, "lifts.parquet", "lifts", "Models beside each baseline, in")


def show_decision(decision: Artifact) -> None:
    _table(decision, "decision.parquet", "decision", "What was decided, and why, by")
    _page(decision)


def show_lists(store: Store, scoring: Artifact) -> None:
    """Lists of some users, with their newest events above them."""
    lists = Lists.open(store, scoring)
    rows: list[dict[str, Any]] = []
    for user in lists.sample(SAMPLE_USERS):
        rows += [{"user_id": user, "": "had", **event} for event in reversed(lists.history(user, 5))]
        rows += [{"user_id": user, "": "gets", **item} for item in lists.recommendations(user)]
    _show(rows, _key(scoring, "lists"), f"Some lists of {scoring}")


def show_backtest(
    backtest: Artifact, models: Iterable[Mapping[str, Any]], folds: Iterable[Mapping[str, Any]], taken: str
) -> None:  # fmt: skip
    """The report, and what each model took, which is in no file of a backtest; the rows of models and folds, and means with intervals."""
    _report(backtest, f"\n## Time and memory\n\n{taken}\n")
    for name, rows in {"models": models, "folds": folds}.items():
        _show(rows, _key(backtest, f"backtest-{name}"), f"The {name} of {backtest}")
    _table(backtest, "means.parquet", "backtest-means", "Means over folds, with intervals, of")


def show_waste(store: Store, gone: Waste) -> None:
    """What pruning took."""
    rows = [{"night": label(artifact.as_of), "step": artifact.step, "version": artifact.version} for artifact in gone.artifacts]
    kept = ", ".join(map(label, gone.kept_nights)) or "none there are"
    _show(rows, key(store.root.name, "pruned"), f"Removed. Nights kept whole: {kept}")


def show_record(store: Store, policy: Promotion) -> None:
    """Tonight among the nights before it."""
    told = f"The metric that decides, in the last nights of {store.root}"
    create_markdown_artifact(record.markdown(store, policy), key=key(store.root.name, "nights"), description=told)


def show_checks(publishing: Artifact) -> None:
    _table(publishing, "checks.parquet", "checks", "Contracts on the lists, by")


def _described(column: Mapping[str, Any]) -> dict[str, Any]:
    quantiles, top, filled = column["quantiles"], column["top"] or [], max(column["rows"] - column["nulls"], 1)
    often = ", ".join(f"{value['value']} {value['rows'] / filled:.0%}" for value in top[:3] if value["value"] is not None)
    facts = {name: value for name, value in column.items() if name not in ("quantiles", "top")}
    return {**facts, **{f"{level} %": quantiles and quantiles[level] for level in (5, 50, 95)}, "most frequent": often}


def _report(artifact: Artifact, more: str = "") -> None:
    """As text, and a link to the page with the same numbers and drawings."""
    report = (artifact.path / "report.md").read_text() + more
    create_markdown_artifact(
        _cut(report, artifact.path / "report.md"),
        key=_key(artifact, "report" if artifact.step == "evaluation" else f"{artifact.step}-report"),
        description=f"Report of {artifact}",
    )
    _page(artifact)


def _page(artifact: Artifact) -> None:
    page = artifact.path / "report.html"
    create_link_artifact(page.as_uri(), link_text=f"Page of {artifact}", key=_key(artifact, f"{artifact.step}-page"), description=str(page))


def _rows_by_table(artifact: Artifact) -> dict[str, int]:
    """Rows of every table, its parts added up; without the small ones in folders (values, vocabulary)."""
    rows: dict[str, int] = {}
    for name, facts in artifact.manifest["files"].items():
        table = re.sub(r"/part-\d+", "", name).removesuffix(".parquet")
        if "rows" in facts and "/" not in table:
            rows[table] = rows.get(table, 0) + facts["rows"]
    return rows


def _table(artifact: Artifact, file: str, name: str, what: str) -> None:
    _show(pq.read_table(artifact.path / file).to_pylist(), _key(artifact, name), f"{what} {artifact}")


def _show(rows: Iterable[Mapping[str, Any]], key: str, description: str) -> None:
    """A table of as many of the rows as may be shown, and how many that is where there are more."""
    plain = [{name: _plain_value(value) for name, value in row.items()} for row in rows]
    ends = accumulate(_in_an_event(json.dumps(row)) for row in plain[:MAX_ROWS])
    shown = sum(end <= MAX_BYTES for end in ends)
    if shown < len(plain):
        description += f". The first {shown:,} of {len(plain):,} rows"
    create_table_artifact(plain[:shown], key=key, description=description)


def _in_an_event(text: str) -> int:
    """Bytes of a text in an event: as JSON, within JSON."""
    return len(json.dumps(text))


def _cut(text: str, path: Path) -> str:
    """As many lines of a text as may be shown, and how many more there are."""
    lines = text.splitlines(keepends=True)
    shown = sum(end <= MAX_BYTES for end in accumulate(map(_in_an_event, lines)))
    return text if shown == len(lines) else "".join(lines[:shown]) + f"\n… and {counted(len(lines) - shown, 'line')} more, in {path}\n"


def _plain_value(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6) if value - value == 0 else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def _key(artifact: Artifact, name: str) -> str:
    return key(artifact.path.parents[2].name, name)
