"""A backtest for people: models side by side, as means over folds and fold by fold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from recsys.evaluation.means import mean_of_defined
from recsys.evaluation.report import figures
from recsys.evaluation.report.document import Cell, Document, Figure, Section, Table, Text
from recsys.evaluation.report.popularity import Shares
from recsys.evaluation.report.tradeoffs import Key, tradeoffs
from recsys.evaluation.report.training import Epochs, curves
from recsys.evaluation.report.users import Users
from recsys.evaluation.report.wording import DROPPED, KEPT, measured, named, number
from recsys.wording import capital, counted

MAX_FOLDS = 40  # that stand in tables: the newest; all are drawn, and in the parquet files


@dataclass(frozen=True)
class FoldsReport:
    """What the report is made of: rows of `metrics.parquet`, `means.parquet` and `folds.parquet`, a verdict in words, and of the newest
    fold what was looked at besides.
    """

    night: str
    metrics: Sequence[Mapping[str, Any]]
    means: Sequence[Mapping[str, Any]]
    folds: Sequence[Mapping[str, Any]]
    verdict: str
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
        values = {model: {key: self._mean_of[model, key]["value"] for key in self._keys} for model in self.models}
        sections = [self._means(), *tradeoffs(values, self.units), *self._over_time(), *self._slices(), self._asked()]
        newest = self.folds[-1]["name"]
        if self.shares is not None:
            sections.append(self.shares.section({}))
        sections += curves(
            self.epochs, f"The models of {newest}, epoch by epoch, on users that were held out of their training.", self.models
        )
        if self.users is not None:
            sections.append(self.users.section(self.users.contenders))
        return Document(title, opening, sections)

    def _size(self) -> str:
        n_users = sum(fold["test_users"] for fold in self.folds)
        between = f", from {self.folds[0]['name']} to {self.folds[-1]['name']}" if len(self.folds) > 1 else ""
        looked = " What looks at single lists below looks at the newest fold." if len(self.folds) > 1 else ""
        return f"{counted(len(self.folds), 'fold')}{between}, with {counted(n_users, 'test user')} together.{looked}"

    def _means(self) -> Section:
        """Every metric at every k, with the interval of its difference to one model."""
        rows: list[list[Cell | str]] = []
        for key in self._keys:
            rows.append([named(*key, self.units), *(measured(self._mean_of[model, key]) for model in self.models)])
        several, whom = len(self.folds) > 1, self.means[0]["reference"]
        told = f"In brackets or small the 95% interval of the difference to {whom}, paired by user (bootstrap"
        told += ", of users with all that they have in any fold). " if several else "). "
        told += "An interval without 0 is a difference that chance does not explain"
        told += ": how other users might have come on these days, not how other days might have been. " if several else ". "
        told += "Metrics of all lists together have none. A metric without a unit is a share or a score, and 1 is all of it."
        if several:
            rows.append(["folds with a value", *(f"{self._mean_of[model, self._keys[0]]['folds']:,}" for model in self.models)])
        return Section("Means over folds" if several else "All test users", (Table(["", *self.models], rows), Text(told)))

    def _over_time(self) -> list[Section]:
        """Every metric at the first k in every fold as lines, and the first one with its intervals as a table; none of one fold."""
        first = self._keys[0]
        names = [fold["name"] for fold in self.folds]
        if len(names) == 1:
            return []
        place = {name: number for number, name in enumerate(names)}
        panels: dict[str, dict[str, figures.Line]] = {named(*key, self.units): {} for key in self._keys if key[1] == first[1]}
        for key in (key for key in self._keys if key[1] == first[1]):
            for model in self.models:
                points = [(place[row["fold"]], row["value"]) for row in self._rows(key) if row["model"] == model]
                panels[named(*key, self.units)][model] = ([x for x, _ in points], [y for _, y in points])
        alt = f"Of every model a line over the folds, in panels for {', '.join(panels)}."
        drawing = Figure(figures.lines(panels, "", self.models, ticks=names), alt)
        references = list(dict.fromkeys(fold["reference"] for fold in self.folds if fold["test_users"]))
        whom = references[0] if len(references) == 1 else "whom the second column names, the best baseline there or, without one, the best"
        told = (
            f"{named(*first, self.units)} of each fold; in brackets or small the 95% interval of the difference to {whom}, paired by user "
            "(bootstrap). An interval without 0 is a difference that chance does not explain."
        )
        if len(names) > MAX_FOLDS:
            told += f" These are the newest {MAX_FOLDS} of {len(names)} folds; all are in metrics.parquet."
        table = self._by_fold(first, self.folds[-MAX_FOLDS:], len(references) > 1)
        return [Section("Fold by fold", [drawing, Text(told), table])]

    def _by_fold(self, key: Key, folds: Sequence[Mapping[str, Any]], with_reference: bool) -> Table:
        cells = {(row["fold"], row["model"]): measured(row) for row in self._rows(key)}
        labels = [[fold["name"], *([fold["reference"]] if with_reference else [])] for fold in folds]
        columns = ["fold", *(["compared with"] if with_reference else [])]
        rows = [[*label, *(cells.get((label[0], one), Cell("")) for one in self.models)] for label in labels]
        return Table([*columns, *self.models], rows, len(columns))

    def _slices(self) -> list[Section]:
        """The first metric in parts of the test users, as means over folds."""
        metric, k = self._keys[0]
        by_slice: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
        for row in self.metrics:
            if (row["metric"], row["k"]) == (metric, k):
                by_slice.setdefault(row["slice"], {}).setdefault(row["model"], []).append(row)
        rows = []
        for part, models in by_slice.items():
            of_any = next(iter(models.values()))
            means = [number(mean_of_defined([row["value"] for row in models.get(model, [])])) for model in self.models]
            rows.append([part, f"{len(of_any):,}", f"{sum(row['n_users'] for row in of_any):,}", *means])
        if len(rows) < 2:
            return []
        told = f"{named(metric, k, self.units)} of parts of the test users: means over the folds that have such users, and how many."
        return [Section("Slices", (Text(told), Table(["", "folds", "users", *self.models], rows)))]

    def _asked(self) -> Section:
        """What was held out, and what became of it."""
        reasons = [reason for reason in DROPPED if any(fold[reason] for fold in self.folds)]
        columns = ["fold", "events held out", "pairs of user and item", *(f"left out: {DROPPED[reason]}" for reason in reasons)]
        kept = [key for key, (_, drops) in KEPT.items() if any(fold[key] for fold in self.folds) and drops not in reasons]
        columns += [*(f"asked too: {KEPT[key][0]}" for key in kept), "relevant pairs", "test users"]
        keys = ["holdout_events", "holdout_pairs", *reasons, *kept, "relevant_pairs", "test_users"]
        rows = [[fold["name"], *(f"{fold[key]:,}" for key in keys)] for fold in self.folds[-MAX_FOLDS:]]
        cuts = self.folds[-1]
        newest = f"{capital(str(cuts['name']))}: models learn from what is before {cuts['learn']}."
        return Section("What was asked for", (Text(newest), Table(columns, rows)))

    def _rows(self, key: Key) -> list[Mapping[str, Any]]:
        return [row for row in self.metrics if (row["metric"], row["k"], row["slice"]) == (*key, "all")]

    @property
    def models(self) -> list[str]:
        """Who is compared, in the order asked for."""
        return list(dict.fromkeys(row["model"] for row in self.means))

    @property
    def _keys(self) -> list[Key]:
        return list(dict.fromkeys((row["metric"], row["k"]) for row in self.means))

    @cached_property
    def _mean_of(self) -> dict[tuple[str, Key], Mapping[str, Any]]:
        return {(row["model"], (row["metric"], row["k"])): row for row in self.means}


def taken(models: Sequence[Mapping[str, Any]]) -> Table:
    """What each model took: means of seconds over folds, and the most memory, by the names of `recsys.evaluation.backtest.fold_rows`.

    It is no part of the report, which is the same bytes whenever it is made.
    """
    rows = [
        [
            row["model"],
            *("" if row[name] is None else f"{row[name]:,.1f}" for name in ("training_seconds", "listing_seconds")),
            f"{row['peak_memory_bytes'] / 2**30:.2f}",
        ]
        for row in models
    ]
    return Table(["", "seconds of training", "seconds of listing", "GiB at the peak"], rows)
