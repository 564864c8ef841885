"""What whoever is on call gets to read: once per night and cause, and never at the cost of the night."""

import logging
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prefect import flow, get_client
from prefect.blocks.notifications import MattermostWebhook
from prefect.states import Completed, Crashed, Scheduled, State

from flows import alerts
from flows.nightly import nightly
from recsys.config import Data, Events, Features, Levels
from recsys.features import checks
from recsys.features.drift import measure_drift
from recsys.features.profile import PROFILE
from recsys.published import Promotion, publish
from recsys.publishing import contracts
from recsys.schema import Column, Schema
from recsys.store import Draft, Store
from recsys.windows import parse_as_of
from tests.flows.conftest import Chat

NIGHT = datetime(2026, 3, 2, 4, 15, tzinfo=timezone.utc)  # when a run of the schedule is due
NOWHERE = Data(events=Events(path="/no/such/folder/*.parquet", time="at"))
EARLIER = Promotion("2026-02-28T00:00:00+00:00", "a configuration", "candidate", {}, ("It is the best.",), id="0123456789ab")
REASONS = ("Popularity is published.", "The new model is rejected: it is 3.0% below popularity.")


def failed_night(store: Path, as_of: str = "2026-03-01", data: Data = NOWHERE) -> State:
    return nightly(as_of=datetime.fromisoformat(as_of), store=str(store), data=data, return_state=True)


def test_a_failed_night_says_what_which_night_why_what_to_do_and_where_to_look(chat: Chat, tmp_path: Path) -> None:
    publish(Store(tmp_path / "shop"), EARLIER)
    assert failed_night(tmp_path / "shop").is_failed()
    (message,) = chat.messages
    assert message["subject"] == "recsys shop 2026-03-01: failed"
    what, why, remedy, where = message["body"].split("\n\n")
    assert what == "nightly-2026-03-01 failed. Published is 2026-02-28."
    assert why.startswith("Why: SourceError: data.events.path: no file matches /no/such/folder/*.parquet.")
    assert remedy.startswith("What to do: Put right what the message names, then run it again")
    assert re.search(r"- http://127.0.0.1:\d+/runs/flow-run/[0-9a-f-]+\n", where)
    assert f"- recsys status --store {tmp_path / 'shop'}\n" in where and "docs/operate.md" in where


def test_the_alert_of_a_night_by_hand_has_the_command_that_was_given(chat: Chat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its file, and the night that it was for."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["/opt/recsys/.venv/bin/recsys", "nightly", "--config", "my.yaml"])
    failed_night(tmp_path / "shop")
    command = f"cd {tmp_path} && /opt/recsys/.venv/bin/recsys nightly --config my.yaml --as-of 2026-03-01"
    assert f"then run it again: `{command}`. Finished steps are reused." in chat.messages[0]["body"]


def test_a_store_in_a_folder_with_a_space_is_one_word_of_the_command() -> None:
    assert alerts.places(None, "/srv/two words", "The morning")[0] == "recsys status --store '/srv/two words'"


def test_a_night_is_told_once_per_cause(chat: Chat, tmp_path: Path) -> None:
    for _ in range(2):
        failed_night(tmp_path / "shop")
    assert len(chat.messages) == 1
    failed_night(tmp_path / "shop", data=Data(events=Events(path="/another/folder/*.parquet", time="at")))
    failed_night(tmp_path / "shop", as_of="2026-03-02")
    failed_night(tmp_path / "other" / "shop")
    assert chat.subjects == ["recsys shop 2026-03-01: failed"] * 2 + ["recsys shop 2026-03-02: failed", "recsys shop 2026-03-01: failed"]


def test_a_killed_run_is_told_by_its_worker(chat: Chat, tmp_path: Path) -> None:
    """A worker loads the flow and calls its hooks by the names of their parameters, with the run as it was before it had its name."""
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(nightly, parameters={"store": str(tmp_path / "shop"), "as_of": "2026-03-01T00:00:00+00:00"})
        client.update_flow_run(run.id, name="nightly-2026-03-01")
    killed: State = Crashed(message="Flow run process exited with non-zero status code -9.")
    for hook in nightly.on_crashed_hooks:
        hook(flow=nightly, flow_run=run, state=killed)
    assert chat.subjects == ["recsys shop 2026-03-01: crashed"]
    assert chat.messages[0]["body"].startswith("nightly-2026-03-01 crashed.") and "status code -9" in chat.messages[0]["body"]


@pytest.mark.parametrize(
    ("action", "source", "said"),
    [
        ("publish", "candidate", []),
        ("publish", "popular", ["recsys shop 2026-03-01: candidate rejected"]),
        ("publish", "current", ["recsys shop 2026-03-01: candidate rejected"]),
        ("hold", "candidate", ["recsys shop 2026-03-01: waits for a person"]),
    ],
)
def test_a_decision_against_the_candidate_and_one_that_waits(chat: Chat, tmp_path: Path, action: str, source: str, said: list[str]) -> None:
    decision = Promotion("2026-03-01T00:00:00+00:00", "a configuration", source, {}, REASONS, action, id="0123456789ab")

    @flow(on_completion=[alerts.on_decision])
    def night(store: str) -> State:
        return Completed(message="done", data=decision)

    night(str(tmp_path / "shop"))
    assert chat.subjects == said
    assert all("The new model is rejected: it is 3.0% below popularity." in message["body"] for message in chat.messages)


def test_drift_is_told_of_a_night_that_goes_on(chat: Chat, tmp_path: Path) -> None:
    """The sentences are those of the night's drift artifact: half of the last day's users are new, where nobody was the night before."""
    store = Store(tmp_path / "shop")

    def days(new_users: int) -> Callable[[Draft], None]:
        def write(draft: Draft) -> None:
            with duckdb.connect() as connection:
                connection.execute(f"""create table days as
                    select timestamp '2026-03-01' as ends_at, 10000 as events, 10000 as users, 5 as items,
                        {new_users} as new_users, 0 as new_items""")
                connection.table("days").write_parquet(str(draft.path / "days.parquet"))
            pq.write_table(PROFILE.empty_table(), draft.path / "profile.parquet")
            items = pa.table({"item_id": [1], "eligible": [True], "last_event_at": [None]})
            pq.write_table(items, draft.path / "items.parquet")
            Schema((Column("device", "events", "categorical", "VARCHAR"),), has_times=True).save(draft.path)

        return write

    settings = {"data": {"history": "30d", "items": None}}
    nights = [parse_as_of("2026-02-28"), parse_as_of("2026-03-01")]
    made = [store.ensure("features", at, settings, {}, days(n), code="recsys.store") for at, n in zip(nights, (0, 5000), strict=True)]
    measure_drift(store, made[1], Features().drift.model_copy(update={"unknown_users": Levels(warn=0.2, stop=0.9)}))
    decision = Promotion(nights[1].isoformat(), "a configuration", "candidate", {}, REASONS, id="0123456789ab")

    @flow(on_completion=[alerts.on_decision])
    def night(store: str) -> State:
        return Completed(message="done", data=decision)

    night(str(store.root))
    assert chat.subjects == ["recsys shop 2026-03-01: data drift"]
    assert "50.0% of the last day's users had no event before it; 0.0% on 2026-02-28" in chat.messages[0]["body"]


def test_a_message_that_cannot_be_sent_breaks_nothing_and_is_sent_later(
    chat: Chat, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The address of a webhook is its password: the log has no part of it."""
    chat.status = 503
    with caplog.at_level(logging.INFO):
        state = failed_night(tmp_path / "shop")
    assert state.is_failed() and "no file matches" in str(state.message), "what the run came to is its own trouble"
    assert "The alert 'recsys shop 2026-03-01: failed' could not be sent: HTTPStatusError: Server error '503" in caplog.text
    assert "t0ken" not in caplog.text
    chat.status = 200
    failed_night(tmp_path / "shop")
    assert chat.subjects == ["recsys shop 2026-03-01: failed"]


def test_what_became_of_a_message(chat: Chat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alert, log = alerts.Alert(str(tmp_path / "shop"), "2026-03-01", "stale data", "Old.", "It is.", "Look.", ()), logging.getLogger("flows")
    chat.status = 503
    assert alerts.send(alert, log) == "failed"
    chat.status = 200
    assert [alerts.send(alert, log), alerts.send(alert, log)] == ["sent", "known"]
    monkeypatch.delenv("RECSYS_ALERTS")
    assert [alerts.send(alert, log), alerts.send(replace(alert, night="2026-03-02"), log)] == ["known", "failed"]


@pytest.mark.parametrize(
    ("channel", "says"),
    [("custom-webhook", "names no block: write its type and its name"), ("slack-webhook/absent", "Unable to find block document")],
)
def test_a_channel_that_is_none(
    chat: Chat, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, channel: str, says: str
) -> None:
    monkeypatch.setenv("RECSYS_ALERTS", channel)
    with caplog.at_level(logging.INFO):
        assert failed_night(tmp_path / "shop").is_failed()
    assert says in caplog.text and not chat.messages


def test_any_notification_block_will_do(chat: Chat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of chats go through the library Apprise."""
    MattermostWebhook(hostname="127.0.0.1", port=chat.server_address[1], token="0123456789abcdefghij").save("on-call", overwrite=True)
    monkeypatch.setenv("RECSYS_ALERTS", "mattermost-webhook/on-call")
    failed_night(tmp_path / "shop")
    (message,) = chat.messages
    assert "recsys shop 2026-03-01: failed" in message["text"] and "no file matches" in message["text"]


def test_rows_of_data_stay_at_home() -> None:
    broken = "The data break a contract:\n  late: 2 of 9 rows, as {user_id: 7, at: {x}}; {user_id: 8}. Write the column.\n  other: 1 row."
    assert alerts.without_rows(broken) == "The data break a contract:\n  late: 2 of 9 rows. Write the column.\n  other: 1 row."


def test_rows_of_lists_stay_at_home(tmp_path: Path) -> None:
    """In the very message of the contracts on lists, whatever the ids look like."""
    with duckdb.connect() as connection:
        rows = connection.execute("select * from (values ('u7', 1), ('u}8' || chr(10) || 'u9; {', 2)) as lists(user_id, item_id)")
        sample = tuple(contracts._sample(rows))
    broken = contracts.Check("seen_items", "recommendation of a seen item", 2, 0, False, sample)
    lists = Store(tmp_path).ensure("scoring", parse_as_of("2026-03-01"), {}, {}, lambda _: None, code="recsys.windows")
    said = contracts._message(lists.as_of, [broken], lists)
    assert "u7" in said and "u}8" in said and "u9" in said
    told = alerts.without_rows(said)
    assert told.splitlines()[1] == "  seen_items: 2 × recommendation of a seen item"
    assert not re.search("u7|u}8|u9", told) and f"The lists are in {tmp_path}" in told


def test_rows_of_tables_stay_at_home() -> None:
    """A value of several lines is one of the message too."""
    rows = [{"user_id": "u7", "text": "two\nlines}"}, {"user_id": "u8", "text": "."}]
    assert alerts.without_rows(checks._finding("late", "2 of 9 rows", rows, "Write it.")) == "  late: 2 of 9 rows. Write it."


def test_a_store_that_nobody_can_name_is_told(chat: Chat) -> None:
    """Its variable is not set, which is the trouble."""
    alert = alerts.Alert(
        "${NOT_SET_ANYWHERE}/shop", "2026-03-01", "failed", "It failed.", "ConfigError: export it", "Export it.", ("here",)
    )
    log = logging.getLogger("flows")
    assert [alerts.send(alert, log), alerts.send(alert, log)] == ["sent", "known"]
    assert chat.subjects == ["recsys shop 2026-03-01: failed"]


@pytest.mark.parametrize(
    ("name", "deployed", "given", "command"),
    [
        ("nightly", {"seed": 1}, {"seed": 1}, "nightly/shop -p as_of=2026-03-02"),
        ("nightly", {}, {"as_of": "2026-03-01T00:00:00+00:00"}, "nightly/shop -p as_of=2026-03-01"),
        (
            "nightly", {"training": {"max_epochs": 8}}, {"training": {"max_epochs": 3, "recipe": "it's"}, "rebuild": True},
            """nightly/shop -p as_of=2026-03-02 -p 'training={"max_epochs": 3, "recipe": "it'"'"'s"}' -p rebuild=true""",
        ),
        (
            "backfill", {"publish": False}, {"first": "2026-02-01", "last": "2026-02-03", "publish": False},
            "backfill/shop -p first=2026-02-01 -p last=2026-02-03",
        ),
        ("prune", {"nights": 14}, {"nights": 14}, "prune/shop"),
        ("watch", {}, {"max_age": "3d", "published_by": "7"}, """watch/shop -p max_age=3d -p 'published_by="7"'"""),
        ("score", {"scoring": {"k": 10}}, {"scoring": {"k": 5}, "users": ["u7"]}, """score/shop -p 'scoring={"k": 5}' -p 'users=…'"""),
    ],
)  # fmt: skip
def test_what_runs_the_same_again(prefect_server: None, name: str, deployed: dict[str, Any], given: dict[str, Any], command: str) -> None:
    """Every parameter that is not the deployment's, and the night where the schedule gave it; but no user."""
    with get_client(sync_client=True) as client:
        deployment = client.create_deployment(client.create_flow_from_name(name), "shop", parameters=deployed)
        run = client.create_flow_run_from_deployment(deployment, parameters={**deployed, **given}, state=Scheduled(scheduled_time=NIGHT))
        assert alerts.again(run) == f"`prefect deployment run {command}`"
        client.delete_deployment(deployment)
        assert alerts.again(run) == "its deployment is gone, so deploy first"


def test_nobody_is_told_of_a_run_by_hand(chat: Chat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RECSYS_ALERTS")
    failed_night(tmp_path / "shop")
    assert not chat.messages


def test_an_alert_of_a_backfill_names_its_nights(chat: Chat, tmp_path: Path) -> None:
    from flows.backfill import backfill

    nights = {"first": parse_as_of("2026-02-27"), "last": parse_as_of("2026-02-28")}
    backfill(**nights, store=str(tmp_path / "shop"), data=NOWHERE, return_state=True)
    assert chat.subjects == ["recsys shop 2026-02-27 to 2026-02-28: failed"]
