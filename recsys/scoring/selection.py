"""Lists of some users only; everybody else keeps those of an earlier artifact, where one is given."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.arrays import Ints
from recsys.errors import ConfigError
from recsys.store import Artifact
from recsys.windows import label

ORDER = {"recommendations": ("user_id", "rank"), "predictions": ("user_id", "head", "class")}


@dataclass(frozen=True)
class Selection:
    """The `users` whose lists are made, by id as text; none named: everybody.

    `others` is the folder of a scoring artifact: who is not named keeps what stands there, and who has nothing there gets a list.
    """

    users: tuple[str, ...] = ()
    others: Path | None = None

    def check(self, sequences: Path) -> None:
        """ConfigError for a user without a history."""
        if not self.users:
            return
        known = pc.cast(pq.read_table(sequences / "users", columns=["user_id"])["user_id"], pa.string())
        missing = pc.filter(pa.array(self.users), pc.invert(pc.is_in(pa.array(self.users), known.combine_chunks()))).to_pylist()
        if missing:
            samples = "; ".join(f"{{user_id: {user!r}}}" for user in missing[:5])
            raise ConfigError(f"{len(missing)} of {len(self.users)} users have no history in {sequences}, as {samples}. Leave them out.")

    def rows(self, user_id: pa.Array, kept: pa.Table | None) -> Ints:
        """Which of these users (U,) get a list, as their row numbers, ascending."""
        if not self.users or (kept is None and self.others is not None):
            return np.arange(len(user_id))
        asked = pc.is_in(pc.cast(user_id, pa.string()), pa.array(self.users))
        if kept is not None:
            asked = pc.or_(asked, pc.invert(pc.is_in(user_id, kept["user_id"].combine_chunks())))
        return np.flatnonzero(asked.to_numpy(zero_copy_only=False))

    def kept(self, table: str, part: str, user_id: pa.Array) -> pa.Table | None:
        """The rows that stay of these users (U,), who are all of a range of ids; None where there are none."""
        path = self.others / table / part if self.others is not None else None
        if path is None or not path.exists() or not len(user_id):
            return None
        ends = pc.min_max(user_id)
        found = pq.read_table(path, filters=(pc.field("user_id") >= ends["min"]) & (pc.field("user_id") <= ends["max"]))
        named = pc.is_in(pc.cast(found["user_id"], pa.string()), pa.array(self.users))
        return found.filter(pc.and_(pc.invert(named), pc.is_in(found["user_id"], user_id)))


def check_histories(others: Artifact, sequences: Artifact) -> None:
    """ConfigError where the lists that stay were made from other histories: they may name what somebody has seen since."""
    theirs = others.manifest["inputs"]["sequences"]
    if theirs.get("content") != sequences.content:
        before = f"sequences {label(datetime.fromisoformat(theirs['as_of']))} {theirs['version']}"
        raise ConfigError(
            f"Who is not named would keep a list of {others}, made from other histories ({before}) than the new ones ({sequences}). "
            "What somebody has seen since could stand in a list that stays: make everybody's lists (leave --user out)."
        )


def joined(table: str, made: pa.Table, kept: pa.Table | None) -> pa.Table:
    """What was made and what stays, in the order of the table."""
    if kept is None:
        return made
    order: Sequence[tuple[str, str]] = [(name, "ascending") for name in ORDER[table]]
    return pa.concat_tables([kept.cast(made.schema), made]).sort_by(order)
