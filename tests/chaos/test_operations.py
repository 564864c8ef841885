"""What is done with a store beside its nights, killed at any of the files that it touches: backfills, copies, rollbacks, pruning."""

import random
import shutil
from pathlib import Path
from typing import Any

import duckdb
import pytest

from recsys import audit, published
from recsys.config import Export, Publishing
from recsys.store import Store
from recsys.windows import label
from tests.chaos.nights import BACKFILL, KILLED, LAST, NEXT, Night, assert_whole, contents, damaged

pytestmark = pytest.mark.chaos

BACK = ("rollback", label(NEXT), "--why", "bad lists")
PRUNE = ("prune", "--nights", "1", "--promotions", "1", "--yes")


def copy(night: Night, to: Path) -> Path:
    return Path(shutil.copytree(night.store, to / "store"))


def place_of(night: Night, seed: int) -> int:
    """One of the files that it has touched."""
    return random.Random(f"{night.flow} {night.command} {seed}").randrange(len(night.touched()))


@pytest.mark.cases(3)
@pytest.mark.parametrize("seed", range(3))
def test_a_backfill(seed: int, undisturbed: Night, backfilled: Night, tmp_path: Path) -> None:
    """SIGKILL in a backfill that publishes, and a resume: the same bytes, and what was published stays until then"""
    store, before = copy(undisturbed, tmp_path), contents(undisturbed.store)
    killed = Night(store, place_of(backfilled, seed), BACKFILL, "backfill")
    assert killed.run() == KILLED, killed.said()
    assert before.items() <= contents(store).items() <= contents(backfilled.store).items() and damaged(store) == []
    assert published.current(Store(store)) is not None
    assert (again := Night(store, given=BACKFILL, flow="backfill")).run() == 0, again.said()
    assert_whole(store, backfilled.store)


@pytest.fixture(scope="session")
def rolled_back(backfilled: Night, tmp_path_factory: pytest.TempPathFactory) -> Night:
    night = Night(copy(backfilled, tmp_path_factory.mktemp("rolled_back")), command=BACK)
    assert night.run() == 0, night.said()
    return night


@pytest.mark.cases(8)
@pytest.mark.parametrize("seed", range(8))
def test_a_rollback(seed: int, backfilled: Night, rolled_back: Night, tmp_path: Path) -> None:
    """SIGKILL in a rollback: readers see the one night or the other, and the same command again makes it whole"""
    store = copy(backfilled, tmp_path)
    killed = Night(store, place_of(rolled_back, seed), command=BACK)
    assert killed.run() == KILLED, killed.said()
    now = published.current(Store(store))
    assert now is not None and now.moment in (NEXT, LAST) and contents(store) == contents(backfilled.store)
    again = Night(store, command=BACK)
    assert again.run() == 0 or "is what is published" in again.said(), again.said()
    assert_whole(store, rolled_back.store)


@pytest.fixture(scope="session")
def pruned(backfilled: Night, tmp_path_factory: pytest.TempPathFactory) -> Night:
    night = Night(copy(backfilled, tmp_path_factory.mktemp("pruned")), command=PRUNE)
    assert night.run() == 0, night.said()
    assert len(Store(night.store).artifacts()) < len(Store(backfilled.store).artifacts())
    return night


@pytest.mark.cases(8)
@pytest.mark.parametrize("seed", range(8))
def test_a_prune(seed: int, backfilled: Night, pruned: Night, tmp_path: Path) -> None:
    """SIGKILL while a store is pruned: what is kept is whole, and the same command again removes the rest"""
    store = copy(backfilled, tmp_path)
    killed = Night(store, place_of(pruned, seed), command=PRUNE)
    assert killed.run() == KILLED, killed.said()
    assert contents(pruned.store).items() <= contents(store).items() <= contents(backfilled.store).items()
    assert damaged(store) == [] and list(audit.audit_pointer(Store(store))) == []
    assert (again := Night(store, command=PRUNE)).run() == 0, again.said()
    assert_whole(store, pruned.store)


@pytest.mark.cases(3)
@pytest.mark.parametrize("seed", range(3))
def test_a_rollback_while_a_store_is_pruned(seed: int, backfilled: Night, tmp_path: Path) -> None:
    """A rollback and a prune at once, in whichever order: what is published then is whole"""
    store = copy(backfilled, tmp_path)
    prune, back = Night(store, command=("prune", "--nights", "1", "--promotions", "2", "--yes")), Night(store, command=BACK)
    pruning, going_back = prune.start(), back.start()
    assert (prune.ended(pruning), back.ended(going_back)) == (0, 0), back.said()
    now = published.current(Store(store))
    assert now is not None and now.moment == NEXT and damaged(store) == [] and list(audit.audit_pointer(Store(store))) == []


def copying(to: Path) -> dict[str, Any]:
    """Nothing but copies of the night in the middle, which is published already, into a folder."""
    places = [("parquet", to), ("csv", to), ("jsonl", to), ("duckdb", to / "lists.duckdb")]
    exports = tuple(Export(format=kind, path=str(path)) for kind, path in places)  # type: ignore[arg-type]
    return {"as_of": NEXT, "publishing": Publishing(exports=exports)}


def shown(to: Path) -> dict[str, int]:
    """Rows of the copies that are there, as their readers find them."""
    found = {}
    for kind, reads in {"parquet": "read_parquet", "csv": "read_csv", "jsonl": "read_json"}.items():
        if (file := to / f"recommendations.{kind}").exists():
            found[kind] = duckdb.sql(f"select count(*) from {reads}('{file}')").fetchall()[0][0]
    if (to / "lists.duckdb").exists():
        with duckdb.connect(to / "lists.duckdb", read_only=True) as connection:
            if connection.execute("select 1 from duckdb_tables() where table_name = 'recommendations'").fetchall():
                found["duckdb"] = connection.execute("select count(*) from recommendations").fetchall()[0][0]
    return found


@pytest.fixture(scope="session")
def copied(rolled_back: Night, tmp_path_factory: pytest.TempPathFactory) -> Night:
    to = tmp_path_factory.mktemp("copied")
    night = Night(copy(rolled_back, to), given=copying(to / "out"), watched=to / "out")
    assert night.run() == 0, night.said()
    return night


@pytest.mark.cases(8)
@pytest.mark.parametrize("seed", range(8))
def test_a_copy(seed: int, rolled_back: Night, copied: Night, tmp_path: Path) -> None:
    """SIGKILL while lists are copied for others: readers of a copy find it whole or not at all, and a resume writes what is missing"""
    assert copied.watched is not None
    store, to, whole = copy(rolled_back, tmp_path), tmp_path / "out", shown(copied.watched)
    killed = Night(store, place_of(copied, seed), copying(to), watched=to)
    assert killed.run() == KILLED, killed.said()
    assert shown(to).items() <= whole.items() and len(whole) == 4
    assert (again := Night(store, given=copying(to))).run() == 0, again.said()
    assert shown(to) == whole and {path.name for path in to.iterdir()} == {path.name for path in copied.watched.iterdir()}
    assert contents(store) == contents(rolled_back.store) and damaged(store) == []
