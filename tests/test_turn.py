"""Runs take turns on a store: who waits says for whom, and nobody waits for the dead."""

import logging
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from recsys import attempts, turn
from recsys.errors import StoreError
from recsys.store import Store

HOLDS = """
import sys, time
from pathlib import Path
from recsys.store import Store
with Store(sys.argv[1]).at_work("nightly-2026-03-01") as turn:
    turn.catch_up("2026-02-27")
    print("has it", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path: Path) -> "subprocess.Popen[str]":
    """A run in another process that has its turn, and is making a night that was missed."""
    started = subprocess.Popen([sys.executable, "-c", HOLDS, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None and started.stdout.readline() == "has it\n"
    return started


def test_who_is_at_work_is_known_and_nobody_afterwards(tmp_path: Path) -> None:
    assert turn.at_work(tmp_path) is None
    with Store(tmp_path).at_work("nightly-2026-03-01") as mine:
        assert turn.at_work(tmp_path) == mine.holder and mine.holder.process == os.getpid()
        mine.catch_up("2026-02-27")
        assert "2026-02-27, which was missed" in str(turn.at_work(tmp_path))
    assert turn.at_work(tmp_path) is None and mine.killed is None
    with Store(tmp_path).at_work("nightly-2026-03-02") as later:
        assert later.killed is None, "the one before came to its end"


def test_the_second_waits_and_says_for_whom(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It gets its turn when the first one is done, and not before."""
    order: list[str] = []

    def second() -> None:
        with Store(tmp_path).at_work("score-2026-03-01"):
            order.append("second")

    with Store(tmp_path).at_work("nightly-2026-03-01"), caplog.at_level(logging.WARNING):
        waiting = threading.Thread(target=second)
        waiting.start()
        while not caplog.messages:
            time.sleep(0.01)
        order.append("first")
    waiting.join(timeout=30)
    assert order == ["first", "second"]
    assert caplog.messages[0].startswith(f"score-2026-03-01 waits: nightly-2026-03-01 (process {os.getpid()} on ")


def test_a_killed_holder_blocks_nobody_and_is_named(tmp_path: Path, other: "subprocess.Popen[str]") -> None:
    assert str(turn.at_work(tmp_path)).startswith(f"nightly-2026-03-01 (process {other.pid} on ")
    other.send_signal(signal.SIGKILL)
    other.wait(timeout=30)
    assert turn.at_work(tmp_path) is None
    with Store(tmp_path).at_work("nightly-2026-03-02") as mine:
        assert mine.killed is not None
        assert (mine.killed.who, mine.killed.catching_up) == ("nightly-2026-03-01", "2026-02-27")
        assert turn.at_work(tmp_path) == mine.holder


def test_who_was_killed_in_a_missed_night_is_known_until_a_night_takes_heed(tmp_path: Path, other: "subprocess.Popen[str]") -> None:
    """Whoever has the turn first after it, as a score or a prune, does not take the note away."""
    other.send_signal(signal.SIGKILL)
    other.wait(timeout=30)
    with Store(tmp_path).at_work("score-2026-03-01") as between:
        assert str(turn.at_work(tmp_path)) == str(between.holder), "who is at work, and not who was killed"
    assert turn.at_work(tmp_path) is None
    with Store(tmp_path).at_work("nightly-2026-03-02") as mine:
        assert mine.killed is not None and mine.killed.catching_up == "2026-02-27"
        mine.catch_up("")
        mine.heeded()
    with Store(tmp_path).at_work("nightly-2026-03-03") as later:
        assert later.killed is None


def test_a_note_that_cannot_be_written_hides_no_error(tmp_path: Path) -> None:
    """No file may grow here, as on a full disk: a run has its turn all the same, and says what stopped it."""
    with Store(tmp_path).at_work("nightly-2026-03-01"):
        pass
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        with pytest.raises(StoreError, match="the reason"), Store(tmp_path).at_work("nightly-2026-03-02"):
            assert attempts.is_held(tmp_path, "runs") and turn.at_work(tmp_path) is None
            raise StoreError("the reason")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not attempts.is_held(tmp_path, "runs")


def test_an_unreadable_note_hides_no_lock(tmp_path: Path) -> None:
    (tmp_path / ".locks").mkdir()
    (tmp_path / ".locks" / "runs").write_text('{"who": "another version')
    with Store(tmp_path).at_work("nightly-2026-03-01") as mine:
        assert mine.killed is None and turn.at_work(tmp_path) == mine.holder
