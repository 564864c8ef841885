"""The step *sequences*: features in; a dictionary, and flat histories by shard, out.

DuckDB sorts; offsets, codes and sessions are counted on whole columns. Nothing is cut and no user is left out: what
reads the histories cuts them.
"""

from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.config import Features, Sequences
from recsys.errors import ConfigError, ContractError
from recsys.schema import Schema, Table
from recsys.sequences.dictionary import write_dictionary
from recsys.sequences.shards import Night, read_shard, write_shard
from recsys.sql import connect
from recsys.store import Artifact, Draft, Store
from recsys.windows import ACTIVITY, duration

LIMITS = Features()  # where nobody says otherwise

# Names of the artifact's own columns, which a declared one must not have.
OWN_NAMES: dict[Table, set[str]] = {
    "events": {"item_code", "event_at", "session", "is_target", "weight"},
    "users": {"user_id", "n_events", "n_seen", "n_blocked"},
    "items": {"item_id", "eligible", "first_event_at", "n_events"},
}


def build_sequences(
    store: Store, as_of: datetime, sequences: Sequences, features: Artifact, *, limits: Features = LIMITS, rebuild: bool = False
) -> Artifact:
    """The artifact with the dictionary and the histories of every user of a *features* artifact; `limits` are DuckDB's.

    Raises: ConfigError for an event type that never occurs, for sessions where nothing tells them apart, and for a
    declared column with a name that the artifact needs itself; ContractError where no event is left, or the tables of
    the features do not fit together.
    """

    def build(draft: Draft) -> None:
        _write(draft, sequences, features.path, limits)

    inputs = {"features": features}
    return store.ensure("sequences", as_of, sequences.versioned(), inputs, build, code=__name__, rebuild=rebuild)


def _write(draft: Draft, sequences: Sequences, features: Path, limits: Features) -> None:
    schema = Schema.load(features)
    _check_names(schema)
    gap = _session_gap(schema, sequences)
    with connect(limits, spill=draft.scratch) as connection:
        for table in ("events", "items", "users", "seen", "blocked"):
            connection.read_parquet(str(features / f"{table}.parquet")).create_view(table)
        connection.execute("create macro of_types(event_type, types) as coalesce(list_contains(types, event_type), types is null)")
        some_are_targets = _set_types(connection, schema, sequences)
        coding = write_dictionary(connection, schema, draft.path)
        night = Night(connection, schema, coding, gap, some_are_targets, draft.path)
        for name in ("users", "histories", "seen", "blocked"):
            (draft.path / name).mkdir()
        counts = _write_shards(night)
        counts["items"] = len(coding.item_id)
        if schema.has_times:
            _write_item_activity(features / "item_activity.parquet", coding.item_id, draft.path / "item_activity.parquet")
        (n_events,) = connection.execute("select count(*) from events").fetchone() or (0,)
    counts["events_of_other_types"] = n_events - counts["events"]
    if not counts["events"]:
        raise ContractError(
            f"No event is left for the histories: none of the {counts['events_of_other_types']} events of the window has one of "
            f"sequences.input_types {list(sequences.input_types)}. Name others, or leave it empty for all."
        )
    schema.save(draft.path)
    draft.counts = dict(sorted(counts.items()))


def _write_shards(night: Night) -> Counter[str]:
    """One shard is read while the one before is written."""
    shards = [shard for (shard,) in night.connection.execute("select distinct shard from users order by shard").fetchall()]
    counts: Counter[str] = Counter()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="shards") as thread:
        pending: Future[Counter[str]] | None = None
        for shard in shards:
            rows = read_shard(night, shard)
            if pending is not None:
                counts.update(pending.result())
            pending = thread.submit(write_shard, night, rows)
        if pending is not None:
            counts.update(pending.result())
    return counts


def _set_types(connection: duckdb.DuckDBPyConnection, schema: Schema, sequences: Sequences) -> bool:
    """Sets the variables input_types, target_types and seen_types: lists, or null for all. Whether not all inputs are targets."""
    asked = {name: getattr(sequences, name) for name in ("input_types", "target_types", "seen_types")}
    known: list[str | None] = []
    if any(asked.values()):
        if not schema.names("type"):
            named = ", ".join(f"sequences.{name}" for name, types in asked.items() if types)
            raise ConfigError(f"{named} asks for event types, but the events have no type column: name it in data.events.type.")
        query = "select event_type from events union select event_type from seen order by event_type"
        known = [name for (name,) in connection.execute(query).fetchall()]
    for name, types in asked.items():
        unknown = sorted(set(types) - set(known))
        if unknown:
            raise ConfigError(f"sequences.{name} {unknown} do not occur in the events. There are: {', '.join(filter(None, known))}.")
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


def _write_item_activity(source: Path, item_id: pa.Array, target: Path) -> None:
    """The features' rows of items and hours, in their order (hour, item): the codes of items have the order of their ids."""
    counts = [f"events_{window}" for window in ACTIVITY]
    schema = pa.schema([("item_code", pa.int32()), ("hour_at", pa.int64()), *((name, pa.int32()) for name in counts)])
    with pq.ParquetFile(source) as rows, pq.ParquetWriter(target, schema, compression="zstd") as file:
        for number in range(rows.num_row_groups):
            table = rows.read_row_group(number)
            codes = pc.index_in(table["item_id"], value_set=item_id)
            columns = [codes, table["hour_at"].cast(pa.timestamp("us")).cast(pa.int64()), *map(table.column, counts)]
            file.write_table(pa.Table.from_arrays(columns, schema=schema))
