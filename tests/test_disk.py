"""Files that appear whole or not at all, and stay after a power cut."""

import errno
import os
import stat
from contextlib import nullcontext
from pathlib import Path

import pytest

from recsys import disk


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    place = tmp_path / "table.csv"
    place.write_text("old")
    with place.open() as reader:
        disk.replace(place, lambda new: new.write_text("new"))
        assert (place.read_text(), reader.read()) == ("new", "old"), "who reads it reads on"
    assert list(tmp_path.iterdir()) == [place]


def test_what_fails_halfway_leaves_the_former_file_and_nothing_beside_it(tmp_path: Path) -> None:
    place = tmp_path / "table.csv"
    place.write_text("old")

    def write(new: Path) -> None:
        new.write_text("hal")
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        disk.replace(place, write)
    assert place.read_text() == "old" and list(tmp_path.iterdir()) == [place]


def test_what_a_killed_writer_left_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / ".table.csv.new").write_text("half of something longer")
    disk.replace(tmp_path / "table.csv", lambda new: new.write_text("new"))
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("table.csv", "new")]


def test_the_bytes_are_on_the_disk_before_the_name_and_the_name_before_it_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[str, str]] = []
    renamed = os.replace
    monkeypatch.setattr(disk, "sync", lambda path: done.append(("sync", path.name)))
    monkeypatch.setattr(os, "replace", lambda new, place: (done.append(("replace", new.name)), renamed(new, place)))
    disk.replace(tmp_path / "table.csv", lambda new: new.write_text("new"))
    assert done == [("sync", ".table.csv.new"), ("replace", ".table.csv.new"), ("sync", tmp_path.name)]


@pytest.mark.parametrize(("number", "stops"), [(errno.EINVAL, False), (errno.ENOTSUP, False), (errno.EIO, True)])
def test_a_share_that_cannot_sync_folders_takes_files_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, stops: bool
) -> None:
    synced = os.fsync

    def of_a_share(file: int) -> None:
        if stat.S_ISDIR(os.fstat(file).st_mode):
            raise OSError(number, os.strerror(number))
        synced(file)

    monkeypatch.setattr(os, "fsync", of_a_share)
    with pytest.raises(OSError) if stops else nullcontext():
        disk.replace(tmp_path / "table.csv", lambda new: new.write_text("new"))
    assert (tmp_path / "table.csv").read_text() == "new"
