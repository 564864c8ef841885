"""Files against their manifest: every way in which a folder can differ from what was written."""

import json
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import pytest

from recsys.errors import StoreError
from recsys.store import Artifact, Draft, Store
from recsys.verification import content_of, damages, read_manifest


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    def build(draft: Draft) -> None:
        (draft.path / "lists").mkdir()
        for name in ("a.txt", "lists/b.txt"):
            (draft.path / name).write_text(name)

    return Store(tmp_path).ensure("features", datetime(2017, 10, 16, tzinfo=timezone.utc), {}, {}, build, code="recsys.windows")


def found(artifact: Artifact) -> list[str]:
    return [text.removeprefix(f"{artifact.path}/") for text in damages(artifact.path, artifact.manifest["files"])]


def test_what_was_written_has_no_damage(artifact: Artifact) -> None:
    (artifact.path / ".hidden").write_text("an editor's, which nobody reads")
    assert found(artifact) == []


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda path: (path / "a.txt").write_text("A.txt"), "a.txt is not what was written"),
        (lambda path: (path / "a.txt").write_text(""), "a.txt is not what was written"),
        (lambda path: (path / "lists/b.txt").unlink(), "lists/b.txt is missing"),
        (lambda path: (path / "lists/part-9.parquet").touch(), "lists/part-9.parquet is not listed"),
    ],
)
def test_every_damage_is_named(artifact: Artifact, harm: Callable[[Path], None], says: str) -> None:
    harm(artifact.path)
    (text,) = found(artifact)
    assert text.startswith(says)


@pytest.mark.parametrize("text", ["", "{trunc", "[]", "{}", "\x00", '{"files": 3, "moment": "2017-10-16", "step": "s", "version": "v"}'])
def test_a_manifest_that_nobody_wrote_is_an_answer(artifact: Artifact, text: str) -> None:
    (artifact.path / "manifest.json").write_text(text)
    with pytest.raises(StoreError, match="manifest.json is not what was written.*--rebuild"):
        read_manifest(artifact.path)
    assert content_of(artifact.path) is None


def test_a_setting_that_was_altered_is_found(artifact: Artifact) -> None:
    manifest = json.loads((artifact.path / "manifest.json").read_text())
    (artifact.path / "manifest.json").write_text(json.dumps({**manifest, "counts": {"rows": 7}}))
    with pytest.raises(StoreError, match="digest is not that of what it says"):
        read_manifest(artifact.path)


def test_a_digest_that_was_changed_to_fit_a_file_is_found(artifact: Artifact) -> None:
    manifest = json.loads((artifact.path / "manifest.json").read_text())
    manifest["files"]["a.txt"]["sha256"] = "0" * 64
    (artifact.path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match="digest"):
        read_manifest(artifact.path)
