"""The tables that the contracts on tonight's lists read: views of the parquet files of scoring and sequences."""

from dataclasses import dataclass
from pathlib import Path

import duckdb

from recsys.contenders import BASELINES


@dataclass(frozen=True)
class Lists:
    """What the contracts are about: tonight's lists, what they were made from, and the last ones that were published."""

    scoring: Path
    sequences: Path
    last: Path | None
    k: int
    exclude_seen: bool
    segmented: bool  # popular items are counted by segment first
    source: str  # what was decided on

    @property
    def by_model(self) -> bool:
        return self.source not in BASELINES


def bind(connection: duckdb.DuckDBPyConnection, lists: Lists) -> None:
    """Make the tables and variables that rules and shares read: `last_lists` only where there are some."""
    connection.execute("set variable k = $k", {"k": lists.k})
    connection.execute("set variable segmented = $segmented", {"segmented": lists.segmented})
    connection.execute("set variable source = $source", {"source": lists.source})
    _view(connection, "lists", lists.scoring / "recommendations")
    _view(connection, "dictionary", lists.sequences, "items.parquet")
    _view(connection, "parts_of_users", lists.sequences / "users")
    connection.execute("create table items as select file_row_number::int as item_code, item_id, eligible from dictionary")
    user_type = type_of(connection, "parts_of_users", "user_id")
    if (lists.scoring / "predictions").is_dir():
        _view(connection, "predictions", lists.scoring / "predictions")
    else:
        connection.execute(f"create table predictions (user_id {user_type}, head varchar, class varchar, value float)")
    connection.execute(f"create table left_out (user_id {user_type}, item_code int, reason varchar)")
    for table, count in (("seen", "n_seen"), ("blocked", "n_blocked")):
        if table == "blocked" or lists.exclude_seen:
            _view(connection, f"parts_of_{table}", lists.sequences / table)
            connection.execute(_LEFT_OUT.format(table=table, count=count))
    connection.execute(_USERS)
    if lists.last is not None:
        _view(connection, "last_lists", lists.last / "recommendations")


def _view(connection: duckdb.DuckDBPyConnection, name: str, folder: Path, files: str = "*.parquet") -> None:
    """A view of a table's files, with `filename` and `file_row_number`, and without columns made from the names of folders."""
    rows = connection.read_parquet(str(folder / files), filename=True, file_row_number=True, hive_partitioning=False)
    rows.create_view(name)


# A user's rows follow those of the user before: each row belongs to the last user who starts at or before it.
_LEFT_OUT = """
    insert into left_out
    with starts as (
        select
            user_id,
            parse_filename(filename) as part,
            (sum({count}) over (partition by filename order by file_row_number) - {count})::bigint as first_row,
            {count} as n_rows,
        from parts_of_users
    ),

    pairs as (
        select
            parse_filename(filename) as part,
            file_row_number as row,
            item_code,
        from parts_of_{table}
    ),

    owned as (
        select
            starts.user_id,
            pairs.item_code,
            '{table}' as reason,
        from pairs
        asof join (select * from starts where n_rows > 0) as starts
            on pairs.part = starts.part
            and pairs.row >= starts.first_row
    )

    select * from owned
"""

_USERS = """
    create table users as
    with lost as (
        select
            left_out.user_id,
            count(distinct left_out.item_code) as n_items,
        from left_out
        join items
            on items.item_code = left_out.item_code
            and items.eligible
        group by left_out.user_id
    ),

    everybody as (
        select
            parts_of_users.user_id,
            (select count(*) from items where eligible) - coalesce(lost.n_items, 0) as n_items_left,
        from parts_of_users
        left join lost
            on lost.user_id = parts_of_users.user_id
    )

    select * from everybody
"""


def type_of(connection: duckdb.DuckDBPyConnection, table: str, column: str) -> str:
    return {name: kind for name, kind, *_ in connection.execute(f"describe {table}").fetchall()}[column]
