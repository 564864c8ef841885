"""Reads a *sequences* artifact: every user's history as flat arrays with offsets.

User `u` has the events `offsets[u] … offsets[u + 1] − 1`. Cutting histories at a moment makes no copies: it is a second
array of ends. Three users, cut at 9:00 (times in hours for the reader's sake):

    user_id    [  7,        8,   9]          item_code  [ 4,  0,  4,   2,   1]
    offsets    [0,        3,   4,   5]       event_at   [ 7,  8,  9,  10,   6]
    cut(9:00)  [     2,        3,   5]       before 9:00: [4, 0], [], [1]

    >>> histories = Histories.load(artifact.path, shards=[0])                       # doctest: +SKIP
    >>> ends = histories.cut(holdout(as_of, "1d"))                                  # doctest: +SKIP
    >>> histories.item_code[histories.offsets[0]:ends[0]]                           # doctest: +SKIP
    array([4, 0], dtype=int32)

L is the length of a history, U the number of users, n of events, V of items.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.arrays import Array, Codes, Ints, single, to_array, to_numpy
from recsys.errors import ConfigError, StoreError
from recsys.schema import Column, Schema, Table, known_at
from recsys.shards import Stream, shards_of, whole
from recsys.windows import NEVER, Cut, microseconds

Key = Literal["user", "session"]


@dataclass(frozen=True)
class Seen:
    """Distinct items per user, ascending, as CSR, and since when: in time, or for data without times in the history."""

    offsets: Ints  # (U + 1,)
    item_code: Codes  # (p,)
    first_event_at: Ints | None = None  # (p,) µs
    first_position: Codes | None = None  # (p,) events of the history before the first one with the item


@dataclass(frozen=True)
class Histories:
    """The histories of some shards, users by shard and user_id, events in order. Codes are rows of the `Dictionary`.

    Categories are int32 codes (−1: null), numbers and labels float32 (NaN: null), vectors float32 (n, size) (zeros: null),
    lists of categories `Ragged` int32.
    """

    user_id: pa.Array  # (U,)
    offsets: Ints  # (U + 1,)
    item_code: Codes  # (n,)
    event_at: Ints | None  # (n,) µs since 1970, ascending within a user; None for data with an order only
    session: Codes | None  # (n,) 0, 1, 2 … within a user; None without sessions
    is_target: NDArray[np.bool_] | None  # (n,) None where every event is a target
    weight: NDArray[np.float32]  # (n,) of an event as a target
    schema: Schema
    columns: dict[str, Array] = field(default_factory=dict)  # of the events: features and labels, n rows
    known_at: dict[str, Ints] = field(default_factory=dict)  # by label: (n,) µs, since when each is known, NEVER for nulls
    user_columns: dict[str, Array] = field(default_factory=dict)  # of the users: features, U rows
    seen_pairs: Seen | None = None
    blocked_pairs: tuple[Ints, Codes] | None = None

    @classmethod
    def load(cls, folder: Path, shards: Sequence[int] | None = None, columns: Collection[str] | None = None) -> "Histories":
        """Of a sequences artifact all shards, or some; with all features and labels, or the named ones, of events and users."""
        schema = Schema.load(folder)
        chosen = _chosen(schema, columns)
        shards = shards_of(folder) if shards is None else shards
        return cls._of({name: whole(folder, name, shards, wanted) for name, wanted in _wanted(schema, chosen).items()}, schema, chosen)

    @classmethod
    def pieces(cls, folder: Path, shard: int, columns: Collection[str] | None, n_users: int) -> Iterator["Histories"]:
        """A shard, `n_users` at a time, so that memory does not grow with the number of users. Of an empty shard there is one piece."""
        schema = Schema.load(folder)
        chosen = _chosen(schema, columns)
        streams = {name: Stream(folder, name, shard, wanted) for name, wanted in _wanted(schema, chosen).items()}
        users = streams["users"].take(n_users)
        while True:
            n_rows = {"histories": "n_events", "seen": "n_seen", "blocked": "n_blocked"}
            others = {name: streams[name].take(pc.sum(users[column]).as_py() or 0) for name, column in n_rows.items()}
            yield cls._of({"users": users, **others}, schema, chosen)
            users = streams["users"].take(n_users)
            if not len(users):
                break

    @classmethod
    def _of(cls, tables: Mapping[str, pa.Table], schema: Schema, chosen: Sequence[Column]) -> "Histories":
        users, events, seen, blocked = (tables[name] for name in ("users", "histories", "seen", "blocked"))
        features = [c for c in chosen if c.table == "events"]

        def of_events(name: str) -> np.ndarray | None:
            return to_numpy(events[name]) if name in events.column_names else None

        return cls(
            user_id=single(users["user_id"]),
            offsets=_offsets(users["n_events"]),
            item_code=to_numpy(events["item_code"]),
            event_at=to_numpy(events["event_at"]) if schema.has_times else None,
            session=of_events("session"),
            is_target=of_events("is_target"),
            weight=to_numpy(events["weight"]),
            schema=schema,
            columns={c.name: to_array(events[c.name], c) for c in features},
            known_at={
                c.name: to_numpy(pc.fill_null(events[known_at(c.name)], NEVER)) for c in features if c.role == "label" and schema.has_times
            },
            user_columns={c.name: to_array(users[c.name], c) for c in chosen if c.table == "users"},
            seen_pairs=Seen(
                _offsets(users["n_seen"]),
                to_numpy(seen["item_code"]),
                to_numpy(seen["first_event_at"]) if schema.has_times else None,
                None if schema.has_times else to_numpy(seen["first_position"]),
            ),
            blocked_pairs=(_offsets(users["n_blocked"]), to_numpy(blocked["item_code"])),
        )

    @property
    def n_users(self) -> int:
        return len(self.offsets) - 1

    def cut(self, cut: Cut) -> Ints:
        """Where each user's history ends (U,): `item_code[offsets[u]:ends[u]]` is what was before the cut."""
        return np.maximum(self._ends_before(cut.at) - cut.last, self.offsets[:-1])

    def _ends_before(self, moment: datetime | None) -> Ints:
        """Where each user's events before the moment end (U,); all of them without one."""
        if moment is None:
            return self.offsets[1:]
        if self.event_at is None:
            raise ConfigError(f'The events have an order only, no times: they cannot be cut at {moment}. Hold out "last-1" instead.')
        return self.offsets[:-1] + _count(self.event_at < microseconds(moment), self.offsets)

    def as_known(self, cut: Cut) -> "Histories":
        """The same histories with every label null that was not yet known at the cut, as it is for whoever stands there.

        A label without a moment (data with an order only) is known at its event.
        """
        if not self.known_at:
            return self
        until = np.repeat(self._until(cut), np.diff(self.offsets))
        return replace(
            self, columns=self.columns | {name: where_known(self.columns[name], at < until) for name, at in self.known_at.items()}
        )

    def before(self, ends: Ints) -> NDArray[np.bool_]:
        """Which events (n,) lie before their user's end (U,)."""
        n = len(self.item_code)
        opened = np.bincount(self.offsets[:-1], minlength=n + 1) - np.bincount(ends, minlength=n + 1)
        return np.cumsum(opened[:n]) > 0

    @property
    def targets(self) -> NDArray[np.bool_]:
        """Which events (n,) are to be predicted: of a target type, with a weight above 0."""
        return self.weight > 0 if self.is_target is None else self.is_target & (self.weight > 0)

    def sequences(self, ends: Ints, key: Key) -> tuple[Ints, Ints]:
        """Starts and ends of what a model trains on before the ends (U,): one sequence per user, or one per session.

        Sequences without an event are left out, so there may be fewer than users. Their user is
        `np.searchsorted(offsets, starts, side="right") - 1`.
        """
        if key == "user":
            starts = self.offsets[:-1]
        else:
            starts = self._session_starts()
            ends = np.minimum(np.append(starts[1:], len(self.item_code)), ends[np.searchsorted(self.offsets, starts, side="right") - 1])
        real = starts < ends
        return starts[real], ends[real]

    def last_sequences(self, ends: Ints, key: Key) -> tuple[Ints, Ints]:
        """Starts and ends (U,) of what a user's list is made from: the history before the end, or its last session."""
        starts = self.offsets[:-1].copy()
        if key == "session":
            real = starts < ends
            sessions = self._session_starts()
            starts[real] = sessions[np.searchsorted(sessions, ends[real] - 1, side="right") - 1]
        return starts, ends

    def seen(self, cut: Cut) -> tuple[Ints, Codes]:
        """What each user had seen before the cut, also longer ago than the history: CSR of item codes, ascending.

        With times, an item counts from its first event on. Cutting such data by `last` cuts at each user's first event
        that is left out.
        """
        if self.seen_pairs is None:
            raise StoreError("These histories were put together without what users have seen: load them from a sequences artifact.")
        seen, ends = self.seen_pairs, self.cut(cut)
        if cut.at is None and cut.last == 0:
            return seen.offsets, seen.item_code
        n_seen = np.diff(seen.offsets)
        if seen.first_event_at is not None and self.event_at is not None:
            before = seen.first_event_at < np.repeat(self._until(cut), n_seen)
        else:
            assert seen.first_position is not None, "data with an order only says where in the history an item was first seen"
            before = seen.first_position < np.repeat(ends - self.offsets[:-1], n_seen)
        return np.concatenate([[0], np.cumsum(_count(before, seen.offsets))]), seen.item_code[before]

    def blocked(self) -> tuple[Ints, Codes]:
        """What must not be recommended to whom: CSR of item codes, ascending."""
        if self.blocked_pairs is None:
            raise StoreError("These histories were put together without blocked pairs: load them from a sequences artifact.")
        return self.blocked_pairs

    def _until(self, cut: Cut) -> Ints:
        """The moment (U,) at which each user's history is cut: that of the first event that a cut by `last` leaves out, else `at`."""
        end = NEVER if cut.at is None else microseconds(cut.at)
        if not cut.last:
            return np.full(self.n_users, end)
        assert self.event_at is not None, "data with an order only has no moments"
        ends = self.cut(cut)
        return np.where(ends < self._ends_before(cut.at), np.append(self.event_at, NEVER)[ends], end)

    def _session_starts(self) -> Ints:
        if self.session is None:
            raise ConfigError("There are no sessions in these histories: name data.events.session, or give sequences.session_gap.")
        begins = np.zeros(len(self.session) + 1, dtype=bool)
        begins[self.offsets] = True
        begins[1:-1] |= self.session[1:] != self.session[:-1]
        return np.flatnonzero(begins[:-1])


def where_known(label: Array, known: NDArray[np.bool_]) -> Array:
    """A label (n,), null where it is not known."""
    assert isinstance(label, np.ndarray), "a label is one number or code"
    return np.where(known, label, label.dtype.type(np.nan if label.dtype.kind == "f" else -1))


def _wanted(schema: Schema, chosen: Sequence[Column]) -> dict[str, list[str]]:
    """The columns to read, by table: those that histories always have, and the chosen ones."""
    users, features = ([c for c in chosen if c.table == table] for table in ("users", "events"))
    moments = [known_at(c.name) for c in features if c.role == "label" and schema.has_times]
    return {
        "users": ["user_id", "n_events", "n_seen", "n_blocked", *(c.name for c in users)],
        "histories": ["item_code", "event_at", "session", "is_target", "weight", *(c.name for c in features), *moments],
        "seen": ["item_code", "first_event_at", "first_position"],
        "blocked": ["item_code"],
    }


def _chosen(schema: Schema, names: Collection[str] | None) -> list[Column]:
    tables: tuple[Table, ...] = ("events", "users")
    known = [c for table in tables for c in schema.features(table)] + list(schema.select("label", table="events"))
    if names is None:
        return known
    unknown = sorted(set(names) - {c.name for c in known})
    if unknown:
        raise ConfigError(f"The histories have no column {', '.join(unknown)}. There are: {', '.join(c.name for c in known) or 'none'}.")
    return [c for c in known if c.name in names]


def _count(marked: NDArray[np.bool_], offsets: Ints) -> Ints:
    """How many are marked in each row of a CSR."""
    before = np.concatenate([[0], np.cumsum(marked)])
    return before[offsets[1:]] - before[offsets[:-1]]


def _offsets(lengths: pa.ChunkedArray) -> Ints:
    return np.concatenate([[0], np.cumsum(to_numpy(lengths), dtype=np.int64)])
