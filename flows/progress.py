"""How far a long step is: a bar in the terminal, and a progress artifact in the UI while it runs."""

import logging
import time
from types import TracebackType
from typing import Self, cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.logging.handlers import PrefectConsoleHandler
from rich import progress as rich_progress
from rich.console import Console
from rich.theme import Theme

SECONDS_BETWEEN_UPDATES = 2.0  # each is a request to the server


class Progress:
    """Called with fractions 0 … 1 by a step. The artifact appears with the first call: reused work shows none."""

    def __init__(self, what: str, key: str) -> None:
        self._what, self._key = what, key
        self._artifact: UUID | None = None
        self._updated = 0.0
        console = _console()
        self._bar = rich_progress.Progress(
            rich_progress.SpinnerColumn(),
            rich_progress.TextColumn("{task.description}"),
            rich_progress.BarColumn(),
            rich_progress.TaskProgressColumn(),
            rich_progress.TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._row = self._bar.add_task(what, total=None)  # a pulse until the first fraction

    def __enter__(self) -> Self:
        self._bar.console.push_theme(Theme())  # Prefect's console has its own styles only, and none for a bar
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()
        self._bar.console.pop_theme()
        if self._artifact is not None and error is None:
            update_progress_artifact(self._artifact, progress=100.0)

    def __call__(self, fraction: float) -> None:
        self._bar.update(self._row, total=1.0, completed=fraction)
        now = time.monotonic()
        if now - self._updated < SECONDS_BETWEEN_UPDATES:
            return
        self._updated = now
        percent = round(100 * min(max(fraction, 0.0), 1.0), 1)
        if self._artifact is None:
            self._artifact = cast(UUID, create_progress_artifact(percent, key=self._key, description=self._what))
        else:
            update_progress_artifact(self._artifact, progress=percent)


def _console() -> Console:
    """The console that Prefect logs to, so that its lines appear above the bar and not in it."""
    handlers = [handler for handler in logging.getLogger().handlers if isinstance(handler, PrefectConsoleHandler)]
    return handlers[0].console if handlers else Console(stderr=True)
