"""What changed between two nights: configuration and code, the data's profile, metrics, and how much of the lists is the same."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsys import published
from recsys.errors import StoreError
from recsys.lineage import lineage
from recsys.store import Artifact, Store
from recsys.windows import label

NOTABLE = 0.1  # change of a column's mean or distinct values, as a share; of its share of nulls, a tenth of it


@dataclass(frozen=True)
class Change:
    """One value that is another one; None where there is none."""

    where: str  # the step or table
    name: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Overlap:
    """Two sets of lists. Shares are means over users with both, 0 … 1."""

    users: tuple[int, int]  # with a list, before and after
    users_of_both: int
    same_items: float  # share of a list that is in the other
    same_first: float  # share of users whose first item is the same
    items: tuple[int, int]  # different ones in all lists
    items_of_both: int


def night(store: Store, name: str) -> dict[str, Artifact]:
    """By step, the artifacts of a promotion (its id or night); or else the newest of a night that was never published."""
    lines = [p for p in published.history(store) if p.action != "rollback"]
    made = {a.step: a for a in store.artifacts() if label(a.as_of) == name}
    if made and not any(label(p.moment) == name for p in lines):
        return made
    chosen = published.named(store, name, lines)
    found = {artifact.step: artifact for artifact in reversed(lineage(store, chosen.artifacts.values(), chosen.moment))}
    if not found:
        raise StoreError(f"Of {label(chosen.moment)} {chosen.id} nothing is left in {store.root}: it was pruned.")
    return found


def configuration(before: Mapping[str, Artifact], after: Mapping[str, Artifact]) -> Iterator[Change]:
    """Every setting that differs, by step, and the steps whose code or SQL does."""
    for step in (step for step in after if step in before):
        one, other = before[step].manifest, after[step].manifest
        ours, theirs = dict(flat(one["config"])), dict(flat(other["config"]))
        for name in sorted(ours.keys() | theirs.keys()):
            if ours.get(name) != theirs.get(name) and name != "cut":  # which is the night itself
                yield Change(step, name, ours.get(name), theirs.get(name))
        if one["code"] != other["code"]:
            yield Change(step, "code", one["code"][:7], other["code"][:7])


def profile(before: Artifact, after: Artifact) -> Iterator[Change]:
    """Rows of every table, and of columns what is new, gone or notably different: type, share of nulls, distinct values, mean."""
    ours, theirs = _profile(before), _profile(after)
    rows = [{table: column["rows"] for (table, _), column in found.items()} for found in (ours, theirs)]
    for table in sorted(rows[0].keys() | rows[1].keys()):
        if rows[0].get(table) != rows[1].get(table):
            yield Change(table, "rows", rows[0].get(table), rows[1].get(table))
    for table, column in sorted(ours.keys() | theirs.keys()):
        one, other = ours.get((table, column)), theirs.get((table, column))
        if one is None or other is None:
            yield Change(table, column, one and one["type"], other and other["type"])
            continue
        for what, least in (("type", 0.0), ("nulls", NOTABLE / 10), ("distinct", NOTABLE), ("mean", NOTABLE)):
            if _differ(one[what], other[what], least, absolute=what == "nulls"):
                yield Change(table, f"{column}: {what}", one[what], other[what])


def metrics(before: Artifact, after: Artifact) -> list[Change]:
    """Every contender's metrics on all test users."""
    one, other = _metrics(before), _metrics(after)
    return [Change(contender, metric, one.get((contender, metric)), other.get((contender, metric))) for contender, metric in one | other]


def lists(before: Path, after: Path) -> Overlap:
    """The lists of two scoring artifacts, user by user."""
    import duckdb

    with duckdb.connect() as connection:
        for name, folder in (("one", before), ("other", after)):
            connection.read_parquet(str(folder / "recommendations" / "*.parquet")).create_view(name)
        row = connection.execute("""
            with
                lengths as (
                    select user_id, a.n as n_one, b.n as n_other
                    from (select user_id, count(*) as n from one group by all) as a
                    full join (select user_id, count(*) as n from other group by all) as b using (user_id)
                ),
                shared as (
                    select user_id, count(*) as n, max(one.rank = 1 and other.rank = 1) as same_first
                    from one join other using (user_id, item_id)
                    group by all
                )
            select
                count(n_one), count(n_other), count(*) filter (n_one > 0 and n_other > 0),
                avg(coalesce(n, 0) / least(n_one, n_other)) filter (n_one > 0 and n_other > 0),
                avg(coalesce(same_first, false)::integer) filter (n_one > 0 and n_other > 0),
                (select count(distinct item_id) from one), (select count(distinct item_id) from other),
                (select count(distinct item_id) from one semi join other using (item_id)),
            from lengths left join shared using (user_id)
        """).fetchone()
    assert row is not None
    return Overlap((row[0], row[1]), row[2], row[3] or 0.0, row[4] or 0.0, (row[5], row[6]), row[7])


def flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """`training.max_epochs`, 3 of nested groups."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from flat(inner, f"{name}.{key}" if name else key)
    else:
        yield name, value


def _profile(features: Artifact) -> dict[tuple[str, str], dict[str, Any]]:
    """By table and column; nulls as a share of the rows."""
    import pyarrow.parquet as pq

    rows = pq.read_table(features.path / "profile.parquet").to_pylist()
    own = (row for row in rows if not row["table"].startswith("stg_"))  # which say the same of the tables made from them
    return {(row["table"], row["column"]): {**row, "nulls": row["nulls"] / max(row["rows"], 1)} for row in own}


def _metrics(evaluation: Artifact) -> dict[tuple[str, str], float]:
    import pyarrow.parquet as pq

    rows = pq.read_table(evaluation.path / "metrics.parquet", filters=[("slice", "=", "all")]).to_pylist()
    return {(row["contender"], f"{row['metric']}@{row['k']}"): row["value"] for row in rows}


def _differ(one: Any, other: Any, least: float, absolute: bool) -> bool:
    if not isinstance(one, (int, float)) or not isinstance(other, (int, float)):
        return bool(one != other)
    return abs(one - other) > least * (1.0 if absolute else max(abs(one), abs(other)))
