"""What whoever is on call gets to read: once per night and cause, and never at the cost of the night."""

import logging
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prefect import flow, get_client
from prefect.blocks.notifications import MattermostWebhook
from prefect.states import Completed, Crashed, State

from flows import alerts
from flows.nightly import nightly
from recsys.config import Data, Events, Features, Levels
from recsys.features.drift import measure_drift
from recsys.features.profile import PROFILE
from recsys.published import Promotion, publish
from recsys.schema import Column, Schema
from recsys.store import Draft, Store
from recsys.windows import parse_as_of
from tests.flows.conftest import Chat

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


def test_a_night_is_told_once_per_cause(chat: Chat, tmp_path: Path) -> None:
    for _ in range(2):
        failed_night(tmp_path / "shop")
    assert len(chat.messages) == 1
    failed_night(tmp_path / "shop", data=Data(events=Events(path="/another/folder/*.parquet", time="at")))
    failed_night(tmp_path / "shop", as_of="2026-03-02")
    failed_night(tmp_path / "other" / "shop")
    assert chat.subjects == ["recsys shop 2026-03-01: failed"] * 2 + ["recsys shop 2026-03-02: failed", "recsys shop 2026-03-01: failed"]


def test_a_night_that_takes_too_long(chat: Chat, tmp_path: Path) -> None:
    hurried = nightly.with_options(timeout_seconds=0.01)
    state = hurried(as_of=datetime(2026, 3, 1), store=str(tmp_path / "shop"), data=Data(demo={"n_users": 500}), return_state=True)
    assert state.name == "TimedOut"
    assert chat.subjects == ["recsys shop 2026-03-01: timed out"]


def test_a_killed_run_is_told_by_its_worker(chat: Chat, tmp_path: Path) -> None:
    """A worker loads the flow and calls its hooks by the names of their parameters."""
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(nightly, parameters={"store": str(tmp_path / "shop"), "as_of": "2026-03-01T00:00:00+00:00"})
    killed: State = Crashed(message="Flow run process exited with non-zero status code -9.")
    for hook in nightly.on_crashed_hooks:
        hook(flow=nightly, flow_run=run, state=killed)
    assert chat.subjects == ["recsys shop 2026-03-01: crashed"]
    assert "status code -9" in chat.messages[0]["body"]


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


def test_nobody_is_told_of_a_run_by_hand(chat: Chat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RECSYS_ALERTS")
    failed_night(tmp_path / "shop")
    assert not chat.messages


def test_an_alert_of_a_backfill_names_its_nights(chat: Chat, tmp_path: Path) -> None:
    from flows.backfill import backfill

    nights = {"first": parse_as_of("2026-02-27"), "last": parse_as_of("2026-02-28")}
    backfill(**nights, store=str(tmp_path / "shop"), data=NOWHERE, return_state=True)
    assert chat.subjects == ["recsys shop 2026-02-27 to 2026-02-28: failed"]
