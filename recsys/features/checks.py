"""Runs the contracts on views of the DuckDB connection, and reports what breaks them: rule, true count, sample rows, advice."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any

from recsys.errors import ContractError
from recsys.features.contracts import COLUMNS, KEYS, Rule, source_rules, table_rules
from recsys.features.queries import Query, named
from recsys.features.sources import Source, Window
from recsys.sql import quoted
from recsys.wording import counted

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

log = logging.getLogger(__name__)

SAMPLE = 3  # rows shown of those that break a rule


def check_source(con: "DuckDBPyConnection", source: Source, view: str, window: Window, allowed: float = 0.0) -> None:
    """ContractError with every broken rule of the source. `allowed` is the share of its rows that quarantine would have taken."""

    def located(row: dict[str, Any]) -> dict[str, Any]:
        file, number = source.locate(int(row.pop("source_order")))
        return row | {"file": file, "row": number}

    keys = tuple(source.id_types)
    broken = _broken(con, view, source_rules(source, window), {}, ("source_order", *keys), located)
    few = f"{allowed:.2%} of a source's rows at most" if allowed else "a few such rows, where that is to be expected"
    hint = [f"  features.quarantine ({allowed:g}) sets aside {few}."] if broken else []
    if source.table != "events":
        broken += _duplicates(con, view, keys, f"The {source.table} table has one row per {keys[0]}: keep the newest of each.")
    if broken:
        raise ContractError(
            "\n".join([f"{source.table} ({source.place}) break{'s' if len(broken) == 1 else ''} a contract:", *broken, *hint])
        )


def check_table(con: "DuckDBPyConnection", table: str, id_types: Mapping[str, str], window: Window, n_shards: int, origin: str) -> None:
    """ContractError with every broken rule of a written table. `origin` is the SQL file that made it.

    A table of the user's own has no contract but the checks that come with it.
    """
    if table not in COLUMNS:
        return
    columns = {name for name, *_ in con.execute(f"describe {quoted(table)}").fetchall()}
    ids = {name: "int64" if type_ == "BIGINT" else "string" for name, type_ in id_types.items()}
    types = {name: ids[name] if type_ == "id" else type_ for name, type_ in COLUMNS[table].items()}
    rules = [rule for rule in table_rules(table, window, n_shards) if columns.issuperset(rule.columns)]
    keys = KEYS[table]
    broken = _broken(con, table, rules, types, keys, lambda row: row)
    broken += _duplicates(con, table, keys)
    if broken:
        raise ContractError("\n".join([f"{table} breaks a contract:", *broken, f"The table is made by {origin}: correct it there."]))


def run_checks(con: "DuckDBPyConnection", checks: Sequence[Query]) -> None:
    """ContractError with every check that found rows; its comment says what they are and what to do."""
    broken = []
    for check in checks:
        with named(check):
            count = _scalar(con, f"select count(*) from (\n{check.text}\n)")
            if count:
                sample = _sample(con, check.text)
                broken.append(_finding(check.name, counted(count, "row"), sample, f"{check.comment} ({check.path})"))
        log.info("check %s: %s", check.name, counted(count, "row") if count else "passed")
    if broken:
        raise ContractError("\n".join(["The data break a contract:", *broken]))


def _broken(
    con: "DuckDBPyConnection", view: str, rules: Sequence[Rule], types: Mapping[str, str], keys: Sequence[str],
    located: Callable[[dict[str, Any]], dict[str, Any]],
) -> list[str]:  # fmt: skip
    """A paragraph per broken rule; per column of another type, where there are such. All rules are checked in one pass, and
    one by one only where something is broken."""
    import ibis
    import pandera.ibis as pa

    table = ibis.duckdb.from_connection(con).table(view)

    def errors(columns: dict[str, pa.Column], checks: list[pa.Check]) -> list[Any]:
        try:
            pa.DataFrameSchema(columns, checks, name=view).validate(table, lazy=True)
        except pa.errors.SchemaErrors as found:
            return found.schema_errors
        return []

    def check(name: str, *together: Rule) -> pa.Check:
        # An aggregate: with a column of results, pandera would fetch it whole to report a failure.
        return pa.Check(lambda data: _breaking(data.table, together).count() == 0, name=name)

    mistyped = errors({name: pa.Column(ibis.dtype(type_), nullable=True) for name, type_ in types.items()}, [])
    if mistyped or not errors({}, [check("every rule", *rules)]):
        return [f"  {error}" for error in mistyped]
    by_name = {rule.name: rule for rule in rules}
    return [_report(table, by_name[error.check.name], keys, located) for error in errors({}, [check(rule.name, rule) for rule in rules])]


def _breaking(table: Any, rules: Sequence[Rule]) -> Any:
    """The rows that break one of the rules."""
    return table.filter(reduce(or_, (~rule.holds.resolve(table).fill_null(True) for rule in rules)))


def _report(table: Any, rule: Rule, keys: Sequence[str], located: Callable[[dict[str, Any]], dict[str, Any]]) -> str:
    breaking = _breaking(table, [rule])
    keys = [name for name in keys if name in table.columns]
    shown = {name: table[name].cast("string") for name in (*keys, *rule.columns)}  # as text: some times are no datetimes
    sample = breaking.order_by(keys).limit(SAMPLE).select(**shown).to_pyarrow().to_pylist()
    count = f"{breaking.count().to_pyarrow().as_py():,} of {counted(table.count().to_pyarrow().as_py(), 'row')}"
    return _finding(rule.name, count, [located(row) for row in sample], rule.advice)


def _duplicates(con: "DuckDBPyConnection", view: str, keys: Sequence[str], advice: str = "") -> list[str]:
    """A paragraph where the keys are not unique."""
    by = ", ".join(map(quoted, keys))
    repeated = f"select {by}, count(*) as n_rows from {quoted(view)} group by {by} having count(*) > 1"
    count = _scalar(con, f"select count(*) from ({repeated})")
    if not count:
        return []
    return [_finding(f"{'_'.join(keys)}_unique", f"{count:,} repeated", _sample(con, repeated), advice)]


def _sample(con: "DuckDBPyConnection", query: str) -> list[dict[str, Any]]:
    """The query's first rows, as text."""
    first = f"select columns(*)::varchar from (select * from (\n{query}\n) order by all limit {SAMPLE})"
    return con.execute(first).to_arrow_table().to_pylist()


def _scalar(con: "DuckDBPyConnection", query: str) -> Any:
    row = con.execute(query).fetchone()
    assert row is not None
    return row[0]


def _finding(rule: str, count: str, sample: Sequence[Mapping[str, Any]], advice: str) -> str:
    rows = "; ".join("{" + ", ".join(f"{name}: {' '.join(str(value).split())}" for name, value in row.items()) + "}" for row in sample)
    return f"  {rule}: {count}, as {rows}.{' ' + advice if advice else ''}"
