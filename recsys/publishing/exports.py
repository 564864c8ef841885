"""Copies of the published lists outside the store. Readers see one whole night or the other, never half of one.

    parquet, csv   {path}/recommendations.parquet (or .csv): one file, replaced in one step
    duckdb         a table of the database file {path}, replaced in one transaction

A copy says which promotion it shows (a .json file beside it, the comment on the table): only those that are due are written.
"""

import json
import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import duckdb

from recsys import published
from recsys.config import Export, expand
from recsys.errors import ConfigError, ExportError
from recsys.published import Promotion
from recsys.sql import literal, quoted
from recsys.store import Store
from recsys.windows import label

log = logging.getLogger(__name__)

About = dict[str, str]  # what a copy says of itself: promotion, as_of, source


@dataclass(frozen=True)
class Folder:
    """The lists as one file of a folder."""

    path: Path
    format: str

    @property
    def file(self) -> Path:
        return self.path / f"recommendations.{self.format}"

    @property
    def note(self) -> Path:
        return self.path / f"{self.file.name}.json"

    def shows(self) -> About | None:
        return _read(self.note.read_text()) if self.file.exists() and self.note.exists() else None

    def write(self, lists: str, about: About) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        self.note.unlink(missing_ok=True)  # so that a copy that was cut short is due again
        options = "format parquet, compression zstd" if self.format == "parquet" else "format csv, header true"
        _replace(self.file, lambda new: _copy(lists, new, options))
        _replace(self.note, lambda new: new.write_text(json.dumps(about, indent=1)))

    def __str__(self) -> str:
        return str(self.file)


@dataclass(frozen=True)
class Database:
    """The lists as a table of a DuckDB file, beside whatever else is in it."""

    path: Path
    table: str

    def shows(self) -> About | None:
        if not self.path.exists():
            return None
        with duckdb.connect(self.path, read_only=True) as connection:
            rows = connection.execute("select comment from duckdb_tables() where table_name = $name", {"name": self.table}).fetchall()
        return _read(rows[0][0]) if rows and rows[0][0] else None

    def write(self, lists: str, about: About) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        name = quoted(self.table)
        with duckdb.connect(self.path) as connection:
            connection.execute("begin")
            connection.execute(f"create or replace table {name} as {_query(lists)}")
            connection.execute(f"comment on table {name} is {literal(json.dumps(about))}")
            connection.execute("commit")

    def __str__(self) -> str:
        return f"{self.path}, table {self.table}"


Place = Folder | Database


def places(store: Store, exports: Iterable[Export]) -> list[Place]:
    """Where the copies go, checked before anything is published; ConfigError for a place that cannot be one."""
    found: list[Place] = []
    for export in exports:
        text = expand(export.path)
        if "://" in text:
            raise ConfigError(f"publishing.exports: {text!r} is no local path, and copies are written to local disks only.")
        path = Path(text).absolute().resolve()
        if path.is_relative_to(store.root.resolve()):
            raise ConfigError(f"publishing.exports: {path} lies in the store {store.root}, which holds artifacts only. Give another path.")
        place = Database(path, export.table) if export.format == "duckdb" else Folder(path, export.format)
        if path.exists() and path.is_dir() != isinstance(place, Folder):
            needed, there = ("a folder", "a file") if isinstance(place, Folder) else ("a database file", "a folder")
            raise ConfigError(f"publishing.exports: {export.format} needs {needed}, but {path} is {there}.")
        if place in found:
            raise ConfigError(f"publishing.exports: {place} is named twice.")
        found.append(place)
    return found


def export(store: Store, promotion: Promotion, exports: Iterable[Export]) -> list[str]:
    """Write the copies that do not show this promotion yet, and return their places.

    Nothing is written where another promotion is current: copies never go back to an older night. ExportError lists the
    copies that failed, after all were tried.
    """
    wanted = places(store, exports)
    scoring = promotion.artifact(store, "scoring")
    if not wanted or scoring is None:
        return []
    about = {"promotion": promotion.id, "as_of": promotion.as_of, "source": promotion.source}
    written, failed = [], []
    with store.lock("exports"):
        now = published.current(store)
        if now is None or now.id != promotion.id:
            log.warning("%s is not what is published now: its lists are not copied.", label(promotion.moment))
            return []
        for place in wanted:
            try:
                if place.shows() != about:
                    place.write(str(scoring.path / "recommendations" / "*.parquet"), about)
                    written.append(str(place))
            except (OSError, duckdb.Error) as error:
                failed.append(f"{place}: {error}")
    if failed:
        raise ExportError(
            f"The lists of {label(promotion.moment)} are published, but {len(failed)} of {len(wanted)} copies could not be written:\n"
            + "\n".join(f"  {line}" for line in failed)
            + f"\nWho reads a copy still sees what was there before. The lists themselves are in {scoring.path / 'recommendations'}."
            + "\nMake the place writable and run the night again: it is finished, so that only the missing copies are written."
        )
    return written


def _query(lists: str) -> str:
    return f"select user_id, rank, item_id, score, source from read_parquet({literal(lists)}, hive_partitioning = false)"


def _copy(lists: str, new: Path, options: str) -> None:
    with duckdb.connect() as connection:
        connection.execute(f"copy ({_query(lists)}) to {literal(str(new))} ({options})")


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write beside the file and put it in its place in one step."""
    new = path.with_name(f".{path.name}.new")
    write(new)
    with new.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(new, path)


def _read(text: str) -> About | None:
    try:
        return json.loads(text)
    except ValueError:  # a comment that somebody else wrote
        return None
