"""Whether the files of an artifact are those that were written: every one against the manifest."""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from recsys import digest
from recsys.errors import StoreError
from recsys.windows import label

REMEDY = "Remove the folder {} and run the night again (or give --rebuild): it is made anew from its inputs."
_OWN = ("manifest.json", "run.json")  # neither is listed in the manifest: itself, and what no two runs share


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of an artifact; StoreError where it is not what was written."""
    path = folder / "manifest.json"
    try:
        found = json.loads(path.read_text())
        named = found["step"], f"as_of={label(datetime.fromisoformat(found['moment']))}", f"version={found['version']}"
        if named != folder.parts[-3:]:
            raise ValueError(f"it is that of {'/'.join(named)}")
        contents = digest.of_value({name: facts["sha256"] for name, facts in found["files"].items()})
        if contents != found["content"]:
            raise ValueError("its digest is not that of the files it lists")
        if "digest" in found and found != sealed(found):  # older manifests have none
            raise ValueError("its digest is not that of what it says")
    except (ValueError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        why = f"there is no {error}" if isinstance(error, KeyError) else error
        raise StoreError(f"{path} is not what was written ({why}). {REMEDY.format(folder)}") from None
    return found


def sealed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest as JSON reads it, with the digest of all that it says: a setting or a metric that was altered is found."""
    said = json.loads(json.dumps({name: value for name, value in manifest.items() if name != "digest"}, default=str))
    return {**said, "digest": digest.of_value(said)}


def content_of(folder: Path) -> str | None:
    """The digest of what was written into a folder; None where it has no manifest, or one that cannot be read."""
    try:
        return read_manifest(folder)["content"]
    except (StoreError, FileNotFoundError):
        return None


def damages(folder: Path, files: Mapping[str, Mapping[str, Any]], read: bool = True) -> Iterator[str]:
    """Everything in which a folder differs from its manifest's `files`, a sentence each: altered, missing, not listed, elsewhere.

    With `read` off, only the sizes of the files are looked at, not their bytes.
    """
    for name, facts in files.items():
        path = folder / name
        if ".." in path.parts or not path.is_relative_to(folder):
            yield f"{folder / 'manifest.json'} lists {name!r}, which is no file of its folder."
        elif not path.is_file():
            yield f"{path} is missing."
        elif path.stat().st_size != facts["bytes"] or (read and digest.of_file(path) != facts["sha256"]):
            yield f"{path} is not what was written: its bytes do not match the manifest."
    for path in sorted(folder.rglob("[!.]*")):  # a hidden file is read by nobody
        name = str(path.relative_to(folder))
        if path.is_symlink():
            yield f"{path} is a link to somewhere else, and no part of what was written."
        elif path.is_file() and name not in files and name not in _OWN:
            yield f"{path} is not listed in the manifest: whoever reads the folder would read it too."
