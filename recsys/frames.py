"""Tables of a notebook (pandas, Arrow, DuckDB, whatever speaks Arrow) on their way through the steps *features* and *sequences*.

The steps are those of a night, over a store that lasts as long as what was read: bad input is refused by the same errors.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.arrays import single
from recsys.config import Data, Events, Features, Sequences
from recsys.errors import ConfigError, SourceError
from recsys.features.columns import Declared, WrongType, expression
from recsys.features.tables import build_features
from recsys.sequences.build import build_sequences
from recsys.store import Artifact, Store
from recsys.validation import validated
from recsys.windows import microseconds, parse_as_of

# Of a notebook's table nobody knows how old or how large it ought to be.
FEATURES = Features(n_shards=1, max_age="99999d", min_day_volume=0)


@dataclass(frozen=True)
class Past:
    """What happened before a moment: a *sequences* artifact, in a folder that goes with this object."""

    store: Store
    sequences: Artifact
    as_of: datetime
    folder: TemporaryDirectory[str]


def read(
    tables: Mapping[str, Any],
    data: Mapping[str, Any],
    sequences: Sequences,
    as_of: str | datetime | None = None,
    features: Features = FEATURES,
) -> Past:
    """Everything in `tables` ("events", "items", "users"; None: there is none) before `as_of`; by default all events.

    `data` is as the `data` group of a configuration, without places: columns have the names user_id and item_id unless it
    says otherwise, and an events table's only timestamp is its time.
    """
    folder = TemporaryDirectory(prefix="recsys-")
    given = {name: to_arrow(table, name) for name, table in tables.items() if table is not None}
    for name, table in given.items():
        pq.write_table(table, Path(folder.name) / f"{name}.parquet")
    config, moment = _windows(_roles(given, data, Path(folder.name)), data, as_of)
    store = Store(Path(folder.name) / "store")
    made = build_features(store, moment, config, features)
    return Past(store, build_sequences(store, moment, sequences, made, limits=features), moment, folder)


def to_arrow(table: Any, name: str) -> pa.Table:
    """The table in Arrow. SourceError where it is none, or has a column that Arrow cannot hold."""
    try:
        if is_pandas(table):
            return pa.Table.from_pandas(table, preserve_index=False)
        if isinstance(table, (pa.Table, Mapping)) or hasattr(table, "__arrow_c_stream__"):
            return pa.table(table)
    except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, ValueError) as error:
        raise SourceError(f"{name} cannot be read as a table: {error}. Give each column values of one type.") from error
    kind = type(table)
    raise SourceError(f"{name} is a {kind.__module__}.{kind.__qualname__}: give a pandas DataFrame, an Arrow table or a DuckDB relation.")


def is_pandas(table: Any) -> bool:
    """Whether it is a DataFrame, without importing pandas."""
    return type(table).__module__.split(".")[0] == "pandas" and hasattr(table, "columns")


def ids(values: Any, known: pa.DataType) -> pa.Array:
    """Ids (n,) of an array, a list or a column, each once, as Arrow of the type that ids have. ConfigError for ids of another kind."""
    found = values if isinstance(values, (pa.Array, pa.ChunkedArray)) else pa.array(values)
    if pa.types.is_dictionary(found.type):
        found = found.cast(found.type.value_type)
    try:
        if pa.types.is_integer(found.type) != pa.types.is_integer(known) and len(found):
            raise pa.ArrowInvalid
        found = found.cast(known)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise ConfigError(f"The users asked for are {found.type}, and user ids are {known}: 5 and '5' are two.") from None
    if found.null_count:
        raise ConfigError(f"{found.null_count} of the {len(found)} users asked for are null.")
    return single(pa.chunked_array([pc.unique(found)]))


def _roles(tables: Mapping[str, pa.Table], data: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The data group with the files' places, and a time column where none is named."""
    for name in ("events", "items", "users"):
        if name in data and name not in tables:
            raise ConfigError(f"data.{name} names columns of a table that is not given: give {name}, or leave it out.")
    groups: dict[str, Any] = {name: {**data.get(name, {}), "path": str(folder / f"{name}.parquet")} for name in tables}
    events = groups["events"]
    if not events.get("time") and not events.get("order"):
        times = [column.name for column in tables["events"].schema if pa.types.is_timestamp(column.type)]
        if len(times) != 1:
            found = f"has the timestamps {', '.join(times)}" if times else "has no timestamp"
            raise ConfigError(
                f"The events table {found}: name its time column, as data={{'events': {{'time': 'bought_at'}}}}; of an integer "
                "the unit too ('time_unit': 's'), and where there are no times the 'order' column."
            )
        events["time"] = times[0]
    return {**data, **groups}


def _windows(given: Mapping[str, Any], asked: Mapping[str, Any], as_of: str | datetime | None) -> tuple[Data, datetime]:
    """Windows that hold all events, unless others are asked for, and the moment just after the newest event, unless it is given."""
    data = validated(Data, given, "data")
    assert data.events is not None
    first, last = _span(data.events)
    now = datetime.now(timezone.utc)
    moment = parse_as_of(as_of) if as_of is not None else min(last + timedelta(microseconds=1), now) if last else now
    days = (moment - first).days + 1 if first and first < moment else 1
    whole = {name: f"{min(days, 99999)}d" for name in ("history", "seen") if name not in asked}
    return data.model_copy(update=whole), moment


def _span(events: Events) -> tuple[datetime | None, datetime | None]:
    """First and last time of the events; None where there is none that can be read, which the step says better."""
    import duckdb

    if events.time is None:
        return None, None
    rows = duckdb.connect().read_parquet(str(events.path))
    types = dict(zip(rows.columns, map(str, rows.types), strict=True))
    if events.time not in types:
        return None, None
    try:
        moment = expression(Declared(events.time, "event_at", "time"), types[events.time], events)
    except WrongType:
        return None, None
    first, last = rows.aggregate(f"epoch_us(min({moment})), epoch_us(max({moment}))").fetchall()[0]
    return _at(first), _at(last)


def _at(time: int | None) -> datetime | None:
    """A moment in µs since 1970. DuckDB's years go further than Python's: then the nearest that Python has, for a contract to refuse."""
    if time is None:
        return None
    first, last = (microseconds(datetime(year, 1, 1, tzinfo=timezone.utc)) for year in (1, 9999))
    return datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=min(max(time, first), last))
