"""The evaluation of a night for people: the numbers of the tables, and what they are numbers of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan
from typing import Any

from recsys.contenders import NAMES
from recsys.evaluation.baselines import Tried
from recsys.evaluation.intervals import MIN_USERS
from recsys.evaluation.report import figures
from recsys.evaluation.report.document import Cell, Document, Figure, Items, Section, Table, Text
from recsys.evaluation.report.popularity import Shares
from recsys.evaluation.report.tradeoffs import tradeoffs
from recsys.evaluation.report.training import Epochs, curves
from recsys.evaluation.report.users import Users
from recsys.evaluation.report.wording import DROPPED, lifted, measured, named, spoken
from recsys.wording import capital, counted, listed

MAX_DRAWN = 40  # slices: a page of paper holds no more


@dataclass(frozen=True)
class Report:
    """What the report is made of: rows of `metrics.parquet` and of `lifts.parquet`, the windows tried, what was counted on the way, the
    units of the metrics that have one, which of them are of all lists together, and what was looked at besides.
    """

    night: str
    holdout: str  # as configured
    reference: str
    metrics: Sequence[Mapping[str, Any]]
    tried: Sequence[Tried]
    counts: Mapping[str, int | float]
    units: Mapping[str, str] = field(default_factory=dict)
    of_lists: Sequence[str] = ()
    lifts: Sequence[Mapping[str, Any]] = ()
    shares: Shares | None = None
    users: Users | None = None
    epochs: Epochs = ()
    best_epoch: int | None = None  # whose weights the candidate has

    def document(self) -> Document:
        """The whole report."""
        opening = [*self._ground(), Text(self._contenders())]
        if not self.counts["test_users"]:
            return Document(f"Evaluation of {self.night}", opening, self._training())
        sections = [Section("All test users", (self._table(), Text(self._reading()))), *tradeoffs(self._values(), self.units)]
        sections += [*self._lifts(), self._slices()]
        if self.shares is not None:
            sections.append(self.shares.section(NAMES))
        sections += self._training()
        if self.users is not None:
            sections.append(self.users.section([NAMES[name] for name in self.users.contenders]))
        return Document(f"Evaluation of {self.night}", opening, sections)

    def _ground(self) -> list[Text | Items]:
        n = self.counts
        opening = f"The holdout is {spoken(self.holdout)}, with {counted(n['holdout_events'], 'event')}."
        if not n["holdout_pairs"]:
            return [Text(opening + " There is nothing to test on.")]
        lines = [f"{n[key]:,} ({n[key] / n['holdout_pairs']:.1%}) {text}" for key, text in DROPPED.items() if n[key]]
        pairs = f"{opening} They are {counted(n['holdout_pairs'], 'pair')} of a user and an item."
        left = (
            f"Left are {counted(n['relevant_pairs'], 'relevant pair')} of {counted(n['test_users_found'], 'user')}"
            + (f", of whom {n['test_users']:,} were drawn." if n["test_users"] < n["test_users_found"] else ".")
            + f" Of all users with held-out events {n['cold_users'] / n['holdout_users']:.1%} are new,"
            + f" and of all items {n['cold_items'] / n['holdout_items']:.1%}."
        )
        if not lines:
            return [Text(f"{pairs} None of them is left out."), Text(left)]
        return [Text(f"{pairs} Not counted are pairs"), Items(lines), Text(left)]

    def _contenders(self) -> str:
        lines = [f"Compared on the same users, items and exclusions: {listed([NAMES[name] for name in self._names])}."]
        if "current" not in self._names:
            lines.append("There is no current model, or none that may be compared fairly.")
        for name in ("candidate", "current"):
            if fallback := self.counts.get(f"{name}_fallback_users"):
                whom = counted(fallback, "test user")
                lines.append(f"{capital(NAMES[name])} knows no item of {whom}, who get what is popular, as they would tonight.")
        return " ".join([*lines, *self._lately()])

    def _lately(self) -> list[str]:
        chosen = next((row for row in self.tried if row.chosen), None)
        found = ", ".join(f"{row.window} {row.ndcg_at_10:.4f}" for row in self.tried if not isnan(row.ndcg_at_10))
        if chosen is None:
            return []
        if isnan(chosen.ndcg_at_10):
            return [f"Lately means the last {chosen.window}: the period before the holdout has nothing to choose it by."]
        return [f"Lately means the last {chosen.window}, the best on the period before the holdout (NDCG@10: {found})."]

    def _table(self) -> Table:
        rows = [row for row in self.metrics if row["slice"] == "all"]
        cells = {(row["metric"], row["k"], row["contender"]): measured(row) for row in rows}
        keys = dict.fromkeys((row["metric"], row["k"]) for row in rows)
        return Table(
            ["", *(NAMES[name] for name in self._names)],
            [[named(metric, k, self.units), *(cells[metric, k, name] for name in self._names)] for metric, k in keys],
        )

    def _reading(self) -> str:
        few = f"Fewer than {MIN_USERS} users have none"
        if self.of_lists:
            few += f", nor {'has' if len(self.of_lists) == 1 else 'have'} {listed(self.of_lists)}"
            few += ": a resample of the users is one of fewer, who see less"
        return (
            f"In brackets or small the 95% interval of the difference to {NAMES[self.reference]}, paired by user (bootstrap): "
            "an interval without 0 is a difference that chance does not explain. "
            f"{few}. A metric without a unit is a share or a score, and 1 is all of it."
        )

    def _lifts(self) -> list[Section]:
        """The models beside each baseline, at the first k: what popularity alone would have done as well."""
        rows = [row for row in self.lifts if row["k"] == self.metrics[0]["k"]]
        if not rows:
            return []
        pairs = list(dict.fromkeys((row["contender"], row["baseline"]) for row in rows))
        cells = {(row["metric"], row["contender"], row["baseline"]): lifted(row) for row in rows}
        told = (
            "Mean difference by user to each baseline, and its 95% interval: in bold where there is no 0 in it, so that chance does not "
            "explain the difference."
        )
        table = Table(
            ["", *(f"{NAMES[one]} less {NAMES[other]}" for one, other in pairs)],
            [
                [named(metric, rows[0]["k"], self.units), *(cells[metric, *pair] for pair in pairs)]
                for metric in dict.fromkeys(row["metric"] for row in rows)
            ],
        )
        return [Section("Beside what is popular", (Text(told), table))]

    def _values(self) -> dict[str, dict[tuple[str, int], float]]:
        """By contender, on all users: every metric at every k."""
        values: dict[str, dict[tuple[str, int], float]] = {NAMES[name]: {} for name in self._names}
        for row in self.metrics:
            if row["slice"] == "all":
                values[NAMES[row["contender"]]][row["metric"], row["k"]] = row["value"]
        return values

    def _slices(self) -> Section:
        metric, k = self.metrics[0]["metric"], self.metrics[0]["k"]
        found = {(row["slice"], row["contender"]): row for row in self.metrics if (row["metric"], row["k"]) == (metric, k)}
        cells: list[list[Cell | str]] = []
        for part in dict.fromkeys(part for part, _ in found):
            n_users = f"{found[part, self._names[0]]['n_users']:,}"
            cells.append([part, n_users, *(measured(found[part, name]) for name in self._names)])
        table = Table(["", "users", *(NAMES[name] for name in self._names)], cells)
        label = named(metric, k, self.units)
        return Section("Slices", (Text(label), *self._drawn(label, [row for (_, who), row in found.items() if who == "candidate"]), table))

    def _drawn(self, label: str, rows: Sequence[Mapping[str, Any]]) -> list[Figure]:
        lines = [(row["slice"], row["difference"], row["low"], row["high"]) for row in rows if row["low"] is not None][:MAX_DRAWN]
        if not lines:
            return []
        told = f"Difference of {label}, the candidate less {NAMES[self.reference]}"
        found = [name for name, _, low, high in lines if low > 0 or high < 0]
        alt = f"{told}, with its 95% interval in {counted(len(lines), 'slice')}; without 0 in: {', '.join(found) or 'none'}."
        caption = "Lines are 95% intervals. A filled point is a difference that chance does not explain."
        return [Figure(figures.differences(lines, told), alt, caption)]

    def _training(self) -> list[Section]:
        validated = {row["epoch"]: row for row in self.epochs if row.get("ndcg_at_10") is not None}
        best = validated.get(self.best_epoch)
        told = "The candidate, epoch by epoch; ndcg_at_10 is of users whose newest event before the holdout was not trained on."
        if best is not None:
            told += f" It was best after epoch {best['epoch']}, with {best['ndcg_at_10']:.4f}."
        return curves({NAMES["candidate"]: self.epochs}, told, list(NAMES.values()), with_table=True)

    @property
    def _names(self) -> list[str]:
        return [name for name in NAMES if any(row["contender"] == name for row in self.metrics)]
