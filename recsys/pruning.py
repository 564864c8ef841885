"""Which artifacts nobody needs any more, and taking them out of the store.

Kept are the newest nights and the newest promotions, what is held for a person, and everything that those need: what
they were made from, and the models of earlier nights that they started from, were compared with or publish again. Of
such a model its folder is needed, not what it was once made from: else no night could ever go, where each starts from
the one before.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

from recsys import attempts, disk, published
from recsys.errors import StoreError
from recsys.lineage import lineage
from recsys.store import Artifact, Store
from recsys.windows import label

Place: TypeAlias = tuple[str, datetime, str]  # step, moment, version


@dataclass(frozen=True)
class Waste:
    """What nobody needs. `leftovers` are the folders of attempts that failed or were killed."""

    kept_nights: tuple[datetime, ...]
    artifacts: tuple[Artifact, ...]
    leftovers: tuple[Path, ...]
    bytes: int


def waste(store: Store, nights: int, promotions: int) -> Waste:
    """What the newest `nights` and `promotions` do not need. Nothing is touched."""
    if nights < 1 or promotions < 1:
        raise StoreError("At least one night and one promotion are kept: give numbers from 1.")
    there = {_place(artifact): artifact for artifact in store.artifacts()}
    kept_nights = tuple(sorted({artifact.as_of for artifact in there.values()})[-nights:])
    needed = _needed(store, there, kept_nights, promotions)
    gone = tuple(artifact for place, artifact in there.items() if place not in needed)
    left = tuple(_leftovers(store, kept_nights, there.values()))
    return Waste(kept_nights, gone, left, sum(map(size, (*(artifact.path for artifact in gone), *left))))


def prune(store: Store, nights: int, promotions: int, who: str = "prune") -> Waste:
    """Take it out of the store, when it is this run's turn: those at work may read it.

    Nobody waits for the bytes to go: what nobody needs is only put aside in this run's turn, and removed after it.
    """
    with disk.explained(store.root, "prune"):
        with store.at_work(who), store.lock("published"):
            found = waste(store, nights, promotions)
            for artifact in found.artifacts:
                store.withdraw(artifact)
                with suppress(OSError):  # other versions of that night are kept
                    artifact.path.parent.rmdir()
            for folder in found.leftovers:
                attempts.abandon(store.root, folder, folder.name)
        attempts.sweep_drafts(store.root)
        attempts.sweep_locks(store.root)
        return found


def size(folder: Path) -> int:
    """Bytes of the files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _needed(store: Store, there: Mapping[Place, Artifact], nights: Collection[datetime], promotions: int) -> set[Place]:
    kept = [*published.newest(store, promotions), *filter(None, [published.held(store)])]
    needed = [artifact for p in kept for artifact in lineage(store, p.artifacts.values(), p.moment)]
    tonight = [a for a in there.values() if a.as_of in nights and not _was_made_again(a, there)]
    needed += [origin for artifact in tonight for origin in lineage(store, [artifact.reference], artifact.as_of)]
    return {_place(artifact) for artifact in needed}


def _was_made_again(artifact: Artifact, there: Mapping[Place, Artifact]) -> bool:
    """Whether the same version came to other bytes since: only what names this one still reads it."""
    return _place(artifact.remade(artifact.number + 1)) in there


def _leftovers(store: Store, nights: Sequence[datetime], there: Iterable[Artifact]) -> Iterator[Path]:
    """What attempts left that nobody goes on with: of nights that are gone, or whose step another version has finished since."""
    made = {(artifact.step, label(artifact.as_of)): (artifact.path / "manifest.json").stat().st_mtime for artifact in there}
    for attempt in attempts.attempts(store.root):
        finished = made.get((attempt.step, attempt.night), 0) > attempt.at.timestamp()
        if not attempt.running and (finished or (nights and attempt.night < label(nights[0]))):
            yield attempt.scratch


def _place(artifact: Artifact) -> Place:
    return artifact.step, artifact.as_of, artifact.version
