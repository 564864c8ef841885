"""Nights with less memory than their data take: DuckDB puts aside what does not fit, or the night ends with what to do about it."""

import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from recsys import audit, demo, published
from recsys.config import Data, Shop
from recsys.store import Store
from tests.chaos.nights import AS_OF, REFUSED, SMALL, Night, contents, damaged

pytestmark = pytest.mark.chaos

ONE_EPOCH = SMALL["training"].model_copy(update={"max_epochs": 1})
LARGE: dict[str, Any] = {"data": Data(demo=Shop(n_users=6000, n_items=300)), "training": ONE_EPOCH}


@pytest.fixture(scope="module")
def large(undisturbed: Night, tmp_path_factory: pytest.TempPathFactory) -> Night:
    """After the undisturbed night the same date with many more users, without a limit."""
    store = Path(shutil.copytree(undisturbed.store, tmp_path_factory.mktemp("large") / "store"))
    night = Night(store, given=LARGE)
    assert night.run() == 0, night.said()
    return night


def data_bytes(store: Path) -> int:
    """What the night's tables take in memory."""
    data = demo.prepare(LARGE["data"], AS_OF, store / "demo")
    return sum(pq.read_table(table.resolved_path().partition("/date=")[0]).nbytes for table in (data.events, data.items, data.users))


@pytest.mark.cases(3)
@pytest.mark.parametrize("parts", [4, 16, 64])
def test_a_limit_below_the_data(parts: int, undisturbed: Night, large: Night, tmp_path: Path) -> None:
    """A memory limit of a quarter of the data, and of less: the same bytes, or a sentence that says what to raise, and nothing is lost"""
    store = Path(shutil.copytree(undisturbed.store, tmp_path / "store"))
    shutil.copytree(large.store / "demo", store / "demo", dirs_exist_ok=True)
    limit = f"{data_bytes(store) // parts // 1000} KB"
    given = {**LARGE, "features": SMALL["features"].model_copy(update={"memory_limit": limit})}
    night = Night(store, given=given)
    if (status := night.run()) != 0:
        assert status == REFUSED and f"features.memory_limit={limit}" in night.said(), night.said()
        assert "Raise the limit, or lower features.threads" in night.said()
        assert contents(store) == contents(undisturbed.store) and len(published.history(Store(store))) == 1
        assert (again := Night(store, given=LARGE)).run() == 0, again.said()
    assert contents(store) == contents(large.store) and damaged(store) == [] and list(audit.audit_pointer(Store(store))) == []
