"""How models were fitted, from the `epochs.parquet` of their artifacts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from recsys.evaluation.report import figures
from recsys.evaluation.report.document import Figure, Section, Table, Text
from recsys.evaluation.report.wording import number

Epochs = Sequence[Mapping[str, Any]]  # rows of epochs.parquet

NOT_LEARNT = {"epoch", "real_token_share"}


def read_epochs(training: Path) -> Epochs:
    """The rows of a model's epochs; none of a model that came from elsewhere."""
    file = training / "epochs.parquet"
    rows: Epochs = pq.read_table(file).to_pylist() if file.exists() else []
    return rows


def curves(fitted: Mapping[str, Epochs], told: str, who: Sequence[str], with_table: bool = False) -> list[Section]:
    """A section with a panel per measure and a line per model, drawn as number n of `who`; none where no model has epochs."""
    fitted = {name: rows for name, rows in fitted.items() if rows}
    measures = dict.fromkeys(name for rows in fitted.values() for name in rows[0] if name not in NOT_LEARNT)
    panels: dict[str, dict[str, figures.Line]] = {}
    for measure in measures:
        for name, rows in fitted.items():
            there = [(row["epoch"], row[measure]) for row in rows if row.get(measure) is not None]
            if there:
                panels.setdefault(measure, {})[name] = ([x for x, _ in there], [y for _, y in there])
    if not panels:
        return []
    blocks: list[Text | Figure | Table] = [Text(told)]
    blocks.append(Figure(figures.lines(panels, "epoch", who), f"Curves over the epochs: {', '.join(panels)}."))
    if with_table:
        blocks += [_table(rows) for rows in fitted.values()]
    return [Section("Training", blocks)]


def _table(rows: Epochs) -> Table:
    names = [name for name in rows[0] if name != "epoch"]
    return Table(["epoch", *names], [[str(row["epoch"]), *("" if row[n] is None else number(row[n]) for n in names)] for row in rows])
