"""How popular is what is listed: the share of all places that goes to the most popular items."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from recsys.arrays import Ints
from recsys.evaluation.report import figures
from recsys.evaluation.report.document import Figure, Section, Table, Text
from recsys.ranking.lists import Lists
from recsys.ranking.metrics import Past

PARTS = (0.01, 0.1, 0.5)  # of the catalogue, from the most popular item down
N_POINTS = 60  # of a line


@dataclass(frozen=True)
class Shares:
    """Of `places` (V,), the share that goes to the n most popular items is `cumulated[name][n − 1]`; `n_listed` are different items.

    Under `past events` and `held-out items` stand the same of what everybody had before and of what the test users took.
    """

    k: int
    n_items: int
    cumulated: Mapping[str, np.ndarray]
    n_listed: Mapping[str, int]

    @classmethod
    def of(cls, lists: Mapping[str, Lists], relevant: Ints, past: Past, k: int) -> "Shares":
        """Of lists by name, what was relevant to their users (R,), and the events before."""
        n_items = len(past.eligible)
        counts = {name: _counts(made.item_code[:, :k], n_items) for name, made in lists.items()}
        counts |= {"held-out items": _counts(relevant, n_items), "past events": past.n_events}
        order = np.argsort(-past.n_events, kind="stable")
        cumulated = {name: np.cumsum(of[order]) / max(1, of.sum()) for name, of in counts.items()}
        return cls(k, n_items, cumulated, {name: int((of > 0).sum()) for name, of in counts.items()})

    def section(self, names: Mapping[str, str]) -> Section:
        """`names` are those of the contenders for people."""
        most = [max(1, round(part * self.n_items)) for part in PARTS]
        columns = ["", *(f"the {part:.0%} most popular ({n:,})" for part, n in zip(PARTS, most, strict=True)), "different items"]
        shown = {name: names.get(name, name) for name in self.cumulated}
        rows = [[label, *(f"{self.cumulated[name][n - 1]:.1%}" for n in most), f"{self.n_listed[name]:,}"] for name, label in shown.items()]
        at = np.unique(np.geomspace(1, self.n_items, N_POINTS).round().astype(int))
        drawn = {label: (at.tolist(), self.cumulated[name][at - 1].tolist()) for name, label in shown.items()}
        svg = figures.lines({"share of all places": drawn}, "the most popular items, by events before", list(drawn), log=True, columns=1)
        told = (
            f"Share of the first {self.k} places of all lists that goes to the most popular of {self.n_items:,} items, "
            "beside what was had before and what was taken in the end."
        )
        alt = f"Lines that rise from the most popular item to all {self.n_items:,}: those that are higher on the left list what is popular."
        return Section("Popularity of what is recommended", (Text(told), Figure(svg, alt), Table(columns, rows)))


def _counts(items: Ints, n_items: int) -> Ints:
    return np.bincount(items[items >= 0], minlength=n_items)
