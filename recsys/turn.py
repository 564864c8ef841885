"""One run at a time works on a store. The next one waits for its turn, and says for whom.

    {store}/.locks/runs     locked by the run at work, which writes into it who it is, and in a second line who was killed

The kernel lets go of the lock when its holder dies, however that happens, so nobody waits for the dead. What a killed
holder wrote stays until the next one reads it; that it was killed in a missed night, until a night says that it took heed.
"""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import IO

from recsys import attempts

_LOCK = "runs"


@dataclass(frozen=True)
class Holder:
    """A run at work, or one that was killed. `catching_up` is the missed night that it is making before its own."""

    who: str
    process: int
    host: str
    since: str  # ISO, UTC
    catching_up: str = ""

    def __str__(self) -> str:
        at = f", at work on {self.catching_up}, which was missed" if self.catching_up else ""
        return f"{self.who} (process {self.process} on {self.host}, since {self.since} UTC{at})"


@dataclass
class Turn:
    """Whose turn it is. `killed` is the last one that was killed in a missed night, of which no night has taken heed yet."""

    holder: Holder
    killed: Holder | None
    _file: IO[str]

    def catch_up(self, night: str) -> None:
        """Say that a missed night is being made now; with "" that the run is at its own."""
        self._write(replace(self.holder, catching_up=night))

    def heeded(self) -> None:
        """Forget who was killed: the night is done, and what was missed before it is missed for good."""
        self.killed = None

    def end(self) -> None:
        """Leave nothing but who was killed, for a run that takes heed: it need not be the next one."""
        self._write()

    def _write(self, *now: Holder) -> None:
        """The note is for people and for the night after: a disk that is full stops nobody, and hides no other error."""
        note = "\n".join(json.dumps(asdict(one)) for one in (*now, self.killed) if one is not None)
        with suppress(OSError):
            os.ftruncate(self._file.fileno(), 0)  # what is appended to it then is all there is
            os.write(self._file.fileno(), note.encode())  # not by the buffer, which would try again when the file is closed


@contextmanager
def turn(root: Path, who: str) -> Iterator[Turn]:
    """The turn of the run `who` on the store in `root`, once everybody before it is done."""

    def waits_for() -> str:
        return f"{who} waits: {holder(root) or 'another run'} is at work on {root}."

    with attempts.lock(root, _LOCK, waits_for) as file:
        killed = next((one for one in _noted(root) if one.catching_up), None)
        since = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M")
        mine = Turn(Holder(who, os.getpid(), socket.gethostname(), since), killed, file)
        mine.catch_up("")
        try:
            yield mine
        finally:
            mine.end()


def holder(root: Path) -> Holder | None:
    """Who has written into the lock: the run at work, or one that was killed."""
    return next(iter(_noted(root)), None)


def _noted(root: Path) -> list[Holder]:
    """The lines of the lock, the newest run's first."""
    try:
        return [Holder(**json.loads(line)) for line in (root / ".locks" / _LOCK).read_text().splitlines()]
    except (OSError, ValueError, TypeError):  # nobody, or a file of another version of this code
        return []


def at_work(root: Path) -> Holder | None:
    """The run that has its turn now; nothing is written."""
    return holder(root) if attempts.is_held(root, _LOCK) else None
