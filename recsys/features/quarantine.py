"""Quarantine: the few rows of a source that break a contract, set aside and kept instead of stopping the run."""

import logging
from functools import reduce
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING

from recsys.features import queries
from recsys.features.contracts import source_rules
from recsys.features.formats import FILE_SHIFT
from recsys.features.sources import Source, Window
from recsys.sql import quoted

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

log = logging.getLogger(__name__)


def set_aside(con: "DuckDBPyConnection", source: Source, view: str, window: Window, allowed: float, folder: Path) -> int:
    """Rows of the view that break a rule, where they are at most the share `allowed` of all: afterwards the view lacks them.

    They are kept in `{folder}/quarantined_{table}.parquet`: where they stand (the file, below the folder that the path names
    without wildcards, and the row in it, from 1), the rules that they break, and their columns. Returns how many they are;
    0 where they are too many, which the check of the contracts that follows says.
    """
    import ibis

    backend = ibis.duckdb.from_connection(con)
    rows = backend.table(view)
    broken = {rule.name: ~rule.holds.resolve(rows).fill_null(True) for rule in source_rules(source, window)}
    breaking = rows.filter(reduce(or_, broken.values()))
    n_rows, n_breaking = (int(table.count().to_pyarrow().as_py()) for table in (rows, breaking))
    if not 0 < n_breaking <= allowed * n_rows:
        return 0
    names = ibis.array([condition.ifelse(name, ibis.null("string")) for name, condition in broken.items()])
    marked = rows.mutate(broken_rules=names.filter(lambda name: name.notnull()))
    _move(con, source, view, backend.compile(marked.filter(marked.broken_rules.length() > 0)), folder)
    log.warning("%s of %s rows of %s break a contract and are set aside.", f"{n_breaking:,}", f"{n_rows:,}", source.table)
    return n_breaking


def _move(con: "DuckDBPyConnection", source: Source, view: str, breaking: str, folder: Path) -> None:
    """The rows of the query out of the view, into the folder."""
    whole, aside = quoted(f"all_{view}"), quoted(f"breaking_{view}")
    con.execute(f"create table {aside} as {breaking}")
    con.execute(f"alter view {quoted(view)} rename to {whole}")
    con.execute(f"create view {quoted(view)} as select * from {whole} anti join {aside} using (source_order)")
    queries.bind(con, {"file_names": list(source.names), "first_rows": list(source.first_rows)})
    there = {name for name, *_ in con.execute(f"describe {aside}").fetchall()}
    left_out = ", ".join(name for name in ("source_order", "partition_start", "partition_end") if name in there)
    file, row = f"(source_order >> {FILE_SHIFT})::integer + 1", f"source_order & {(1 << FILE_SHIFT) - 1}"
    rows = f"""
        select
            getvariable('file_names')[{file}] as source_file, ({row}) - getvariable('first_rows')[{file}] + 1 as source_row,
            broken_rules, * exclude ({left_out}, broken_rules),
        from {aside}
    """
    queries.write(con, f"quarantined_{source.table}", rows, folder, ("source_file", "source_row"))
