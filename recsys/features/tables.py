"""The features step: from the sources to the tables of a night (docs/artifacts.md), with contracts kept on the way."""

import logging
import shutil
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys.config import Data, Features
from recsys.errors import ConfigError, ContractError
from recsys.features import checks, labels, queries, sources
from recsys.features.columns import DERIVED, FROM_TIMES, Declared, WrongType, declared, expression
from recsys.features.contracts import KEYS
from recsys.features.files import is_remote
from recsys.features.profile import write_profile
from recsys.features.queries import Queries
from recsys.features.sources import Source, Window
from recsys.features.staging import stage
from recsys.schema import Column, Role, Schema
from recsys.schema import Table as TableName
from recsys.sql import connect, quoted
from recsys.store import Artifact, Draft, Store
from recsys.windows import duration, naive

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

log = logging.getLogger(__name__)


def build_features(
    store: Store, as_of: datetime, data: Data, features: Features, *,
    previous: Artifact | None = None, started: datetime | None = None, rebuild: bool = False,
) -> Artifact:  # fmt: skip
    """The features artifact of the night `as_of`, made where it is not there yet.

    `previous` is the features artifact of an earlier night, whose ids have to be of the same type; `started` is when
    the run started (now, unless said): no event can be later. SourceError where a source is missing, unreadable or not
    what the configuration says; ContractError where rows break a rule.
    """
    if data.demo is not None:
        raise ConfigError("data.demo has to be turned into tables first: data = recsys.demo.prepare(data, as_of, folder).")
    run_start = naive(started or datetime.now(timezone.utc))
    window = Window(naive(as_of), naive(as_of - duration(data.history)), naive(as_of - duration(data.seen)), run_start)
    sql = queries.collect(data.sql_overlay)
    remote = is_remote(data)
    with connect(features, remote=remote) as con:
        found = sources.find(con, data, window, derived=sql.overlaid, labels={query.name for query in sql.labels})
    sql = labels.computed(sql, found["events"])
    _check_id_types(found["events"], previous)

    def build(draft: Draft) -> None:
        work = draft.scratch / "features"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        try:
            with connect(features, spill=work / "spill", remote=remote) as con:
                queries.bind(con, _variables(found, window, features))
                draft.counts |= stage(con, found, window, data.sample_users, features, work, draft.path)
                _write_tables(con, draft, found, window, features, sql, work)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    config = {"data": data.versioned(), "features": features.versioned()}
    fingerprint = {name: source.fingerprint for name, source in found.items()}
    return store.ensure("features", as_of, config, {}, build, code=__name__, sources=fingerprint, sql=sql.paths, rebuild=rebuild)


def _variables(found: Mapping[TableName, Source], window: Window, features: Features) -> dict[str, Any]:
    """What SQL files read with `getvariable(name)`."""
    return {
        "as_of": window.as_of, "history_start": window.history_start, "seen_start": window.seen_start, "window_start": window.start,
        "run_start": window.run_start, "max_age": duration(features.max_age), "min_day_volume": features.min_day_volume,
        "max_orphan_share": features.max_orphan_share, "has_items": "items" in found, "has_users": "users" in found,
    }  # fmt: skip


def _write_tables(
    con: "DuckDBPyConnection", draft: Draft, found: Mapping[TableName, Source], window: Window, features: Features, sql: Queries,
    work: Path,
) -> None:  # fmt: skip
    """Every table of sql/features, checked, then what describes them: counts, schema, profile."""
    for rule in sql.rules:
        with queries.named(rule):
            con.execute(f"create view {quoted(rule.name)} as {rule.text}")
    events = found["events"]
    for query in sql.features:
        text = query.text
        if query.name == "events" and not events.has_times:
            text = f"select * exclude ({', '.join(FROM_TIMES)}) from (\n{text}\n)"
        with queries.named(query):
            if query.name == "events":
                text = labels.labelled(con, events, text, sql, work)
            draft.counts[query.name] = queries.write(con, query.name, text, draft.path, KEYS.get(query.name, ()))
        checks.check_table(con, query.name, events.id_types, window, features.n_shards, str(query.path))
    checks.run_checks(con, sql.checks)
    draft.counts |= _orphans(con, found)
    made = {query.name: query.path for query in sql.features}
    schema = _schema(con, found, made)
    schema.save(draft.path)
    draft.profile = write_profile(con, draft.path, [*made, *(f"stg_{table}" for table in found)], schema)


def _orphans(con: "DuckDBPyConnection", found: Mapping[TableName, Source]) -> dict[str, int]:
    """Events whose item or user is not declared, where those are: a few are no reason to stop."""
    counts = {}
    for table in ("items", "users"):
        if table in found:
            key = f"{table.removesuffix('s')}_id"
            count = con.execute(f"select count(*) from stg_events anti join stg_{table} using ({key})").fetchall()[0][0]
            counts[f"events_without_declared_{table.removesuffix('s')}"] = count
            if count:
                log.warning("%s events are of %s that the %s table does not have.", f"{count:,}", table, table)
    return counts


def _schema(con: "DuckDBPyConnection", found: Mapping[TableName, Source], made: Mapping[str, Path]) -> Schema:
    """Keys, declared and derived columns with their roles, of the tables as written."""
    columns: list[Column] = []
    tables: tuple[tuple[TableName, str, Role], ...] = (("events", "", "user"), ("items", "item_id", "item"), ("users", "user_id", "user"))
    for table, key, role in tables:
        types = {name: type_ for name, type_, *_ in con.execute(f"describe {table}").fetchall()}
        asked = declared(found[table].config) if table in found else (Declared(key, key, role),)
        for column in asked:
            if column.role == "known":  # stands beside each label, under its name
                continue
            if column.is_feature:
                _check_feature(table, column, types, found[table], made[table])
            name = "event_order" if column.role == "order" else column.name
            size = con.execute(f"select max(len({quoted(name)})) from {table}").fetchall()[0][0] if column.role == "vector" else 0
            columns.append(Column(name, table, column.role, types[name], column.scale, size or 0))
        if table == "events":
            columns += [replace(column, type=types[column.name]) for column in DERIVED if column.name in types]
    return Schema(tuple(columns), found["events"].has_times)


def _check_feature(table: str, column: Declared, types: Mapping[str, str], source: Source, origin: Path) -> None:
    """A declared feature has to be in the table, whichever SQL made it, and of a type that suits its role."""
    if column.name not in types:
        raise ContractError(
            f"{table} has no column {column.name!r}, which data.{table} declares as {column.role}: neither {source.place} nor {origin} "
            "makes it."
        )
    try:
        expression(replace(column, source=column.name), types[column.name], source.config)
    except WrongType as reason:
        raise ContractError(
            f"{table}: {origin} makes the {column.role} column {column.name!r} {types[column.name]}. But {reason}."
        ) from None


def _check_id_types(events: Source, previous: Artifact | None) -> None:
    if previous is None:
        return
    before = {column.role: column for column in Schema.load(previous.path).select("user", "item", table="events")}
    for column in events.columns:
        if column.role in before and before[column.role].type != events.id_types[column.name]:
            raise ContractError(
                f"events: {column.name} is {events.id_types[column.name]} in {events.place} (column {column.source!r}), but was "
                f"{before[column.role].type} in the features of {previous.as_of:%Y-%m-%d} ({previous.version}). 5 and '5' would not meet: "
                "cast it where the file is written. If the change is meant, start a new --store."
            )
