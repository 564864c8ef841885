"""From sources to the staging views `stg_events`, `stg_items`, `stg_users`, which are all that the SQL in `sql/` sees.

Every source is read once, typed, into a parquet file in scratch; its contracts are checked there. Then events become
the distinct ones of the window. What is left out is counted.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys.config import Features
from recsys.errors import SourceError
from recsys.features import checks, quarantine, queries
from recsys.features.sources import Source, Window
from recsys.schema import Table

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

log = logging.getLogger(__name__)

_OF_SOURCES = ("source_order", "raw_time", "partition_start", "partition_end")  # columns that only contracts need


def stage(
    con: "DuckDBPyConnection", sources: Mapping[Table, Source], window: Window, sample_users: float, features: Features,
    work: Path, kept: Path,
) -> dict[str, int]:  # fmt: skip
    """Creates the views; their files go into the folder `work`, rows that are set aside into `kept`. Returns counts of what was
    read and what was left out.

    `shard` is the lower half of md5(user_id as text) modulo `n_shards`; a user is in the sample where the upper half, as
    a share of 2^64, is below `sample_users`. SourceError and ContractError where rows or types break a rule.
    """
    counts: dict[str, int] = {}
    for source in sources.values():
        counts |= _read(con, source, window, work)
        view = f"source_{source.table}"
        if features.quarantine:
            aside = quarantine.set_aside(con, source, view, window, features.quarantine, kept)
            counts[f"{source.table.removesuffix('s')}_rows_quarantined"] = aside
        checks.check_source(con, source, view, window, features.quarantine)
    con.execute(f"create macro shard_of(id) as (md5_number_lower(id::varchar) % {features.n_shards})::integer")
    sampled = "true" if sample_users == 1 else f"md5_number_upper(id::varchar) < {int(sample_users * 2**64)}"
    con.execute(f"create macro is_sampled(id) as {sampled}")

    n_sampled = con.execute("select count(*) from source_events where is_sampled(user_id)").fetchall()[0][0]
    left_out = ", ".join(name for name in _OF_SOURCES if name in _columns(con, "source_events"))
    n_events = queries.write(con, "stg_events", f"""
        select shard_of(user_id) as shard, * exclude ({left_out}), min(source_order) as source_order
        from source_events where is_sampled(user_id) group by all
    """, work)  # fmt: skip
    counts["event_rows_of_other_users"] = con.execute("select count(*) from source_events").fetchall()[0][0] - n_sampled
    counts["event_rows_repeated"] = n_sampled - n_events
    in_history = "coalesce(event_at >= getvariable('history_start'), true)"
    if not con.execute(f"select count(*) from stg_events where {in_history}").fetchall()[0][0]:
        raise SourceError(
            f"events: of {n_events:,} in the seen window, none is in the history from {window.history_start} to as_of {window.as_of} "
            f"({counts['event_rows_of_other_users']:,} more are of users outside the sample). "
            "Choose a longer data.history, or a larger data.sample_users."
        )
    ids = sources["events"].id_types
    _view(con, "stg_items", "select * exclude (source_order) from source_items" if "items" in sources else _nothing("item_id", ids))
    users = (
        "select * exclude (source_order) from source_users where is_sampled(user_id)" if "users" in sources else _nothing("user_id", ids)
    )
    _view(con, "stg_users", f"select shard_of(user_id) as shard, * from ({users})")
    for name, count in counts.items():
        log.info("%s: %s", name.replace("_", " "), f"{count:,}")
    return counts


def _read(con: "DuckDBPyConnection", source: Source, window: Window, work: Path) -> dict[str, int]:
    """The view `source_{table}` of the rows that can be of the window, typed; of events also those that must not be."""
    source.bind(con)
    query, kind = source.select(), source.table.removesuffix("s")
    counts: dict[str, int] = {}
    with source.reader.reading():
        if source.has_times:
            before, after = "event_at < getvariable('window_start')", "event_at >= getvariable('as_of')"
            facts: Any = con.execute(f"select count(*), count(*) filter ({before}), count(*) filter ({after}) from ({query})").fetchall()[0]
            counts = dict(zip(("event_rows_read", "event_rows_before_window", "event_rows_at_or_after_as_of"), facts, strict=True))
            query = f"select * from ({query}) where event_at is null or not ({before} or {after}) or event_at > getvariable('run_start')"
        rows = queries.write(con, f"source_{source.table}", query, work)
    con.execute("set search_path = 'memory'")  # no longer that of an attached database
    if not rows:
        raise SourceError(
            f"{source.table}: no rows between {window.start} and as_of {window.as_of} in {source.place}; "
            f"{counts['event_rows_before_window']:,} are earlier, {counts['event_rows_at_or_after_as_of']:,} later. "
            "Choose another as_of, or a longer data.history."
        )
    return counts or {f"{kind}_rows_read": rows}


def _columns(con: "DuckDBPyConnection", view: str) -> list[str]:
    return [name for name, *_ in con.execute(f"describe {view}").fetchall()]


def _nothing(key: str, id_types: Mapping[str, str]) -> str:
    return f"select null::{id_types[key]} as {key} where false"


def _view(con: "DuckDBPyConnection", name: str, query: str) -> None:
    con.execute(f"create view {name} as {query}")
