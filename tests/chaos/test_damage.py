"""Artifacts whose files are not what was written: nobody reads on, the file is named, and what is removed is made again."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recsys import audit
from recsys.errors import StoreError
from recsys.store import Artifact, Store
from tests.chaos.nights import REFUSED, STEPS, Night, assert_whole

pytestmark = pytest.mark.chaos


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def altered(path: Path) -> None:
    """One bit, in the middle."""
    found = bytearray(path.read_bytes())
    found[len(found) // 2] ^= 1
    path.write_bytes(found)


def removed(path: Path) -> None:
    path.unlink()


def is_refused(store: Path, artifact: Artifact) -> bool:
    """By whoever follows a reference to the artifact, and by `recsys verify`; both name its folder."""
    try:
        Store(store).open(artifact.reference)
    except StoreError as error:
        return str(artifact.path) in str(error) or str(artifact) in str(error)
    return False


@pytest.mark.cases(100)
@pytest.mark.parametrize("harm", [truncated, altered, removed], ids=lambda harm: harm.__name__)
def test_every_file_is_missed(harm: Callable[[Path], None], undisturbed: Night, tmp_path: Path, record_property: Any) -> None:
    """Every file of every artifact truncated, altered or removed in turn: refused, and named"""
    store = Path(shutil.copytree(undisturbed.store, tmp_path / "store"))
    lost, n = [], 0
    for artifact in Store(store).artifacts():
        for name in (*artifact.manifest["files"], "manifest.json"):
            path, whole = artifact.path / name, (artifact.path / name).read_bytes()
            harm(path)
            n += 1
            if not (is_refused(store, artifact) and audit.audit(artifact.path)):
                lost.append(f"{artifact} {name}")
            path.write_bytes(whole)
    record_property("cases", n)
    record_property("lost", len(lost))
    assert lost == [] and n > 3 * len(STEPS)


@pytest.mark.cases(7)
@pytest.mark.parametrize("step", STEPS)
def test_a_night_over_a_damaged_step(step: str, undisturbed: Night, tmp_path: Path) -> None:
    """A night over a damaged artifact of each step: it says which folder, and removed, it comes to the same bytes"""
    store = Path(shutil.copytree(undisturbed.store, tmp_path / "store"))
    for name in ("promotions.jsonl", "current.json"):
        (store / name).unlink()  # so that the night runs, and is not finished already
    folder = Store(store).find(step).path
    altered(
        max((path for path in folder.rglob("*.*") if path.name not in ("manifest.json", "run.json")), key=lambda path: path.stat().st_size)
    )
    assert (night := Night(store)).run() == REFUSED, night.said()
    assert str(folder) in night.said() and "run the night again" in night.said() and not (store / "current.json").exists()
    shutil.rmtree(folder)
    assert (again := Night(store)).run() == 0, again.said()
    assert_whole(store, undisturbed.store)


@pytest.mark.cases(2)
@pytest.mark.parametrize("name", ["promotions.jsonl", "current.json"])
def test_the_record_is_damaged(name: str, undisturbed: Night, tmp_path: Path) -> None:
    """The record of promotions or the pointer cut in the middle: said by `recsys verify`, and nothing is overwritten"""
    store = Path(shutil.copytree(undisturbed.store, tmp_path / "store"))
    found = (store / name).read_bytes()
    (store / name).write_bytes(found[: len(found) // 2])
    assert any(name in said for said in audit.audit_pointer(Store(store)))
    night = Night(store)
    status = night.run()
    if name == "promotions.jsonl":
        assert status == REFUSED and str(store / name) in night.said(), night.said()
    else:
        assert status == 0, night.said()
    assert (store / name).read_bytes() in (found[: len(found) // 2], found)
