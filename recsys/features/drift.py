"""Drift: in what tonight's data differ from those of the last nights, told by the profiles of both.

Tonight is compared with each of the last nights of the same configuration, and the most similar one counts: days of the
week differ, and a Sunday resembles last Sunday. A night that drift stopped is no night to compare with.

| measure | difference that the levels of features.drift are of |
|---|---|
| stability | population stability index of a column (recsys.features.stability), less what chance explains |
| nulls | rise of a column's share of nulls, less what chance explains |
| volume | factor by which there are more rows, or fewer: of the last day's events, of declared items and users |
| unknown_users, new_items | rise of the share of the last day's users, or items, that had no event before it, less chance |
| vanished_items | share of a night's eligible items that are gone, of those that tonight's windows still reach |
| age | days by which the newest event is older at as_of |

Chance explains three standard deviations of the difference of two shares p of n and m: 3 √(p (1 − p) (1 / n + 1 / m)), p that
of both nights together. A day of ten users says little.

Drift is an artifact beside the features': which nights are there to compare with changes no version of tonight's tables,
nor of what is made from them. Those nights are known by their contents and are not its inputs, so that they can be pruned.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Literal

from recsys import config, digest
from recsys.errors import ContractError
from recsys.features import queries
from recsys.features.profile import LAST_DAY, PROFILE
from recsys.features.stability import STABILITY
from recsys.schema import Schema
from recsys.sql import literal
from recsys.store import Artifact, Draft, Store
from recsys.windows import duration, label, naive

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

log = logging.getLogger(__name__)

Level = Literal["warn", "stop"]

_READ = ("profile.parquet", "days.parquet", "items.parquet")  # of every night; the second only of events with times

_SAYS = {
    "stability": "the values of {table}.{column} are spread otherwise than in any of the last nights: their population stability index is "
    "{value:.2f} ({chance:.2f} of it by chance), compared with {night}",
    "nulls": "{value:.1%} of {table}.{column} are null; {before:.1%} were on {night}",
    "volume": "{table} has {value:,.0f} rows; {before:,.0f} on {night}",
    "unknown_users": "{value:.1%} of the last day's users had no event before it; {before:.1%} on {night}",
    "new_items": "{value:.1%} of the last day's items had no event before it; {before:.1%} on {night}",
    "vanished_items": "{value:.1%} of the items that could be recommended on {night} are gone, although the windows reach them",
    "age": "the newest event is {value:.2f} days old at as_of; {before:.2f} on {night}",
}


@dataclass(frozen=True)
class Finding:
    """A difference that reaches a level: a row of drift.parquet, and a sentence that says it."""

    level: Level
    measure: str
    table: str
    column: str  # empty where the measure is of a table
    difference: float
    sentence: str


def measure_drift(store: Store, tables: Artifact, levels: config.Drift, *, rebuild: bool = False) -> Artifact:
    """The drift artifact of a night's features: drift.parquet, one row per measure, table and column, by these.

    `value` is tonight's, `before` that of `night`, the most similar of the last nights: shares of 1, rows or days; stability
    is of both, and so are vanished items. `difference` is what `chance` leaves of it, and `level` is warn, stop, or empty
    where it is below both. Without earlier nights there are no rows.
    """
    nights = _last_nights(store, tables, levels.nights)

    def build(draft: Draft) -> None:
        import duckdb

        with duckdb.connect(config={"threads": 1}) as con:  # which adds up in one order
            con.execute(f"create table watched as {_watched(Schema.load(tables.path))}")
            for night in (tables, *nights):
                _load(con, night)
            _load_vanished(con, tables, nights)
            _load_levels(con, levels)
            queries.bind(con, {"as_of": naive(tables.as_of)})
            queries.write(con, "drift", _DRIFT, draft.path, ("measure", "table", "column"))
            found = list(_findings(con))
        for level, name in (("warn", "warnings"), ("stop", "stops")):
            draft.metrics[name] = [finding.sentence for finding in found if finding.level == level]
            draft.counts[name] = len(draft.metrics[name])
        draft.counts["nights"] = len(nights)

    compared = [[label(night.as_of), night.content] for night in nights]
    return store.ensure(
        "drift", tables.as_of, {"drift": levels.versioned()}, {"features": tables}, build, code=__name__, sources=compared, rebuild=rebuild
    )


def findings(drift: Artifact) -> list[Finding]:
    """What reached a level, what stops first."""
    import duckdb

    with duckdb.connect() as con:
        con.read_parquet(str(drift.path / "drift.parquet")).create_view("drift")
        return sorted(_findings(con), key=lambda finding: finding.level != "stop")


def findings_of(store: Store, night: datetime) -> list[Finding]:
    """Those of a night's last drift artifact; none where it has none."""
    made = [drift for drift in store.artifacts("drift") if drift.as_of == night]
    return findings(made[-1]) if made else []


def check_drift(drift: Artifact) -> None:
    """Log what warns; ContractError with what stops."""
    for sentence in drift.metrics["warnings"]:
        log.warning("Drift: %s.", sentence)
    if stops := drift.metrics["stops"]:
        raise ContractError("\n".join([
            "Tonight's data differ from those of the last nights by more than features.drift allows:",
            *(f"  {sentence}." for sentence in stops),
            f"All measures are in {drift.path / 'drift.parquet'}. Mend the source; or, where the change is meant, raise that measure's "
            "`stop` under features.drift, or set it to null, and run the night again: its tables are kept.",
        ]))  # fmt: skip


def _findings(con: "DuckDBPyConnection") -> Iterator[Finding]:
    for row in con.execute('select * from drift where level <> \'\' order by measure, "table", "column"').to_arrow_table().to_pylist():
        facts = {name: row[name] for name in ("level", "measure", "table", "column", "difference")}
        night = label(row["night"].replace(tzinfo=timezone.utc))
        yield Finding(**facts, sentence=_SAYS[row["measure"]].format(**{**row, "night": night}))


def _last_nights(store: Store, tables: Artifact, n: int) -> list[Artifact]:
    """The newest features artifacts of up to n earlier nights, of the same configuration, that drift did not stop."""
    stopped = {}
    for drift in store.artifacts("drift"):  # the last one of a night's tables decides
        stopped[drift.manifest["inputs"]["features"]["content"]] = bool(drift.metrics["stops"])
    found: dict[Any, Artifact] = {}
    for artifact in store.artifacts("features"):
        if artifact.as_of < tables.as_of and artifact.manifest["config"] == tables.manifest["config"] and not stopped.get(artifact.content):
            found[artifact.as_of] = artifact
    newest: list[Artifact] = []
    for artifact in reversed(found.values()):
        if len(newest) < n and _is_readable(artifact):
            newest.append(artifact)
    return newest


def _is_readable(night: Artifact) -> bool:
    """Whether its profile is one of this code, and as it was written: an old night's damage is no reason to stop this one."""
    import pyarrow.parquet as pq

    files = {name: facts for name, facts in night.manifest["files"].items() if name in _READ}
    for name, facts in files.items():
        path = night.path / name
        if not path.is_file() or digest.of_file(path) != facts["sha256"]:
            log.warning("%s is damaged: %s is not compared with. `recsys verify` says more.", path, label(night.as_of))
            return False
    return "profile.parquet" in files and pq.read_schema(night.path / "profile.parquet").equals(PROFILE)


def _watched(schema: Schema) -> str:
    """SQL of the columns that are compared, and whether their values' spread is, too, or their nulls only."""
    spread = schema.select("type", "weight", "categorical", "multi_categorical", "numeric", "label")
    rows = []
    for column in (*spread, *schema.select("session", "vector", "text")):
        table = LAST_DAY if column.table == "events" and schema.has_times else column.table
        rows.append((table, column.name, column in spread and (table, column.name) != (LAST_DAY, "weekday")))  # a day has one
    values = ", ".join(f"({literal(table)}, {literal(name)}, {has_spread})" for table, name, has_spread in rows)
    return f'select * from (values {values}) watched ("table", "column", has_spread)'


def _load(con: "DuckDBPyConnection", night: Artifact) -> None:
    """Add a night's profile and its last day to the tables `profiles` and `days`."""
    con.execute("create table if not exists days (night timestamp, users bigint, items bigint, new_users bigint, new_items bigint)")
    profile = f"select $1::timestamp as night, * from read_parquet({literal(str(night.path / 'profile.parquet'))}, hive_partitioning=false)"
    con.execute(f"create table if not exists profiles as {profile} limit 0", [naive(night.as_of)])
    con.execute(f"insert into profiles {profile}", [naive(night.as_of)])
    if "days.parquet" in night.manifest["files"]:
        last = "select $1, users, items, new_users, new_items from read_parquet($2, hive_partitioning=false) order by ends_at desc limit 1"
        con.execute(f"insert into days {last}", [naive(night.as_of), str(night.path / "days.parquet")])


def _load_vanished(con: "DuckDBPyConnection", tables: Artifact, nights: Sequence[Artifact]) -> None:
    """The table `vanished`: of each night's eligible items that tonight must have too, how many there are and how many it lacks.

    Tonight has to have what had an event in its history, and what was declared without any.
    """
    data = tables.manifest["config"]["data"]
    con.execute("create table vanished (night timestamp, items bigint, gone bigint)")
    eligible = "create table eligible as select item_id from read_parquet($1, hive_partitioning=false) where eligible"
    con.execute(eligible, [str(tables.path / "items.parquet")])
    for night in nights:
        con.execute(
            """
            insert into vanished
            select $1, count(*), count(*) filter (item_id not in (select item_id from eligible))
            from read_parquet($2, hive_partitioning=false) where eligible and coalesce(last_event_at >= $3, $4)
            """,
            [naive(night.as_of), str(night.path / "items.parquet"), naive(tables.as_of - duration(data["history"])), bool(data["items"])],
        )


def _load_levels(con: "DuckDBPyConnection", levels: config.Drift) -> None:
    con.execute("create table levels (measure varchar, warn double, stop double)")
    for measure in _SAYS:
        level: config.Levels = getattr(levels, measure)
        con.execute("insert into levels values ($1, $2, $3)", [measure, level.warn, level.stop])


# One row per measure, table and column: of all nights before, the one that tonight is most similar to.
_DRIFT = f"""
with
{STABILITY},
nulls as (
    select night, "table", "column", nulls / rows as figure, rows as n
    from profiles semi join watched using ("table", "column")
    where rows > 0
),
volumes as (
    select distinct night, "table", rows
    from profiles
    where "table" in ('stg_items', 'stg_users', if(exists(from days), '{LAST_DAY}', 'events'))
),
ages as (
    select night, date_diff('microsecond', max::timestamp, night) / 86_400_000_000 as age
    from profiles
    where "table" = 'events' and "column" = 'event_at' and max is not null
),
figures as (
    select 'nulls' as measure, * from nulls
    union all select 'unknown_users', night, '{LAST_DAY}', '', new_users / users, users from days where users > 0
    union all select 'new_items', night, '{LAST_DAY}', '', new_items / items, items from days where items > 0
    union all select 'volume', night, "table", '', rows, null from volumes
    union all select 'age', night, 'events', '', age, null from ages
),
differences as (
    select
        measure, "table", "column", now.figure as value, earlier.figure as before, earlier.night,
        (now.figure * now.n + earlier.figure * earlier.n) / (now.n + earlier.n) as p,
        coalesce(3 * sqrt(p * (1 - p) * (1 / now.n + 1 / earlier.n)), 0) as chance,
        if(measure = 'volume', greatest((value + 1) / (before + 1), (before + 1) / (value + 1)), value - before - chance) as difference,
    from figures as now join figures as earlier using (measure, "table", "column")
    where now.night = getvariable('as_of') and earlier.night < getvariable('as_of')
    union all by name
    select 'stability' as measure, "table", "column", night, stability as value, chance, stability - chance as difference from stabilities
    union all by name
    select 'vanished_items' as measure, 'items' as "table", '' as "column", night, gone / items as value, value as difference
    from vanished where items > 0
),
nearest as (
    from differences qualify row_number() over (partition by measure, "table", "column" order by difference, night desc) = 1
)
select
    measure, "table", "column", round(value, 6) as value, round(before, 6) as before, night,
    round(coalesce(chance, 0), 6) as chance,
    round(difference, 6) as difference, warn, stop,
    case when difference >= stop then 'stop' when difference >= warn then 'warn' else '' end as level,
from nearest join levels using (measure)
"""
