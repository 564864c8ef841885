"""Versioned artifacts: one folder per step, moment and version, written whole or not at all.

    {store}/{step}/as_of=2017-10-16/version=3f9c2a71b0de/…tables…, run.json, manifest.json

A version names everything that can change a result, so "resume", "skip what is done" and "idempotent backfill" are
one mechanism: `Store.ensure` returns the folder that is there, or builds it. A folder without a manifest does not exist.
"""

import errno
import fcntl
import json
import logging
import os
import resource
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

from recsys import digest, provenance
from recsys.errors import RecsysError, StoreError
from recsys.windows import label

log = logging.getLogger(__name__)

_NO_STORE = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EEXIST}


@dataclass
class Draft:
    """An artifact that is being built: write into `path`; what is set here goes into its manifest."""

    path: Path
    scratch: Path  # survives a killed attempt (checkpoints, spill), goes when the artifact is committed
    counts: dict[str, int | float] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    profile: Any = None
    notes: dict[str, Any] = field(default_factory=dict)  # of this run only: run.json

    def note(self, **facts: Any) -> None:
        """Facts about this run (device, seconds per stage) that no two runs share."""
        self.notes.update(facts)


@dataclass(frozen=True)
class Artifact:
    """A finished folder of the store."""

    path: Path
    step: str
    as_of: datetime
    version: str
    reused: bool = field(default=True, compare=False)

    @cached_property
    def manifest(self) -> dict[str, Any]:
        path = self.path / "manifest.json"
        try:
            return json.loads(path.read_text())
        except ValueError as error:
            raise StoreError(f"{path} is not what was written ({error}). {_REMEDY.format(self.path)}") from None

    @property
    def content(self) -> str:
        """Digest of the files: equal where two versions came to the same bytes."""
        return self.manifest["content"]

    @property
    def counts(self) -> dict[str, Any]:
        return self.manifest["counts"]

    @property
    def metrics(self) -> dict[str, Any]:
        return self.manifest["metrics"]

    @property
    def reference(self) -> dict[str, str]:
        """How other artifacts and promotions name this one."""
        return {"step": self.step, "as_of": self.as_of.isoformat(), "version": self.version}

    def __str__(self) -> str:
        return f"{self.step} {label(self.as_of)} {self.version}"


class Store:
    """A folder with artifacts. `facts` (the Prefect run's id, say) go into the run.json of what this process builds."""

    def __init__(self, root: Path | str, facts: Mapping[str, Any] | None = None) -> None:
        self.root = Path(root).absolute()
        self.facts = dict(facts or {})
        self._verified: set[Path] = set()

    def ensure(
        self,
        step: str,
        as_of: datetime,
        config: dict[str, Any],
        inputs: Mapping[str, Artifact],
        build: Callable[[Draft], None],
        *,
        code: str,
        sources: Any = None,
        sql: Sequence[Path] = (),
        rebuild: bool = False,
    ) -> Artifact:
        """The artifact of this version: the one that is there, or else what `build` writes.

        `code` is the step's module, `sql` are further files that it runs, `sources` a JSON value that identifies what it
        reads from outside. Of several runs at once one builds; the others wait for it and read what it made.
        """
        key = {
            "step": step,
            "as_of": label(as_of),
            "config": config,
            "inputs": {name: artifact.content for name, artifact in inputs.items()},
            "sources": sources,
            "code": digest.of_code(code, sql),
        }
        version = digest.of_value(key)[:12]
        final = self.root / step / f"as_of={label(as_of)}" / f"version={version}"
        found = Artifact(final, step, as_of, version)
        with self._explained(step):
            if not rebuild and self._finished(found):
                return found
            with self.lock(f"{step}-{version}"):
                if not rebuild and self._finished(found):
                    return found
                key["inputs"] = {name: {**artifact.reference, "content": artifact.content} for name, artifact in inputs.items()}
                self._build(found, key, build)
        return Artifact(final, step, as_of, version, reused=False)

    def artifacts(self, step: str | None = None) -> list[Artifact]:
        """Every finished artifact, of one step or of all, by moment and then by when it was made."""
        found = []
        for path in self.root.glob(f"{step or '*'}/as_of=*/version=*/manifest.json"):
            try:
                read = json.loads(path.read_text())
                artifact = Artifact(path.parent, read["step"], datetime.fromisoformat(read["moment"]), read["version"])
            except (ValueError, KeyError, TypeError):
                log.warning("%s is not what was written, so its artifact is passed over. %s", path, _REMEDY.format(path.parent))
                continue
            found.append((path.stat().st_mtime, artifact))
        return [artifact for _, artifact in sorted(found, key=lambda pair: (pair[1].as_of, pair[0]))]

    def find(self, step: str, as_of: datetime | None = None, version: str | None = None) -> Artifact:
        """The newest artifact of a step, or the one of a moment or version; StoreError names what there is."""
        known = self.artifacts(step)
        fits = [a for a in known if as_of in (None, a.as_of) and (version is None or a.version.startswith(version))]
        if not fits:
            asked = " ".join([step, *([label(as_of)] if as_of else []), *([version] if version else [])])
            there = ", ".join(f"{label(a.as_of)} {a.version}" for a in known[-5:]) or "none at all"
            raise StoreError(f"There is no finished artifact {asked!r} in {self.root}. Of {step} there are: {there}.")
        return fits[-1]

    def open(self, reference: Mapping[str, str]) -> Artifact:
        """The artifact that a manifest or a promotion names, its files verified."""
        artifact = self._named(reference)
        if not self._finished(artifact):
            raise StoreError(f"{artifact} is referred to but is not in {self.root}: was it removed by hand? Run its night again.")
        return artifact

    def has(self, reference: Mapping[str, str]) -> bool:
        """Whether the artifact that a promotion names is there at all; its files are not looked at."""
        return (self._named(reference).path / "manifest.json").exists()

    def check_writable(self) -> None:
        """StoreError where nothing can be written: asked before any work."""
        with self._explained("the store"):
            (self.root / ".locks").mkdir(parents=True, exist_ok=True)
            (self.root / ".locks" / "published").touch()

    def verify(self, artifact: Artifact) -> None:
        """Every file against its manifest; StoreError names the first that differs."""
        listed = artifact.manifest["files"]
        for name, facts in listed.items():
            path = artifact.path / name
            if not path.exists():
                raise StoreError(f"{path} is missing. {_REMEDY.format(artifact.path)}")
            if path.stat().st_size != facts["bytes"] or digest.of_file(path) != facts["sha256"]:
                raise StoreError(f"{path} is not what was written: its bytes do not match the manifest. {_REMEDY.format(artifact.path)}")
        self._verified.add(artifact.path)

    def remove(self, artifact: Artifact) -> None:
        """Take an artifact out of the store; it vanishes at once, its bytes a moment later."""
        aside = self.root / ".tmp" / f"{artifact.step}-{artifact.version}-{uuid.uuid4().hex[:8]}"
        aside.parent.mkdir(parents=True, exist_ok=True)
        os.rename(artifact.path, aside)
        shutil.rmtree(aside, ignore_errors=True)

    def _named(self, reference: Mapping[str, str]) -> Artifact:
        moment = datetime.fromisoformat(reference["as_of"])
        folder = self.root / reference["step"] / f"as_of={label(moment)}" / f"version={reference['version']}"
        return Artifact(folder, reference["step"], moment, reference["version"])

    def _finished(self, artifact: Artifact) -> bool:
        if not (artifact.path / "manifest.json").exists():
            return False
        if artifact.path not in self._verified:
            self.verify(artifact)
        return True

    def _build(self, artifact: Artifact, key: dict[str, Any], build: Callable[[Draft], None]) -> None:
        self._sweep()
        name = f"{artifact.step}-{artifact.version}"
        draft = Draft(self.root / ".tmp" / f"{name}-{uuid.uuid4().hex[:8]}", self.root / ".scratch" / name)
        draft.path.mkdir(parents=True)
        draft.scratch.mkdir(parents=True, exist_ok=True)
        started = time.time()
        try:
            build(draft)
            self._write_manifest(draft, artifact, key, started)
            self._commit(draft.path, artifact)
        except BaseException:
            shutil.rmtree(draft.path, ignore_errors=True)
            raise
        shutil.rmtree(draft.scratch, ignore_errors=True)
        self._verified.add(artifact.path)
        log.debug("%s: %.1f s, %s", artifact, time.time() - started, artifact.path)

    def _write_manifest(self, draft: Draft, artifact: Artifact, key: dict[str, Any], started: float) -> None:
        run = {
            "started_at": datetime.fromtimestamp(started, timezone.utc).isoformat(),
            "seconds": round(time.time() - started, 3),
            "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            **provenance.surroundings(),
            **self.facts,
            **draft.notes,
        }
        (draft.path / "run.json").write_text(json.dumps(run, indent=1, default=str))
        files = {str(path.relative_to(draft.path)): provenance.facts(path) for path in sorted(draft.path.rglob("*")) if path.is_file()}
        files.pop("run.json")
        manifest = {
            **key,
            "moment": artifact.as_of.isoformat(),
            "version": artifact.version,
            "content": digest.of_value({name: facts["sha256"] for name, facts in files.items()}),
            "files": files,
            "counts": draft.counts,
            "metrics": draft.metrics,
            "profile": draft.profile,
        }
        (draft.path / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True, default=str))
        for path in draft.path.rglob("*"):
            provenance.sync(path)
        provenance.sync(draft.path)

    def _commit(self, written: Path, artifact: Artifact) -> None:
        final = artifact.path
        final.parent.mkdir(parents=True, exist_ok=True)
        if final.exists():  # a rebuild, or a folder that somebody robbed of its manifest
            os.rename(final, self.root / ".tmp" / f"{artifact.step}-{artifact.version}-{uuid.uuid4().hex[:8]}")
        os.rename(written, final)
        provenance.sync(final.parent)
        self._sweep(artifact)

    def _sweep(self, own: Artifact | None = None) -> None:
        """Remove what killed runs left: a temporary folder whose lock nobody holds (or is ours) belongs to no one."""
        for folder in (self.root / ".tmp").glob("*"):
            name = folder.name.rpartition("-")[0]
            if own is not None and name == f"{own.step}-{own.version}":
                shutil.rmtree(folder, ignore_errors=True)
                continue
            with (self.root / ".locks" / name).open("w") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """One holder at a time, over all processes; the kernel lets go of it when its holder dies."""
        path = self.root / ".locks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.info("Another run is at work on %s: waiting for it.", name)
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _explained(self, step: str) -> Iterator[None]:
        """Errors of the disk as answers."""
        try:
            yield
        except RecsysError:
            raise
        except Exception as error:
            number = error.errno if isinstance(error, OSError) else None
            if number == errno.ENOSPC or "No space left" in str(error):  # DuckDB and Arrow have classes of their own
                raise StoreError(
                    f"{step}: no space left in {self.root}. Nothing half-written is visible and what was published stays. "
                    "Free some space and run the night again: it resumes after the last finished step."
                ) from error
            place = Path(str(error.filename)) if isinstance(error, OSError) else Path()
            if number in _NO_STORE and (place.is_relative_to(self.root) or self.root.is_relative_to(place)):
                raise StoreError(f"{step}: the store {self.root} cannot be written ({error}). Give another, or its permissions.") from error
            raise


_REMEDY = "Remove the folder {} and run the night again (or give --rebuild): it is made anew from its inputs."
