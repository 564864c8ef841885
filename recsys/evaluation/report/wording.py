"""Numbers and names as reports tell them."""

from collections.abc import Mapping
from math import floor, isnan, log10
from typing import Any

from recsys.evaluation.report.document import Cell
from recsys.wording import counted

DROPPED = {
    "dropped_cold_user": "of users without an event before",
    "dropped_cold_item": "with items that had no event before",
    "dropped_not_eligible": "with items that are not eligible",
    "dropped_blocked": "that are blocked",
    "dropped_seen": "with items that the user had seen before",
}
KEPT = {  # what is counted whether it is asked for or not, and how it would be left out
    "cold_users": ("users without an event before", "dropped_cold_user"),
    "cold_items": ("items that had no event before", "dropped_cold_item"),
    "seen_pairs": ("pairs that the user had seen before", "dropped_seen"),
}


def number(value: float | None, sign: str = "") -> str:
    """Four places behind the point, where shares are; fewer of large numbers, and of tiny ones the first two that count.

    >>> number(0.12345), number(1234.5), number(-0.000123, "+z"), number(4e-5), number(0.0, "+z"), number(float("nan"))
    ('0.1235', '1,234.5', '-0.00012', '0.000040', '+0.0000', 'undefined')
    """
    if value is None or isnan(value):
        return "undefined"
    if 0 < abs(value) < 0.001:
        return f"{value:{sign}.{1 - floor(log10(abs(value)))}f}" if abs(value) > 1e-7 else f"{value:{sign}.1e}"
    return f"{value:{sign}.4f}" if abs(value) < 100 else f"{value:{sign},.1f}"


def measured(row: Mapping[str, Any]) -> Cell:
    """The value of a row of metrics with the interval of its difference; strong where 0 is not in it.

    >>> measured({"value": 0.21, "low": 0.01, "high": 0.03})
    Cell(text='0.2100', note='+0.0100 … +0.0300', strong=True)
    """
    return _with_interval(number(row["value"]), row["low"], row["high"])


def lifted(row: Mapping[str, Any]) -> Cell:
    """A difference of a row of lifts with its interval; strong where 0 is not in it.

    >>> lifted({"difference": 0.02, "low": None, "high": None})
    Cell(text='+0.0200', note='', strong=False)
    """
    return _with_interval(number(row["difference"], "+z"), row["low"], row["high"])


def _with_interval(text: str, low: float | None, high: float | None) -> Cell:
    if low is None or high is None:
        return Cell(text)
    return Cell(text, f"{number(low, '+z')} … {number(high, '+z')}", low > 0 or high < 0)


def named(metric: str, k: int, units: Mapping[str, str]) -> str:
    """A metric at k, with its unit where it has one.

    >>> named("MeanInvUserFreq", 10, {"MeanInvUserFreq": "bits"}), named("NDCG", 10, {})
    ('MeanInvUserFreq@10, bits', 'NDCG@10')
    """
    return f"{metric}@{k}" + (f", {units[metric]}" if units.get(metric) else "")


def spoken(holdout: str) -> str:
    """`1d` or `last-3` in words."""
    if not holdout.startswith("last-"):
        return f"the last {holdout}"
    n = int(holdout.removeprefix("last-"))
    return f"each user's last {counted(n, 'event') if n > 1 else 'event'}"
