"""Drift, by hand: nights of a few rows, whose profiles are those of the step, and what tonight's differ in."""

from collections.abc import Callable
from datetime import timedelta
from math import log, sqrt
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.config import Drift, Levels
from recsys.errors import ContractError
from recsys.features.drift import check_drift, findings, findings_of, measure_drift
from recsys.features.profile import PROFILE, profile
from recsys.schema import Column, Role, Schema
from recsys.status import status
from recsys.store import Artifact, Draft, Store
from recsys.windows import parse_as_of

TONIGHT = parse_as_of("2024-03-11")
USUAL: dict[str, Any] = {"device": ["phone"] * 60 + ["desk"] * 40, "price": list(range(100))}
COLUMNS: dict[str, Role] = {"device": "categorical", "price": "numeric"}

Night = Callable[..., Artifact]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Below folders that are named as columns are: they change nothing of what the files hold."""
    return Store(tmp_path / "users=7" / "eligible=false" / "store")


@pytest.fixture
def night(store: Store) -> Night:
    """Makes a features artifact with the last day's columns, its last row of days, eligible items and the newest event's age."""

    def make(
        days_before: int = 0, columns: dict[str, Any] = USUAL, *, day: tuple[int, int, int, int] = (100, 20, 5, 2), age_hours: float = 0,
        items: dict[int, int] | None = None, config: str = "same", history: str = "30d",
    ) -> Artifact:  # fmt: skip
        as_of = TONIGHT - timedelta(days=days_before)
        newest = as_of.replace(tzinfo=None) - timedelta(hours=age_hours)

        def build(draft: Draft) -> None:
            with duckdb.connect(config={"threads": 1}) as con:
                con.register("given", pa.table({**columns, "user_id": list(range(len(next(iter(columns.values())))))}))
                con.execute("create table last_day as from given")
                con.execute("create table events as select $1::timestamp as event_at", [newest])
                rows = [*profile(con, "last_day", COLUMNS), *profile(con, "events", {})]
                pq.write_table(pa.Table.from_pylist(rows, PROFILE), draft.path / "profile.parquet")
            names = ("users", "items", "new_users", "new_items")
            days = pa.Table.from_pylist([{"ends_at": newest, **dict(zip(names, day, strict=True))}])
            pq.write_table(days, draft.path / "days.parquet")
            had = [{"item_id": item, "eligible": True, "last_event_at": as_of.replace(tzinfo=None) - timedelta(days=ago)}
                   for item, ago in (items or {1: 0}).items()]  # fmt: skip
            pq.write_table(pa.Table.from_pylist(had), draft.path / "items.parquet")
            Schema(tuple(Column(name, "events", role) for name, role in COLUMNS.items() if name in columns)).save(draft.path)

        given = {"data": {"history": history, "items": None}, "features": config}
        return store.ensure("features", as_of, given, {}, build, code="recsys.windows", sources=[str(columns), day, age_hours, str(items)])

    return make


def rows(drift: Artifact) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["measure"], row["column"]): row for row in pq.read_table(drift.path / "drift.parquet").to_pylist()}


def index(expected: list[float], actual: list[float]) -> float:
    """The population stability index of two counts of rows, half a row added to each."""
    e, a = ([(n + 0.5) / (sum(counts) + 0.5 * len(counts)) for n in counts] for counts in (expected, actual))
    return sum((x - y) * log(x / y) for x, y in zip(a, e, strict=True))


def test_stability_of_categories(store: Store, night: Night) -> None:
    night(1)
    drift = measure_drift(store, night(columns={"device": ["phone"] * 20 + ["desk"] * 70 + ["watch"] * 10}), Drift())
    found = rows(drift)["stability", "device"]
    assert found["value"] == pytest.approx(index([60, 40, 0], [20, 70, 10]), abs=1e-6)
    assert found["chance"] == pytest.approx((2 + 3 * sqrt(4)) * (1 / 100 + 1 / 100), abs=1e-6)
    assert found["difference"] == pytest.approx(found["value"] - found["chance"], abs=2e-6) and found["level"] == "warn"


def test_stability_of_numbers_is_between_the_deciles_of_the_earlier_night(store: Store, night: Night) -> None:
    night(1)
    drift = measure_drift(store, night(columns={"price": list(range(30, 130))}), Drift())
    found = rows(drift)["stability", "price"]  # deciles 9, 19 … 89
    assert found["value"] == pytest.approx(index([10] * 10, [0] * 3 + [10] * 6 + [40]), abs=1e-6)
    assert found["chance"] == pytest.approx((9 + 3 * sqrt(18)) * (1 / 100 + 1 / 100), abs=1e-6)


def test_numbers_of_few_values_are_compared_by_value(store: Store, night: Night) -> None:
    night(1, {"price": [5] * 100})
    drift = measure_drift(store, night(columns={"price": [3] * 100}), Drift())
    assert rows(drift)["stability", "price"]["value"] == pytest.approx(index([100, 0], [0, 100]), abs=1e-6)


def test_a_handful_of_rows_differs_by_chance(store: Store, night: Night) -> None:
    night(1, {"device": ["phone", "desk", "desk"]})
    found = rows(measure_drift(store, night(columns={"device": ["phone", "phone", "phone"]}), Drift()))["stability", "device"]
    assert found["value"] > 0.25 > found["difference"] and found["level"] == ""


def test_the_most_similar_of_the_last_nights_counts(store: Store, night: Night) -> None:
    week_ago = night(7)
    for days in range(1, 7):
        night(days, {"device": ["desk"] * 100, "price": [days] * 100})
    found = rows(measure_drift(store, night(), Drift()))
    assert {row["night"] for (measure, _), row in found.items() if measure == "stability"} == {week_ago.as_of.replace(tzinfo=None)}
    assert found["stability", "price"]["value"] == 0
    assert rows(measure_drift(store, night(), Drift(nights=6)))["stability", "device"]["level"] == "warn"
    assert rows(measure_drift(store, night(), Drift(nights=0))) == {}


def test_shares_of_nulls_users_and_items(store: Store, night: Night) -> None:
    night(1, day=(400, 200, 40, 20))
    half = {"device": [None] * 70 + ["phone"] * 30}
    drift = measure_drift(store, night(columns=half, day=(400, 200, 240, 60)), Drift())
    found = rows(drift)
    expected = {
        ("nulls", "device"): (0.7, 0.0, 0.35, 100),
        ("unknown_users", ""): (0.6, 0.1, 0.35, 400),
        ("new_items", ""): (0.3, 0.1, 0.2, 200),
    }
    for key, (value, before, p, n) in expected.items():
        chance = 3 * sqrt(p * (1 - p) * 2 / n)
        assert (found[key]["value"], found[key]["before"]) == (value, before)
        assert found[key]["difference"] == pytest.approx(value - before - chance, abs=1e-6)
    assert [found[key]["level"] for key in expected] == ["stop" if 0.7 - found["nulls", "device"]["chance"] >= 0.5 else "warn", "warn", ""]


def test_volume_age_and_vanished_items(store: Store, night: Night) -> None:
    night(1, items={1: 0, 2: 5, 3: 29, 4: 29})
    few = {name: values[:24] for name, values in USUAL.items()}
    found = rows(measure_drift(store, night(columns=few, age_hours=12, items={1: 1, 5: 0}), Drift()))
    volume, age, gone = found["volume", ""], found["age", ""], found["vanished_items", ""]
    assert (volume["value"], volume["before"], volume["level"]) == (24, 100, "warn")
    assert volume["difference"] == pytest.approx(101 / 25)
    assert (age["value"], age["before"], age["level"]) == (0.5, 0.0, "warn")
    assert (gone["value"], gone["level"]) == (0.75, "stop"), "2, 3 and 4 are gone, and tonight's history begins 29 days before the last"


def test_items_that_only_left_the_window_have_not_vanished(store: Store, night: Night) -> None:
    night(1, items={1: 0, 2: 1, 3: 2}, history="1d")
    assert rows(measure_drift(store, night(items={1: 0}, history="1d"), Drift()))["vanished_items", ""]["value"] == 0


def test_what_warns_is_said_and_what_stops_is_an_error(store: Store, night: Night, caplog: pytest.LogCaptureFixture) -> None:
    night(1)
    tables = night(columns={"device": [None] * 100, "price": list(range(50, 150))})
    drift = measure_drift(store, tables, Drift())
    assert drift.counts == {"warnings": 1, "stops": 1, "nights": 1}
    assert [(found.level, found.measure, found.column) for found in findings(drift)] == [
        ("stop", "nulls", "device"),
        ("warn", "stability", "price"),
    ]
    with pytest.raises(ContractError) as error:
        check_drift(drift)
    assert "100.0% of last_day.device are null; 0.0% were on 2024-03-10." in str(error.value)
    assert str(drift.path) in str(error.value) and "raise that measure's `stop`" in str(error.value)
    assert "the values of last_day.price are spread otherwise" in caplog.text
    (shown, *_) = status(store, 7)
    assert shown.steps["features"].state == "failed" and "are null" in shown.steps["features"].error

    allowed = measure_drift(store, tables, Drift(nulls=Levels(warn=0.1)))
    check_drift(allowed)
    assert [found.level for found in findings_of(store, TONIGHT)] == ["warn", "warn"]
    assert status(store, 7)[0].steps["features"].state != "failed"
    assert findings_of(store, TONIGHT + timedelta(days=1)) == []


def test_a_night_that_was_stopped_is_none_to_compare_with(store: Store, night: Night) -> None:
    night(2)
    broken = {"device": [None] * 100, "price": list(range(100))}
    assert measure_drift(store, night(1, broken), Drift()).counts["stops"] == 1
    assert measure_drift(store, night(columns=broken), Drift()).counts == {"nights": 1, "warnings": 0, "stops": 1}


def test_only_earlier_nights_of_the_same_configuration_count(store: Store, night: Night) -> None:
    night(1, config="another")
    night(-1)
    assert measure_drift(store, night(), Drift()).counts == {"nights": 0, "warnings": 0, "stops": 0}


def test_a_damaged_night_is_passed_over(store: Store, night: Night, caplog: pytest.LogCaptureFixture) -> None:
    night(2)
    (night(1).path / "profile.parquet").write_bytes(b"PAR1")
    assert measure_drift(store, night(), Drift()).counts["nights"] == 1 and "is damaged" in caplog.text


def test_the_nights_compared_with_are_part_of_its_version_but_no_inputs(store: Store, night: Night) -> None:
    tables = night()
    alone = measure_drift(store, tables, Drift())
    night(1)
    compared = measure_drift(store, tables, Drift())
    assert compared.version != alone.version and list(compared.manifest["inputs"]) == ["features"]
    assert measure_drift(store, tables, Drift()).reused
    again = measure_drift(store, tables, Drift(), rebuild=True)
    assert (again.path, again.content) == (compared.path, compared.content), "to the same bytes"


def test_one_level_can_be_set_alone() -> None:
    drift = Drift.model_validate({"nulls": {"stop": 0.9}, "volume": {"warn": None}})
    assert drift.nulls == Levels(warn=0.1, stop=0.9) and drift.volume == Levels()
    with pytest.raises(ValueError, match="below warn"):
        Drift.model_validate({"nulls": {"stop": 0.05}})
