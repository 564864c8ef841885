"""From the values of features to vectors.

Categories have an index per known value, and 0 for null and unknown ones. Numbers may be NaN, which is null, and a vector
that is null is all zeros.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from recsys.errors import ConfigError
from recsys.model.bucket import Bucket, Column, Ragged
from recsys.schema import Column as SchemaColumn
from recsys.schema import Role
from recsys.validation import closest


@dataclass(frozen=True)
class Feature:
    """A column's values at places of some shape: (B, L) of events, (B, 1) of their users, any shape of items.

    `column` has a number, code, vector or list for each place; or it is a table, and `places` are the rows to read.
    """

    column: Column
    shape: tuple[int, ...]
    places: Tensor | None = None  # (*shape) int64: item_index, for features of items

    @classmethod
    def of_users(cls, bucket: Bucket, name: str) -> "Feature":
        """A column of the bucket's users, (B, 1): one place for all events of each."""
        column = bucket.user_columns[name]
        return cls(column[:, None] if isinstance(column, Tensor) else column, (len(bucket), 1))

    @property
    def values(self) -> Column:
        """(*shape) or (*shape, S), or Ragged with a row for each place."""
        if self.places is None:
            return self.column
        return self.column.take(self.places) if isinstance(self.column, Ragged) else self.column[self.places]

    @property
    def numbers(self) -> Tensor:
        """The values of a column that has no lists."""
        values = self.values
        assert isinstance(values, Tensor)
        return values


class FeatureEmbedding(nn.Module, ABC):
    """The contract of the slot `embeddings`: one or several features to vectors.

    Its constructor may take `schema`, `vocabulary` and `default_width`: the width to have where nothing else is said, None
    for one of its own choice. Which columns it embeds is its argument `columns`, by name only.
    """

    roles: ClassVar[tuple[Role, ...]]  # of columns that it can embed
    columns: tuple[str, ...]
    widths: dict[str, int]  # of each vector that it gives, by a name for messages

    @abstractmethod
    def forward(self, features: Sequence[Feature]) -> list[Tensor]:
        """Vectors (*shape, width) in the order of `widths`. The features are those of `columns`, in their order."""


def known_column(columns: Sequence[SchemaColumn], name: str, where: str) -> SchemaColumn:
    """The column of that name. ConfigError with the closest ones where there is none."""
    for column in columns:
        if column.name == name:
            return column
    hint = closest(name, [column.name for column in columns])
    raise ConfigError(f"{where}: there is no feature {name!r}. {hint} Features are declared in the `data` group.")
