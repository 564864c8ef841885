"""A Prefect server for the tests of flows: one per test process, in a folder of its own. And a chat that takes messages."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, PREFECT_LOCAL_STORAGE_PATH, temporary_settings
from prefect.testing.utilities import prefect_test_harness


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
    """The chat of a saved webhook block that RECSYS_ALERTS names. Its address has a token in it, as a real one."""
    with Chat() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/hooks/t0ken"
        block = CustomWebhookNotificationBlock(name="chat", url=address, json_data={"subject": "{{subject}}", "body": "{{body}}"})
        block.save("on-call", overwrite=True)
        monkeypatch.setenv("RECSYS_ALERTS", "custom-webhook/on-call")
        yield server
        server.shutdown()
