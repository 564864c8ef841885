"""What a copy of the published lists is: its rows, and a mark that says which promotion it shows."""

import json
from typing import Protocol

from recsys.sql import literal

COLUMNS = ("user_id", "rank", "item_id", "score", "source")

About = dict[str, str]  # what a copy says of itself: promotion, as_of, source


class Place(Protocol):
    """Where a copy is. `str` names it without secrets."""

    def shows(self) -> About | None:
        """What the whole copy that is there says of itself; None where there is none."""

    def write(self, lists: str, about: About) -> None:
        """Put a copy of the parquet files `lists` (a glob) in the place of the one before: as a whole, or not at all."""


def rows(lists: str) -> str:
    """SQL of the lists, user by user as they were scored."""
    return f"select {', '.join(COLUMNS)} from read_parquet({literal(lists)}, hive_partitioning = false)"


def marked(about: About) -> str:
    return json.dumps(about)


def read_mark(text: str | None) -> About | None:
    """What a copy says of itself; None where somebody else wrote it."""
    try:
        found = json.loads(text or "")
    except ValueError:
        return None
    return found if isinstance(found, dict) and "promotion" in found else None


def is_copy(columns: list[str], mark: str | None) -> bool:
    """Whether a table that is there may be replaced: it is an earlier copy, or was made to hold one."""
    return read_mark(mark) is not None or sorted(columns) == sorted(COLUMNS)
