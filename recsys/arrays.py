"""Columns of parquet files as flat numpy arrays: lists are values with offsets, never Python objects."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.errors import StoreError
from recsys.schema import Column

BATCH_ROWS = 2**17  # that are read at once where a table is read in pieces

Ints: TypeAlias = NDArray[np.int64]
Codes: TypeAlias = NDArray[np.int32]
Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Ragged:
    """Lists of any length as flat values: row i is `values[offsets[i]:offsets[i + 1]]`."""

    values: np.ndarray  # (m,)
    offsets: Ints  # (rows + 1,)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def take(self, rows: Ints) -> "Ragged":
        """The rows in the given order.

        >>> Ragged(np.array([5, 6, 7]), np.array([0, 2, 3])).take(np.array([1, 0, 1]))
        Ragged(values=array([7, 5, 6, 7]), offsets=array([0, 1, 3, 4]))
        """
        lengths = np.diff(self.offsets)[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        source = np.arange(offsets[-1]) + np.repeat(self.offsets[rows] - offsets[:-1], lengths)
        return Ragged(self.values[source], offsets)


Array: TypeAlias = np.ndarray | Ragged


def read_table(file: Path, columns: list[str] | None = None) -> pa.Table:
    """A parquet file of a sequences artifact, with those of the columns that it has."""
    with _opened(file) as parquet:
        return parquet.read([name for name in parquet.schema_arrow.names if columns is None or name in columns])


def read_batches(file: Path, columns: list[str]) -> Iterator[pa.Table]:
    """The same in batches of rows; the first is empty, and says what columns there are."""
    with _opened(file) as parquet:
        names = [name for name in parquet.schema_arrow.names if name in columns]
        yield pa.schema([parquet.schema_arrow.field(name) for name in names]).empty_table()
        for batch in parquet.iter_batches(BATCH_ROWS, columns=names):
            yield pa.Table.from_batches([batch])


def _opened(file: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file)
    except FileNotFoundError:
        raise StoreError(f"{file} is missing: its folder is no finished sequences artifact, or has no such shard.") from None


def to_array(column: pa.ChunkedArray, kind: Column) -> Array:
    """A feature or label column by its role: lists of categories Ragged, vectors (rows, size) with zeros for nulls, others (rows,)."""
    if kind.role not in ("multi_categorical", "vector"):
        return to_numpy(column)
    lists = single(column)
    lengths = pc.fill_null(pc.list_value_length(lists), 0)
    ragged = Ragged(lists.flatten().to_numpy(zero_copy_only=False), np.concatenate([[0], np.cumsum(lengths)]))
    if kind.role == "multi_categorical":
        return ragged
    dense = np.zeros((len(ragged), kind.size), dtype=np.float32)
    dense[np.diff(ragged.offsets) > 0] = ragged.values.reshape(-1, kind.size)
    return dense


def to_numpy(column: pa.ChunkedArray) -> np.ndarray:
    """Numbers, in memory of their own; the nulls of floats are NaN."""
    chunks = column.chunks or [pa.array([], column.type)]
    return np.concatenate([chunk.to_numpy(zero_copy_only=False) for chunk in chunks])


def single(column: pa.ChunkedArray) -> pa.Array:
    """The column in one piece."""
    combined = column.combine_chunks()
    return combined if isinstance(combined, pa.Array) else combined.chunk(0) if combined.num_chunks else pa.array([], column.type)
