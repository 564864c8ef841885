"""The public data sets: what is known of them, within the limits of memory."""

import resource
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from recsys.config import Data, Events, Features, Items, Users
from recsys.errors import ContractError
from recsys.features.tables import build_features
from recsys.schema import Schema
from recsys.store import Artifact, Store
from recsys.windows import parse_as_of

Rows = Callable[..., list[tuple[Any, ...]]]


def globo(shared_data: Path) -> Data:
    categorical = ("environment", "device_group", "os", "country", "region", "referrer")
    path = f"{shared_data}/globo/events/*/*.parquet"
    return Data(events=Events(path=path, time="clicked_at", session="session_id", partition="click_date", categorical=categorical))


def test_globo_is_stopped_by_a_day_of_few_clicks(shared_data: Path, tmp_path: Path) -> None:
    data = globo(shared_data).model_copy(update={"history": "8d", "seen": "8d", "sample_users": 0.05})
    with pytest.raises(ContractError, match="low_day_volume: 1 row"):
        build_features(Store(tmp_path), parse_as_of("2017-10-18"), data, Features())


@pytest.mark.slow
def test_globo(shared_data: Path, tmp_path: Path) -> None:
    tables = build_features(Store(tmp_path), parse_as_of("2017-10-17"), globo(shared_data), Features())
    assert tables.counts["users"] == 321_872
    assert tables.counts["events"] == 2_967_805 and tables.counts["event_rows_repeated"] == 0
    at_as_of = pq.read_table(tables.path / "item_activity.parquet", filters=[("hour_at", "==", datetime(2017, 10, 17))])
    assert pc.sum(at_as_of["events_1d"]).as_py() == 189_779, "the clicks of the day before"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 4e6, "kB, of all that this process did"


@pytest.mark.slow
@pytest.mark.parametrize("day", range(4, 18))
def test_every_other_globo_night_passes_the_checks(shared_data: Path, tmp_path: Path, day: int) -> None:
    data = globo(shared_data).model_copy(update={"sample_users": 0.02})
    assert build_features(Store(tmp_path), parse_as_of(f"2017-10-{day:02}"), data, Features())


def test_ml_100k(shared_data: Path, tmp_path: Path, rows: Rows) -> None:
    folder = shared_data / "ml-100k"
    data = Data(
        events=Events(path=f"{folder}/events.parquet", time="rated_at", numeric=("rating",)),
        items=Items(path=f"{folder}/items.parquet", multi_categorical=("genres",), numeric=("release_year",), text=("title",)),
        users=Users(path=f"{folder}/users.parquet", numeric=("age",), categorical=("gender", "occupation"), text=("zip_code",)),
        history="30d",
        seen="300d",
    )  # fmt: skip
    tables = build_features(Store(tmp_path), parse_as_of("1998-04-23"), data, Features())
    assert (tables.counts["users"], tables.counts["items"], tables.counts["seen"]) == (943, 1682, 100_000)
    assert tables.counts["events_without_declared_item"] == 0
    assert Schema.load(tables.path).names("multi_categorical", table="items") == ("genres",)
    assert all(isinstance(genres, list) for (genres,) in rows(tables, "items", "genres"))


def test_ml_1m_has_an_order_only(shared_data: Path, tmp_path: Path) -> None:
    events = Events(path=f"{shared_data}/ml-1m/events.parquet", order="position")
    tables: Artifact = build_features(Store(tmp_path), parse_as_of("2024-01-01"), Data(events=events), Features())
    assert (tables.counts["events"], tables.counts["users"], tables.counts["items"]) == (999_611, 6_040, 3_416)
    read = pq.read_table(tables.path / "events.parquet", columns=["user_id", "event_order"])
    assert read["event_order"].to_numpy().max() == 2276 and not Schema.load(tables.path).has_times
