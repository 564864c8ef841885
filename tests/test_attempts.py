"""Work in progress: who holds what, what is left of an attempt that failed, and sweeping beside those at work."""

import fcntl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

import pytest

from recsys import attempts
from recsys.store import Draft, Store

NIGHT = datetime(2017, 10, 16, tzinfo=timezone.utc)


def fail(draft: Draft) -> None:
    raise ValueError("no such column")


def test_a_failed_attempt_says_why_until_it_is_made(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert attempts.attempts(tmp_path) == []
    with pytest.raises(ValueError, match="no such column"):
        store.ensure("features", NIGHT, {}, {}, fail, code="recsys.windows")
    (left,) = attempts.attempts(tmp_path)
    assert (left.step, left.night, left.running, left.error) == ("features", "2017-10-16", False, "ValueError: no such column")
    made = store.ensure("features", NIGHT, {}, {}, lambda draft: None, code="recsys.windows")
    assert made.version == left.version and attempts.attempts(tmp_path) == []


def stopped(tmp_path: Path, error: Exception | None = None, build: Callable[[Draft], None] = fail) -> list[attempts.Attempt]:
    """What is left of a step that stops before its attempt began, or with it."""
    with suppress(ValueError), attempts.noted(tmp_path, "features", "2017-10-16"):
        if error is not None:
            raise error
        Store(tmp_path).ensure("features", NIGHT, {}, {}, build, code="recsys.windows")
    return attempts.attempts(tmp_path)


def test_a_step_that_stops_before_its_attempt_says_why_too_until_it_is_done(tmp_path: Path) -> None:
    (left,) = stopped(tmp_path, ValueError("no such file"))
    assert (left.step, left.night, left.version, left.running) == ("features", "2017-10-16", "", False)
    assert left.error == "ValueError: no such file"
    assert stopped(tmp_path, build=lambda draft: None) == []


def test_what_a_person_interrupted_is_said_to_be(tmp_path: Path) -> None:
    with suppress(KeyboardInterrupt), attempts.noted(tmp_path, "features", "2017-10-16"):
        raise KeyboardInterrupt
    assert [left.error for left in attempts.attempts(tmp_path)] == ["It was interrupted, by Ctrl-C or SIGTERM."]


def test_what_an_attempt_said_itself_is_not_said_twice(tmp_path: Path) -> None:
    (left,) = stopped(tmp_path)
    assert left.version and left.error == "ValueError: no such column"


def test_an_attempt_at_work_is_running(tmp_path: Path) -> None:
    seen: list[attempts.Attempt] = []
    Store(tmp_path).ensure("features", NIGHT, {}, {}, lambda draft: seen.extend(attempts.attempts(tmp_path)), code="recsys.windows")
    assert [(one.step, one.running, one.error) for one in seen] == [("features", True, "")]


def test_a_lock_is_held_until_its_end_and_no_longer(tmp_path: Path) -> None:
    with attempts.lock(tmp_path, "one"):
        assert attempts.is_held(tmp_path, "one")
    assert not attempts.is_held(tmp_path, "one") and not attempts.is_held(tmp_path, "never taken")


def test_who_looks_whether_a_lock_is_held_holds_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A look takes a moment: this one ends while the lock is asked for again."""
    with attempts.lock(tmp_path, "one"):
        pass
    with (tmp_path / ".locks" / "one").open() as look:
        fcntl.flock(look, fcntl.LOCK_SH)
        assert not attempts.is_held(tmp_path, "one"), "two may look at once"
        monkeypatch.setattr(time, "sleep", lambda _: fcntl.flock(look, fcntl.LOCK_UN))
        with attempts.lock(tmp_path, "one"):
            assert attempts.is_held(tmp_path, "one")
    assert not caplog.records


def test_sweeping_takes_the_locks_of_attempts_that_nobody_is_at(tmp_path: Path) -> None:
    at_work, left, other = "training-2017-10-16-3f9c2a71b0de", "training-2017-10-15-0123456789ab", "published"
    for name in (left, other):
        with attempts.lock(tmp_path, name):
            pass
    with attempts.lock(tmp_path, at_work):
        attempts.sweep_locks(tmp_path)
        assert {path.name for path in (tmp_path / ".locks").iterdir()} == {at_work, other}


def test_a_lock_that_is_swept_while_others_wait_for_it_still_has_one_holder(tmp_path: Path) -> None:
    name, inside, most = "training-2017-10-16-3f9c2a71b0de", [0], [0]
    count = threading.Lock()

    def work() -> None:
        for _ in range(50):
            with attempts.lock(tmp_path, name):
                with count:
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                attempts.sweep_locks(tmp_path)
                time.sleep(0.0002)
                with count:
                    inside[0] -= 1
            attempts.sweep_locks(tmp_path)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)
    assert most[0] == 1
