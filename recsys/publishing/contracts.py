"""Contracts on tonight's lists, in SQL over the parquet files of scoring and sequences.

Each file of `sql/lists/` is a rule: it returns the offending rows, and its first line says what they are. It may read

    lists        user_id, rank, item_id, score, source: tonight's lists
    predictions  user_id, head, class, value: what the model's other heads say; empty where it has none
    users        user_id, n_items_left: everybody, with the number of eligible items that may be recommended to them
    items        item_code, item_id, eligible: the dictionary
    left_out     user_id, item_code, reason ('seen' or 'blocked'): pairs that must not be recommended

and the variables `k`, `source` and `segmented`. Shares (coverage, fallbacks, overlap) have limits in the configuration instead.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.config import Publishing, Scoring
from recsys.errors import ContractError
from recsys.published import Promotion
from recsys.publishing.views import Lists, bind, type_of
from recsys.store import Artifact, Draft, Store
from recsys.windows import label

RULES = tuple(sorted((Path(__file__).parents[2] / "sql" / "lists").glob("*.sql")))
SHARES = ("user_coverage", "fallback_share", "overlap")
N_SAMPLES = 3

COLUMNS = pa.schema([("rule", pa.string()), ("value", pa.float64()), ("limit", pa.float64()), ("passed", pa.bool_())])


@dataclass(frozen=True)
class Check:
    """What one rule found. `value` is a number of offending rows or a share, null where the rule has nothing to compare."""

    rule: str
    says: str
    value: float | None
    limit: float
    passed: bool
    sample: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.rule in SHARES:
            return f"{self.rule}: {self.value}, and the limit is {self.limit:g} ({self.says})"
        return f"{self.rule}: {self.value:,} × {self.says}, as {'; '.join(self.sample)}"


def keep_contracts(
    store: Store,
    as_of: datetime,
    publishing: Publishing,
    scoring: Scoring,
    lists: Artifact,
    sequences: Artifact,
    *,
    source: str,
    last: Promotion | None,
    rebuild: bool = False,
) -> Artifact:
    """`checks.parquet`, one row per rule, all of them kept. ContractError with sample rows where one is broken.

    `source` is what was decided on, `last` the last promotion of an earlier night, whose lists tonight's are compared with.
    """
    before = last.artifact(store, "scoring") if last is not None else None

    def build(draft: Draft) -> None:
        what = Lists(
            lists.path,
            sequences.path,
            before.path if before else None,
            scoring.k,
            scoring.exclude_seen,
            scoring.segment is not None,
            source,
        )
        checks = check(what, publishing, draft.scratch)
        broken = [found for found in checks if not found.passed]
        if broken:
            raise ContractError(_message(as_of, broken, lists))
        rows = [{"rule": c.rule, "value": c.value, "limit": c.limit, "passed": c.passed} for c in checks]
        pq.write_table(pa.Table.from_pylist(rows, COLUMNS), draft.path / "checks.parquet", compression="zstd")
        draft.metrics = {c.rule: c.value for c in checks if c.value is not None}

    config = {**publishing.versioned(), "k": scoring.k, "exclude_seen": scoring.exclude_seen, "segment": scoring.segment, "source": source}
    inputs = {"scoring": lists, "sequences": sequences, **({"last": before} if before else {})}
    return store.ensure("publishing", as_of, config, inputs, build, code=__name__, sql=RULES, rebuild=rebuild)


def check(lists: Lists, limits: Publishing, spill: Path) -> list[Check]:
    """What every rule found; nothing else is looked at where the columns are wrong already. `spill`: folder for what memory cannot hold."""
    with duckdb.connect(config={"temp_directory": str(spill)}) as connection:
        bind(connection, lists)
        columns = _columns(connection)
        if not columns.passed:
            return [columns]
        return [columns, *(_rule(connection, path) for path in RULES), *_shares(connection, lists, limits)]


def _columns(connection: duckdb.DuckDBPyConnection) -> Check:
    """Ids of the same type as in the sequences; what else a list is made of."""
    expected = {
        "user_id": {type_of(connection, "users", "user_id")},
        "rank": {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER"},
        "item_id": {type_of(connection, "items", "item_id")},
        "score": {"FLOAT"},
        "source": {"VARCHAR"},
    }
    found = {name: kind for name, kind, *_ in connection.execute("describe lists").fetchall()}
    wrong = tuple(
        f"{name} is {found.get(name, 'missing')}, not {' or '.join(sorted(kinds))}"
        for name, kinds in expected.items()
        if found.get(name) not in kinds
    )
    return Check("columns", "column that is not what a list is made of", len(wrong), 0, not wrong, wrong)


def _rule(connection: duckdb.DuckDBPyConnection, path: Path) -> Check:
    query = path.read_text()
    says = query.splitlines()[0].removeprefix("-- One row per ").removesuffix(".")
    connection.execute(f"create or replace temp table offending as {query}")
    ((count,),) = connection.execute("select count(*) from offending").fetchall()
    rows = connection.execute(f"select * from offending order by all limit {N_SAMPLES}") if count else None
    return Check(path.stem, says, count, 0, count == 0, tuple(_sample(rows)) if rows else ())


def _sample(rows: duckdb.DuckDBPyConnection) -> Iterator[str]:
    names = [name for name, *_ in rows.description or ()]
    for row in rows.fetchall():
        yield "{" + " ".join(f"{name}={value!r}" for name, value in zip(names, row, strict=True)) + "}"


def _shares(connection: duckdb.DuckDBPyConnection, lists: Lists, limits: Publishing) -> Iterator[Check]:
    coverage = _value(connection, _USER_COVERAGE)
    yield _share("user_coverage", "share of all users whose list has k items", coverage, at_least=limits.min_user_coverage)
    fallbacks = _value(connection, _FALLBACK_SHARE) if lists.by_model else None
    says = "share of the lists that start with a popular item, although a model was decided on"
    yield _share("fallback_share", says, fallbacks, at_most=limits.max_fallback_share)
    overlap = _value(connection, _OVERLAP) if lists.last is not None else None
    yield _share("overlap", "share of a user's last published list that is in tonight's, on average", overlap, at_least=limits.min_overlap)


def _share(rule: str, says: str, value: float | None, at_least: float | None = None, at_most: float | None = None) -> Check:
    limit = at_least if at_least is not None else at_most
    assert limit is not None
    passed = value is None or (value >= limit if at_least is not None else value <= limit)
    return Check(rule, says, value, limit, passed)


_USER_COVERAGE = """
    with full_lists as (
        select user_id,
        from lists
        group by user_id
        having count(*) >= getvariable('k')
    )

    select (select count(*) from full_lists) / nullif(count(*), 0) from users
"""

_FALLBACK_SHARE = """
    select count(*) filter (source <> getvariable('source')) / nullif(count(*), 0) from lists where rank = 1
"""

# Ids as text: another data set may have been published from this store before.
_OVERLAP = """
    with shares as (
        select
            last_lists.user_id,
            count(lists.item_id) / count(*) as share,
        from last_lists
        semi join lists as tonight
            on tonight.user_id::varchar = last_lists.user_id::varchar
        left join lists
            on lists.user_id::varchar = last_lists.user_id::varchar
            and lists.item_id::varchar = last_lists.item_id::varchar
        group by last_lists.user_id
    )

    select round(avg(share), 6) from shares
"""


def _value(connection: duckdb.DuckDBPyConnection, query: str) -> float | None:
    ((value,),) = connection.execute(query).fetchall()
    return value


def _message(as_of: datetime, broken: Sequence[Check], lists: Artifact) -> str:
    remedy = "is a fault of scoring: run the night with --rebuild, and report it if that does not help."
    if "others" in lists.manifest["inputs"]:
        remedy = "may be one of the lists that were kept, made by other settings of scoring: make everybody's (leave --user out)."
    return (
        f"The lists of {label(as_of)} are not published, for they break {len(broken)} of their contracts. What was published stays.\n"
        + "\n".join(f"  {found}" for found in broken)
        + f"\nThe lists are in {lists.path / 'recommendations'}. Limits of shares stand under `publishing` in the configuration;"
        f" a broken rule of sql/lists/ {remedy}"
    )
