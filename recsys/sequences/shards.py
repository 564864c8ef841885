"""One shard's users: their histories, what they have seen, and what is blocked for them."""

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.arrays import Codes, Ints, single, to_numpy
from recsys.errors import ContractError
from recsys.schema import Column, Schema, known_at
from recsys.sequences.dictionary import Coding, stored
from recsys.sql import quoted

_USERS = """
-- One row per user of the shard.
select user_id, {columns}
from users
where shard = $shard
order by user_id
"""
_EVENTS = """
-- One row per event of the shard that histories are made of, in their order.
select
    user_id,
    item_id,
    epoch_us(event_at) as event_at,
    session_id,
    of_types(event_type, getvariable('target_types')) as is_target,
    coalesce(weight, 1)::float as weight,
    {columns}
from events
where shard = $shard and of_types(event_type, getvariable('input_types'))
order by user_id, event_order
"""
_SEEN = """
-- One row per user of the shard and item they have seen, with its first moment.
select user_id, item_id, epoch_us(min(first_event_at)) as first_event_at,
from seen
where shard = $shard and of_types(event_type, getvariable('seen_types'))
group by user_id, item_id
order by user_id, item_id
"""
_SEEN_IN_ORDER = """
-- One row per user of the shard and item they have seen, with the events of the history before.
with
positions as (
    select
        user_id,
        item_id,
        event_type,
        count(*) filter (of_types(event_type, getvariable('input_types'))) over earlier as position,
    from events
    where shard = $shard
    window earlier as (partition by user_id order by event_order rows between unbounded preceding and 1 preceding)
),
seen_in_order as (
    select user_id, item_id, null::bigint as first_event_at, min(position)::integer as first_position,
    from positions
    where of_types(event_type, getvariable('seen_types'))
    group by user_id, item_id
)
select * from seen_in_order order by user_id, item_id
"""
_BLOCKED = """
-- One row per user of the shard and item that must not be recommended to them.
select user_id, item_id
from blocked
where shard = $shard
order by user_id, item_id
"""


@dataclass(frozen=True)
class Night:
    """What all shards share: views of the features, codes, the pause between sessions, and the folder of the artifact."""

    connection: duckdb.DuckDBPyConnection
    schema: Schema
    coding: Coding
    gap: timedelta | None
    some_are_targets: bool  # not all
    folder: Path

    def rows(self, query: str, shard: int) -> pa.Table:
        return self.connection.execute(query, {"shard": shard}).to_arrow_table()

    def write(self, columns: dict[str, Any], name: str, shard: int) -> None:
        pq.write_table(pa.table(columns), self.folder / name / f"part-{shard:03}.parquet", compression="zstd")


@dataclass(frozen=True)
class Rows:
    """What the features say of the users of a shard, each table by user."""

    shard: int
    users: pa.Table
    events: pa.Table
    seen: pa.Table
    blocked: pa.Table


def read_shard(night: Night, shard: int) -> Rows:
    user_features = ", ".join(map(stored, night.schema.features("users")))
    moments = [f"epoch_us({quoted(name)}) as {quoted(name)}" for name in _moments(night.schema)]
    columns = ", ".join([*map(stored, _event_columns(night.schema)), *moments])
    return Rows(
        shard,
        users=night.rows(_USERS.format(columns=user_features), shard),
        events=night.rows(_EVENTS.format(columns=columns), shard),
        seen=night.rows(_SEEN if night.schema.has_times else _SEEN_IN_ORDER, shard),
        blocked=night.rows(_BLOCKED, shard),
    )


def write_shard(night: Night, rows: Rows) -> Counter[str]:
    """Writes the shard's part of `users`, `histories`, `seen` and `blocked`, and counts what is in them. Needs no connection.

    Raises: ContractError where the rows of another table name a user or an item that `users` or `items` do not have.
    """
    shard, users, events, seen, blocked = rows.shard, rows.users, rows.events, rows.seen, rows.blocked
    n = {name: _per_user(table, users, name) for name, table in (("events", events), ("seen", seen), ("blocked", blocked))}
    session, counts = _sessions(night, events, n["events"])
    histories = {
        "item_code": _item_codes(night, events, "events"),
        "event_at": events["event_at"],
        **({} if session is None else {"session": session}),
        **({"is_target": events["is_target"]} if night.some_are_targets else {}),
        "weight": events["weight"],
        **{c.name: night.coding.column(events[c.name], c) for c in _event_columns(night.schema)},
        **{name: events[name] for name in _moments(night.schema)},
    }
    since = "first_event_at" if night.schema.has_times else "first_position"
    night.write(histories, "histories", shard)
    night.write({"item_code": _item_codes(night, seen, "seen"), since: seen[since]}, "seen", shard)
    night.write({"item_code": _item_codes(night, blocked, "blocked")}, "blocked", shard)
    features = {c.name: night.coding.column(users[c.name], c) for c in night.schema.features("users")}
    lengths = {f"n_{name}": lengths for name, lengths in n.items()}
    night.write({"user_id": users["user_id"], **lengths, **features}, "users", shard)
    counts.update(users=len(users), users_without_events=int((n["events"] == 0).sum()), events=len(events))
    counts.update(targets=pc.sum(events["is_target"]).as_py() or 0, seen_pairs=len(seen), blocked_pairs=len(blocked))
    return counts


def _event_columns(schema: Schema) -> list[Column]:
    return [*schema.features("events"), *schema.select("label", table="events")]


def _moments(schema: Schema) -> list[str]:
    """The columns that say when a label becomes known."""
    return [known_at(name) for name in schema.names("label", table="events") if schema.has_times]


def _per_user(table: pa.Table, users: pa.Table, name: str) -> Ints:
    """How many rows of the table each user has (U,)."""
    rows = pc.index_in(table["user_id"], value_set=single(users["user_id"]))
    _check_known(table, rows, name, "user")
    return np.bincount(to_numpy(rows), minlength=len(users))


def _item_codes(night: Night, table: pa.Table, name: str) -> pa.ChunkedArray:
    codes = pc.index_in(table["item_id"], value_set=night.coding.item_id)
    _check_known(table, codes, name, "item")
    return codes


def _check_known(table: pa.Table, found: pa.ChunkedArray, name: str, kind: str) -> None:
    if found.null_count:
        strangers = table[f"{kind}_id"].filter(pc.is_null(found))
        raise ContractError(
            f"features: rows of {name}.parquet whose {kind}_id {kind}s.parquet does not have: {len(strangers)} of {len(table)}, as "
            f"{{{kind}_id: {strangers[0].as_py()!r}}}. The SQL that makes the two has to agree: look into data.sql_overlay."
        )


def _sessions(night: Night, events: pa.Table, n_events: Ints) -> tuple[Codes | None, Counter[str]]:
    """The session of each event, 0, 1, 2 … within its user; None without sessions.

    A session is a run of events: one that another interrupts goes on as a new one, and is counted.
    """
    if night.gap is not None:
        moment = to_numpy(events["event_at"])
        changed = np.diff(moment, prepend=moment[:1]) >= night.gap // timedelta(microseconds=1)
    elif night.schema.names("session"):
        ids = pc.fill_null(single(events["session_id"]).dictionary_encode().indices, -1).to_numpy()
        changed = np.diff(ids, prepend=ids[:1]) != 0
    else:
        return None, Counter()
    n_events = n_events[n_events > 0]
    first = np.cumsum(n_events) - n_events
    changed[first] = True
    number = np.cumsum(changed)
    counts = Counter(sessions=int(changed.sum()))
    if night.gap is None:
        user = np.repeat(np.arange(len(n_events)), n_events)
        distinct = pc.count_distinct(pa.array(user * (ids.max(initial=0) + 2) + ids))
        counts["sessions_interrupted"] = counts["sessions"] - distinct.as_py()
    return (number - np.repeat(number[first], n_events)).astype(np.int32), counts
