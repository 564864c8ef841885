"""Tables of a sequences artifact, which have a part for each shard: read whole, or some rows at a time."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from recsys.arrays import read_batches, read_table


def shards_of(folder: Path) -> list[int]:
    """Numbers of the shards in a sequences artifact, in order."""
    return sorted(int(file.stem.removeprefix("part-")) for file in (folder / "users").glob("part-*.parquet"))


def whole(folder: Path, table: str, shards: Sequence[int], columns: list[str]) -> pa.Table:
    """The parts of a table below each other, with those of the columns that it has."""
    return pa.concat_tables([read_table(_part(folder, table, shard), columns) for shard in shards])


class Stream:
    """One part of a table, with those of the columns that it has: memory holds a batch of rows, and what is asked for."""

    def __init__(self, folder: Path, table: str, shard: int, columns: list[str]) -> None:
        self._batches = read_batches(_part(folder, table, shard), columns)
        self._rest = next(self._batches)

    def take(self, n_rows: int) -> pa.Table:
        """The next rows: fewer only where the part ends."""
        read = [self._rest]
        while sum(map(len, read)) < n_rows and (batch := next(self._batches, None)) is not None:
            read.append(batch)
        table = pa.concat_tables(read)
        self._rest = table.slice(n_rows)
        return table.slice(0, n_rows)


def _part(folder: Path, table: str, shard: int) -> Path:
    return folder / table / f"part-{shard:03}.parquet"
