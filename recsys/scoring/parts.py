"""Parts of tables of users, streamed: a row group is made and written in a thread while the next lists are made."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import ParamSpec

import pyarrow as pa
import pyarrow.parquet as pq

P = ParamSpec("P")
USERS_PER_ROW_GROUP = 32_768  # of every table of users; fixed, so that equal lists give equal bytes


class PartWriter:
    """One part of a table, by user. Holds at most one row group that is not yet written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: pq.ParquetWriter | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="parquet")
        self._pending: Future[None] | None = None

    def write(self, make: Callable[P, pa.Table], *args: P.args, **kwargs: P.kwargs) -> None:
        """Hand over the next row group, which the thread makes."""
        self._settle()
        self._pending = self._thread.submit(lambda: self._write(make(*args, **kwargs)))

    def _write(self, table: pa.Table) -> None:
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = pq.ParquetWriter(self.path, table.schema, compression="zstd")
        self._file.write_table(table, row_group_size=max(1, len(table)))

    def _settle(self) -> None:
        """What went wrong in the thread is raised here."""
        if self._pending is not None:
            self._pending.result()

    def __enter__(self) -> "PartWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self._settle()
        finally:
            self._thread.shutdown()
            if self._file is not None:
                self._file.close()
