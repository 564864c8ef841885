"""Columns and their roles: written by features, read by everything after it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

Table = Literal["events", "items", "users"]
Role = Literal[
    "user",
    "item",
    "time",
    "order",
    "type",
    "weight",
    "session",  # what the table means
    "known",  # since when its labels are known
    "categorical",
    "multi_categorical",
    "numeric",
    "vector",  # what a model may read
    "text",
    "label",  # what people read, what a head predicts
]
Scale = Literal["standard", "log", "none"]


def known_at(label: str) -> str:
    """The column that stands beside a label and says from which moment on it is known."""
    return f"{label}_known_at"


def file_name(column: str) -> str:
    """A column's name where it is that of a file, in which a slash cannot be.

    >>> file_name("price / unit")
    'price %2F unit'
    """
    return column.replace("%", "%25").replace("/", "%2F")


@dataclass(frozen=True)
class Column:
    """One column of one table. `scale` says how a numeric is normalised: as it is, or its log(1 + x), or not at all."""

    name: str
    table: Table
    role: Role
    type: str = ""  # DuckDB's name of it
    scale: Scale = "none"
    size: int = 0  # of a vector

    @property
    def is_coded(self) -> bool:
        """Whether it is stored as codes of its values."""
        return self.role in ("categorical", "multi_categorical") or (self.role == "label" and self.type == "VARCHAR")


@dataclass(frozen=True)
class Schema:
    """All columns with their roles; `has_times` is False for data that knows an order only."""

    columns: tuple[Column, ...]
    has_times: bool = True

    def select(self, *roles: Role, table: Table | None = None) -> tuple[Column, ...]:
        """Columns of any of the roles, of one table or of all, in order of declaration."""
        return tuple(c for c in self.columns if c.role in roles and table in (None, c.table))

    def features(self, table: Table) -> tuple[Column, ...]:
        """What a model may read of the table."""
        return self.select("categorical", "multi_categorical", "numeric", "vector", table=table)

    def names(self, *roles: Role, table: Table | None = None) -> tuple[str, ...]:
        return tuple(c.name for c in self.select(*roles, table=table))

    def to_json(self) -> str:
        return json.dumps({"has_times": self.has_times, "columns": [asdict(c) for c in self.columns]}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Schema":
        read = json.loads(text)
        return cls(tuple(Column(**c) for c in read["columns"]), read["has_times"])

    def save(self, folder: Path) -> None:
        (folder / "schema.json").write_text(self.to_json())

    @classmethod
    def load(cls, folder: Path) -> "Schema":
        return cls.from_json((folder / "schema.json").read_text())
