"""Labels: what heads predict about an event. One may look ahead of its event, so each says since when it is known.

A label is a column of the source, or what `sql/labels/{label}.sql` selects: `user_id, event_order, {label}, known_at`, one
row per event whose label is known. In the events table `{label}` and `{label}_known_at` stand side by side, both null
while the label is unknown at as_of: whoever cuts histories earlier can tell what was unknown at the cut, too.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from recsys.errors import ConfigError, ContractError
from recsys.features import queries
from recsys.features.columns import declared
from recsys.features.queries import Queries, Query, named
from recsys.features.sources import Source
from recsys.schema import known_at
from recsys.sql import quoted

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def computed(sql: Queries, events: Source) -> Queries:
    """The SQL of a run with the labels only that are asked for. ConfigError where the overlay's own would never be run."""
    asked = {column.name for column in declared(events.config) if column.role == "label"}
    there = {column.name for column in events.columns}
    for query in sql.labels:
        if query.name in asked & there and query.path.parent != queries.SQL / "labels":
            raise ConfigError(
                f"data.events.label: {query.name!r} is a column of {events.place}, and {query.path} computes it, too. Rename one of them."
            )
    used = sql.with_labels(asked - there)
    if used.labels and not events.has_times:
        raise ConfigError(
            f"data.events.label: {used.labels[0].path} computes a label that looks ahead, and the events have an order only: nothing "
            "would say since when it is known. Name the time column, or use labels that are columns and known at their events."
        )
    return used


def labelled(con: "DuckDBPyConnection", events: Source, text: str, sql: Queries, work: Path) -> str:
    """SQL of the events table with its labels, of the SQL without those that are computed.

    ContractError where a file does not select what it has to, or a label of the user's own SQL does not say when it is known.
    """
    names = [column.name for column in declared(events.config) if column.role == "label"]
    if not names or not events.has_times:
        return text
    folder = work / "labels"
    folder.mkdir(exist_ok=True)
    queries.write(con, "events", text, folder)
    there = _types(con, "events")
    files = {query.name: query for query in sql.labels}
    for query in files.values():
        with named(query):
            queries.write(con, _view(query.name), query.text, folder)
        _check(con, query, there)
    columns = [_column(name, name in files, events, there) for name in names]
    joins = [
        f"left join {quoted(_view(name))} on events.user_id = {quoted(_view(name))}.user_id "
        f"and events.event_order = {quoted(_view(name))}.event_order"
        for name in files
    ]
    replaced = [name for label in ("label_known_at", *names) for name in (label, known_at(label)) if name in there]
    kept = f"exclude ({', '.join(map(quoted, replaced))})" if replaced else ""
    return f"select events.* {kept}, {', '.join(columns)} from events {' '.join(joins)}"


def _column(name: str, is_computed: bool, events: Source, there: Mapping[str, str]) -> str:
    """SQL of a label and its moment: what becomes known at as_of or later is null."""
    view = quoted(_view(name)) if is_computed else "events"
    value = f"{view}.{quoted(name)}"
    if is_computed:
        moment = f"{view}.known_at"
    elif known_at(name) in there:
        moment = f"events.{quoted(known_at(name))}"
    elif name in {column.name for column in events.columns}:
        moment = "coalesce(events.label_known_at, events.event_at)" if "label_known_at" in there else "events.event_at"
    else:
        raise ContractError(
            f"events: the label {name!r} comes from SQL of data.sql_overlay, which has to select {known_at(name)!r}, too: the moment from "
            f"which it is known. Or compute it in labels/{name}.sql of that folder."
        )
    known = f"{value} is not null and {moment} < getvariable('as_of')"
    return (
        f"if({known}, {value}, null) as {quoted(name)}, if({known}, greatest({moment}, events.event_at), null) as {quoted(known_at(name))}"
    )


def _check(con: "DuckDBPyConnection", query: Query, events: Mapping[str, str]) -> None:
    """ContractError unless the file selects one typed row per event."""
    types, view = _types(con, _view(query.name)), quoted(_view(query.name))
    wanted = {"user_id": events["user_id"], "event_order": events["event_order"], "known_at": "TIMESTAMP"}
    if query.name not in types or any(types.get(name) != type_ for name, type_ in wanted.items()):
        raise ContractError(
            f"{query.path} selects {', '.join(f'{name} {type_}' for name, type_ in types.items())}. A label selects "
            f"{', '.join(f'{name} {type_}' for name, type_ in wanted.items())} and {query.name}."
        )
    repeated = f"select user_id, event_order, count(*) as n_rows from {view} group by all having n_rows > 1 order by all limit 1"
    for user, order, n_rows in con.execute(repeated).fetchall():
        raise ContractError(
            f"{query.path} selects {n_rows} rows of one event, as {{user_id: {user!r}, event_order: {order}}}: it has one row per event."
        )


def _view(label: str) -> str:
    return f"label_{label}"


def _types(con: "DuckDBPyConnection", view: str) -> dict[str, str]:
    return {name: type_ for name, type_, *_ in con.execute(f"describe {quoted(view)}").fetchall()}
