"""Hand-made results of tonight's contenders."""

from collections.abc import Mapping
from dataclasses import replace
from math import nan
from typing import Any

from recsys.promotion.results import Measured, Paired

USERS = 1234
FEW = Measured(0.1, 0.4, 3)


def measured(value: float, coverage: float = 0.4, n_users: int = USERS, paired_with: float | None = None) -> Measured:
    """A result, with an interval of ±0.004 around the difference to whom it was paired with."""
    if paired_with is None:
        return Measured(value, coverage, n_users)
    difference = value - paired_with
    return Measured(value, coverage, n_users, difference, difference - 0.004, difference + 0.004)


def evening(
    candidate: float, current: float | None = None, lately: float = 0.1, overall: float = 0.05, **changes: Any
) -> dict[str, Measured]:
    """Tonight's results, with an interval of ±0.004 around each model's lift over each baseline."""
    reference = max(lately, overall) if current is None else current
    found = {"candidate": measured(candidate, paired_with=reference, **changes)}
    if current is not None:
        found["current"] = measured(current)
    baselines = {"popular_lately": measured(lately), "popular": measured(overall)}
    return {name: replace(one, lifts=lifts_of(one.value, baselines)) for name, one in found.items()} | baselines


def lifts_of(value: float, baselines: Mapping[str, Measured]) -> dict[str, Paired]:
    lifts = {name: value - baseline.value for name, baseline in baselines.items()}
    return {name: Paired(lift, lift - 0.004, lift + 0.004) for name, lift in lifts.items()}


NEW = "users known for less than a day"


def better_on_average(new_users: float, half_interval: float = 0.01) -> dict[str, Measured]:
    """A candidate that gains over a current model of 0.11, which has 0.08 for new users."""
    found = evening(0.12, current=0.11)
    of_new = Measured(new_users, nan, 210, new_users - 0.08, new_users - 0.08 - half_interval, new_users - 0.08 + half_interval)
    slices = {NEW: of_new, "users known for 7 days and more": Measured(0.13, nan, 900, 0.02, 0.01, 0.03)}
    return {**found, "candidate": replace(found["candidate"], slices=slices)}
