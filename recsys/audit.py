"""A whole store against what was written: every file of every artifact, and the pointer against its history."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from recsys import published
from recsys.errors import StoreError
from recsys.store import Store
from recsys.verification import REMEDY, damages, read_manifest


def folders(store: Store) -> list[Path]:
    """Every folder of a version, finished or not, in order of steps and nights."""
    return sorted(path for path in store.root.glob("*/as_of=*/version=*") if path.is_dir())


def audit(folder: Path) -> list[str]:
    """What is wrong with the folder of an artifact, a sentence each; StoreErrors of its manifest are such sentences too."""
    if not (folder / "manifest.json").exists():
        return [f"{folder} has no manifest, so that nobody reads it. {REMEDY.format(folder)}"]
    try:
        found = list(damages(folder, read_manifest(folder)["files"]))
    except StoreError as error:
        return [str(error)]
    if found:
        found[-1] += f" {REMEDY.format(folder)}"
    return found


def audit_pointer(store: Store) -> Iterator[str]:
    """What is wrong with promotions.jsonl, and with current.json and the artifacts that it names."""
    try:
        now = published.current(store)
    except StoreError as error:
        yield str(error)
        return
    path = store.root / "current.json"
    remedy = "Roll back or publish, and it is written anew."
    try:
        pointed = json.loads(path.read_text())
    except FileNotFoundError:
        if now is not None:
            yield f"{path} is missing, although promotions.jsonl names a promotion. {remedy}"
    except ValueError as error:
        yield f"{path} is not what was written ({error}). {remedy}"
    else:
        if pointed != (json.loads(json.dumps(asdict(now))) if now else None):
            yield f"{path} does not show the promotion that promotions.jsonl ends with. {remedy}"
    for reference in now.artifacts.values() if now else ():
        try:
            found = store.get(reference)
        except StoreError:
            continue  # of its manifest, which is said with its folder
        if found is None:
            yield f"{reference['step']} {reference['version']} is published, but is not in {store.root}. Run its night again, or roll back."
