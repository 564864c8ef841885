"""A backfill over three nights: what it makes and publishes, what each is compared with, and how it is resumed."""

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from prefect.states import State

from flows.backfill import backfill
from flows.nightly import nightly
from recsys import published
from recsys.config import Data, Evaluation, Features, Model, Promotion, Shop, Training
from recsys.errors import ConfigError, ContractError
from recsys.store import Store

pytestmark = pytest.mark.usefixtures("prefect_server")

DAYS = [datetime(2025, 6, 2, tzinfo=timezone.utc) + timedelta(days=n) for n in range(4)]
TINY: dict[str, Any] = {
    "data": Data(demo=Shop(n_users=150, n_items=50)),
    "model": Model(width=16, max_events=10),
    "training": Training(max_epochs=1, users_per_batch=32, n_validation_users=50, refit=False),
    "evaluation": Evaluation(n_bootstrap=100),
    "promotion": Promotion(min_users=1, min_lift=-1.0, tolerance=1.0),
}


def fill(store: Path, first: datetime, last: datetime, **given: Any) -> State[list[published.Promotion]]:
    return backfill(first, last, str(store), return_state=True, **{**TINY, **given})  # type: ignore[call-overload, no-any-return]


@pytest.fixture(scope="module")
def store(prefect_server: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a backfill of two nights."""
    folder = tmp_path_factory.mktemp("backfill") / "shop"
    state = fill(folder, DAYS[0], DAYS[1])
    assert state.message == "Nights that were there for this configuration: 0 of 2. Made now: 2."
    return folder


def rival(store: Path, night: published.Promotion) -> str | None:
    """The version of the model that a night was compared with."""
    inputs = Store(store).open(night.artifacts["evaluation"]).manifest["inputs"]
    return inputs["current"]["version"] if "current" in inputs else None


def test_it_publishes_nothing_and_compares_each_night_with_its_own_night_before(store: Path) -> None:
    first, second = (published.backfilled(Store(store), day, config(store)) for day in DAYS[:2])
    assert first is not None and second is not None
    assert published.current(Store(store)) is None
    assert rival(store, first) is None and rival(store, second) == first.artifacts["training"]["version"]


def config(store: Path) -> str:
    return published.history(Store(store))[0].config


def test_again_it_makes_nothing_and_says_so_and_a_longer_one_goes_on(store: Path) -> None:
    before = (store / "promotions.jsonl").read_bytes()
    again = fill(store, DAYS[0], DAYS[1])
    assert again.message == "Nights that were there for this configuration: 2 of 2. Nothing to do."
    assert (store / "promotions.jsonl").read_bytes() == before
    longer = fill(store, DAYS[0], DAYS[2])
    assert longer.message == "Nights that were there for this configuration: 2 of 3. Made now: 1."
    nights = longer.result()
    assert [night.moment for night in nights] == DAYS[:3] and rival(store, nights[2]) == nights[1].artifacts["training"]["version"]


def test_asked_to_it_publishes_what_is_there_and_a_newer_night_stays(store: Path, tmp_path: Path) -> None:
    made = fill(store, DAYS[0], DAYS[2]).result()
    newer = nightly(as_of=DAYS[3], store=str(store), return_state=True, **TINY).result()  # type: ignore[call-overload]
    done = fill(store, DAYS[0], DAYS[2], publish=True).result()
    assert [(night.id, night.action) for night in done] == [(night.id, "publish") for night in made]
    assert published.current(Store(store)) == newer
    assert published.before(Store(store), DAYS[3]).id == made[2].id  # type: ignore[union-attr]
    assert fill(store, DAYS[0], DAYS[3]).message == "Nights that were there for this configuration: 4 of 4. Nothing to do."


def test_what_waits_for_a_person_goes_on_waiting_and_is_nobodys_rival(tmp_path: Path) -> None:
    held = {"promotion": TINY["promotion"].model_copy(update={"mode": "held"})}
    first, second = fill(tmp_path, DAYS[0], DAYS[1], publish=True, **held).result()
    assert (first.action, second.action) == ("hold", "hold") and rival(tmp_path, second) is None
    lines = (tmp_path / "promotions.jsonl").read_bytes()
    again = fill(tmp_path, DAYS[0], DAYS[1], **held)
    assert again.message == "Nights that were there for this configuration: 2 of 2. Nothing to do."
    assert (tmp_path / "promotions.jsonl").read_bytes() == lines
    assert published.waiting(Store(tmp_path), DAYS[0], first.config) == first and published.current(Store(tmp_path)) is None


def test_a_night_that_breaks_a_contract_stops_it_and_those_before_stay(store: Path) -> None:
    before = len(published.history(Store(store)))
    state = fill(store, DAYS[0], DAYS[1], features=Features(min_day_volume=99.0))
    with pytest.raises(ContractError, match="low_day_volume"):
        state.result()
    assert len(published.history(Store(store))) == before


def test_dates_in_the_wrong_order_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="before the first"):
        fill(tmp_path, DAYS[1], DAYS[0]).result()
