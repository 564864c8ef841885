"""The metric that decides, over the nights of a store: a drawing and a table, in markdown for the UI.

No artifact of the store has it: a night's files say nothing of other nights, and stay the same whatever is there besides.
"""

from base64 import b64encode
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from recsys import published
from recsys.config import Promotion
from recsys.contenders import CONTENDERS, NAMES
from recsys.errors import StoreError
from recsys.evaluation.report import figures
from recsys.evaluation.report.document import Table
from recsys.evaluation.report.wording import number
from recsys.promotion.results import metric_of
from recsys.store import Store
from recsys.windows import label

N_NIGHTS = 30
UNPUBLISHED = {"hold": " (held)", "backfill": " (not published)"}


@dataclass(frozen=True)
class Night:
    """Whose lists a night on record has, and every contender's value of the metric, on the night's own holdout."""

    label: str
    lists_of: str
    values: Mapping[str, float]


def nights(store: Store, metric: str) -> list[Night]:
    """The newest nights on record that have the metric, as `NDCG@10`; oldest first. What was pruned or damaged is left out."""
    last = {line.moment: line for line in published.history(store) if "evaluation" in line.artifacts}
    found = []
    for _, line in sorted(last.items())[-N_NIGHTS:]:
        with suppress(StoreError):
            evaluation = store.get(line.artifacts["evaluation"])
            values = {name: of[metric] for name, of in (evaluation.metrics if evaluation else {}).items() if metric in of}
            if values:
                found.append(Night(label(line.moment), NAMES[line.source] + UNPUBLISHED.get(line.action, ""), values))
    return found


def markdown(store: Store, policy: Promotion) -> str:
    """A line and a column per contender."""
    metric = f"{metric_of(policy)}@{policy.k}"
    made = nights(store, metric)
    who = [name for name in CONTENDERS if any(name in night.values for night in made)]
    lines = {}
    for name in who:
        there = [(place, night.values[name]) for place, night in enumerate(made) if name in night.values]
        lines[NAMES[name]] = [place for place, _ in there], [value for _, value in there]
    svg = figures.lines({metric: lines}, "night", list(lines), ticks=[night.label for night in made], columns=1)
    drawing = f"![{metric} by night](data:image/svg+xml;base64,{b64encode(svg.encode()).decode()})"
    values = [[number(night.values[name]) if name in night.values else "" for name in who] for night in made]
    rows = [[night.label, night.lists_of, *row] for night, row in zip(made, values, strict=True)]
    table = Table(["night", "lists of", *(NAMES[name] for name in who)], rows[::-1], n_labels=2)
    return "\n\n".join((f"{metric} of the newest nights, each on its own holdout.", drawing, table.markdown())) + "\n"
