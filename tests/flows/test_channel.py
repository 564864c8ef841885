"""Where alerts go: a block of the server, and an address that needs none."""

from collections.abc import Iterator

import pytest

from flows import channel
from recsys.errors import ConfigError, RecsysError
from tests.flows.conftest import Chat, open_chat


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Chat]:
    """A webhook that RECSYS_ALERTS_URL names."""
    with open_chat() as server:
        monkeypatch.setenv("RECSYS_ALERTS_URL", server.address)
        yield server


@pytest.mark.parametrize("kind", ["http", "json"])
def test_an_address_is_a_webhook_or_one_of_apprise(receiver: Chat, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setenv("RECSYS_ALERTS_URL", receiver.address.replace("http", kind))
    channel.by_address("subject", "text")
    (message,) = receiver.messages
    assert (message["title"], message["message"]) == ("subject", "text")


def test_an_address_that_is_none(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RECSYS_ALERTS_URL", "hooks/t0ken")
    with pytest.raises(ConfigError, match="RECSYS_ALERTS_URL is nothing that a message can be sent to"):
        channel.by_address("subject", "text")
    assert "t0ken" not in "".join(capfd.readouterr())


def test_a_test_says_of_each_way_whether_messages_arrive(chat: Chat, receiver: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    said = ["Sent to custom-webhook/on-call. Has it arrived?", "Sent to the address of RECSYS_ALERTS_URL. Has it arrived?"]
    assert channel.send_test().splitlines() == said
    assert chat.subjects == [receiver.messages[0]["title"]] == ["recsys: a test"]
    for broken in (chat, receiver):
        chat.status, receiver.status = 200, 200
        broken.status = 503
        with pytest.raises(RecsysError) as told:
            channel.send_test()
        lines = str(told.value).splitlines()
        works, fails = (said[1], "custom-webhook/on-call") if broken is chat else (said[0], "the address of RECSYS_ALERTS_URL")
        assert works in lines and any(line.startswith(f"The test could not be sent to {fails}: ") and "503" in line for line in lines)
        assert "t0ken" not in str(told.value)


def test_who_is_not_told_is_said(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_ALERTS_URL", "https://example.org/hook")
    assert channel.gap() == ""
    monkeypatch.delenv("RECSYS_ALERTS_URL")
    assert channel.gap() == "Nobody is told when the server is down: RECSYS_ALERTS_URL is not set."
    assert channel.send_test().endswith(channel.gap())
    for nothing in ("", None):
        monkeypatch.delenv("RECSYS_ALERTS") if nothing is None else monkeypatch.setenv("RECSYS_ALERTS", nothing)
        assert channel.gap() == "Nobody is told of failures: RECSYS_ALERTS is not set."
        with pytest.raises(ConfigError, match="RECSYS_ALERTS names no channel: export RECSYS_ALERTS="):
            channel.send_test()
