"""What is published: the pointer, its history, rollback and pruning.

`promotions.jsonl` is the truth, one line per change with its reasons; `current.json` is computed from it for readers
outside, and replaced in one step, so that they see one whole night or the other.
"""

import getpass
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from typing import Any

from recsys import digest
from recsys.errors import StoreError
from recsys.store import Artifact, Store
from recsys.windows import label

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Promotion:
    """A published set of artifacts. `source` says whose lists they are; `action` is "publish" or "rollback"."""

    as_of: str  # ISO, UTC
    config: str  # digest of the whole configuration that can change a result
    source: str
    artifacts: Mapping[str, Mapping[str, str]]  # name (training, twin, evaluation, promotion, scoring, …) → reference
    reasons: tuple[str, ...]
    action: str = "publish"
    undoes: str = ""  # of a rollback: the id of the promotion that it takes back
    at: str = ""
    by: str = ""
    id: str = field(default="")

    @property
    def moment(self) -> datetime:
        return datetime.fromisoformat(self.as_of)

    def artifact(self, store: Store, name: str) -> Artifact | None:
        """The artifact of that name, verified; None where the set has none (a night published from a baseline)."""
        return store.open(self.artifacts[name]) if name in self.artifacts else None


def promotion(as_of: datetime, config: str, source: str, artifacts: Mapping[str, Artifact | None], reasons: tuple[str, ...]) -> Promotion:
    """The promotion of a night. Its id follows from what is published, so that publishing it twice is once."""
    references = {name: artifact.reference for name, artifact in artifacts.items() if artifact is not None}
    moment = as_of.isoformat()
    identity = digest.of_value([moment, config, source, references])[:12]
    return Promotion(moment, config, source, references, tuple(reasons), id=identity)


def history(store: Store) -> list[Promotion]:
    """Every change of what is published, oldest first."""
    path = store.root / "promotions.jsonl"
    found = []
    for number, line in enumerate(path.read_text().splitlines() if path.exists() else [], start=1):
        try:
            read = json.loads(line)
            found.append(Promotion(**{**read, "reasons": tuple(read["reasons"])}))
        except (ValueError, TypeError, KeyError) as error:
            raise StoreError(f"{path}, line {number} is no promotion ({error}). Mend or remove it.") from None
    return found


def current(store: Store) -> Promotion | None:
    """What is published now."""
    return _newest(_standing(store))


def before(store: Store, as_of: datetime) -> Promotion | None:
    """The last promotion of an earlier night: "the current model" inside a run, so that no night is compared with itself."""
    return _newest([p for p in _standing(store) if p.moment < as_of])


def of_night(store: Store, as_of: datetime) -> Promotion | None:
    """What was published for a night last."""
    return _last_of(_standing(store), as_of)


def finished(store: Store, as_of: datetime, config: str) -> Promotion | None:
    """The promotion that makes this night finished: its last one, if of the same configuration, whatever code did it.

    Where an artifact of it was removed since, the night is not finished: its steps make anew what is gone.
    """
    last = _last_of(_standing(store), as_of)
    return last if last is not None and last.config == config and all(map(store.has, last.artifacts.values())) else None


def publish(store: Store, new: Promotion) -> Promotion:
    """Record the promotion and move the pointer, unless that night is older than the current one. Twice is once."""
    with store.lock("published"):
        now = current(store)
        last = _last_of(_standing(store), new.moment)
        if last is None or last.id != new.id:
            last = _append(store, new)
        _point(store)
        if now is not None and now.moment > new.moment:
            log.warning("%s is recorded, but %s stays published: it is newer.", label(new.moment), label(now.moment))
        return last


def rollback(store: Store, reason: str) -> Promotion:
    """Back to the promotion before the current one; StoreError where there is none."""
    with store.lock("published"):
        now = current(store)
        if now is None:
            raise StoreError(f"Nothing is published in {store.root}, so there is nothing to roll back.")
        target = _newest([p for p in _standing(store) if p.id != now.id])
        if target is None:
            raise StoreError(
                f"{label(now.moment)} is the only night ever published in {store.root}: there is none before it to roll back to."
            )
        for name in target.artifacts:  # what we go back to has to be whole
            target.artifact(store, name)
        undo = Promotion(now.as_of, now.config, now.source, {}, (reason,), action="rollback", undoes=now.id)
        _append(store, undo)
        _point(store)
        return target


def prune(store: Store, nights: int, promotions: int) -> list[Artifact]:
    """Remove artifacts older than the newest `nights` moments that none of the newest `promotions` needs, and return them."""
    if nights < 1 or promotions < 1:
        raise StoreError("prune keeps at least one night and one promotion.")
    with store.lock("published"):
        everything = store.artifacts()
        moments = sorted({a.as_of for a in everything})[-nights:]
        standing = sorted(_standing(store), key=lambda p: p.moment)[-promotions:]
        now = current(store)
        needed = {_key(r) for p in [*standing, *([now] if now else [])] for r in p.artifacts.values()}
        needed |= {_key(a.reference) for a in everything if a.as_of in moments}
        manifests = {_key(a.reference): a.manifest for a in everything}
        open_ = list(needed)
        while open_:  # and what those were made from
            for reference in manifests.get(open_.pop(), {}).get("inputs", {}).values():
                if _key(reference) not in needed:
                    needed.add(_key(reference))
                    open_.append(_key(reference))
        gone = [a for a in everything if _key(a.reference) not in needed]
        for artifact in gone:
            store.remove(artifact)
        return gone


def _key(reference: Mapping[str, Any]) -> tuple[str, str, str]:
    return reference["step"], reference["as_of"], reference["version"]


def _newest(standing: list[Promotion]) -> Promotion | None:
    """Of the newest night, the one made last: publishing never moves the pointer to an older night."""
    return max(reversed(standing), key=lambda p: p.moment) if standing else None


def _last_of(standing: list[Promotion], as_of: datetime) -> Promotion | None:
    """Of one night, the one made last: it takes the place of those before it."""
    return next((p for p in reversed(standing) if p.moment == as_of), None)


def _standing(store: Store) -> list[Promotion]:
    """Promotions in the order they were made, less those taken back."""
    standing: list[Promotion] = []
    for line in history(store):
        if line.action == "rollback":
            standing = [p for p in standing if p.id != line.undoes]
        else:
            standing = [p for p in standing if p.id != line.id] + [line]
    return standing


def _append(store: Store, new: Promotion) -> Promotion:
    stamped = Promotion(**{**asdict(new), "at": datetime.now(timezone.utc).isoformat(timespec="seconds"), "by": _who()})
    path = store.root / "promotions.jsonl"
    before = path.read_text() if path.exists() else ""
    _replace(store, "promotions.jsonl", before + json.dumps(asdict(stamped)) + "\n")
    return stamped


def _point(store: Store) -> None:
    now = current(store)
    text = json.dumps(asdict(now), indent=1) if now else "null"
    path = store.root / "current.json"
    if not path.exists() or path.read_text() != text:
        _replace(store, "current.json", text)


def _replace(store: Store, name: str, text: str) -> None:
    aside = store.root / f".{name}.new"
    with aside.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, store.root / name)


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())
