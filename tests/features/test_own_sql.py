"""SQL of one's own: what it replaces and adds, and what is said where it cannot be right."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recsys.config import Data, Events
from recsys.errors import ContractError, RecsysError
from recsys.schema import Schema
from recsys.store import Artifact

Build = Callable[..., Artifact]
Clicks = Callable[..., str]
Rows = Callable[..., list[tuple[Any, ...]]]


def test_own_sql_replaces_and_adds(build: Build, clicks: Clicks, rows: Rows, tmp_path: Path) -> None:
    sql = {
        "rules/eligible_items.sql": "select item_id from stg_events group by item_id having count(*) > 1",
        "rules/blocked_pairs.sql": "from (values (1, 20), (1, 20), (77, 20), (1, 77)) pairs (user_id, item_id)",
        "features/20_events.sql": (Path(__file__).parents[2] / "sql/features/20_events.sql").read_text().replace(
            "select * from events", "select *, weekday > 5 as is_weekend from events"
        ),
        "features/70_devices.sql": "select device, count(*) as n_events from events group by device;",
    }  # fmt: skip
    for name, text in sql.items():
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / name).write_text(text)
    events = Events(path=clicks(), time="event_at", categorical=("device", "is_weekend"))
    tables = build(Data(events=events, sql_overlay=str(tmp_path / "mine")), n_shards=1)
    assert rows(tables, "items", "item_id", "eligible") == [(10, True), (20, False), (30, False)]
    assert rows(tables, "blocked") == [(0, 1, 20)], "each pair once, of known users and items"
    assert rows(tables, "events", "is_weekend") == [(True,)] * 5
    assert "is_weekend" in Schema.load(tables.path).names("categorical")
    assert rows(tables, "devices") == [("desktop", 1), ("phone", 3), (None, 1)]
    assert build(Data(events=events, sql_overlay=str(tmp_path / "mine")), n_shards=1).reused
    (tmp_path / "mine" / "features/70_devices.sql").write_text("select device from events group by device")
    assert not build(Data(events=events, sql_overlay=str(tmp_path / "mine")), n_shards=1).reused, "another SQL is another version"


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("items.sql", "select 1", "items.sql would never be run. Put it into"),
        ("features/15_items.sql", "select 1", "make 'items'"),
        ("features/20_events.sql", "select nonsense from stg_events", "20_events.sql"),
        ("features/30_items.sql", "select item_id, true as eligible from stg_events", "column 'n_events' not found"),
        (
            "checks/no_phones.sql",
            "-- Rows of phones.\n-- Ask the app team.\nselect item_id from stg_events where device = 'phone'",
            "no_phones: 3 rows, as {item_id: 10}; {item_id: 10}; {item_id: 30}. Rows of phones. Ask the app team.",
        ),
    ],
)
def test_own_sql_that_cannot_be_right(build: Build, clicks: Clicks, tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "mine" / name).write_text(text)
    with pytest.raises(RecsysError) as error:
        build(Data(events=Events(path=clicks(), time="event_at", categorical=("device",)), sql_overlay=str(tmp_path / "mine")))
    assert says in str(error.value)


def test_own_columns_have_to_be_made(build: Build, clicks: Clicks, tmp_path: Path) -> None:
    (tmp_path / "mine/features").mkdir(parents=True)
    own = (Path(__file__).parents[2] / "sql/features/20_events.sql").read_text()
    (tmp_path / "mine/features/20_events.sql").write_text(own)
    data = Data(events=Events(path=clicks(), time="event_at", categorical=("is_weekend",)), sql_overlay=str(tmp_path / "mine"))
    with pytest.raises(ContractError, match="events has no column 'is_weekend'.*neither .*clicks.parquet nor .*20_events.sql makes it"):
        build(data)
    (tmp_path / "mine/features/20_events.sql").write_text(own.replace("select * from events", "select *, 0.5 as is_weekend from events"))
    with pytest.raises(ContractError, match=r"makes the categorical column 'is_weekend' DECIMAL\(2,1\). But a category is"):
        build(data)
