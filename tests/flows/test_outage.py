"""A server that is down is told without it, by `recsys watch` as a timer runs it."""

import os
import threading
import time
from collections.abc import Iterator
from http.server import HTTPServer
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from flows import machine, outage
from flows.cli import app
from tests.flows.conftest import Chat, open_chat
from tests.flows.test_machine import Health, free_port


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Chat]:
    """A webhook that RECSYS_ALERTS_URL names, and a server that should be at PREFECT_API_URL and is not."""
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{free_port()}/api")
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.setattr(machine, "SECONDS_TO_ANSWER", 0)
    with open_chat() as server:
        monkeypatch.setenv("RECSYS_ALERTS_URL", server.address)
        yield server


def look(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["watch", *arguments], env={"COLUMNS": "400"})


def test_a_server_that_is_down_is_told_once_a_day(receiver: Chat, tmp_path: Path) -> None:
    looked = look()
    assert looked.exit_code == 1
    assert f"No server answers at {os.environ['PREFECT_API_URL']}" in looked.output and "Whoever is on call was told." in looked.output
    (message,) = receiver.messages
    assert message["title"] == "recsys: the server is down"
    assert os.environ["PREFECT_API_URL"] in message["message"] and "systemctl start recsys-server" in message["message"]
    assert "where `recsys up` runs it, give that again" in message["message"] and "server.log in the PREFECT_HOME" in message["message"]
    again = look()
    assert again.exit_code == 1 and "Whoever is on call was told before." in again.output and len(receiver.messages) == 1
    yesterday = time.time() - outage.REMINDER - 1
    os.utime(tmp_path / outage.MARK, (yesterday, yesterday))
    assert look().exit_code == 1 and len(receiver.messages) == 2


def test_once_it_is_back_its_next_outage_is_another(receiver: Chat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look()
    with HTTPServer(("127.0.0.1", 0), Health) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        down = os.environ["PREFECT_API_URL"]
        monkeypatch.setenv("PREFECT_API_URL", up := f"http://127.0.0.1:{server.server_address[1]}/api")
        back = look("--only-server")
        server.shutdown()
    assert back.exit_code == 0 and back.output.strip() == f"A server answers at {up}."
    monkeypatch.setenv("PREFECT_API_URL", down)
    assert look("--only-server").exit_code == 1 and len(receiver.messages) == 2


def test_a_message_that_cannot_be_sent_is_said_and_sent_later(receiver: Chat) -> None:
    receiver.status = 503
    unheard = look()
    assert unheard.exit_code == 1 and "Nobody could be told: RecsysError: " in unheard.output and "503" in unheard.output
    assert "t0ken" not in unheard.output
    receiver.status = 200
    assert look().exit_code == 1 and len(receiver.messages) == 1


def test_an_environment_that_names_nobody_says_so(receiver: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RECSYS_ALERTS_URL")
    looked = look()
    assert looked.exit_code == 1 and "Nobody is told: RECSYS_ALERTS_URL is not set." in looked.output
