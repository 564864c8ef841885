"""Every cut in time is made here: as_of, durations, the holdout. Windows are half-open, times aware UTC.

>>> holdout(parse_as_of("2017-10-17"), "1d")
Cut(at=datetime.datetime(2017, 10, 16, 0, 0, tzinfo=datetime.timezone.utc), last=0)
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Annotated

from pydantic import AfterValidator

from recsys.errors import ConfigError

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def duration(text: str) -> timedelta:
    """`"30d"`, `"6h"`, `"90m"` or `"2w"` as a timedelta; anything else is a ConfigError."""
    match = re.fullmatch(r"(\d{1,5})([mhdw])", text)
    if not match or int(match[1]) == 0:
        raise ConfigError(f'{text!r} is no duration: write a number from 1 to 99999 and m, h, d or w, as in "6h" or "30d".')
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _checked_duration(text: str) -> str:
    try:
        duration(text)
    except ConfigError as error:  # pydantic reports ValueErrors with the field's name
        raise ValueError(str(error)) from None
    return text


Duration = Annotated[str, AfterValidator(_checked_duration)]


def _checked_holdout(text: str) -> str:
    if re.fullmatch(r"last-[1-9]\d{0,4}", text):
        return text
    try:
        duration(text)
    except ConfigError:
        raise ValueError(f'{text!r} is no holdout: write a duration ("1d") or, for data with an order only, "last-1".') from None
    return text


Holdout = Annotated[str, AfterValidator(_checked_holdout)]


def parse_as_of(text: str | datetime) -> datetime:
    """The logical moment of a run: a date means its midnight, a naive time is UTC, an aware one is converted."""
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else text
        moment = moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment.astimezone(timezone.utc)
    except (ValueError, OverflowError):
        raise ConfigError(f"as_of {text!r} is no date or time: write 2017-10-17 or 2017-10-17T06:00.") from None
    if moment.year < 1970:  # leaves room for every duration before it
        raise ConfigError(f"as_of {text!r} lies before 1970.")
    return moment


def label(as_of: datetime) -> str:
    """The moment as a folder name, each its own: `2017-10-17`, or `2017-10-17T0600` where it is no midnight."""
    if as_of.microsecond:
        return as_of.strftime("%Y-%m-%dT%H%M%S.%f")
    midnight = (as_of.hour, as_of.minute, as_of.second) == (0, 0, 0)
    return as_of.strftime("%Y-%m-%d" if midnight else "%Y-%m-%dT%H%M%S" if as_of.second else "%Y-%m-%dT%H%M")


def microseconds(moment: datetime) -> int:
    """µs since 1970, the unit of times in arrays."""
    return (moment - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(microseconds=1)


def naive(moment: datetime) -> datetime:
    """The moment as DuckDB's TIMESTAMP takes it: UTC without a zone."""
    return moment.astimezone(timezone.utc).replace(tzinfo=None)


@dataclass(frozen=True)
class Cut:
    """Where each user's history ends: before a moment (`at`), or before the user's last `last` events."""

    at: datetime | None = None
    last: int = 0

    def __str__(self) -> str:
        return f"last-{self.last}" if self.at is None else self.at.isoformat()


def everything(as_of: datetime, has_times: bool) -> Cut:
    """Nothing held out: what the refit and tonight's lists are made from."""
    return Cut(at=as_of) if has_times else Cut(last=0)


def holdout(as_of: datetime, text: str) -> Cut:
    """The cut at which the holdout starts: `"1d"` before as_of, or each user's `"last-1"` event."""
    if text.startswith("last-"):
        return Cut(last=int(text.removeprefix("last-")))
    return Cut(at=as_of - duration(text))
