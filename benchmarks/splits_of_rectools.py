"""What RecTools holds out of generated events, for tests/evaluation/test_splits_of_rectools.py to be compared with.

    PYTHON benchmarks/splits_of_rectools.py tests/evaluation/splits_of_rectools.json

PYTHON is one that has RecTools 0.19.0, in an environment of its own: it is no dependency of ours. Everything is drawn by seed;
the file holds the events too, so that the test needs no RecTools and no generator.
"""

import json
import sys
from importlib.metadata import version
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from rectools import Columns
from rectools.dataset import Interactions
from rectools.model_selection import LastNSplitter, TimeRangeSplitter

SEED, N_EVENTS, N_USERS, N_ITEMS, N_DAYS = 11, 400, 40, 60, 12
FILTERS = ("cold_users", "cold_items", "already_seen")
SPLITTERS = {
    "1d x 3": lambda **filters: TimeRangeSplitter("1D", n_splits=3, **filters),
    "2d x 2": lambda **filters: TimeRangeSplitter("2D", n_splits=2, **filters),
    "6h x 4": lambda **filters: TimeRangeSplitter("6H", n_splits=4, **filters),
    "last-1 x 2": lambda **filters: LastNSplitter(1, n_splits=2, **filters),
    "last-3 x 1": lambda **filters: LastNSplitter(3, n_splits=1, **filters),
}


def events() -> pd.DataFrame:
    """One row per event, on the full hour, so that many tie; the last day has one in its last hour."""
    draw = np.random.default_rng(SEED)
    hour = np.append(draw.integers(0, 24 * N_DAYS, N_EVENTS - 1), 24 * N_DAYS - 1)
    user, item = draw.integers(0, N_USERS, N_EVENTS), (N_ITEMS * draw.random(N_EVENTS) ** 2).astype(int)
    return pd.DataFrame({Columns.User: user, Columns.Item: item, Columns.Weight: 1.0, "hour": hour})


def held_out(table: pd.DataFrame, splitter: TimeRangeSplitter | LastNSplitter) -> list[list[list[int]]]:
    """The distinct (user, item) of each fold, oldest first."""
    folds = splitter.split(Interactions(table))
    return [np.unique(table[[Columns.User, Columns.Item]].to_numpy()[test], axis=0).tolist() for _, test, _ in folds]


def main(target: Path) -> None:
    made = events()
    table = made.assign(**{Columns.Datetime: pd.Timestamp("2025-03-01") + pd.to_timedelta(made["hour"], unit="h")}).drop(columns="hour")
    found = {}
    for (name, splitter), filters in product(SPLITTERS.items(), product((True, False), repeat=len(FILTERS))):
        asked = {f"filter_{what}": on for what, on in zip(FILTERS, filters, strict=True)}
        found[f"{name} {''.join('ny'[on] for on in filters)}"] = held_out(table, splitter(**asked))
    given = made[[Columns.User, Columns.Item, "hour"]].to_numpy().tolist()
    text = {"rectools": version("rectools"), "n_items": N_ITEMS, "n_days": N_DAYS, "events": given, "held_out": found}
    target.write_text(json.dumps(text, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
