"""Disks that are full or cannot be written: a sentence, nothing half-written, and a night that goes on once there is space.

On a tmpfs of its own, which only root may mount.
"""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from recsys import published
from recsys.store import Store
from tests.chaos.nights import REFUSED, STEPS, Night, assert_whole, contents, damaged

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


@pytest.mark.parametrize("step", STEPS)
def test_a_full_disk(step: str, undisturbed: Night, store: Path) -> None:
    """A disk that is full in each step: it says so, nothing half-written is visible, and with space it goes on"""
    shutil.copytree(undisturbed.store, store, dirs_exist_ok=True)
    for name in ("promotions.jsonl", "current.json"):
        (store / name).unlink()
    for later in STEPS[STEPS.index(step) :]:
        shutil.rmtree(store / later)
    (store / "filler").write_bytes(bytes(shutil.disk_usage(store).free - PAGE))
    before = contents(store)
    assert (night := Night(store)).run() == REFUSED, night.said()
    assert "no space left" in night.said() and f"{store}" in night.said()
    assert contents(store) == before and damaged(store) == [] and published.current(Store(store)) is None
    (store / "filler").unlink()
    assert (again := Night(store)).run() == 0, again.said()
    assert_whole(store, undisturbed.store)


def test_a_disk_that_cannot_be_written(undisturbed: Night, store: Path) -> None:
    """A store that is read-only: it says so before any work, and what is published can be read"""
    shutil.copytree(undisturbed.store, store, dirs_exist_ok=True)
    mount(store, "remount", "ro")
    assert (night := Night(store, given={"seed": 2})).run() == REFUSED, night.said()
    assert f"{store} cannot be written" in night.said()
    assert contents(store) == contents(undisturbed.store) and published.current(Store(store)) is not None
    mount(store, "remount", "rw")
    assert (again := Night(store, given={"seed": 2})).run() == 0, again.said()
