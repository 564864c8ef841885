"""Event tables to measure on, as parquet with user_id, item_id and happened_at: public data where a path is given, else generated.

    python -m benchmarks.inputs kion --folder /tmp/inputs
    python -m benchmarks.inputs ml-1m --folder /tmp/inputs --data data     # reads data/ml-1m/events.parquet

A generated table has the lengths of the public one, and items at random: it costs the same, and there is nothing in it to learn.
"""

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

START = np.datetime64("2025-01-01", "us")
SEED = 7


@dataclass(frozen=True)
class Lengths:
    """Histories of at least `shortest` events: shortest + ⌊exp(N(mu, sigma²))⌋."""

    shortest: int
    mu: float
    sigma: float

    def draw(self, n_users: int, random: np.random.Generator) -> NDArray[np.int64]:
        return self.shortest + np.exp(random.normal(self.mu, self.sigma, n_users)).astype(np.int64)


KION = Lengths(2, 0.443, 1.4)  # of users with two events or more: mean 5.7, median 3
ML_1M = Lengths(19, 4.3, 1.15)  # mean 165, median 93


def generated(n_users: int, n_items: int, lengths: Lengths = KION, seed: int = SEED) -> pa.Table:
    """Events of users 0 … n_users − 1, a minute apart; every item occurs where there are events enough, the rest by Zipf's law."""
    random = np.random.default_rng(seed)
    n_events = lengths.draw(n_users, random)
    user = np.repeat(np.arange(n_users), n_events)
    place = np.arange(len(user)) - np.repeat(np.cumsum(n_events) - n_events, n_events)
    popularity = 1 / np.arange(1, n_items + 1)
    drawn = random.choice(n_items, size=max(len(user) - n_items, 0), p=popularity / popularity.sum())
    item = random.permutation(np.concatenate([np.arange(n_items), drawn]))[: len(user)]
    return pa.table({"user_id": user, "item_id": item, "happened_at": START + place.astype("timedelta64[m]")})


def ml_1m(data: Path) -> pa.Table:
    """ML-1M has an order only: an event's place in the history stands for its minute."""
    return _read(f"""
        select user_id, item_id, timestamp '{START}' + to_minutes(position::bigint) as happened_at
        from read_parquet('{data}/ml-1m/events.parquet')
        order by user_id, position
    """)


def globo(data: Path, one_in: int = 1, remainder: int = 0) -> pa.Table:
    """The clicks of the users whose user_id leaves the remainder."""
    return _read(f"""
        select user_id, item_id, clicked_at as happened_at
        from read_parquet('{data}/globo/events/**/*.parquet')
        where user_id % {one_in} = {remainder}
        order by happened_at, user_id
    """)


def _read(query: str) -> pa.Table:
    return duckdb.sql(query).to_arrow_table()


@dataclass(frozen=True)
class Input:
    """A table that is generated, or read where a data folder holds it."""

    generate: Callable[[], pa.Table]
    folder: str = ""
    read: Callable[[Path], pa.Table] | None = None


INPUTS = {
    "ml-1m": Input(lambda: generated(6040, 3416, ML_1M), "ml-1m", ml_1m),
    "kion": Input(lambda: generated(3000, 7376)),
    "kion-15k": Input(lambda: generated(3000, 15_000)),
    "kion-x10": Input(lambda: generated(30_000, 7376)),
    "kion-x100": Input(lambda: generated(300_000, 7376)),
    "globo-64th": Input(lambda: generated(5046, 6063, Lengths(2, 0.9, 1.4)), "globo", lambda data: globo(data, 64, 3)),
    "3m": Input(lambda: generated(526_000, 45_000), "globo", globo),
    "million-items": Input(lambda: generated(10_000, 1_000_000, Lengths(99, 1.0, 0.1))),
    "tiny": Input(lambda: generated(300, 60)),
}


def write(name: str, folder: Path, data: Path | None) -> tuple[Path, str]:
    """The table's file, and what it is, in words."""
    chosen = INPUTS[name]
    if data is not None and chosen.read is not None and (data / chosen.folder).exists():
        table, origin = chosen.read(data), f"{chosen.folder}, public data"
    else:
        table, origin = chosen.generate(), "generated"
    users, items = (len(table[column].unique()) for column in ("user_id", "item_id"))
    file = folder / f"{name}.parquet"
    part = folder / f"{name}.{os.getpid()}.part"  # others may read the file
    pq.write_table(table, part)
    part.replace(file)
    return file, f"{origin}: {len(table):,} events, {users:,} users, {items:,} items"


def leave_one_out(file: Path) -> tuple[Path, Path]:
    """Two files beside an event table: without the last event of each user, and those (user_id, item_id)."""
    earlier, last = file.with_suffix(".train.parquet"), file.with_suffix(".last.parquet")
    with duckdb.connect() as connection:
        connection.execute(f"""
            create table events as
            select *, row_number() over (partition by user_id order by happened_at desc, file_row_number desc) as age
            from read_parquet('{file}', file_row_number = true)
        """)
        ordered = "order by user_id, happened_at, file_row_number"
        connection.execute(f"copy (select user_id, item_id, happened_at from events where age > 1 {ordered}) to '{earlier}'")
        connection.execute(f"copy (select user_id, item_id from events where age = 1 order by user_id) to '{last}'")
    return earlier, last


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=INPUTS)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="a folder with ml-1m/ or globo/; generated without it")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    print(*write(given.name, given.folder, given.data))


if __name__ == "__main__":
    main()
