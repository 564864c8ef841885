"""A Prefect server for the tests of flows: one per test process, in a folder of its own. A chat that takes messages, and a shop."""

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime, tzinfo
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import get_client
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import CronSchedule
from prefect.settings import (
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_LOCAL_STORAGE_PATH,
    PREFECT_SERVER_DATABASE_CONNECTION_URL,
    temporary_settings,
)
from prefect.states import Pending, Running
from prefect.testing.utilities import prefect_test_harness

from recsys import published
from recsys.store import Draft, Store
from recsys.windows import parse_as_of


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Without heartbeats, whose thread makes every flow wait a second at its end; results stay out of PREFECT_HOME."""
    results = str(tmp_path_factory.mktemp("results"))
    with (
        prefect_test_harness(server_startup_timeout=600),
        temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None, PREFECT_LOCAL_STORAGE_PATH: results}),
    ):
        yield


class Chat(ThreadingHTTPServer):
    """Where alerts go: an HTTP server on this machine, as a chat's webhook. It answers with `status`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Webhook)
        self.messages: list[dict[str, Any]] = []
        self.status = 200

    @property
    def subjects(self) -> list[str]:
        return [message["subject"] for message in self.messages]

    @property
    def address(self) -> str:
        """It has a token in it, as a real one."""
        return f"http://127.0.0.1:{self.server_address[1]}/hooks/t0ken"


@contextmanager
def open_chat() -> Iterator[Chat]:
    with Chat() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


class _Webhook(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        said = json.loads(self.rfile.read(int(self.headers["content-length"])))
        assert isinstance(self.server, Chat)
        if self.server.status == 200:
            self.server.messages.append(said)
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Not to the terminal."""


@pytest.fixture
def chat(prefect_server: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Chat]:
    """The chat of a saved webhook block that RECSYS_ALERTS names."""
    with open_chat() as server:
        block = CustomWebhookNotificationBlock(name="chat", url=server.address, json_data={"subject": "{{subject}}", "body": "{{body}}"})
        block.save("on-call", overwrite=True)
        monkeypatch.setenv("RECSYS_ALERTS", "custom-webhook/on-call")
        yield server


@pytest.fixture
def client(prefect_server: None) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def deployed(client: SyncPrefectClient, tmp_path: Path) -> UUID:
    """A deployment of `nightly` for midnight, whose next run waits for the one before. Its schedule is off: it makes no runs.

    By the server's database it was made before any night of these tests was due.
    """
    due = DeploymentScheduleCreate(schedule=CronSchedule(cron="0 0 * * *", timezone="UTC"), active=False)
    deployment = client.create_deployment(
        client.create_flow_from_name("nightly"), tmp_path.name, parameters={"store": str(tmp_path / "shop")}, concurrency_limit=1,
        concurrency_options={"collision_strategy": "ENQUEUE"}, schedules=[due],
    )  # fmt: skip
    database = PREFECT_SERVER_DATABASE_CONNECTION_URL.value().partition("///")[2]
    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        made = connection.execute("update deployment set created = '2026-01-01 00:00:00.000000' where id = ?", [str(deployment)])
        assert made.rowcount == 1
    return deployment


def at_work(client: SyncPrefectClient, deployment: UUID, as_of: str = "2026-03-01") -> FlowRun:
    """A run that its worker has begun."""
    run = client.create_flow_run_from_deployment(deployment, parameters={"as_of": as_of})
    client.set_flow_run_state(run.id, Pending())
    client.set_flow_run_state(run.id, Running())
    return client.read_flow_run(run.id)


@pytest.fixture
def shop(tmp_path: Path) -> Store:
    """A store whose last night is of 28 February, with events until an hour before."""
    store = Store(tmp_path / "shop")
    night(store, "2026-02-28", "2026-02-27 23:00:00")
    return store


@contextmanager
def recorded_at(moment: str | datetime) -> Iterator[None]:
    """What is published meanwhile is on record as of that moment."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return parse_as_of(moment)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(published, "datetime", Clock)
        yield


def night(store: Store, as_of: str, newest_event: str | None, *, published_too: bool = True) -> published.Promotion:
    """A night of a store: its lists, made from a features artifact whose newest event is given."""
    moment = parse_as_of(as_of)

    def features(draft: Draft) -> None:
        draft.profile = {"events": {"event_at": {"max": newest_event}}}

    made = store.ensure("features", moment, {}, {}, features, code="recsys.store")
    lists = store.ensure("scoring", moment, {}, {"features": made}, lambda draft: None, code="recsys.store")
    found = published.promotion(moment, "a configuration", "candidate", {"scoring": lists}, ("It is the best.",))
    return published.publish(store, found) if published_too else published.set_aside(store, found, "backfill")
