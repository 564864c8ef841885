"""The evaluation for people: `report.md`, with the numbers of the tables and what they are numbers of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

from recsys.evaluation.baselines import Tried
from recsys.evaluation.intervals import MIN_USERS

NAMES = {
    "candidate": "the candidate",
    "current": "the current model",
    "popular_lately": "popular lately",
    "popular": "popular overall",
}
DROPPED = {
    "dropped_cold_user": "of users without an event before",
    "dropped_cold_item": "with items that had no event before",
    "dropped_not_eligible": "with items that are not eligible",
    "dropped_blocked": "that are blocked",
    "dropped_seen": "with items that the user had seen before",
}


@dataclass(frozen=True)
class Report:
    """What the report is made of: rows of `metrics.parquet`, the windows tried, and what was counted on the way."""

    night: str
    holdout: str  # as configured
    reference: str
    metrics: Sequence[Mapping[str, Any]]
    tried: Sequence[Tried]
    counts: Mapping[str, int | float]

    def markdown(self) -> str:
        """The whole report."""
        parts = [f"# Evaluation of {self.night}", self._ground(), self._contenders()]
        if self.counts["test_users"]:
            parts += ["## All test users", self._table("all"), self._reading(), "## Slices", self._slices()]
        return "\n\n".join(parts) + "\n"

    def _ground(self) -> str:
        n = self.counts
        opening = f"The holdout is {_spoken(self.holdout)}, with {_counted(n['holdout_events'], 'event')}."
        if not n["holdout_pairs"]:
            return opening + " There is nothing to test on."
        lines = [f"- {n[key]:,} ({n[key] / n['holdout_pairs']:.1%}) {text}" for key, text in DROPPED.items() if n[key]]
        dropped = "\n".join(["Not counted are pairs", "", *lines, ""]) if lines else "None of them is left out.\n"
        return (
            f"{opening} They are {_counted(n['holdout_pairs'], 'pair')} of a user and an item. {dropped}\n"
            f"Left are {_counted(n['relevant_pairs'], 'relevant pair')} of {_counted(n['test_users_found'], 'user')}"
            + (f", of whom {n['test_users']:,} were drawn." if n["test_users"] < n["test_users_found"] else ".")
            + f" Of all users with held-out events {n['cold_users'] / n['holdout_users']:.1%} are new,"
            + f" and of all items {n['cold_items'] / n['holdout_items']:.1%}."
        )

    def _contenders(self) -> str:
        lines = [f"Compared on the same users, items and exclusions: {_listed([NAMES[name] for name in self._names])}."]
        if "current" not in self._names:
            lines.append("There is no current model that was trained before the holdout.")
        for name in ("candidate", "current"):
            if fallback := self.counts.get(f"{name}_fallback_users"):
                whom = _counted(fallback, "test user")
                lines.append(f"{NAMES[name].capitalize()} knows no item of {whom}, who get what is popular, as they would tonight.")
        return " ".join([*lines, *self._lately()])

    def _lately(self) -> list[str]:
        chosen = next((row for row in self.tried if row.chosen), None)
        measured = ", ".join(f"{row.window} {row.ndcg_at_10:.4f}" for row in self.tried if not isnan(row.ndcg_at_10))
        if chosen is None:
            return []
        if isnan(chosen.ndcg_at_10):
            return [f"Lately means the last {chosen.window}: the period before the holdout has nothing to choose it by."]
        return [f"Lately means the last {chosen.window}, the best on the period before the holdout (NDCG@10: {measured})."]

    def _table(self, part: str) -> str:
        rows = [row for row in self.metrics if row["slice"] == part]
        cells = {(row["metric"], row["k"], row["contender"]): _cell(row) for row in rows}
        lines = [f"| | {' | '.join(NAMES[name] for name in self._names)} |", "|---" * (len(self._names) + 1) + "|"]
        for metric, k in dict.fromkeys((row["metric"], row["k"]) for row in rows):
            lines.append(f"| {metric}@{k} | {' | '.join(cells[metric, k, name] for name in self._names)} |")
        return "\n".join(lines)

    def _reading(self) -> str:
        return (
            f"In brackets the 95% interval of the difference to {NAMES[self.reference]}, paired by user (bootstrap): "
            "an interval without 0 is a difference that chance does not explain. "
            f"Fewer than {MIN_USERS} users have none, nor has CatalogCoverage: a resample of the users is one of fewer, who see less."
        )

    def _slices(self) -> str:
        metric, k = self.metrics[0]["metric"], self.metrics[0]["k"]
        cells = {(row["slice"], row["contender"]): row for row in self.metrics if (row["metric"], row["k"]) == (metric, k)}
        parts = dict.fromkeys(part for part, _ in cells)
        lines = [f"{metric}@{k}", "", f"| | users | {' | '.join(NAMES[name] for name in self._names)} |"]
        lines.append("|---" * (len(self._names) + 2) + "|")
        for part in parts:
            values = " | ".join(_cell(cells[part, name]) for name in self._names)
            lines.append(f"| {part} | {cells[part, self._names[0]]['n_users']:,} | {values} |")
        return "\n".join(lines)

    @property
    def _names(self) -> list[str]:
        return [name for name in NAMES if any(row["contender"] == name for row in self.metrics)]


def _cell(row: Mapping[str, Any]) -> str:
    return _number(row["value"]) + ("" if row["low"] is None else f" ({_number(row['low'], '+z')} … {_number(row['high'], '+z')})")


def _number(value: float, sign: str = "") -> str:
    """Four places behind the point, where shares are; fewer of large numbers, and of tiny ones the first two that count.

    >>> _number(0.12345), _number(1234.5), _number(-0.000123, "+z"), _number(0.0, "+z"), _number(float("nan"))
    ('0.1235', '1234.5', '-0.00012', '+0.0000', 'undefined')
    """
    if isnan(value):
        return "undefined"
    if 0 < abs(value) < 0.001:
        return f"{value:{sign}.2g}"
    return f"{value:{sign}.4f}" if abs(value) < 100 else f"{value:{sign}.1f}"


def _spoken(holdout: str) -> str:
    if not holdout.startswith("last-"):
        return f"the last {holdout}"
    n = int(holdout.removeprefix("last-"))
    return f"each user's last {_counted(n, 'event') if n > 1 else 'event'}"


def _counted(n: int | float, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
