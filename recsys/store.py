"""Versioned artifacts: one folder per step, moment and version, written whole or not at all.

    {store}/{step}/as_of=2017-10-16/version=3f9c2a71b0de/…tables…, run.json, manifest.json

A version names everything that can change a result, so "resume", "skip what is done" and "idempotent backfill" are
one mechanism: `Store.ensure` returns the folder that is there, or builds it. A folder without a manifest does not exist.
"""

import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from recsys import attempts, digest, disk, provenance, references, verification
from recsys.config import expand
from recsys.errors import StoreError
from recsys.turn import Turn, turn
from recsys.windows import label

log = logging.getLogger(__name__)


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
        return verification.read_manifest(self.path)

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
        """How other artifacts and promotions name this one: these bytes and no others."""
        return {"step": self.step, "as_of": self.as_of.isoformat(), "version": self.version, "content": self.content}

    @property
    def attempt(self) -> str:
        """The name of the lock and the folders of an attempt to make it."""
        return f"{self.step}-{label(self.as_of)}-{self.version}"

    @property
    def number(self) -> int:
        """1, or which of several it is that one version came to: 2 of `3f9c2a71b0de-2`."""
        return int(self.version.partition("-")[2] or 1)

    def remade(self, number: int) -> "Artifact":
        """The place of the same version where it comes to other bytes."""
        version = f"{self.version.partition('-')[0]}-{number}"
        return Artifact(self.path.with_name(f"version={version}"), self.step, self.as_of, version)

    def __str__(self) -> str:
        return f"{self.step} {label(self.as_of)} {self.version}"


class Store:
    """A folder with artifacts; `${NAME}` in its path is taken from the environment.

    `facts` (the Prefect run's id, say) go into the run.json of what this process builds.
    """

    def __init__(self, root: Path | str, facts: Mapping[str, Any] | None = None) -> None:
        self.root = Path(expand(str(root))).absolute()
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
        wanted = Artifact(self._folder(step, as_of, version), step, as_of, version)
        with disk.explained(self.root, step):
            if not rebuild and (found := self._finished(wanted)):
                attempts.sweep_scratch(self.root, wanted.attempt)
                return found
            key["inputs"] = {name: artifact.reference for name, artifact in inputs.items()}
            return self._make(wanted, key, build, rebuild)

    def artifacts(self, step: str | None = None) -> list[Artifact]:
        """Every finished artifact, of one step or of all, by moment and then by when it was made."""
        found = []
        for path in self.root.glob(f"{step or '*'}/as_of=*/version=*/manifest.json"):
            try:
                read = verification.read_manifest(path.parent)
                artifact = Artifact(path.parent, read["step"], datetime.fromisoformat(read["moment"]), read["version"])
                found.append((path.stat().st_mtime, artifact))
            except (StoreError, FileNotFoundError) as error:  # damaged, or pruned since the folders were listed
                log.warning("%s Its artifact is passed over.", error)
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
        """The artifact that a manifest or a promotion names, its files verified; StoreError where other bytes are in its place."""
        artifact = self._named(reference)
        if not (artifact.path / "manifest.json").exists():
            raise StoreError(
                f"{artifact} is referred to but is not in {self.root}: was it pruned, or removed by hand? Run its night again."
            )
        self.verify(artifact)
        if not references.means(reference, artifact.content):
            raise StoreError(
                f"{artifact.path} is not the artifact that is referred to: it was made again and came to other bytes. Run its night again."
            )
        return artifact

    def get(self, reference: Mapping[str, str]) -> Artifact | None:
        """The artifact that a promotion names, if it is there; of its files, only the manifest is looked at."""
        artifact = self._named(reference)
        return artifact if (artifact.path / "manifest.json").exists() and references.means(reference, artifact.content) else None

    def check_writable(self) -> None:
        """StoreError where nothing can be written: asked before any work."""
        with self.lock("published"):
            pass

    def verify(self, artifact: Artifact) -> None:
        """Every file against its manifest, once a run; StoreError names the first that differs."""
        if artifact.path in self._verified:
            return
        if not artifact.path.resolve().is_relative_to(self.root.resolve()):
            raise StoreError(f"{artifact.path} leads out of the store, by a link. Put the folder itself there, or mount it.")
        if found := next(verification.damages(artifact.path, artifact.manifest["files"]), None):
            raise StoreError(f"{found} {verification.REMEDY.format(artifact.path)}")
        self._verified.add(artifact.path)

    def remove(self, artifact: Artifact) -> None:
        """Take an artifact out of the store; it vanishes at once, its bytes a moment later."""
        shutil.rmtree(self.withdraw(artifact), ignore_errors=True)

    def withdraw(self, artifact: Artifact) -> Path:
        """The same, but its bytes stay for now, where drafts are that nobody is at: the next sweep removes them."""
        self._verified.discard(artifact.path)
        return attempts.abandon(self.root, artifact.path, artifact.attempt)

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """One holder at a time, over all processes."""
        with disk.explained(self.root, name), attempts.lock(self.root, name):
            yield

    @contextmanager
    def at_work(self, who: str) -> Iterator[Turn]:
        """Held by every run while it lasts: one at a time, so that nothing it reads is taken away meanwhile."""
        with ExitStack() as held:
            with disk.explained(self.root, who):
                mine = held.enter_context(turn(self.root, who))
            yield mine

    def _folder(self, step: str, as_of: datetime, version: str) -> Path:
        return self.root / step / f"as_of={label(as_of)}" / f"version={version}"

    def _named(self, reference: Mapping[str, str]) -> Artifact:
        step, moment, version = references.parsed(reference, self.root)
        return Artifact(self._folder(step, moment, version), step, moment, version)

    def _newest(self, wanted: Artifact) -> Artifact:
        """Of a version that was made again and came to other bytes, what was made last: `3f9c2a71b0de-2`."""
        first = wanted.path.name
        beside = (path.parent.name.removeprefix(f"{first}-") for path in wanted.path.parent.glob(f"{first}-*/manifest.json"))
        again = [int(number) for number in beside if number.isdecimal()]  # a copy that somebody made, as `…-bak`, is none
        return wanted.remade(max(again)) if again else wanted

    def _finished(self, wanted: Artifact) -> Artifact | None:
        found = self._newest(wanted)
        if not (found.path / "manifest.json").exists():
            return None
        self.verify(found)
        return found

    def _make(self, wanted: Artifact, key: dict[str, Any], build: Callable[[Draft], None], rebuild: bool) -> Artifact:
        with self.lock(wanted.attempt):
            if not rebuild and (found := self._finished(wanted)):  # by another run, while this one waited
                return found
            return self._build(wanted, key, build)

    def _build(self, wanted: Artifact, key: dict[str, Any], build: Callable[[Draft], None]) -> Artifact:
        attempts.sweep_drafts(self.root, ours=wanted.attempt)
        draft = Draft(attempts.draft(self.root, wanted.attempt), self.root / ".scratch" / wanted.attempt)
        draft.path.mkdir(parents=True)
        draft.scratch.mkdir(parents=True, exist_ok=True)
        os.utime(draft.scratch)  # when this attempt began
        started = time.time()
        provenance.begin_peak_memory()
        try:
            build(draft)
            provenance.write_run(draft.path / "run.json", started, {**self.facts, **draft.notes})
            artifact = self._commit(draft, wanted, key)
        except BaseException as error:
            attempts.note_failure(draft.scratch, error)
            shutil.rmtree(draft.path, ignore_errors=True)
            raise
        shutil.rmtree(draft.scratch, ignore_errors=True)
        self._verified.add(artifact.path)
        return artifact

    def _commit(self, draft: Draft, wanted: Artifact, key: dict[str, Any]) -> Artifact:
        """Put what was written in its place. A whole artifact is never replaced, since a promotion may name it: what is made
        again and comes to the same bytes is the one that is there, and other bytes stand beside it.
        """
        files = provenance.files_of(draft.path)
        content = digest.of_value({name: facts["sha256"] for name, facts in files.items()})
        place = self._newest(wanted)
        there = verification.content_of(place.path)
        if there == content and not any(verification.damages(place.path, place.manifest["files"])):
            os.replace(draft.path / "run.json", place.path / "run.json")
            shutil.rmtree(draft.path)
            return replace(place, reused=False)
        if there not in (None, content):
            place = place.remade(place.number + 1)
        identity = {"moment": place.as_of.isoformat(), "version": place.version, "content": content, "files": files}
        manifest = {**key, **identity, "counts": draft.counts, "metrics": draft.metrics, "profile": draft.profile}
        (draft.path / "manifest.json").write_text(json.dumps(verification.sealed(manifest), indent=1, sort_keys=True))
        for path in (*draft.path.rglob("*"), draft.path):
            disk.sync(path)
        place.path.parent.mkdir(parents=True, exist_ok=True)
        if place.path.exists():  # damaged, or robbed of its manifest
            self.remove(place)
        os.rename(draft.path, place.path)
        disk.sync(place.path.parent)
        return replace(place, reused=False)
