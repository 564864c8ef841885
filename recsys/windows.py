"""Every cut in time is made here: as_of, durations, the holdout, folds. Windows are half-open, times aware UTC.

>>> str(holdout(parse_as_of("2017-10-17"), "1d"))
'2017-10-16T00:00:00+00:00'
"""

import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Annotated

from pydantic import AfterValidator

from recsys.errors import ConfigError

HOUR = 3_600_000_000  # µs
NEVER = 2**63 - 1  # µs: the moment of what has not happened, as the first event of an item that has none
ACTIVITY = ("10m", "1h", "6h", "1d", "7d")  # how far back an item's events are counted at every full hour, ascending
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def duration(text: str) -> timedelta:
    """`"30d"`, `"6h"`, `"90m"` or `"2w"` as a timedelta; anything else is a ConfigError."""
    match = re.fullmatch(r"(\d{1,5})([mhdw])", text)
    if not match or int(match[1]) == 0:
        raise ConfigError(f'{text!r} is no duration: write a number from 1 to 99999 and m, h, d or w, as in "6h" or "30d".')
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def spelt(length: timedelta) -> str:
    """The text of a duration in whole minutes, in its largest unit.

    >>> spelt(timedelta(hours=48)), spelt(timedelta(minutes=90))
    ('2d', '90m')
    """
    unit = next(unit for unit in "wdhm" if not length % duration(f"1{unit}"))
    return f"{length // duration(f'1{unit}')}{unit}"


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


def _checked_split(text: str) -> str:
    if re.fullmatch(r"random-[1-9]\d?%", text):
        return text
    try:
        return _checked_holdout(text)
    except ValueError:
        raise ValueError(
            f'{text!r} is no split: write a duration ("7d"), "last-1" for the newest event of each user, or "random-10%" of all events.'
        ) from None


Split = Annotated[str, AfterValidator(_checked_split)]


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


def midnight(moment: datetime) -> datetime:
    """The midnight (UTC) before a moment: the night of a run that is not asked for one."""
    utc = moment.astimezone(timezone.utc)
    return datetime(utc.year, utc.month, utc.day, tzinfo=timezone.utc)


def nights(first: datetime, last: datetime) -> list[datetime]:
    """Every day from the first moment to the last, both included; ConfigError where that is none."""
    if last < first:
        raise ConfigError(f"The last night {label(last)} is before the first, {label(first)}: give them in their order.")
    return [first + timedelta(days=day) for day in range((last - first).days + 1)]


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
class Drawn:
    """Some of the events, drawn at random: each has a number in [0, 1) by the seed, and these have one in [low, high)."""

    low: float
    high: float
    seed: int

    def __str__(self) -> str:
        return f"drawn {self.low:.2f}-{self.high:.2f} by {self.seed}"


@dataclass(frozen=True)
class Cut:
    """Where each user's history ends: before a moment (`at`), and before the newest `last` events of what that leaves.

    Who learns at the cut may have to learn `since` a moment only, and without what was `drawn` out of the histories.
    """

    at: datetime | None = None
    last: int = 0
    since: datetime | None = None
    drawn: Drawn | None = None

    def __str__(self) -> str:
        end = [self.at.isoformat()] if self.at else []
        end += [f"last-{self.last}"] if self.last or not self.at else []
        rest = [f"since {self.since.isoformat()}"] if self.since else []
        return " ".join([*end, *rest, *([str(self.drawn)] if self.drawn else [])])


def everything(as_of: datetime, has_times: bool) -> Cut:
    """Nothing held out: what the refit and tonight's lists are made from."""
    return Cut(at=as_of) if has_times else Cut(last=0)


def holdout(as_of: datetime, text: str) -> Cut:
    """The cut at which the holdout starts: `"1d"` before as_of, or each user's `"last-1"` event."""
    if text.startswith("last-"):
        return Cut(last=int(text.removeprefix("last-")))
    return Cut(at=as_of - duration(text))


def ended_by(trained: str, holdout: Cut) -> bool:
    """Whether a model that learnt up to a cut, as its manifest spells it, has seen nothing of what is held out.

    A moment and a position in the histories say nothing of each other, so a model of the one kind may have seen what the other holds out.

    >>> day = Cut(at=parse_as_of("2017-10-16"))
    >>> ended_by("2017-10-15T00:00:00+00:00 since 2017-10-14T00:00:00+00:00", day), ended_by("last-1", day)
    (True, False)
    >>> ended_by("last-2", Cut(last=1)), ended_by("last-0 drawn 0.00-0.10 by 1", Cut(last=1))
    (True, False)
    """
    end = trained.split()[0]
    if end.startswith("last-"):
        return holdout.at is None and int(end.removeprefix("last-")) >= holdout.last
    return holdout.at is not None and datetime.fromisoformat(end) <= holdout.at


@dataclass(frozen=True)
class Fold:
    """One of the tests of a backtest: models learn at `learn`, read histories up to `read`, and are asked for what is held out.

    Held out are the events from `start` and `read` on and before `stop`; of a random split, those that `learn` is without.
    """

    name: str
    learn: Cut
    read: Cut
    start: Cut
    stop: Cut


def folds(
    as_of: datetime,
    split: str,
    n_folds: int = 1,
    *,
    gap: str | None = None,
    train_window: str | None = None,
    last_only: bool = False,
    seed: int = 1,
) -> list[Fold]:
    """The folds of a split, oldest first.

    `"7d"`: consecutive windows of time that end at as_of. Models learn, and read, what was before a window and the `gap` (`"1d"`)
    before it, of the newest `train_window` only where one is given. With `last_only` the last event of each user in the window
    is asked for, and everything before that one is read.
    `"last-1"`: the newest event of each user; of several folds, each holds out the events before those of the next.
    `"random-10%"`: that share of all events, drawn by seed; no event is in two folds.

    Raises: ConfigError for more random folds than there are events for, and for what only a split in time can have.

    >>> [fold.name for fold in folds(parse_as_of("2017-10-17"), "1d", 2)]
    ['2017-10-15', '2017-10-16']
    """
    if asked := [name for name, value in {"gap": gap, "train_window": train_window, "last_only": last_only}.items() if value]:
        if split.startswith(("last-", "random-")):
            raise ConfigError(f"{' and '.join(asked)} are of a split in time, and it is {split!r}: leave them out, or split by a duration.")
    backwards = range(n_folds, 0, -1)
    if split.startswith("last-"):
        n = int(split.removeprefix("last-"))
        return [_by_position(n * number, n) for number in backwards]
    if split.startswith("random-"):
        share = int(split.removeprefix("random-").removesuffix("%")) / 100
        if n_folds * share > 1:
            raise ConfigError(f"{n_folds} folds of {split} are more than all events: take fewer, or a smaller share.")
        return [_by_chance(number, Drawn((number - 1) * share, number * share, seed)) for number in range(1, n_folds + 1)]
    length = duration(split)
    return [_in_time(as_of - number * length, length, gap, train_window, last_only) for number in backwards]


def _in_time(start: datetime, length: timedelta, gap: str | None, train_window: str | None, last_only: bool) -> Fold:
    end = start - duration(gap) if gap else start
    learn = Cut(at=end, since=end - duration(train_window) if train_window else None)
    stop = Cut(at=start + length)
    return Fold(label(start), learn, replace(stop, last=1) if last_only else Cut(at=end), Cut(at=start), stop)


def _by_position(first: int, n: int) -> Fold:
    cut = Cut(last=first)
    return Fold(str(cut), cut, cut, cut, Cut(last=first - n))


def _by_chance(number: int, drawn: Drawn) -> Fold:
    nothing = Cut()
    return Fold(f"random-{number}", Cut(drawn=drawn), nothing, nothing, nothing)
