"""A user's list beside the history that it follows from, with titles where the items have any."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import duckdb

from recsys.errors import StoreError
from recsys.lineage import ancestor
from recsys.schema import Schema
from recsys.sql import quoted
from recsys.store import Artifact, Store


@dataclass(frozen=True)
class Lists:
    """The lists of one scoring artifact, and the feature tables they come from."""

    scoring: Artifact
    tables: Artifact

    @classmethod
    def open(cls, store: Store, scoring: Artifact) -> "Lists":
        return cls(scoring, ancestor(store, scoring, "features"))

    def titles(self) -> tuple[str, ...]:
        """The items' text columns."""
        return Schema.load(self.tables.path).names("text", table="items")

    def recommendations(self, user: object) -> list[dict[str, Any]]:
        """One row per item of the user's list, best first. StoreError for a user without one."""
        query = "select rank, item_id, score, source, {titles} from lists left join items using (item_id) where {user} order by rank"
        rows = self._rows(query, user)
        if not rows:
            known = ", ".join(map(str, self.sample(3)))
            raise StoreError(f"There is no list for user {user!r} in {self.scoring.path}. There are lists for {known}, for example.")
        return rows

    def history(self, user: object, n: int) -> list[dict[str, Any]]:
        """One row per event of the user's newest `n`, newest first."""
        query = (
            "select event_at, item_id, event_type, {titles} from events left join items using (item_id) "
            f"where {{user}} order by event_order desc limit {int(n)}"
        )
        return self._rows(query, user)

    def sample(self, n: int) -> list[Any]:
        """Some users with lists, those with a few events rather than one; the same ones whenever it is asked."""
        query = f"""
            select user_id from users semi join lists using (user_id)
            order by least(n_events, 5) desc nulls last, md5(user_id::varchar) limit {int(n)}
        """
        return [user for (user,) in self._connection.execute(query).fetchall()]

    @cached_property
    def _connection(self) -> duckdb.DuckDBPyConnection:
        connection = duckdb.connect()
        for name in ("events", "items", "users"):
            connection.read_parquet(str(self.tables.path / f"{name}.parquet")).create_view(name)
        connection.read_parquet(str(self.scoring.path / "recommendations" / "*.parquet")).create_view("lists")
        return connection

    def _rows(self, query: str, user: object) -> list[dict[str, Any]]:
        titles = ", ".join(f"items.{quoted(name)}" for name in self.titles())
        asked = query.format(titles=titles or "item_id", user="user_id::varchar = $user")
        found = self._connection.execute(asked, {"user": str(user)})
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
