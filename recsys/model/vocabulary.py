"""What a model knows: its items, the values of each category, and the statistics of each number.

A model keeps the vocabulary of the nights it was trained on. Any other night's dictionary is read through one integer
array per column, so that yesterday's model scores tonight; what it does not know is counted by the reader.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.arrays import Array, Codes, Ints, Ragged, read_table, single, to_array
from recsys.dictionary import Dictionary
from recsys.errors import ConfigError, ContractError
from recsys.histories import Histories
from recsys.schema import Column, Role, Scale, Schema, Table, file_name
from recsys.wording import counted

UNKNOWN = 0  # index of a category's null and of values that the model has never seen; known ones are 1 …
USER = "user_id"  # the user's id as a column of the users, for models that embed it
TABLES: tuple[Table, ...] = ("events", "items", "users")


@dataclass(frozen=True)
class Numeric:
    """How a number is normalised: (f(x) − mean) / std, with f(x) = log(1 + x) on the log scale."""

    scale: Scale
    mean: float = 0.0
    std: float = 1.0


@dataclass(frozen=True)
class Vocabulary:
    """Row number in `item_id` = item_index; place in `values[column]` + 1 = index of a category's value."""

    schema: Schema
    item_id: pa.Array  # (V,) ascending
    n_events: Ints  # (V,) events before train_end
    values: dict[str, pa.Array] = field(default_factory=dict)
    numeric: dict[str, Numeric] = field(default_factory=dict)
    item_columns: dict[str, Array] = field(default_factory=dict)  # features of the items as at train_end, indexes for categories
    user_id: pa.Array | None = None  # users with an event before train_end, for models that embed them

    @property
    def n_items(self) -> int:
        return len(self.item_id)

    def n_values(self, column: str) -> int:
        """Indexes of a categorical column: its known values and UNKNOWN."""
        return len(self.values[column]) + 1

    def known(self, *columns: str) -> pa.Array:
        """What rows 1 … of an embedding stand for: the values of a column, of several together, or user ids."""
        if columns == (USER,):
            if self.user_id is None:
                raise ConfigError("This vocabulary keeps no user ids, and UserId() embeds them: Vocabulary.fit(…, users=True) keeps them.")
            return self.user_id
        if len(columns) == 1:
            return self.values[columns[0]]
        values = pa.chunked_array([self.values[column] for column in columns]).unique()
        return values.take(pc.sort_indices(values))

    @classmethod
    def fit(
        cls, histories: Histories, dictionary: Dictionary, ends: Ints, min_item_events: int = 1, *, users: bool = False
    ) -> "Vocabulary":
        """The vocabulary of the events before each user's end (U,), a position in the flat histories; with `users` of their ids too."""
        used = np.flatnonzero(histories.before(ends))
        n_events = np.bincount(histories.item_code[used], minlength=dictionary.n_items)
        items = np.flatnonzero(n_events >= min_item_events)
        if not len(items):
            raise ContractError(
                f"No item has {min_item_events} or more (training.min_item_events) of the {counted(len(used), 'event')} before the "
                "training's end: there is nothing to learn."
            )
        rows = {"events": used, "items": items, "users": np.flatnonzero(ends > histories.offsets[:-1])}
        data = {"events": histories.columns, "items": dictionary.columns, "users": histories.user_columns}
        values, numeric = {}, {}
        for column in (*features(histories.schema), *histories.schema.select("label", table="events")):
            known = rows_of(data[column.table][column.name], rows[column.table])
            if column.role in ("numeric", "label") and not column.is_coded and isinstance(known, np.ndarray):
                numeric[column.name] = _statistics(known, "standard" if column.role == "label" else column.scale)
            elif column.is_coded:
                codes = np.unique(known.values if isinstance(known, Ragged) else known)
                values[column.name] = dictionary.values(column.name).take(pa.array(codes[codes >= 0]))
        user_id = histories.user_id.take(pa.array(rows["users"])) if users else None
        fitted = cls(histories.schema, dictionary.item_id.take(pa.array(items)), n_events[items], values, numeric, user_id=user_id)
        columns = {name: fitted.translate(name, rows_of(column, items), dictionary) for name, column in dictionary.columns.items()}
        return replace(fitted, item_columns=columns)

    def item_map(self, dictionary: Dictionary) -> Codes:
        """(items of the dictionary,): the item_index of each item_code, −1 where the model does not know the item."""
        return index_in(dictionary.item_id, self.item_id, "item_id")

    def value_map(self, column: str, dictionary: Dictionary) -> Codes:
        """(values of the dictionary + 1,): the index of each code. The last row, which code −1 reads, is UNKNOWN."""
        known = index_in(dictionary.values(column), self.values[column], column)
        return np.append(known + 1, UNKNOWN).astype(np.int32)

    def translate(self, column: str, data: Array, dictionary: Dictionary) -> Array:
        """A night's column as this model reads it: codes become indexes; numbers and vectors stay as they are."""
        if column not in self.values:
            return data
        index = self.value_map(column, dictionary)
        return Ragged(index[data.values], data.offsets) if isinstance(data, Ragged) else index[data]

    def save(self, folder: Path) -> None:
        """`items.parquet`, `numeric.parquet`, `values/{column}.parquet` and, where they are kept, `users.parquet` in the folder."""
        (folder / "values").mkdir(parents=True, exist_ok=True)
        columns = {name: _to_arrow(column) for name, column in self.item_columns.items()}
        _write(pa.table({"item_id": self.item_id, "n_events": self.n_events, **columns}), folder / "items.parquet")
        rows = [{"column": name, "scale": n.scale, "mean": n.mean, "std": n.std} for name, n in sorted(self.numeric.items())]
        kinds = pa.schema({"column": pa.string(), "scale": pa.string(), "mean": pa.float64(), "std": pa.float64()})
        _write(pa.Table.from_pylist(rows, kinds), folder / "numeric.parquet")
        for name, known in self.values.items():
            _write(pa.table({"value": known}), folder / "values" / f"{file_name(name)}.parquet")
        if self.user_id is not None:
            _write(pa.table({"user_id": self.user_id}), folder / "users.parquet")

    @classmethod
    def load(cls, folder: Path, schema: Schema) -> "Vocabulary":
        """What `save` wrote."""
        items = read_table(folder / "items.parquet")
        return cls(
            schema,
            single(items["item_id"]),
            items["n_events"].to_numpy(),
            {c.name: single(read_table(folder / "values" / f"{file_name(c.name)}.parquet")["value"]) for c in schema.columns if c.is_coded},
            {row.pop("column"): Numeric(**row) for row in read_table(folder / "numeric.parquet").to_pylist()},
            {c.name: to_array(items[c.name], c) for c in schema.features("items")},
            single(read_table(folder / "users.parquet")["user_id"]) if (folder / "users.parquet").exists() else None,
        )


def features(schema: Schema, *roles: Role) -> list[Column]:
    """What a model may read of all tables: columns of any role, or of some."""
    return [c for table in TABLES for c in schema.features(table) if not roles or c.role in roles]


def index_in(values: pa.Array, known: pa.Array, what: str) -> Codes:
    """Place of each value among the known ones, −1 for those that are not."""
    if values.type != known.type:
        raise ContractError(
            f"{what} is {values.type} in tonight's tables and {known.type} in the model: it was trained on ids of another kind. "
            "Put the source right, or train anew (recsys nightly --rebuild)."
        )
    return pc.fill_null(pc.index_in(values, value_set=known), -1).to_numpy(zero_copy_only=False)


def rows_of(data: Array, rows: Ints) -> Array:
    """Some rows of a column."""
    return data.take(rows) if isinstance(data, Ragged) else data[rows]


def _statistics(x: np.ndarray, scale: Scale) -> Numeric:
    """Of the numbers that are there; a constant, or none at all, keeps its value."""
    x = x[np.isfinite(x)].astype(np.float64)
    x = np.log1p(np.maximum(x, 0)) if scale == "log" else x
    if scale == "none" or not len(x):
        return Numeric(scale)
    mean, std = float(x.mean()), float(x.std())
    return Numeric(scale, mean, std if std > 1e-9 * max(1.0, abs(mean)) else 1.0)  # a constant has a rounding error for its spread


def _to_arrow(data: Array) -> pa.Array:
    if isinstance(data, Ragged):
        return pa.ListArray.from_arrays(pa.array(data.offsets, pa.int32()), pa.array(data.values))
    if data.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(pa.array(data.ravel()), data.shape[1]).cast(pa.list_(pa.float32()))
    return pa.array(data)


def _write(table: pa.Table, file: Path) -> None:
    pq.write_table(table, file, compression="zstd")
