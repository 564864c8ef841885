"""Disks that are full or cannot be written: a sentence, nothing half-written, and a night that goes on once there is space.

On a tmpfs of its own, which only root may mount.
"""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from recsys import audit, published
from recsys.store import Store
from recsys.windows import label
from tests.chaos.nights import NEXT, REFUSED, STEPS, Night, assert_whole, contents, damaged

pytestmark = pytest.mark.chaos

PAGE = 4096


def mount(disk: Path, *options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(disk)], check=True, capture_output=True)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    """A folder that is a disk of 64 MB."""
    place = tmp_path / "store"
    place.mkdir()
    try:
        mount(place, "size=64m")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no tmpfs can be mounted here: {error}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path, left: int = 0) -> Path:
    """A file that takes all space of the disk but so many bytes."""
    filler = disk / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(disk).free - left))
    assert shutil.disk_usage(disk).free == left
    return filler


@pytest.mark.cases(14)
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("left", [0, PAGE])
def test_a_full_disk(step: str, left: int, undisturbed: Night, store: Path) -> None:
    """A disk that is full in each step, to the last byte or page: it says so, nothing half-written is visible, with space it goes on"""
    shutil.copytree(undisturbed.store, store, dirs_exist_ok=True)
    for name in ("promotions.jsonl", "current.json"):
        (store / name).unlink()
    for later in STEPS[STEPS.index(step) :]:
        shutil.rmtree(store / later)
    filler = fill(store, left)
    before = contents(store)
    assert (night := Night(store)).run() == REFUSED, night.said()
    assert "no space left" in night.said() and f"{store}" in night.said()
    assert contents(store) == before and damaged(store) == [] and published.current(Store(store)) is None
    filler.unlink()
    assert (again := Night(store)).run() == 0, again.said()
    assert_whole(store, undisturbed.store)


@pytest.mark.cases(2)
@pytest.mark.parametrize("left", [0, PAGE])
def test_a_disk_that_is_full_from_the_start(left: int, undisturbed: Night, store: Path) -> None:
    """A disk that is full before the first night: it says so, and with space the night is made"""
    filler = fill(store, left)
    assert (night := Night(store)).run() == REFUSED, night.said()
    assert "no space left" in night.said() and f"{store}" in night.said()
    filler.unlink()
    assert (again := Night(store)).run() == 0, again.said()
    assert_whole(store, undisturbed.store)


@pytest.mark.cases(1)
def test_pruning_a_full_disk(backfilled: Night, store: Path) -> None:
    """A disk that is full to the last byte is pruned: there is space again, and what is published is whole"""
    shutil.copytree(backfilled.store, store, dirs_exist_ok=True)
    fill(store)
    prune = Night(store, command=("prune", "--nights", "1", "--promotions", "1", "--yes"))
    assert prune.run() == 0, prune.said()
    assert shutil.disk_usage(store).free > 100 * PAGE and len(contents(store)) < len(contents(backfilled.store))
    assert damaged(store) == [] and list(audit.audit_pointer(Store(store))) == []


@pytest.mark.cases(1)
def test_going_back_on_a_full_disk(backfilled: Night, store: Path) -> None:
    """A rollback on a disk that is full to the last byte: done, or it says so, and readers see a whole night either way"""
    shutil.copytree(backfilled.store, store, dirs_exist_ok=True)
    filler = fill(store)
    back = Night(store, command=("rollback", label(NEXT), "--why", "bad lists"))
    assert back.run() == 0 or "no space left" in back.said(), back.said()
    assert contents(store) == contents(backfilled.store) and published.current(Store(store)) is not None
    filler.unlink()
    assert back.run() == 0 or "is what is published" in back.said(), back.said()
    now = published.current(Store(store))
    assert now is not None and now.moment == NEXT and list(audit.audit_pointer(Store(store))) == []


@pytest.mark.cases(1)
def test_a_disk_that_cannot_be_written(undisturbed: Night, store: Path) -> None:
    """A store that is read-only: it says so before any work, and what is published can be read"""
    shutil.copytree(undisturbed.store, store, dirs_exist_ok=True)
    mount(store, "remount", "ro")
    assert (night := Night(store, given={"seed": 2})).run() == REFUSED, night.said()
    assert f"{store} cannot be written" in night.said()
    assert contents(store) == contents(undisturbed.store) and published.current(Store(store)) is not None
    mount(store, "remount", "rw")
    assert (again := Night(store, given={"seed": 2})).run() == 0, again.said()
