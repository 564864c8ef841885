"""When the server itself is down. The watch could say nothing of it: the server has its run, where its alerts go, and what was sent."""

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from flows import machine
from recsys.errors import ConfigError, RecsysError

MARK = "server-is-down"  # in PREFECT_HOME: whoever is on call was told
REMINDER = 24 * 60 * 60  # seconds


def check(say: Callable[[str], None]) -> None:
    """Nothing, where a server answers at PREFECT_API_URL. Else whoever is on call is told, once a day, and RecsysError is raised.

    One that was just started, or started again, has some minutes to answer.
    """
    mark = Path(os.environ["PREFECT_HOME"]) / MARK
    try:
        machine.await_server(say, machine.SECONDS_TO_ANSWER)
    except ConfigError as error:
        raise RecsysError(f"{error} {_tell(mark)}") from None
    with suppress(OSError):
        mark.unlink(missing_ok=True)


def _tell(mark: Path) -> str:
    """Send it, by the address that needs no server. What became of that, in a sentence."""
    from flows import channel  # imports Prefect, which reads the environment

    if mark.exists() and time.time() - mark.stat().st_mtime < REMINDER:
        return "Whoever is on call was told before."
    if not os.environ.get(channel.ADDRESS):
        return f"Nobody is told: {channel.ADDRESS} is not set."
    try:
        channel.by_address("recsys: the server is down", _text())
    except Exception as error:  # of a network or a chat
        return f"Nobody could be told: {channel.reason(error)}"
    with suppress(OSError):  # a disk that is full, say: it is told again by the next look
        mark.touch()
    return "Whoever is on call was told."


def _text() -> str:
    seen = f"{socket.gethostname()} has asked {os.environ['PREFECT_API_URL']} for {machine.SECONDS_TO_ANSWER} s, and nothing answers."
    return (
        f"{seen} What is published stays. No run begins, and no other alert is sent, until it is back.\n\n"
        "What to do on its machine: where systemd runs it, `systemctl status recsys-server` and `sudo systemctl start recsys-server`; "
        "where `recsys up` runs it, give that again. Runs that are due by then begin by themselves.\n\n"
        f"Where to look:\n- `journalctl -u recsys-server` of systemd, server.log in the PREFECT_HOME of `recsys up`\n"
        "- docs/operate.md, “When a night stopped”"
    )
