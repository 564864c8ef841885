"""Contracts: what has to hold of every row of a source, and of every table that features writes.

Rules are ibis expressions, which pandera runs as SQL where the data are (`recsys.features.checks`). Unique keys and the
SQL files in `sql/checks` say what no single row can.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from recsys.config import Events
from recsys.features.columns import Declared
from recsys.features.sources import Source, Window
from recsys.windows import ACTIVITY

# What a table is sorted by, and has once only.
KEYS: dict[str, tuple[str, ...]] = {
    "item_activity": ("hour_at", "item_id"),
    "events": ("shard", "user_id", "event_order"),
    "items": ("item_id",),
    "users": ("shard", "user_id"),
    "seen": ("shard", "user_id", "item_id", "event_type"),
    "blocked": ("shard", "user_id", "item_id"),
}

# Columns of every run, with their types; `id` stands for that of the source's ids.
_WINDOWS = tuple(f"events_{window}" for window in ACTIVITY)
_ACTIVE = {"n_events": "int64", "first_event_at": "timestamp(6)", "last_event_at": "timestamp(6)"}
_PAIR = {"shard": "int32", "user_id": "id", "item_id": "id"}
COLUMNS: dict[str, dict[str, str]] = {
    "item_activity": {"item_id": "id", "hour_at": "timestamp(6)", **dict.fromkeys(_WINDOWS, "int32")},
    "events": {**_PAIR, "event_at": "timestamp(6)", "event_order": "int64", "event_type": "string", "weight": "float32"},
    "items": {"item_id": "id", **_ACTIVE, "eligible": "boolean"},
    "users": {"shard": "int32", "user_id": "id", **_ACTIVE},
    "seen": {**_PAIR, "event_type": "string", "first_event_at": "timestamp(6)"},
    "blocked": _PAIR,
}
_NULLABLE = ("event_at", "event_type", "first_event_at", "last_event_at")


@dataclass(frozen=True)
class Rule:
    """Something that holds of every row. A null result counts as holding, since presence is a rule of its own."""

    name: str
    columns: tuple[str, ...]  # that it needs, and that are shown of rows that break it
    holds: Any  # an ibis expression of the row
    advice: str = ""


def source_rules(source: Source, window: Window) -> list[Rule]:
    """Rules for the rows of one source, before anything is left out."""
    from ibis import _

    rules = []
    for name, type_ in source.id_types.items():
        rules.append(_present(name, f"A row without {name} belongs to nobody: filter it where the file is written, or fill it."))
        if type_ == "VARCHAR":
            advice = "A blank is no id: filter such rows where the file is written."
            rules.append(Rule(f"{name}_not_blank", (name,), _[name].strip() != "", advice))
    if isinstance(source.config, Events):
        rules += _time_rules(source.config, window)
    for column in source.columns:
        rules += _value_rules(column)
    return rules


def _time_rules(events: Events, window: Window) -> Iterator[Rule]:
    from ibis import _

    if events.time is None:
        yield _present("declared_order", "Data without times has this order only: fill it, or filter such rows.")
        return
    time = ("event_at", "raw_time")
    advice = "Filter events without a time where the file is written, or fill it."
    yield Rule("event_at_present", time, _.event_at.notnull() | _.raw_time.notnull(), advice)
    advice = "Write times as 2017-10-17T06:00:00Z (without a zone they are UTC); integers need their data.events.time_unit."
    yield Rule("event_at_readable", time, _.event_at.notnull() | _.raw_time.isnull(), advice)
    advice = (
        f"The run started at {window.run_start:%Y-%m-%d %H:%M:%S} UTC: look at the zone of the time column, and at data.events.time_unit."
    )
    yield Rule("event_at_not_after_run_start", time, _.event_at <= window.run_start, advice)
    if events.time_is_date:
        advice = "There are times of day: leave data.events.time_is_date out."
        yield Rule("event_at_is_date", time, _.event_at == _.event_at.truncate("D"), advice)
    else:
        advice = "Where there are dates only, say data.events.time_is_date: true, and name an `order` column."
        yield Rule("event_at_has_time_of_day", time, ~_.raw_time.re_search(r"^\d{4}-\d{2}-\d{2}$"), advice)
    if events.partition is not None:
        within = (_.event_at >= _.partition_start) & (_.event_at < _.partition_end)
        advice = f"{events.partition} is not the UTC date of {events.time}, so that rows would be missed: leave data.events.partition out."
        yield Rule("event_at_in_partition", (*time, "partition_start"), within, advice)


def _value_rules(column: Declared) -> Iterator[Rule]:
    """Rules for a number or a vector."""
    from ibis import _

    name = column.name
    if column.role in ("numeric", "weight"):
        yield Rule(f"{name}_finite", (name,), ~_[name].isinf(), "An infinite number spoils every mean: write null, or the number.")
    if column.role == "weight":
        yield _present(name, "Write 1 for an event like any other, 0 for one that is no target.")
        yield Rule(f"{name}_not_negative", (name,), _[name] >= 0, "A weight is 0 or more.")
    if column.scale == "log":
        yield Rule(f"{name}_not_negative", (name,), _[name] >= 0, "Its logarithm is asked for: declare it as numeric, or correct it.")
    if column.role == "vector":
        lengths = _[name].length()
        yield Rule(f"{name}_of_one_length", (name,), lengths == lengths.mode(), "Vectors of a column have one length, or are null.")
        strange = _[name].filter(lambda x: x.isnull() | x.isnan() | x.isinf())
        yield Rule(f"{name}_of_numbers", (name,), strange.length() == 0, "Write null for the whole vector where a number is missing.")


def table_rules(table: str, window: Window, n_shards: int) -> list[Rule]:
    """Rules for a table that features has written. They guard the SQL, the user's own above all."""
    from ibis import _

    def at_least(least: int, *names: str) -> list[Rule]:
        return [Rule(f"{name}_at_least_{least}", (name,), _[name] >= least) for name in names]

    def in_order(*names: str) -> list[Rule]:
        pairs = zip(names[:-1], names[1:], strict=True)
        return [Rule(f"{less}_not_above_{more}", (less, more), _[less] <= _[more]) for less, more in pairs]

    def in_window(start: datetime, *names: str) -> list[Rule]:
        return [Rule(f"{name}_in_window", (name,), (_[name] >= start) & (_[name] < window.as_of)) for name in names]

    span = ("first_event_at", "last_event_at")
    shard = Rule("shard_in_range", ("shard",), _.shard.between(0, n_shards - 1))
    active = [*at_least(0, "n_events"), *in_window(window.history_start, *span), *in_order(*span)]
    rules: dict[str, list[Rule]] = {
        "item_activity": [
            Rule("hour_at_full", ("hour_at",), _.hour_at == _.hour_at.truncate("h")),
            Rule("hour_at_in_window", ("hour_at",), (_.hour_at > window.history_start) & (_.hour_at <= window.as_of)),
            *at_least(0, _WINDOWS[0]),
            *at_least(1, _WINDOWS[-1]),
            *in_order(*_WINDOWS),
        ],
        "events": [
            shard,
            *in_window(window.history_start, "event_at"),
            *at_least(0, "event_order", "weight", "user_events_before", "gap_seconds", "item_age_seconds", f"item_{_WINDOWS[0]}"),
            *in_order(*(f"item_{name}" for name in _WINDOWS)),
            Rule("event_at_present", ("event_at", "hour"), _.event_at.notnull()),  # where the data has times, and so hours
            Rule("hour_in_range", ("hour",), _.hour.between(0, 23)),
            Rule("weekday_in_range", ("weekday",), _.weekday.between(1, 7)),
        ],
        "items": active,
        "users": [shard, *active],
        "seen": [shard, *in_window(window.seen_start, "first_event_at")],
        "blocked": [shard],
    }
    present = [_present(name) for name in COLUMNS.get(table, {}) if name not in _NULLABLE]
    return present + rules.get(table, [])


def _present(name: str, advice: str = "") -> Rule:
    from ibis import _

    return Rule(f"{name}_present", (name,), _[name].notnull(), advice)
