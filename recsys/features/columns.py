"""What the configuration says of a source's columns, and the SQL that makes each a column of a staging view.

| role in the configuration | name in the staging view | type |
|---|---|---|
| user, item, session | `user_id`, `item_id`, `session_id` | BIGINT of any integer, VARCHAR of strings and UUIDs |
| time | `event_at` | TIMESTAMP, UTC |
| order | `declared_order` | as it is |
| type, weight | `event_type`, `weight` | VARCHAR, FLOAT |
| categorical, multi_categorical | their own | BIGINT or VARCHAR, or a list of it |
| numeric, log_numeric, vector | their own | DOUBLE (NaN is null), FLOAT[] |
| text, label | their own | VARCHAR; BIGINT, DOUBLE or VARCHAR |
| label_known_at | `label_known_at` | TIMESTAMP, UTC |
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from recsys.config import Events, Items, Table, Users
from recsys.errors import ConfigError
from recsys.schema import Column, Role, Scale, known_at
from recsys.schema import Table as TableName
from recsys.sql import quoted
from recsys.windows import ACTIVITY

Kind = Literal["integer", "wide_integer", "float", "text", "boolean", "date", "timestamp", "timestamptz", "list", "other"]

UNITS = {"s": 1_000_000, "ms": 1000, "us": 1}  # µs in a time_unit
INTEGERS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER"}
WIDE_INTEGERS = {"UBIGINT", "HUGEINT", "UHUGEINT", "BIGNUM"}  # not every value fits BIGINT

# What features derives for each event, in the order of the columns in sql/features/20_events.sql.
DERIVED = (
    Column("hour", "events", "categorical"),
    Column("weekday", "events", "categorical"),
    Column("gap_seconds", "events", "numeric", scale="log"),
    Column("user_events_before", "events", "numeric", scale="log"),
    Column("item_age_seconds", "events", "numeric", scale="log"),
    *(Column(f"item_events_{window}", "events", "numeric", scale="log") for window in ACTIVITY),
)
FROM_TIMES = tuple(column.name for column in DERIVED if column.name != "user_events_before")

_OWN_NAMES = {
    "user_id", "item_id", "event_at", "raw_time", "source_order", "declared_order", "event_order", "event_type", "weight", "session_id",
    "label_known_at", "shard", "partition_start", "partition_end", "first_event_at", "last_event_at", "n_events", "eligible",
    *(c.name for c in DERIVED),
}  # fmt: skip
_RENAME = "Rename it where the file is written (or in a view that you attach), or leave it out"


@dataclass(frozen=True)
class Declared:
    """A column of a source that the configuration gives a role."""

    source: str  # its name in the source
    name: str  # its name inside
    role: Role
    scale: Scale = "none"

    @property
    def is_feature(self) -> bool:
        return self.role not in ("user", "item", "time", "order", "type", "weight", "session", "known")


class WrongType(Exception):
    """A column whose type cannot have its role; `sources` adds the file, the count and sample values."""


def declared(table: Table) -> tuple[Declared, ...]:
    """Every column of the source that the configuration names, keys first."""
    found: list[Declared] = []
    if isinstance(table, Events | Users):
        found.append(Declared(table.user, "user_id", "user"))
    if isinstance(table, Events | Items):
        found.append(Declared(table.item, "item_id", "item"))
    if isinstance(table, Events):
        keys: list[tuple[str | None, str, Role]] = [
            (table.time, "event_at", "time"), (table.order, "declared_order", "order"), (table.type, "event_type", "type"),
            (table.weight, "weight", "weight"), (table.session, "session_id", "session"),
        ]  # fmt: skip
        found += [Declared(source, name, role) for source, name, role in keys if source is not None]
        found += [Declared(name, name, "label") for name in table.label]
        if table.label_known_at is not None:
            found.append(Declared(table.label_known_at, "label_known_at", "known"))
    found += [Declared(name, name, "categorical") for name in table.categorical]
    found += [Declared(name, name, "multi_categorical") for name in table.multi_categorical]
    found += [Declared(name, name, "numeric", "standard") for name in table.numeric]
    found += [Declared(name, name, "numeric", "log") for name in table.log_numeric]
    found += [Declared(name, name, "vector") for name in table.vector]
    found += [Declared(name, name, "text") for name in table.text]
    return tuple(found)


def check_names(tables: Mapping[TableName, Table]) -> None:
    """Every column has one role, and one name means one column in all tables: a model reads features by name."""
    owner: dict[str, str] = {}
    known = {known_at(column.name).lower() for config in tables.values() for column in declared(config) if column.role == "label"}
    for table, config in tables.items():
        role_of: dict[str, str] = {}
        for column in declared(config):
            if column.source in role_of:
                raise ConfigError(
                    f"data.{table} gives the column {column.source!r} two roles, {role_of[column.source]} and {column.role}: a column has "
                    "one. Leave one out, or write the column a second time under another name."
                )
            role_of[column.source] = column.role
            if not column.is_feature:
                continue
            name = column.name.lower()  # names differ by more than case, as in SQL
            if name in _OWN_NAMES or name in known:
                raise ConfigError(
                    f"data.{table} declares a {column.role} column {column.name!r}, a name that features gives to a column of its own. "
                    f"{_RENAME}."
                )
            if name in owner:
                raise ConfigError(
                    f"data.{table} and data.{owner[name]} both declare a column {column.name!r}: a model could not tell them apart. "
                    f"{_RENAME} of one of them."
                )
            owner[name] = table


def kind(type_: str) -> Kind:
    """What sort of values a DuckDB type holds."""
    if type_.endswith("]"):
        return "list"
    if decimal := re.fullmatch(r"DECIMAL\((\d+),(\d+)\)", type_):
        return "float" if decimal[2] != "0" else "integer" if int(decimal[1]) <= 18 else "wide_integer"
    name = type_.split("(")[0]
    if name in INTEGERS:
        return "integer"
    if name in WIDE_INTEGERS:
        return "wide_integer"
    if name in ("VARCHAR", "UUID", "ENUM"):
        return "text"
    kinds: dict[str, Kind] = {
        "FLOAT": "float", "DOUBLE": "float", "BOOLEAN": "boolean", "DATE": "date", "TIMESTAMP WITH TIME ZONE": "timestamptz",
        "TIMESTAMP": "timestamp", "TIMESTAMP_S": "timestamp", "TIMESTAMP_MS": "timestamp", "TIMESTAMP_NS": "timestamp",
    }  # fmt: skip
    return kinds.get(name, "other")


def expression(column: Declared, type_: str, table: Table) -> str:
    """SQL that makes the source's column the staging view's. WrongType where its type cannot have the role."""
    name, found = quoted(column.source), kind(type_)
    if column.role in ("time", "known"):
        assert isinstance(table, Events)
        return _time(name, found, table)
    if column.role in ("user", "item", "session"):
        return _id(name, found)
    if column.role == "order":
        if found in ("text", "list", "boolean", "other"):
            raise WrongType("an order is a number or a time; as text, '10' comes before '9'. Cast it where the file is written")
        return f"{name}::{type_}"
    if column.role in ("type", "categorical"):
        return _category(name, found, always_text=column.role == "type")
    if column.role == "multi_categorical":
        return f"{name}::{_element(type_, found)}[]"
    if column.role in ("numeric", "weight"):
        return _number(name, found, "float" if column.role == "weight" else "double")
    if column.role == "vector":
        if found != "list" or kind(_inner(type_)) not in ("integer", "float"):
            raise WrongType("a vector is a list of numbers. Write one (parquet, JSON lines), or declare the column under another role")
        return f"{name}::float[]"
    if column.role == "label":
        return _label(name, found)
    return f"{name}::varchar"


def _id(name: str, found: Kind) -> str:
    if found == "text":
        return f"{name}::varchar"
    if found in ("integer", "wide_integer"):
        return f"{name}::bigint"
    if found == "float":
        raise WrongType(
            "an id is an integer or a string: 17 and 17.0 would be two ids. Often nulls made it a float; filter them and cast it to an "
            "integer (or a string) where the file is written"
        )
    raise WrongType("an id is an integer or a string. Cast it where the file is written")


def _time(name: str, found: Kind, table: Events) -> str:
    if found in ("integer", "wide_integer"):
        if table.time_unit is None:
            raise WrongType('integers count from 1970 in a unit that has to be said: set data.events.time_unit to "s", "ms" or "us"')
        return f"try(make_timestamp({name}::bigint * {UNITS[table.time_unit]}))"
    if table.time_unit is not None:
        raise WrongType("data.events.time_unit is for integers. Leave it out")
    if found == "timestamp":
        return f"{name}::timestamp"
    if found == "timestamptz":
        return f"({name} at time zone 'UTC')"
    if found == "text":
        return f"(try_cast({name} as timestamptz) at time zone 'UTC')"
    if found == "date":
        if not table.time_is_date:
            raise WrongType("these are dates only: where that is all there is, say data.events.time_is_date: true and name an `order`")
        return f"{name}::timestamp"
    raise WrongType("a time is a timestamp, a text as 2017-10-17T06:00:00Z, or an integer with time_unit")


def _category(name: str, found: Kind, always_text: bool) -> str:
    if found == "float":
        raise WrongType("a category is an integer or a string. Cast it where the file is written, or declare the column as numeric")
    if found in ("list", "other"):
        raise WrongType("a category is one integer or string; lists of them are multi_categorical")
    return f"{name}::bigint" if found == "integer" and not always_text else f"{name}::varchar"


def _element(type_: str, found: Kind) -> str:
    inner = kind(_inner(type_)) if found == "list" else "other"
    if inner == "integer":
        return "bigint"
    if inner in ("text", "boolean"):
        return "varchar"
    raise WrongType("a multi-categorical column is a list of integers or strings. Write it as a list (parquet, JSON lines; CSV has none)")


def _number(name: str, found: Kind, to: str) -> str:
    if found == "float":
        return f"nullif({name}::{to}, 'nan'::{to})"
    if found in ("integer", "wide_integer", "boolean"):
        return f"{name}::{to}"
    raise WrongType("a number is asked for. Cast it where the file is written, or declare the column under another role")


def _label(name: str, found: Kind) -> str:
    if found in ("integer", "boolean"):
        return f"{name}::bigint"
    if found in ("float", "text"):
        return f"{name}::{'double' if found == 'float' else 'varchar'}"
    raise WrongType("a label is a number, a yes or no, or a string")


def _inner(type_: str) -> str:
    """`FLOAT[3]` → `FLOAT`."""
    return type_[: type_.rindex("[")]
