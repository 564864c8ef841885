"""A backtest for people: models side by side, as means over folds and fold by fold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from recsys.evaluation.report import figures
from recsys.evaluation.report.document import Cell, Document, Figure, Section, Table, Text
from recsys.evaluation.report.popularity import Shares
from recsys.evaluation.report.tradeoffs import Key, tradeoffs
from recsys.evaluation.report.training import Epochs, curves
from recsys.evaluation.report.users import Users
from recsys.evaluation.report.wording import DROPPED, capital, counted, measured, named, number

MAX_FOLDS = 40  # that stand in tables: the newest; all are drawn, and in the parquet files


@dataclass(frozen=True)
class FoldsReport:
    """What the report is made of: rows of `metrics.parquet` and of `folds.parquet`, the means per model (by `NDCG@10`), a verdict in words,
    and of the newest fold what was looked at besides.
    """

    night: str
    metrics: Sequence[Mapping[str, Any]]
    folds: Sequence[Mapping[str, Any]]
    means: Sequence[Mapping[str, Any]]
    verdict: str
    against: str | None  # whom differences are to; None: in every fold to the better baseline
    units: Mapping[str, str] = field(default_factory=dict)
    shares: Shares | None = None
    users: Users | None = None
    epochs: Mapping[str, Epochs] = field(default_factory=dict)  # by model

    def document(self) -> Document:
        """The whole report."""
        title = f"Backtest of {self.night}"
        if not self.metrics or not any(fold["test_users"] for fold in self.folds):
            return Document(title, [Text(self.verdict)], [self._asked()])
        opening = [Text(f"{self.verdict} {self._size()}")]
        sections = [
            Section("Means over folds", (self._means(), Text("A metric without a unit is a share or a score, and 1 is all of it.")))
        ]
        sections += tradeoffs(
            {row["model"]: {key: _value(row[f"{key[0]}@{key[1]}"]) for key in self._keys} for row in self.means}, self.units
        )
        sections += [self._over_time(), self._asked()]
        newest = self.folds[-1]["name"]
        if self.shares is not None:
            sections.append(self.shares.section({}))
        sections += curves(
            self.epochs, f"The models of {newest}, epoch by epoch, on users that were held out of their training.", self._models
        )
        if self.users is not None:
            sections.append(self.users.section(self.users.contenders))
        return Document(title, opening, sections)

    def _size(self) -> str:
        n_users = sum(fold["test_users"] for fold in self.folds)
        between = f", from {self.folds[0]['name']} to {self.folds[-1]['name']}" if len(self.folds) > 1 else ""
        looked = " What looks at single lists below looks at the newest fold." if len(self.folds) > 1 else ""
        return f"{counted(len(self.folds), 'fold')}{between}, with {n_users:,} test users together.{looked}"

    def _means(self) -> Table:
        rows = [[named(*key, self.units), *(number(row[f"{key[0]}@{key[1]}"]) for row in self.means)] for key in self._keys]
        rows.append(["folds with a value", *(f"{row['folds']:,}" for row in self.means)])
        return Table(["", *self._models], rows)

    def _over_time(self) -> Section:
        """Every metric at the first k in every fold as lines, and the first one with its intervals as a table."""
        first = self._keys[0]
        blocks: list[Text | Figure | Table] = []
        names = [fold["name"] for fold in self.folds]
        if len(names) > 1:
            place = {name: number for number, name in enumerate(names)}
            panels: dict[str, dict[str, figures.Line]] = {named(*key, self.units): {} for key in self._keys if key[1] == first[1]}
            for key in (key for key in self._keys if key[1] == first[1]):
                for model in self._models:
                    points = [(place[row["fold"]], row["value"]) for row in self._rows(key) if row["model"] == model]
                    panels[named(*key, self.units)][model] = ([x for x, _ in points], [y for _, y in points])
            alt = f"Of every model a line over the folds, in panels for {', '.join(panels)}."
            blocks.append(Figure(figures.lines(panels, "", self._models, ticks=names), alt))
        whom = self.against or "the better baseline of the fold"
        told = (
            f"{named(*first, self.units)} of each fold; in brackets or small the 95% interval of the difference to {whom}, paired by user "
            "(bootstrap). An interval without 0 is a difference that chance does not explain."
        )
        if len(names) > MAX_FOLDS:
            told += f" These are the newest {MAX_FOLDS} of {len(names)} folds; all are in metrics.parquet."
        return Section("Fold by fold", [*blocks, Text(told), self._by_fold(first, names[-MAX_FOLDS:])])

    def _by_fold(self, key: Key, names: Sequence[str]) -> Table:
        cells = {(row["fold"], row["model"]): measured(row) for row in self._rows(key)}
        return Table(["fold", *self._models], [[name, *(cells.get((name, one), Cell("")) for one in self._models)] for name in names])

    def _asked(self) -> Section:
        """What was held out, and what became of it."""
        reasons = [reason for reason in DROPPED if any(fold[reason] for fold in self.folds)]
        columns = ["fold", "events held out", "pairs of user and item", *(f"left out: {DROPPED[reason]}" for reason in reasons)]
        columns += ["relevant pairs", "test users"]
        keys = ["holdout_events", "holdout_pairs", *reasons, "relevant_pairs", "test_users"]
        rows = [[fold["name"], *(f"{fold[key]:,}" for key in keys)] for fold in self.folds[-MAX_FOLDS:]]
        cuts = self.folds[-1]
        newest = f"{capital(str(cuts['name']))}: models learn from what is before {cuts['learn']}."
        return Section("What was asked for", (Text(newest), Table(columns, rows)))

    def _rows(self, key: Key) -> list[Mapping[str, Any]]:
        return [row for row in self.metrics if (row["metric"], row["k"]) == key]

    @property
    def _models(self) -> list[str]:
        return [row["model"] for row in self.means]

    @property
    def _keys(self) -> list[Key]:
        return list(dict.fromkeys((row["metric"], row["k"]) for row in self.metrics))


def _value(value: float | None) -> float:
    return float("nan") if value is None else value
