"""A few random histories with a column of every role, for checking building blocks without data."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from recsys.arrays import Array, Codes, Ints, Ragged
from recsys.dictionary import Dictionary, ItemActivity
from recsys.histories import Histories
from recsys.schema import Column, Schema
from recsys.windows import ACTIVITY, HOUR, NEVER, duration

START = 1_700_000_000_000_000  # µs since 1970 of everybody's first event, as far from 0 as the times of data are
EARLY = (START // (24 * HOUR) + 1) * 24 * HOUR  # µs, the first midnight: some items did not have their first event yet

SCHEMA = Schema(
    (
        Column("device", "events", "categorical", "VARCHAR"),
        Column("shelves", "events", "multi_categorical", "VARCHAR[]"),
        Column("gap_seconds", "events", "numeric", "BIGINT", "log"),
        Column("picture", "events", "vector", "FLOAT[]", size=3),
        Column("bought", "events", "label", "BIGINT"),
        Column("spent", "events", "label", "DOUBLE"),
        Column("reason", "events", "label", "VARCHAR"),
        Column("brand", "items", "categorical", "VARCHAR"),
        Column("genres", "items", "multi_categorical", "VARCHAR[]"),
        Column("price", "items", "numeric", "DOUBLE", "standard"),
        Column("text", "items", "vector", "FLOAT[]", size=4),
        Column("country", "users", "categorical", "VARCHAR"),
        Column("hobbies", "users", "multi_categorical", "VARCHAR[]"),
        Column("age", "users", "numeric", "BIGINT", "standard"),
    )
)
N_VALUES = 5  # of each category


@dataclass(frozen=True)
class _Dictionary(Dictionary):
    """A dictionary without files."""

    known: dict[str, pa.Array] = field(default_factory=dict)
    activity: ItemActivity | None = None
    histories: Histories | None = None  # that it was made of

    def values(self, column: str) -> pa.Array:
        return self.known[column]

    def item_activity(self) -> ItemActivity:
        assert self.activity is not None
        return self.activity


def sample(n_users: int = 60, n_items: int = 40, seed: int = 0, label: Column | None = None) -> tuple[Histories, Dictionary]:
    """Users with 0 to 20 events in sessions of about 3, nulls everywhere, an item that nobody had, a tenth no targets.

    A label is known with the event that follows, an hour later. Beside those of the sample there may be another `label`: of 0 and 1,
    or a number, or text, as its type says; it takes the place of a column that is called so.
    """
    schema = SCHEMA if label is None else Schema((*(column for column in SCHEMA.columns if column.name != label.name), label))
    labels = schema.select("label")
    random = np.random.default_rng(seed)
    lengths = random.integers(0, 21, n_users)
    offsets = np.append(0, np.cumsum(lengths))
    n = int(offsets[-1])
    first = np.repeat(offsets[:-1], lengths)  # of each event's user
    counted = np.cumsum(random.random(n) < 0.3)
    event_at = START + (np.arange(n) - first) * HOUR
    histories = Histories(
        user_id=pa.array(np.arange(n_users) + 1000),
        offsets=offsets,
        item_code=random.integers(0, n_items - 1, n).astype(np.int32),
        event_at=event_at,
        session=(counted - counted[first]).astype(np.int32),
        is_target=random.random(n) < 0.9,
        weight=random.choice(np.array([1, 2], dtype=np.float32), n),
        schema=schema,
        columns=_columns(schema.features("events"), n, random) | _labels(labels, n),
        known_at={column.name: event_at + HOUR for column in labels},
        user_columns=_columns(schema.features("users"), n_users, random),
    )
    dictionary = _Dictionary(
        item_id=pa.array(np.arange(n_items) * 10),
        eligible=np.ones(n_items, dtype=bool),
        first_event_at=_first(event_at, histories.item_code, n_items),
        n_events=np.bincount(histories.item_code, minlength=n_items),
        schema=schema,
        columns=_columns(schema.features("items"), n_items, random),
        texts={},
        folder=Path(),
        known={c.name: pa.array([f"{c.name}-{i}" for i in range(N_VALUES)]) for c in schema.columns if c.is_coded},
        activity=_activity(histories, n_items),
        histories=histories,
    )
    return histories, dictionary


def until(dictionary: Dictionary, at: int) -> Dictionary:
    """The dictionary as it was at a moment, in µs: without the events from then on, and the activity of later hours."""
    assert isinstance(dictionary, _Dictionary) and dictionary.histories is not None and dictionary.histories.event_at is not None
    activity, n_items = dictionary.item_activity(), dictionary.n_items
    known = activity.hour_at <= at
    counts = {window: n[known] for window, n in activity.events.items()}
    happened = dictionary.histories.event_at < at
    event_at, item_code = dictionary.histories.event_at[happened], dictionary.histories.item_code[happened]
    return replace(
        dictionary,
        first_event_at=_first(event_at, item_code, n_items),
        n_events=np.bincount(item_code, minlength=n_items),
        activity=ItemActivity(activity.hour_at[known], activity.item_code[known], counts, n_items),
    )


def _first(event_at: Ints, item_code: Codes, n_items: int) -> Ints:
    first = np.full(n_items, NEVER)
    np.minimum.at(first, item_code, event_at)
    return first


def _activity(histories: Histories, n_items: int) -> ItemActivity:
    """Events of each item in the hours before each of the hours that anything happened in, and the one after them."""
    assert histories.event_at is not None
    hour = START // HOUR * HOUR + np.arange(histories.event_at.max() // HOUR - START // HOUR + 2) * HOUR
    events = {}
    for window in ACTIVITY:
        begin = hour - duration(window) // timedelta(microseconds=1)
        within = (histories.event_at < hour[:, None]) & (histories.event_at >= begin[:, None])  # (hours, n)
        events[window] = np.stack([np.bincount(histories.item_code[rows], minlength=n_items) for rows in within])
    at, item_code = np.nonzero(events["7d"])
    counts = {window: n[at, item_code].astype(np.int32) for window, n in events.items()}
    return ItemActivity(hour[at], item_code.astype(np.int32), counts, n_items)


def _labels(labels: Sequence[Column], n: int) -> dict[str, Array]:
    random = np.random.default_rng(n)  # of its own: what else is drawn does not depend on labels
    bought = random.integers(0, 2, n).astype(np.float32)
    spent = random.lognormal(3, 1, n).astype(np.float32)
    reason = random.integers(-1, N_VALUES, n).astype(np.int32)
    is_null = random.random(n) < 0.2
    of_type = {
        "BIGINT": np.where(is_null, np.float32(np.nan), bought),
        "DOUBLE": np.where(is_null, np.float32(np.nan), spent),
        "VARCHAR": reason,
    }
    return {label.name: of_type[label.type] for label in labels}


def _columns(features: Sequence[Column], n: int, random: np.random.Generator) -> dict[str, Array]:
    made: dict[str, Array] = {}
    for column in features:
        if column.role == "categorical":
            made[column.name] = random.integers(-1, N_VALUES, n).astype(np.int32)
        elif column.role == "multi_categorical":
            offsets = np.append(0, np.cumsum(random.integers(0, 4, n)))
            made[column.name] = Ragged(random.integers(0, N_VALUES, offsets[-1]).astype(np.int32), offsets)
        elif column.role == "vector":
            made[column.name] = random.normal(size=(n, column.size)).astype(np.float32)
        else:
            numbers = random.lognormal(3, 2, n).astype(np.float32)
            made[column.name] = np.where(random.random(n) < 0.2, np.float32(np.nan), numbers)
    return made
