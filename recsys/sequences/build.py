"""The step *sequences*: features in; a dictionary, and flat histories by shard, out.

DuckDB sorts; offsets, codes and sessions are counted on whole columns. Nothing is cut and no user is left out: what
reads the histories cuts them.
"""

from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

import duckdb

from recsys.config import Sequences
from recsys.errors import ConfigError, ContractError
from recsys.schema import Schema, Table
from recsys.sequences.dictionary import write_dictionary
from recsys.sequences.shards import Night, write_shard
from recsys.store import Artifact, Draft, Store
from recsys.windows import duration

# Names of the artifact's own columns, which a declared one must not have.
OWN_NAMES: dict[Table, set[str]] = {
    "events": {"item_code", "event_at", "session", "is_target", "weight"},
    "users": {"user_id", "n_events", "n_seen", "n_blocked"},
    "items": {"item_id", "eligible", "first_event_at", "n_events"},
}


def build_sequences(store: Store, as_of: datetime, sequences: Sequences, features: Artifact, *, rebuild: bool = False) -> Artifact:
    """The artifact with the dictionary and the histories of every user of a *features* artifact.

    Raises: ConfigError for an event type that never occurs, for sessions where nothing tells them apart, and for a
    declared column with a name that the artifact needs itself; ContractError where no event is left, or the tables of
    the features do not fit together.
    """

    def build(draft: Draft) -> None:
        _write(draft, sequences, features.path)

    inputs = {"features": features}
    return store.ensure("sequences", as_of, sequences.versioned(), inputs, build, code="recsys.sequences.build", rebuild=rebuild)


def _write(draft: Draft, sequences: Sequences, features: Path) -> None:
    schema = Schema.load(features)
    _check_names(schema)
    gap = _session_gap(schema, sequences)
    with duckdb.connect(config={"temp_directory": str(draft.scratch), "memory_limit": "4GB"}) as connection:
        for table in ("events", "items", "users", "seen", "blocked"):
            connection.read_parquet(str(features / f"{table}.parquet")).create_view(table)
        connection.execute("create macro of_types(event_type, types) as coalesce(list_contains(types, event_type), types is null)")
        some_are_targets = _set_types(connection, schema, sequences)
        coding = write_dictionary(connection, schema, draft.path)
        night = Night(connection, schema, coding, gap, some_are_targets, draft.path)
        for name in ("users", "histories", "seen", "blocked"):
            (draft.path / name).mkdir()
        counts = Counter(items=len(coding.item_id))
        for (shard,) in connection.execute("select distinct shard from users order by shard").fetchall():
            counts.update(write_shard(night, shard))
        if schema.has_times:
            _write_item_activity(connection, features, draft.path)
        (n_events,) = connection.execute("select count(*) from events").fetchone() or (0,)
    counts["events_of_other_types"] = n_events - counts["events"]
    if not counts["events"]:
        raise ContractError(
            f"No event is left for the histories: none of the {counts['events_of_other_types']} events of the window has one of "
            f"sequences.input_types {list(sequences.input_types)}. Name others, or leave it empty for all."
        )
    schema.save(draft.path)
    draft.counts = dict(sorted(counts.items()))


def _set_types(connection: duckdb.DuckDBPyConnection, schema: Schema, sequences: Sequences) -> bool:
    """Sets the variables input_types, target_types and seen_types: lists, or null for all. Whether not all inputs are targets."""
    asked = {name: getattr(sequences, name) for name in ("input_types", "target_types", "seen_types")}
    known: list[str] = []
    if any(asked.values()):
        if not schema.names("type"):
            named = ", ".join(f"sequences.{name}" for name, types in asked.items() if types)
            raise ConfigError(f"{named} asks for event types, but the events have no type column: name it in data.events.type.")
        query = "select event_type from events union select event_type from seen order by event_type"
        known = [name for (name,) in connection.execute(query).fetchall() if name is not None]
    for name, types in asked.items():
        unknown = sorted(set(types) - set(known))
        if unknown:
            raise ConfigError(f"sequences.{name} {unknown} do not occur in the events. There are: {', '.join(known)}.")
        connection.execute(f"set variable {name} = ?::varchar[]", [list(types) or None])
    return bool(sequences.target_types) and set(sequences.target_types) != set(sequences.input_types or known)


def _session_gap(schema: Schema, sequences: Sequences) -> timedelta | None:
    """The pause that starts a session, where sessions are told by pauses."""
    if schema.names("session"):
        return None
    if sequences.session_gap is None:
        if sequences.key == "session":
            raise ConfigError("sequences.key is session: name data.events.session, or give sequences.session_gap.")
        return None
    if not schema.has_times:
        raise ConfigError("sequences.session_gap needs times, and the events have an order only: name data.events.session instead.")
    return duration(sequences.session_gap)


def _check_names(schema: Schema) -> None:
    chosen = [*schema.features("events"), *schema.features("users"), *schema.features("items"), *schema.select("label", "text")]
    taken = [f"{column.table}.{column.name}" for column in chosen if column.name.lower() in OWN_NAMES[column.table]]
    if taken:
        raise ConfigError(f"The columns {', '.join(taken)} have names that the histories use themselves: rename them in the source.")


def _write_item_activity(connection: duckdb.DuckDBPyConnection, features: Path, folder: Path) -> None:
    query = """
        -- One row per item and full hour with an event in the week before it.
        with
        codes as (
            select item_id, file_row_number::integer as item_code
            from read_parquet($items, file_row_number = true)
        ),
        item_activity as (
            select
                codes.item_code,
                epoch_us(activity.hour_at) as hour_at,
                activity.events_1h::integer as events_1h,
                activity.events_6h::integer as events_6h,
                activity.events_1d::integer as events_1d,
                activity.events_7d::integer as events_7d,
            from read_parquet($activity) as activity
            inner join codes on activity.item_id = codes.item_id
            order by hour_at, item_code
        )
        select * from item_activity
    """
    target = str(folder / "item_activity.parquet").replace("'", "''")
    values = {"items": str(folder / "items.parquet"), "activity": str(features / "item_activity.parquet")}
    connection.execute(f"copy ({query}) to '{target}' (format parquet, compression zstd)", values)
