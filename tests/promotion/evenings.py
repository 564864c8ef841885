"""Hand-made results of tonight's contenders."""

from dataclasses import replace
from math import nan
from typing import Any

from recsys.promotion.results import Measured

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
    reference = max(lately, overall) if current is None else current
    found = {"candidate": measured(candidate, paired_with=reference, **changes)}
    if current is not None:
        found["current"] = measured(current)
    return {**found, "popular_lately": measured(lately), "popular": measured(overall)}


NEW = "users known for less than a day"


def better_on_average(new_users: float, half_interval: float = 0.01) -> dict[str, Measured]:
    """A candidate that gains over a current model of 0.11, which has 0.08 for new users."""
    found = evening(0.12, current=0.11)
    of_new = Measured(new_users, nan, 210, new_users - 0.08, new_users - 0.08 - half_interval, new_users - 0.08 + half_interval)
    slices = {NEW: of_new, "users known for 7 days and more": Measured(0.13, nan, 900, 0.02, 0.01, 0.03)}
    return {**found, "candidate": replace(found["candidate"], slices=slices)}
