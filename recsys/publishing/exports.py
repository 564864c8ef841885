"""Copies of the published lists outside the store. Readers see one whole night or the other, never half of one.

    parquet, csv, jsonl   {path}/recommendations.{format}: one file, replaced in one step; in a bucket one of two objects in turn
    duckdb                a table of the database file {path}, replaced in one transaction
    postgres              a table of the server {path}, replaced in one transaction

A copy says which promotion it shows (a .json file beside it, the comment on the table): only those that are due are written.
"""

import logging
from collections.abc import Iterable
from pathlib import Path

import duckdb

from recsys import published
from recsys.config import Export, expand
from recsys.errors import ConfigError, ExportError
from recsys.published import Promotion
from recsys.publishing.copies import Place
from recsys.publishing.files import Bucket, Folder
from recsys.publishing.tables import Table
from recsys.redaction import redacted
from recsys.store import Store
from recsys.windows import label

log = logging.getLogger(__name__)


def places(store: Store, exports: Iterable[Export]) -> list[Place]:
    """Where the copies go, checked before anything is published; ConfigError for a place that cannot be one."""
    found: list[Place] = []
    for export in exports:
        place = _place(store, export)
        if place in found:
            raise ConfigError(f"publishing.exports: {place} is named twice.")
        found.append(place)
    return found


def export(store: Store, promotion: Promotion, exports: Iterable[Export], rebuild: bool = False) -> list[str]:
    """Write the copies that do not show this promotion yet (with `rebuild` all), and return their places.

    Nothing is written where another promotion is current: copies never go back to an older night. ExportError lists the
    copies that failed, after all were tried.
    """
    wanted = places(store, exports)
    scoring = promotion.artifact(store, "scoring")
    if not wanted or scoring is None:
        return []
    about = {"promotion": promotion.id, "as_of": promotion.as_of, "source": promotion.source}
    written: list[str] = []
    failed: dict[Place, Exception] = {}
    with store.lock("exports"):
        now = published.current(store)
        if now is None or now.id != promotion.id:
            log.warning("%s is not what is published now: its lists are not copied.", label(promotion.moment))
            return []
        for place in wanted:
            try:
                if rebuild or place.shows() != about:
                    place.write(str(scoring.path / "recommendations" / "*.parquet"), about)
                    written.append(redacted(str(place)))
            except (OSError, duckdb.Error, ExportError) as error:
                failed[place] = error
    if failed:
        raise ExportError(
            f"The lists of {label(promotion.moment)} are published, but {len(failed)} of {len(wanted)} copies could not be written:\n"
            + "\n".join(f"  {place}: {' '.join(str(error).split())}" for place, error in failed.items())
            + f"\nWho reads a copy still sees what was there before. The lists themselves are in {scoring.path / 'recommendations'}."
            + "\nPut it right, then `recsys export lists` or the next run of the night writes only the copies that are missing.",
            may_pass=any(map(_may_pass, failed.values())),
        )
    return written


def _place(store: Store, export: Export) -> Place:
    schema, _, name = export.table.rpartition(".")
    if export.format == "postgres":
        try:
            from recsys.publishing.postgres import Postgres  # an extra of its own
        except ImportError as error:
            install = "make .venv/installed EXTRAS=postgres"
            raise ConfigError(f"publishing.exports: postgres needs its driver ({error}). In the checkout: {install}") from None
        return Postgres.at(export.path or "", schema or "public", name)
    text = expand(export.path or "")
    if text.startswith("s3://") and export.format != "duckdb":
        return Bucket(text.rstrip("/"), export.format)
    if "://" in text:
        there = "a file of this machine" if export.format == "duckdb" else "a folder of this machine, or s3://bucket/folder"
        raise ConfigError(f"publishing.exports: {export.format} is written to {there}, not to {text}.")
    path = Path(text).absolute().resolve()
    if path.is_relative_to(store.root.resolve()):
        raise ConfigError(f"publishing.exports: {path} lies in the store {store.root}, which holds artifacts only. Give another path.")
    place = Table(path, schema or "main", name) if export.format == "duckdb" else Folder(path, export.format)
    if path.exists() and path.is_dir() != isinstance(place, Folder):
        needed, there = ("a folder", "a file") if isinstance(place, Folder) else ("a database file", "a folder")
        raise ConfigError(f"publishing.exports: {export.format} needs {needed}, but {path} is {there}.")
    return place


def _may_pass(error: Exception) -> bool:
    """Whether another try may help: a disk or a network, and nothing that a person has to put right."""
    if isinstance(error, ExportError):
        return error.may_pass
    if isinstance(error, duckdb.HTTPException):
        return error.status_code >= 500
    lasting = (PermissionError, NotADirectoryError, FileExistsError)
    return isinstance(error, (OSError, duckdb.OperationalError)) and not isinstance(error, lasting)
