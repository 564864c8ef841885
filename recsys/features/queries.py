"""Runs SQL files on one DuckDB connection, in order of their names, each into one sorted parquet file.

`sql/features/NN_table.sql` selects the rows of `table`; later files see it under that name. `sql/checks/name.sql`
selects rows that should not be there. `sql/rules/name.sql` becomes a view. `sql/labels/name.sql` computes the label `name`
where data.events.label asks for it and no column of the source has it. All of them see the staging views `stg_events`,
`stg_items`, `stg_users` and the run's variables (`getvariable('as_of')`, …).
"""

import logging
import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys import trust
from recsys.config import expand
from recsys.errors import ConfigError, RecsysError
from recsys.sql import literal, quoted
from recsys.wording import counted

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

log = logging.getLogger(__name__)

SQL = Path(__file__).resolve().parents[2] / "sql"
FOLDERS = ("features", "checks", "rules", "labels")


@dataclass(frozen=True)
class Query:
    """One SQL file."""

    path: Path

    @property
    def name(self) -> str:
        """File name without number and ending: the table, check or rule."""
        return re.sub(r"^\d+_", "", self.path.stem)

    @property
    def text(self) -> str:
        return self.path.read_text().strip().rstrip(";")

    @property
    def comment(self) -> str:
        """The comment lines at its top: the grain, and for a check what to do."""
        lines = re.match(r"(?:--.*\n)*", self.path.read_text())
        return " ".join(line.removeprefix("--").strip() for line in lines[0].splitlines()) if lines else ""


@dataclass(frozen=True)
class Queries:
    """The SQL of a run: the package's own, replaced and added to by the overlay's, by file name."""

    features: tuple[Query, ...]
    checks: tuple[Query, ...]
    rules: tuple[Query, ...]
    labels: tuple[Query, ...]
    overlaid: frozenset[str]  # tables that the overlay's own SQL makes

    def with_labels(self, names: Collection[str]) -> "Queries":
        """Those of the labels only."""
        return replace(self, labels=tuple(query for query in self.labels if query.name in names))

    @property
    def paths(self) -> list[Path]:
        return [query.path for query in (*self.features, *self.checks, *self.rules, *self.labels)]


def collect(overlay: str | None = None) -> Queries:
    """All SQL files. ConfigError where the overlay has files that would not be run, or two would make one table."""
    own = {folder: _files(SQL / folder) for folder in FOLDERS}
    theirs: dict[str, dict[str, Query]] = {folder: {} for folder in FOLDERS}
    if overlay is not None:
        root = Path(expand(overlay))
        if not root.is_dir():
            raise ConfigError(f"data.sql_overlay: there is no folder {root}.")
        trust.check_folder(root, "data.sql_overlay")
        stray = [path for path in sorted(root.rglob("*.sql")) if path.parent not in [root / folder for folder in FOLDERS]]
        if stray:
            raise ConfigError(
                f"data.sql_overlay: {stray[0]} would never be run. Put it into {root}/features, {root}/checks, {root}/rules or "
                f"{root}/labels."
            )
        theirs = {folder: _files(root / folder) for folder in FOLDERS}
    merged = {folder: tuple(query for _, query in sorted((own[folder] | theirs[folder]).items())) for folder in FOLDERS}
    for folder, found in merged.items():
        by_name: dict[str, Query] = {}
        for query in found:
            if query.name in by_name:
                raise ConfigError(
                    f"Both {by_name[query.name].path} and {query.path} make {query.name!r}. A file of the overlay replaces one of "
                    f"sql/{folder} by its whole name, number included: rename it."
                )
            by_name[query.name] = query
    return Queries(**merged, overlaid=frozenset(query.name for query in theirs["features"].values()))


def _files(folder: Path) -> dict[str, Query]:
    return {path.name: Query(path) for path in folder.glob("*.sql")}


def bind(con: "DuckDBPyConnection", values: Mapping[str, Any]) -> None:
    """Values for `getvariable(name)` in any SQL of the connection."""
    for name, value in values.items():
        con.execute(f"set variable {name} = $1", [value])


def write(con: "DuckDBPyConnection", name: str, query: str, folder: Path, order: Sequence[str] | None = None) -> int:
    """The query's rows as `{folder}/{name}.parquet`, and as a view of that name. Returns their number.

    `order` has to be a total order (no columns: by all of them), so that equal rows give equal bytes; None leaves them as they come.
    """
    start = time.perf_counter()
    target = literal(str(folder / f"{name}.parquet"))
    by = "" if order is None else f"order by {', '.join(map(quoted, order)) or 'all'}"
    con.execute(f"copy (select * from (\n{query}\n) {by}) to {target} (format parquet, compression zstd)")
    con.execute(f"create or replace view {quoted(name)} as select * from read_parquet({target}, hive_partitioning=false)")
    count = con.execute(f"select count(*) from {quoted(name)}").fetchone()
    assert count is not None
    log.info("%s: %s in %.1f s", name, counted(count[0], "row"), time.perf_counter() - start)
    return count[0]


@contextmanager
def named(query: Query) -> Iterator[None]:
    """A mistake in an SQL file, as an answer that names the file."""
    import duckdb

    try:
        yield
    except duckdb.OutOfMemoryException:
        raise
    except duckdb.Error as error:
        if "No space left" in str(error):
            raise
        raise RecsysError(f"{query.path}: {error}") from error
