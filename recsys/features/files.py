"""Which files a source has: the pattern resolved, the format known, and what the folders' names say."""

import os
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from recsys.config import Data, Events, Table, expand
from recsys.errors import ConfigError, SourceError
from recsys.features.columns import declared
from recsys.features.formats import REMOTE, Attached, Parquet, Reader, readable
from recsys.features.text import Csv, Json

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_FORMATS = {
    ".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json",
}  # fmt: skip
_HOUR, _DAY, _MONTH = timedelta(hours=1), timedelta(days=1), timedelta(days=31)
_DATES = {
    "%Y-%m-%d": _DAY, "%Y%m%d": _DAY, "%Y-%m": _MONTH, "%Y%m": _MONTH,
    "%Y-%m-%dT%H": _HOUR, "%Y-%m-%d %H": _HOUR, "%Y-%m-%d-%H": _HOUR,
}  # fmt: skip
# What strptime reads otherwise: 201711 as 2017-1-1, and 171105, a day of a form that is not taken, as a month of 1711.
_DIGITS = {"%Y%m%d": r"\d{8}", "%Y%m": r"(19|20)\d{4}"}


@dataclass(frozen=True)
class Span:
    """The time that a partition says its rows are of: [start, end)."""

    start: datetime
    end: datetime


@dataclass(frozen=True)
class Found:
    """All files of a source, and per file the span of its partition."""

    reader: Reader
    spans: tuple[Span | None, ...]


def is_remote(data: Data) -> bool:
    """Whether a source has to be read over the network."""
    return any((table.resolved_path() or "").startswith(REMOTE) for table in (data.events, data.items, data.users) if table is not None)


def locate(con: "DuckDBPyConnection", table: str, config: Table) -> Found:
    """The files that the configuration names. SourceError where there are none, or none that can be read."""
    if config.table is not None:
        return Found(_attached(con, table, config, config.table), (None,))
    pattern = config.resolved_path() or ""
    if os.path.isdir(pattern):
        raise SourceError(f"data.{table}.path: {pattern} is a folder. Name its files, as {pattern.rstrip('/')}/**/*.parquet.")
    with readable(pattern):
        found = [path for (path,) in con.execute("select file from glob($1) order by file", [pattern]).fetchall()]
    paths = [path for path in found if not PurePosixPath(path).name.startswith(("_", "."))]  # _SUCCESS, .part.crc
    if not paths:
        raise SourceError(f"data.{table}.path: no file matches {pattern}. Is the path right, and has the data arrived?")
    for path in paths:
        if "://" not in path and os.path.getsize(path) == 0:
            raise SourceError(f"data.{table}.path: {path} is empty (0 bytes): write it again, or take it away.")
    reader = _by_format(con, table, config, tuple(paths))
    _check_folders(reader)
    return Found(reader, tuple(_span(config, path, keys) for path, keys in zip(paths, reader.keys, strict=True)))


def _by_format(con: "DuckDBPyConnection", table: str, config: Table, paths: tuple[str, ...]) -> Reader:
    endings = [PurePosixPath(re.sub(r"\.(gz|zst)$", "", path.lower())).suffix for path in paths]
    found = {_FORMATS.get(ending): path for ending, path in zip(endings, paths, strict=True)}
    if None in found:
        raise SourceError(
            f"data.{table}.path: {found[None]} has none of the known endings {', '.join(_FORMATS)} (or these with .gz or .zst). "
            "Rename it, or narrow the path."
        )
    if len(found) > 1:
        raise SourceError(f"data.{table}.path matches several formats, as {' and '.join(found.values())}: narrow it to one.")
    if "csv" in found:
        return Csv.open(con, table, config, paths)
    return Parquet(table, config, paths) if "parquet" in found else Json(table, config, paths)


def _attached(con: "DuckDBPyConnection", table: str, config: Table, name: str) -> Reader:
    if config.attach is None:
        raise ConfigError(f"data.{table}.table is {name!r}: say in data.{table}.attach in which database file it is.")
    path = expand(config.attach)
    if not os.path.exists(path):
        raise SourceError(f"data.{table}.attach: there is no file {path}.")
    reader = Attached(table, config, (path,), tuple(name.split(".")))
    reader.bind(con)
    there = con.execute(
        "select concat_ws('.', table_schema, table_name) from information_schema.tables where table_catalog = $1 order by all",
        [reader.database],
    ).fetchall()
    names = [name for (name,) in there]
    if name not in names and f"main.{name}" not in names:
        raise SourceError(f"data.{table}.table: {path} has no table {name!r}. It has: {', '.join(names) or 'none'}.")
    return reader


def _check_folders(reader: Reader) -> None:
    """Where folders below the first wildcard are columns, DuckDB makes columns of those above, too: none may be a declared one's."""
    below = sorted({key for keys in reader.keys for key in keys})
    above = {key.lower(): key for key in reader.keys_above}
    for column in declared(reader.config):
        if below and (key := above.get(column.source.lower())):
            raise SourceError(
                f"data.{reader.table}: {column.source!r} is declared as {column.role}, but {reader.above} lies in a folder {key}=…, and "
                f"with the keys below it ({', '.join(below)}) that would be read in place of the files' column. Rename the folder or the "
                f"column; or, where the folder's value is meant, write a wildcard there: {key}=*."
            )


def _span(config: Table, path: str, keys: dict[str, str]) -> Span | None:
    if not isinstance(config, Events) or config.partition is None:
        return None
    if config.partition not in keys:
        raise SourceError(
            f"data.events.partition is {config.partition!r}, but {path} lies in no folder {config.partition}=… that a wildcard of "
            "data.events.path stands for: correct one of them, or leave `partition` out."
        )
    value = keys[config.partition]
    if value == "__HIVE_DEFAULT_PARTITION__":
        return None
    for form, length in _DATES.items():
        if form in _DIGITS and not re.fullmatch(_DIGITS[form], value):
            continue
        try:
            start = datetime.strptime(value, form)
        except ValueError:
            continue
        return Span(start, (start + length).replace(day=1) if length == _MONTH else start + length)
    raise SourceError(
        f"data.events.partition: {config.partition}={value} in {path} is no date: write 2017-10-01, 2017-10 or 2017-10-01T06, "
        "or leave `partition` out."
    )
