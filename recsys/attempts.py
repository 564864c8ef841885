"""Work in progress in a store: its locks, its temporary folders, and what is left of attempts that came to nothing.

    {store}/.locks/{attempt}            held while an artifact is made; the kernel lets go of it when its holder dies
    {store}/.tmp/{attempt}-{random}     the draft; goes with the attempt, or is swept once nobody holds its lock
    {store}/.scratch/{attempt}          survives the attempt (checkpoints, what failed), goes when the artifact is committed

An attempt is named `{step}-{moment}-{version}`, as `training-2017-10-16-3f9c2a71b0de`; one that failed before it was known what
it would make, since a source is not there say, `{step}-{moment}`.
"""

import fcntl
import json
import logging
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import IO

from recsys.redaction import redacted

log = logging.getLogger(__name__)

_NAME = re.compile(r"([a-z_]+)-(\d.*?)(?:-([0-9a-f]{12}))?")
_FAILURE = "failed.json"
_LOOK = 0.1  # s: who looks whether a lock is held has it for a moment


@dataclass(frozen=True)
class Attempt:
    """An artifact that is being made, or was not finished. `error` is empty while it runs, and where the process was killed."""

    step: str
    night: str  # the label of its moment
    version: str  # empty where it failed before that was known
    running: bool
    at: datetime  # when it began or failed
    error: str
    scratch: Path


def attempts(root: Path) -> list[Attempt]:
    """What is being made now, and what was left unfinished, oldest first."""
    found = []
    for scratch in (root / ".scratch").glob("*"):
        if (named := _NAME.fullmatch(scratch.name)) is None:
            continue
        with suppress(FileNotFoundError):  # it was just finished
            at = datetime.fromtimestamp(scratch.stat().st_mtime, timezone.utc)
            running = is_held(root, scratch.name)
            found.append(Attempt(named[1], named[2], named[3] or "", running, at, "" if running else _failure(scratch), scratch))
    return sorted(found, key=lambda attempt: attempt.at)


def draft(root: Path, name: str) -> Path:
    """Where an attempt writes: a folder that no other has."""
    return root / ".tmp" / f"{name}-{uuid.uuid4().hex[:8]}"


def abandon(root: Path, folder: Path, name: str) -> Path:
    """Make a folder of the store a draft of this attempt, out of sight at once, however large it is. Returns where it is."""
    aside = draft(root, name)
    aside.parent.mkdir(parents=True, exist_ok=True)
    os.rename(folder, aside)
    return aside


def note_failure(scratch: Path, error: BaseException) -> None:
    """Say beside the attempt's checkpoints why it came to nothing; for `recsys status`."""
    with suppress(OSError):  # the disk may be full, which is the failure
        (scratch / _FAILURE).write_text(json.dumps({"error": _said(error)}))


@contextmanager
def noted(root: Path, step: str, night: str) -> Iterator[None]:
    """While a step is at work on a night: why it stops is noted, also where no attempt had begun that would say so itself."""
    scratch = root / ".scratch" / f"{step}-{night}"
    try:
        yield
    except BaseException as error:
        if not any(one.version and (one.step, one.night, one.error) == (step, night, _said(error)) for one in attempts(root)):
            with suppress(OSError):
                scratch.mkdir(parents=True, exist_ok=True)
                os.utime(scratch)  # when it failed
            note_failure(scratch, error)
        raise
    shutil.rmtree(scratch, ignore_errors=True)


def _said(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "It was interrupted, by Ctrl-C or SIGTERM."
    return redacted(f"{type(error).__name__}: {error}")


def _failure(scratch: Path) -> str:
    try:
        return str(json.loads((scratch / _FAILURE).read_text())["error"])
    except (OSError, ValueError, KeyError, TypeError):  # it was killed, or could not write
        return ""


@contextmanager
def lock(root: Path, name: str, waits_for: Callable[[], str] | None = None) -> Iterator[IO[str]]:
    """One holder at a time, over all processes; the open file, to be appended to. Who has to wait logs what `waits_for` says."""
    path = root / ".locks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("a") as file:
            if not _taken(file):
                time.sleep(_LOOK)
                if not _taken(file):
                    log.warning(waits_for() if waits_for else f"Another run is at work on {name}: waiting for it.")
                    fcntl.flock(file, fcntl.LOCK_EX)
            if _is_still(path, file.fileno()):
                yield file
                return


@contextmanager
def if_free(root: Path, name: str) -> Iterator[bool]:
    """Hold the lock if nobody does; whether it is held now."""
    path = root / ".locks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        yield _taken(file) and _is_still(path, file.fileno())


def is_held(root: Path, name: str) -> bool:
    """Whether anybody holds the lock at this moment; nothing is written, and any number may look at once."""
    try:
        with (root / ".locks" / name).open() as file:
            return not _taken(file, fcntl.LOCK_SH)
    except FileNotFoundError:
        return False


def sweep_drafts(root: Path, ours: str = "") -> None:
    """Remove the drafts of killed runs: one whose lock nobody holds, or we do (of the attempt `ours`), belongs to no one."""
    for draft in (root / ".tmp").glob("*"):
        if (name := draft.name.rpartition("-")[0]) == ours:
            shutil.rmtree(draft, ignore_errors=True)
            continue
        with if_free(root, name) as free:
            if free:
                shutil.rmtree(draft, ignore_errors=True)


def sweep_scratch(root: Path, name: str) -> None:
    """Remove what an attempt left that was killed after its artifact was in its place, unless somebody is at it again."""
    if (scratch := root / ".scratch" / name).exists():
        with if_free(root, name) as free:
            if free:
                shutil.rmtree(scratch, ignore_errors=True)


def sweep_locks(root: Path) -> None:
    """Remove the locks of attempts that nobody is at."""
    for path in (root / ".locks").glob("*"):
        if _NAME.fullmatch(path.name):
            with if_free(root, path.name) as free:
                if free:
                    path.unlink(missing_ok=True)


def _taken(file: IO[str], kind: int = fcntl.LOCK_EX) -> bool:
    """Take the lock if it is free; whether it was."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_still(path: Path, number: int) -> bool:
    """Whether the open file is the one at this path: a lock may be swept between opening and locking it."""
    try:
        return os.stat(path).st_ino == os.fstat(number).st_ino
    except FileNotFoundError:
        return False
