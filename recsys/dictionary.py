"""Reads a *sequences* artifact's dictionary: the items of a night, their features and activity, and the values of its categories."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.arrays import Array, Codes, Ints, read_table, single, to_array, to_numpy
from recsys.errors import ConfigError
from recsys.schema import Schema, file_name
from recsys.windows import HOUR, NEVER, microseconds


@dataclass(frozen=True)
class ItemActivity:
    """Trailing counts per item and full hour, by hour and item; an hour and item without a row had none."""

    hour_at: Ints  # (r,) µs
    item_code: Codes  # (r,)
    events: dict[str, Codes]  # (r,) by window, those of `ACTIVITY`
    n_items: int

    def at(self, moment: datetime, window: str) -> Codes:
        """Events of each item (V,) in the window that ends at the last full hour at or before the moment."""
        hour = microseconds(moment) // HOUR * HOUR
        rows = slice(*np.searchsorted(self.hour_at, [hour, hour + 1]))
        counts = np.zeros(self.n_items, dtype=np.int32)
        counts[self.item_code[rows]] = self.events[window][rows]
        return counts


@dataclass(frozen=True)
class Dictionary:
    """The items and category values of a night. Row number = code."""

    item_id: pa.Array  # (V,) ascending
    eligible: NDArray[np.bool_]  # (V,)
    first_event_at: Ints | None  # (V,) µs, NEVER without an event in the window; None for data with an order only
    n_events: Ints  # (V,) of the history window
    schema: Schema
    columns: dict[str, Array]  # features of the items, as in `Histories`, V rows
    texts: dict[str, pa.Array]  # (V,) strings for people: titles
    folder: Path

    @classmethod
    def load(cls, folder: Path) -> "Dictionary":
        schema = Schema.load(folder)
        items = read_table(folder / "items.parquet")
        return cls(
            item_id=single(items["item_id"]),
            eligible=to_numpy(items["eligible"]),
            first_event_at=to_numpy(pc.fill_null(items["first_event_at"], NEVER)) if schema.has_times else None,
            n_events=to_numpy(items["n_events"]),
            schema=schema,
            columns={c.name: to_array(items[c.name], c) for c in schema.features("items")},
            texts={name: single(items[name]) for name in schema.names("text", table="items")},
            folder=folder,
        )

    @property
    def n_items(self) -> int:
        return len(self.item_id)

    def values(self, column: str) -> pa.Array:
        """The values of a categorical or multi-categorical column, of any table, by code."""
        return single(read_table(self.folder / "values" / f"{file_name(column)}.parquet")["value"])

    def item_activity(self) -> ItemActivity:
        """How much happened with each item lately, at any full hour of the window. ConfigError for data with an order only."""
        if not self.schema.has_times:
            raise ConfigError("The events have an order only, no times: there is no item activity by the hour.")
        read = read_table(self.folder / "item_activity.parquet")
        events = {name.removeprefix("events_"): to_numpy(read[name]) for name in read.column_names if name.startswith("events_")}
        return ItemActivity(to_numpy(read["hour_at"]), to_numpy(read["item_code"]), events, self.n_items)
