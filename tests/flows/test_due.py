"""Nights that are due and not published, by the schedules of their deployment. Times are given, and never waited for."""

from datetime import datetime, timedelta, timezone
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.states import Failed, Pending, Running

from flows import due, paging
from recsys import published
from recsys.store import Store
from recsys.windows import label, midnight, parse_as_of
from tests.flows.conftest import night, recorded_at


def on_schedule(*crons: str, timezone: str = "UTC", active: bool = True) -> DeploymentResponse:
    schedules = [DeploymentSchedule(schedule=CronSchedule(cron=cron, timezone=timezone), active=active) for cron in crons]
    return DeploymentResponse(name="shop", flow_id=uuid4(), schedules=schedules, created=parse_as_of("2026-01-01"))


DAILY = on_schedule("15 4 * * *")


def missing(deployment: DeploymentResponse, store: Store, now: str, published_by: str = "06:00") -> list[str]:
    return [label(moment) for moment in due.missing(deployment, store, parse_as_of(now), published_by)]


def test_a_night_is_missing_from_its_hour_until_it_is_decided(shop: Store) -> None:
    assert missing(DAILY, shop, "2026-03-01T05:59") == []
    assert missing(DAILY, shop, "2026-03-01T06:00") == ["2026-03-01"]
    night(shop, "2026-03-01", None, published_too=False)
    assert missing(DAILY, shop, "2026-03-01T06:00") == ["2026-03-01"], "a backfill publishes nothing"
    night(shop, "2026-03-01", None)
    assert missing(DAILY, shop, "2026-03-01T06:00") == []
    published.rollback(shop, "half of the lists are empty")
    assert missing(DAILY, shop, "2026-03-01T06:00") == [], "a person took it back, and knows"
    assert missing(DAILY, shop, "2026-03-02T06:00") == ["2026-03-02"]


def test_what_was_missing_while_nobody_looked_is_missing_still(shop: Store) -> None:
    assert missing(DAILY, shop, "2026-03-03T05:00") == ["2026-03-01", "2026-03-02"], "past midnight, and before the next hour"
    assert missing(DAILY, shop, "2026-03-03T06:00") == ["2026-03-01", "2026-03-02", "2026-03-03"]
    night(shop, "2026-03-02", None)
    assert missing(DAILY, shop, "2026-03-03T06:00") == ["2026-03-03"], "what is older than the last that was decided is history"
    assert missing(DAILY, shop, "2026-03-20T06:00") == [f"2026-03-{day}" for day in range(14, 21)], "and so is what is older than a week"


@pytest.mark.parametrize(
    ("deployment", "published_by", "now", "nights"),
    [
        (on_schedule("15 4 * * 1"), "06:00", "2026-03-01T23:00", []),  # a Sunday
        (on_schedule("15 4 * * 1"), "06:00", "2026-03-02T06:00", ["2026-03-02"]),
        (on_schedule("15 4 * * 1"), "06:00", "2026-03-08T23:00", ["2026-03-02"]),
        (on_schedule("0 8 * * *"), "06:00", "2026-03-02T05:59", []),  # due after the hour: the next day's counts
        (on_schedule("0 8 * * *"), "06:00", "2026-03-02T06:00", ["2026-03-01"]),
        (on_schedule("0 0 * * *"), "00:00", "2026-03-01", ["2026-03-01"]),
        (on_schedule("30 0 * * *", timezone="Europe/Berlin"), "06:00", "2026-03-02T06:00", ["2026-03-01"]),  # 23:30 UTC
        (on_schedule("15 4 * * 1", "15 4 * * 4"), "06:00", "2026-03-06T06:00", ["2026-03-02", "2026-03-05"]),
        (on_schedule("15 4 * * *", active=False), "06:00", "2026-03-01T06:00", ["2026-03-01"]),  # it was named
        (on_schedule(), "06:00", "2026-03-05T06:00", []),
    ],
)
def test_what_is_due_is_what_the_schedules_say(
    shop: Store, deployment: DeploymentResponse, published_by: str, now: str, nights: list[str]
) -> None:
    assert missing(deployment, shop, now, published_by) == nights


def test_a_schedule_that_is_off_makes_nothing_due_beside_one_that_is_on(shop: Store) -> None:
    both = on_schedule("15 4 * * 1").schedules + on_schedule("15 4 * * *", active=False).schedules
    deployment = DAILY.model_copy(update={"schedules": both})
    assert missing(deployment, shop, "2026-03-06T06:00") == ["2026-03-02"]


def test_any_kind_of_schedule_has_its_dates(shop: Store) -> None:
    every = IntervalSchedule(interval=timedelta(days=2), anchor_date=parse_as_of("2026-03-01T04:15"), timezone="UTC")
    deployment = DAILY.model_copy(update={"schedules": [DeploymentSchedule(schedule=every)]})
    assert missing(deployment, shop, "2026-03-06T06:00") == ["2026-03-01", "2026-03-03", "2026-03-05"]


def test_a_new_deployment_has_missed_nothing(shop: Store) -> None:
    store, new = Store(shop.root / "of another"), DAILY.model_copy(update={"created": parse_as_of("2026-03-01T10:00")})
    assert missing(new, store, "2026-03-02T05:59") == []
    assert missing(new, store, "2026-03-02T06:00") == ["2026-03-02"]
    assert missing(new, shop, "2026-03-02T06:00") == ["2026-03-02"], "and so where an old night was made by hand: the last is of February"


@pytest.mark.parametrize(
    ("on_record", "nights"),
    [
        (["2026-02-27T04:20", "2026-02-28T04:20"], ["2026-03-01"]),
        (["2026-02-26T04:20", "2026-02-27T04:20"], ["2026-02-28", "2026-03-01"]),
        (["2026-02-28T04:20"], []),  # a trial by hand
        (["2026-02-26T04:20", "2026-02-28T04:20"], []),  # two of them
        (["2026-02-14T04:20", "2026-02-15T04:20"], []),  # a schedule that was given up
    ],
)
def test_where_the_server_was_lost_and_made_again_its_nights_are_late_all_the_same(
    tmp_path: Path, on_record: list[str], nights: list[str]
) -> None:
    """The server knows its deployment from 08:00 on, and the store has nights that the schedule made on their days."""
    again, store = DAILY.model_copy(update={"created": parse_as_of("2026-03-01T08:00")}), Store(tmp_path)
    for at in on_record:
        with recorded_at(at):
            night(store, at[:10], None)
    assert missing(again, store, "2026-03-01T08:10") == nights


def test_nights_of_a_backfill_say_nothing_of_a_schedule(tmp_path: Path) -> None:
    new, store = DAILY.model_copy(update={"created": parse_as_of("2026-03-01T08:00")}), Store(tmp_path)
    with recorded_at("2026-02-28T16:00"):
        for day in ("2026-02-26", "2026-02-27", "2026-02-28"):
            night(store, day, None)
    assert missing(new, store, "2026-03-01T08:10") == []


@pytest.mark.parametrize(
    ("deployment", "now", "last"),
    [
        (DAILY, "2026-03-02T05:59", "2026-03-01T04:15"),
        (DAILY, "2026-03-02T06:00", "2026-03-02T04:15"),
        (on_schedule("15 4 * * 1"), "2026-03-08T23:00", "2026-03-02T04:15"),
        (on_schedule("15 4 1 * *"), "2026-04-01T05:00", "2026-03-01T04:15"),
        (on_schedule("15 4 1 1 *"), "2026-04-01T05:00", None),
        (on_schedule(), "2026-03-02T06:00", "2026-03-02T06:00"),
        (DAILY.model_copy(update={"created": parse_as_of("2026-03-01T10:00")}), "2026-03-02T05:59", None),
        (DAILY.model_copy(update={"created": parse_as_of("2026-03-01T10:00")}), "2026-03-02T06:00", "2026-03-02T04:15"),
    ],
)
def test_when_lists_were_due_last(shop: Store, deployment: DeploymentResponse, now: str, last: str | None) -> None:
    assert due.last(deployment, shop, parse_as_of(now), "06:00") == (parse_as_of(last) if last else None)


def test_why_a_night_is_late_is_what_its_run_is_at(client: SyncPrefectClient, deployed: UUID, shop: Store) -> None:
    deployment, folder, tonight = client.read_deployment(deployed), str(shop.root), midnight(datetime.now(timezone.utc))

    def why() -> tuple[str, str]:
        alert = due.late(client, deployment, folder, [tonight], "00:00")
        assert alert.night == label(tonight) and "Published is 2026-02-28." in alert.what
        return alert.why, alert.remedy

    assert why()[0] == "No run of it is on the server's list."
    run = client.create_flow_run_from_deployment(deployed, name="tonight")
    assert why() == ("tonight is Scheduled: nobody has begun it.", "Is a worker up, and has it room? Start one.")
    client.set_flow_run_state(run.id, Pending())
    client.set_flow_run_state(run.id, Running())
    assert why()[0].startswith("tonight is Running since ") and why()[1].startswith("Wait for it")
    client.set_flow_run_state(run.id, Failed(message="SourceError: has the data arrived?"))
    assert why()[0].endswith("SourceError: has the data arrived?")
    assert f"run it again: `prefect deployment run nightly/{deployment.name} -p as_of={label(tonight)}`." in why()[1]


def test_a_run_of_another_night_says_nothing_of_tonight(client: SyncPrefectClient, deployed: UUID) -> None:
    """Nor does one whose night nobody can read."""
    deployment, tonight = client.read_deployment(deployed), midnight(datetime.now(timezone.utc))
    ours = client.create_flow_run_from_deployment(deployed)
    for as_of in ("2026-03-01", "in spring"):
        client.create_flow_run_from_deployment(deployed, parameters={"as_of": as_of})
    found = due.run_of(client, deployment, tonight)
    assert found is not None and found.id == ours.id
    again = client.create_flow_run_from_deployment(deployed, parameters={"as_of": label(tonight)})
    found = due.run_of(client, deployment, tonight)
    assert found is not None and found.id == again.id


def test_the_run_of_a_night_is_found_behind_any_number_of_others(
    client: SyncPrefectClient, deployed: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where somebody has made many old nights since, by hand."""
    monkeypatch.setattr(paging, "PAGE", 2)
    ours = client.create_flow_run_from_deployment(deployed)
    for _ in range(4):
        client.create_flow_run_from_deployment(deployed, parameters={"as_of": "2026-03-01"})
    found = due.run_of(client, client.read_deployment(deployed), midnight(datetime.now(timezone.utc)))
    assert found is not None and found.id == ours.id


def test_nights_that_are_late_are_told_together(client: SyncPrefectClient, deployed: UUID, shop: Store) -> None:
    deployment, nights = client.read_deployment(deployed), [parse_as_of("2026-03-01"), parse_as_of("2026-03-02")]
    alert = due.late(client, deployment, str(shop.root), nights, "06:00")
    assert alert.subject == "recsys shop 2026-03-02: not published by 06:00"
    assert alert.what == f"{deployment.name}: 2026-03-01, 2026-03-02 are not published by 06:00 UTC. Published is 2026-02-28."
