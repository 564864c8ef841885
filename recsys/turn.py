"""One run at a time works on a store. The next one waits for its turn, and says for whom.

    {store}/.locks/runs     locked by the run at work, which writes into it who it is

The kernel lets go of the lock when its holder dies, however that happens, so nobody waits for the dead. What a killed
holder wrote stays until the next one reads it.
"""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
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
    """Whose turn it is. `killed` is who had it before, where that run did not come to an end."""

    holder: Holder
    killed: Holder | None
    _file: IO[str]

    def catch_up(self, night: str) -> None:
        """Say that a missed night is being made now; with "" that the run is at its own."""
        self._write(json.dumps(asdict(self.holder) | {"catching_up": night}))

    def _write(self, text: str) -> None:
        self._file.truncate(0)  # what is appended to it then is all there is
        self._file.write(text)
        self._file.flush()


@contextmanager
def turn(root: Path, who: str) -> Iterator[Turn]:
    """The turn of the run `who` on the store in `root`, once everybody before it is done."""

    def waits_for() -> str:
        return f"{who} waits: {holder(root) or 'another run'} is at work on {root}."

    with attempts.lock(root, _LOCK, waits_for) as file:
        since = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M")
        mine = Turn(Holder(who, os.getpid(), socket.gethostname(), since), holder(root), file)
        mine.catch_up("")
        try:
            yield mine
        finally:
            file.truncate(0)


def holder(root: Path) -> Holder | None:
    """Who has written into the lock: the run at work, or one that was killed."""
    try:
        return Holder(**json.loads((root / ".locks" / _LOCK).read_text()))
    except (OSError, ValueError, TypeError):  # nobody, or a file of another version of this code
        return None


def at_work(root: Path) -> Holder | None:
    """The run that has its turn now; nothing is written."""
    return holder(root) if attempts.is_held(root, _LOCK) else None
