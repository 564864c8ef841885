"""Parts of the recommendations table, streamed: a row group is written in a thread while the next lists are made."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.ranking.lists import Lists, as_table

USERS_PER_ROW_GROUP = 32_768  # of every table of users; fixed, so that equal lists give equal bytes


class PartWriter:
    """One part: `user_id, rank, item_id, score, source`, by user and rank. Holds at most one table that is not yet written.

    `item_id` are the ids by item code, `sources` the names by the number that lists have of them.
    """

    def __init__(self, path: Path, user_type: pa.DataType, item_id: pa.Array, sources: Sequence[str]) -> None:
        self.item_id, self.sources = item_id, tuple(sources)
        self.schema = pa.schema(
            [("user_id", user_type), ("rank", pa.int32()), ("item_id", item_id.type), ("score", pa.float32()), ("source", pa.string())]
        )
        self._file = pq.ParquetWriter(path, self.schema, compression="zstd")
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="parquet")
        self._pending: Future[None] | None = None

    def write(self, user_id: pa.Array, lists: Lists) -> None:
        """Hand over the lists of some users (U,), in order, as the next row group."""
        self._settle()
        self._pending = self._thread.submit(self._write, user_id, lists)

    def _write(self, user_id: pa.Array, lists: Lists) -> None:
        table = as_table(user_id, lists, self.item_id, self.sources)
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
            self._file.close()
