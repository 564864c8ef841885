"""Copies as files: in a folder of this machine, and in a bucket of S3."""

from dataclasses import dataclass
from pathlib import Path

import duckdb

from recsys import disk
from recsys.errors import ExportError
from recsys.publishing.copies import About, marked, read_mark, rows
from recsys.sql import literal, quoted

OPTIONS = {"parquet": "format parquet, compression zstd", "csv": "format csv, header true", "jsonl": "format json"}


@dataclass(frozen=True)
class Folder:
    """The lists as one file, replaced in one step; the mark is a file beside it."""

    path: Path
    format: str

    @property
    def file(self) -> Path:
        return self.path / f"recommendations.{self.format}"

    @property
    def mark(self) -> Path:
        return self.path / f"{self.file.name}.json"

    def shows(self) -> About | None:
        return read_mark(self.mark.read_text()) if self.file.exists() and self.mark.exists() else None

    def write(self, lists: str, about: About) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        self.mark.unlink(missing_ok=True)  # so that a copy that was cut short is due again
        with duckdb.connect() as connection:
            disk.replace(self.file, lambda new: connection.execute(_copy(lists, str(new), self.format)))
        disk.replace(self.mark, lambda new: new.write_text(marked(about)))

    def __str__(self) -> str:
        return str(self.file)


@dataclass(frozen=True)
class Bucket:
    """The lists as one of two objects of a bucket, written in turn; the mark, an object written last, names the one to read.

    DuckDB completes the upload of a copy that fails on the way, so that half an object may appear: the mark never names it.
    And whoever reads the object of last night is left alone while tonight's is written.
    """

    url: str
    format: str

    @property
    def mark(self) -> str:
        return f"{self.url}/recommendations.{self.format}.json"

    @property
    def files(self) -> tuple[str, str]:
        return f"recommendations-1.{self.format}", f"recommendations-2.{self.format}"

    def shows(self) -> About | None:
        with duckdb.connect() as connection:
            about, file = self._found(connection)
        return about if file is not None else None

    def write(self, lists: str, about: About) -> None:
        with duckdb.connect() as connection:
            _, current = self._found(connection)
            file = next(name for name in self.files if name != current)
            connection.execute(_copy(lists, f"{self.url}/{file}", self.format))
            fields = ", ".join(f"{literal(value)} as {quoted(name)}" for name, value in {**about, "file": file}.items())
            connection.execute(f"copy (select {fields}) to {literal(self.mark)} (format json)")

    def _found(self, connection: duckdb.DuckDBPyConnection) -> tuple[About | None, str | None]:
        """What the mark says, and the object that it names; None where it is not there."""
        try:
            about = read_mark(connection.execute("select content from read_text($1)", [self.mark]).fetchall()[0][0]) or {}
            file = about.pop("file", None)
            if file is not None:
                connection.execute("select size from read_blob($1)", [f"{self.url}/{file}"]).fetchall()
        except duckdb.HTTPException as error:
            if error.status_code == 403:  # also of an object that is not there, to whoever may not list what is
                raise ExportError(
                    f"{' '.join(str(error).split())}. The worker needs s3:GetObject and s3:PutObject on the objects, and "
                    "s3:ListBucket on the bucket: without it, S3 answers 403 where there is no copy yet."
                ) from None
            if error.status_code != 404:
                raise
            return None, None
        return about, file

    def __str__(self) -> str:
        return self.mark


def _copy(lists: str, target: str, format: str) -> str:
    return f"copy ({rows(lists)}) to {literal(target)} ({OPTIONS[format]})"
