"""What is published: the pointer, its history, what is held for a person, and rollback.

`promotions.jsonl` is the truth, one line per change with its reasons; `current.json` is computed from it for readers
outside, and replaced in one step, so that they see one whole night or the other.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from typing import Literal

from recsys import digest, disk, provenance, verification
from recsys.errors import StoreError
from recsys.store import Artifact, Store
from recsys.windows import label
from recsys.wording import counted

log = logging.getLogger(__name__)

N_WHOLE = 5  # nights that a rollback offers, where the one that was asked for is not whole


@dataclass(frozen=True)
class Promotion:
    """A published set of artifacts. `source` says whose lists they are.

    `action` is "publish" of a night, "hold" of one that waits for a person, "backfill" of one that was only made, "promote"
    of either by a person, or "rollback".
    """

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
    for number, line in enumerate(path.read_bytes().splitlines() if path.exists() else [], start=1):
        try:
            read = json.loads(line)
            datetime.fromisoformat(read["as_of"])
            artifacts = {name: dict(reference) for name, reference in read["artifacts"].items()}
            found.append(Promotion(**{**read, "artifacts": artifacts, "reasons": tuple(read["reasons"])}))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise StoreError(f"{path}, line {number} is no promotion ({error}). Mend or remove it.") from None
    return found


def current(store: Store) -> Promotion | None:
    """What is published now."""
    return _newest(_standing(store))


def before(store: Store, as_of: datetime) -> Promotion | None:
    """The last promotion of an earlier night: "the current model" inside a run, so that no night is compared with itself.

    One whose model or lists were pruned since is passed over.
    """
    earlier = [p for p in _standing(store) if p.moment < as_of]
    there = [p for p in earlier if all(store.get(p.artifacts[name]) for name in ("training", "twin", "scoring") if name in p.artifacts)]
    if len(there) < len(earlier):
        log.info("%s before %s passed over: models or lists were pruned.", counted(len(earlier) - len(there), "promotion"), as_of.date())
    return _newest(there)


def of_night(store: Store, as_of: datetime) -> Promotion | None:
    """What was published for a night last."""
    return _last_of(_standing(store), as_of)


def newest(store: Store, n: int) -> list[Promotion]:
    """The promotions of the newest nights, what is published now last."""
    return sorted(_standing(store), key=lambda p: p.moment)[-n:]


def finished(store: Store, as_of: datetime, config: str) -> Promotion | None:
    """The promotion that makes this night finished: its last one, if of the same configuration, whatever code did it.

    Where an artifact of it was removed since, the night is not finished: its steps make anew what is gone.
    """
    last = _last_of(_standing(store), as_of)
    return last if last is not None and last.config == config and all(map(store.get, last.artifacts.values())) else None


def held(store: Store) -> Promotion | None:
    """What waits for a person: of the newest night that has anything waiting, unless newer lists are published."""
    newest, lines, now = _newest(_on_hold(store)), history(store), current(store)
    if newest is None or now is None:
        return newest
    return newest if (newest.moment, lines.index(newest)) > (now.moment, lines.index(now)) else None


def waiting(store: Store, as_of: datetime, config: str) -> Promotion | None:
    """What of a night with this configuration waits for a person, if it is still there."""
    of_night = [p for p in _on_hold(store) if p.moment == as_of and p.config == config]
    return of_night[-1] if of_night and all(map(store.get, of_night[-1].artifacts.values())) else None


def _on_hold(store: Store) -> list[Promotion]:
    lines = history(store)
    last = {line.undoes or line.id: line.action for line in lines}
    return [p for p in lines if p.action == "hold" and last[p.id] == "hold"]


def publish(store: Store, new: Promotion) -> Promotion:
    """Record the promotion and move the pointer, unless that night is older than the current one. Twice is once."""
    with store.lock("published"):
        now = current(store)
        last = _last_of(_standing(store), new.moment)
        if last is None or last.id != new.id:
            (last,) = _append(store, new)
        _point(store)
        if now is not None and now.moment > new.moment:
            log.warning("%s is recorded, but %s stays published: it is newer.", label(new.moment), label(now.moment))
        return last


def settle(store: Store) -> None:
    """Move the pointer to where the record says, since a run may have been killed between the two."""
    with store.lock("published"):
        _point(store)


def backfilled(store: Store, as_of: datetime, config: str) -> Promotion | None:
    """What a backfill made of a night with this configuration, whatever code did it, if it is still there."""
    made = [p for p in history(store) if p.action == "backfill" and p.moment == as_of and p.config == config]
    return made[-1] if made and all(map(store.get, made[-1].artifacts.values())) else None


def set_aside(store: Store, new: Promotion, action: Literal["hold", "backfill"]) -> Promotion:
    """Record what was made and not published: what is published stays as it is. Twice is once."""
    with store.lock("published"):
        last = next((line for line in reversed(history(store)) if new.id in (line.id, line.undoes)), None)
        return last if last is not None and last.action == action else _append(store, replace(new, action=action))[0]


def promote(store: Store, why: str, name: str | None = None) -> Promotion:
    """Publish what is held, or what was rolled back: the newest that is held, or the one of this id or night.

    StoreError where there is none, where it is not whole, or where a newer night is published: it would not be seen.
    """
    with store.lock("published"):
        standing, now = {p.id for p in _standing(store)}, current(store)
        if now is not None:
            _point(store)  # one that was killed may have left it behind
        open_ = [p for p in history(store) if p.action != "rollback" and p.id not in standing]
        chosen = held(store) if name is None else named(store, name, open_, " that is held or was rolled back")
        if chosen is None:
            raise StoreError(f"Nothing is held for a person in {store.root}. `recsys show history` lists what was decided.")
        if now is not None and now.moment > chosen.moment:
            raise StoreError(f"{label(chosen.moment)} is older than {label(now.moment)}, which is published: roll back to before it first.")
        _check_whole(store, chosen)
        reasons = (f"Published by a person: {why}", *chosen.reasons)
        (done,) = _append(store, replace(chosen, action="promote", reasons=reasons))
        _point(store)
        return done


def rollback(store: Store, why: str, name: str | None = None) -> Promotion:
    """Back to the promotion before the current one, or to the one of this id or night; StoreError where there is none.

    Everything published after it is taken back, each with a line of its own. It returns what is published now.
    """
    with store.lock("published"):
        now, standing = current(store), _standing(store)
        if now is None:
            raise StoreError(f"Nothing is published in {store.root}, so there is nothing to roll back.")
        _point(store)  # a rollback that was killed may have left it behind
        target = _newest([p for p in standing if p.id != now.id]) if name is None else named(store, name, standing)
        if target is None:
            raise StoreError(
                f"{label(now.moment)} is the only night ever published in {store.root}: there is none before it to roll back to."
            )
        if target.id == now.id:
            raise StoreError(f"{label(now.moment)} ({now.id}) is what is published: there is nothing to roll back.")
        try:
            _check_whole(store, target)
        except StoreError as error:
            raise StoreError(f"{error} {_whole(store, [p for p in standing if p.id != now.id])}") from None
        rank = {p.id: (p.moment, number) for number, p in enumerate(standing)}
        after = [p for p in standing if rank[p.id] > rank[target.id]]
        _append(store, *(replace(p, artifacts={}, reasons=(why,), action="rollback", undoes=p.id, id="") for p in after))
        _point(store)
        return target


def named(store: Store, name: str, among: Sequence[Promotion], which: str = "") -> Promotion:
    """The promotion with this id, or how it begins, or else the last one of this night. `which` says what all of `among` are."""
    fits = [p for p in among if p.id.startswith(name)] or [p for p in among if label(p.moment) == name]
    if not fits or len({p.id for p in fits if label(p.moment) != name}) > 1:
        known = ", ".join(dict.fromkeys(f"{label(p.moment)} {p.id}" for p in among[-5:])) or "none at all"
        found = f"More than one id begins with {name!r}" if fits else f"There is no such promotion {name!r}{which}"
        raise StoreError(f"{found} in {store.root}. There are: {known}. `recsys show history` lists them all.")
    return fits[-1]


def _check_whole(store: Store, target: Promotion) -> None:
    """StoreError where an artifact of what we go to is gone or damaged.

    The lists, which readers see at once, are read. Of the rest, which may be a hundred times as large, names and sizes are looked
    at: whoever reads it looks at its bytes then.
    """
    for name, reference in target.artifacts.items():
        artifact = store.get(reference)
        if name == "scoring" or artifact is None:
            store.open(reference)
        elif found := next(verification.damages(artifact.path, artifact.manifest["files"], read=False), None):
            raise StoreError(f"{found} {verification.REMEDY.format(artifact.path)}")


def _whole(store: Store, among: Sequence[Promotion]) -> str:
    """The newest nights of these that can be gone back to, in a sentence. No more are read than are named."""
    there: list[str] = []
    for target in sorted(among, key=lambda p: p.moment, reverse=True):
        if len(there) == N_WHOLE:
            break
        with suppress(StoreError):
            _check_whole(store, target)
            there.append(f"{label(target.moment)} {target.id}")
    return f"Whole are: {', '.join(there) or 'none of the others'}."


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
        elif line.action in ("publish", "promote"):
            standing = [p for p in standing if p.id != line.id] + [line]
    return standing


def _append(store: Store, *new: Promotion) -> list[Promotion]:
    """The promotions on record with who and when, all at once."""
    at, by = datetime.now(timezone.utc).isoformat(timespec="seconds"), provenance.person()
    stamped = [replace(line, at=at, by=by) for line in new]
    path = store.root / "promotions.jsonl"
    before = path.read_text() if path.exists() else ""
    if before and not before.endswith("\n"):  # mended by hand, in an editor that ends no file with a new line
        before += "\n"
    text = before + "".join(json.dumps(asdict(line)) + "\n" for line in stamped)
    disk.replace(path, lambda new: new.write_text(text))
    return stamped


def _point(store: Store) -> None:
    now = current(store)
    text = json.dumps(asdict(now), indent=1) if now else "null"
    path = store.root / "current.json"
    if not path.exists() or path.read_text() != text:
        disk.replace(path, lambda new: new.write_text(text))
