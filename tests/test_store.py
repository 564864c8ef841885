"""The store by example: what is there is reused, what was interrupted never happened, and what was altered is found."""

import json
import multiprocessing
import os
import shutil
import signal
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from recsys import verification
from recsys.errors import ConfigError, StoreError
from recsys.store import Draft, Store

NIGHT = datetime(2017, 10, 16, tzinfo=timezone.utc)
CODE = "recsys.windows"


def write(text: str):
    def build(draft: Draft) -> None:
        (draft.path / "table.txt").write_text(text)
        draft.counts["rows"] = len(text)

    return build


def ensure(store: Store, text: str = "a", **given):
    given = {"as_of": NIGHT, "config": {"x": 1}, "inputs": {}, "code": CODE, **given}
    return store.ensure("features", build=write(text), **given)


def test_an_artifact_is_built_once(tmp_path):
    first = ensure(Store(tmp_path), "a")
    again = ensure(Store(tmp_path), "b")
    assert not first.reused and again.reused
    assert again == first
    assert (again.path / "table.txt").read_text() == "a"
    assert first.path == tmp_path / "features" / "as_of=2017-10-16" / f"version={first.version}"
    assert again.counts == {"rows": 1}


@pytest.mark.parametrize(
    "change", [{"config": {"x": 2}}, {"sources": ["another file"]}, {"as_of": NIGHT + timedelta(days=1)}, {"code": "recsys.schema"}]
)
def test_whatever_can_change_a_result_is_another_version(tmp_path, change):
    store = Store(tmp_path)
    assert ensure(store).path != ensure(store, **change).path


def test_inputs_count_by_content_not_by_version(tmp_path):
    store = Store(tmp_path)
    one, same, other = ensure(store, "a"), ensure(store, "a", config={"x": 2}), ensure(store, "b", config={"x": 3})
    assert one.version != same.version and one.content == same.content != other.content

    def downstream(source):
        return store.ensure("sequences", NIGHT, {}, {"features": source}, write("s"), code=CODE)

    assert downstream(one).version == downstream(same).version != downstream(other).version


def test_manifest_is_deterministic_and_lists_every_file(tmp_path):
    manifests = [ensure(Store(tmp_path / name)).manifest for name in "ab"]
    assert manifests[0] == manifests[1]
    assert list(manifests[0]["files"]) == ["table.txt"]
    run = json.loads((tmp_path / "a" / "features").glob("*/*/run.json").__next__().read_text())
    assert run["seconds"] >= 0 and run["packages"]["duckdb"]


def test_a_failed_build_leaves_nothing(tmp_path):
    def fail(draft: Draft) -> None:
        (draft.path / "half.txt").write_text("half")
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        Store(tmp_path).ensure("features", NIGHT, {}, {}, fail, code=CODE)
    assert not list(tmp_path.rglob("half.txt"))
    assert Store(tmp_path).artifacts() == []


def test_rebuild_of_the_same_bytes_leaves_them_where_they_are(tmp_path):
    first = ensure(Store(tmp_path), "a")
    before = (first.path / "table.txt").stat().st_ino, (first.path / "run.json").stat().st_ino
    again = ensure(Store(tmp_path), "a", rebuild=True)
    assert again == first and not again.reused
    assert (first.path / "table.txt").stat().st_ino == before[0], "whoever reads it reads on"
    assert (first.path / "run.json").stat().st_ino != before[1], "it says who made it last"
    assert not list((tmp_path / ".tmp").iterdir())


def test_rebuild_to_other_bytes_stands_beside_what_a_promotion_may_name(tmp_path):
    store = Store(tmp_path)
    first = ensure(store, "a")
    again = ensure(store, "b", rebuild=True)
    assert again.version == f"{first.version}-2" and (again.path / "table.txt").read_text() == "b"
    assert ensure(Store(tmp_path), "b", rebuild=True) == again
    third = ensure(Store(tmp_path), "a", rebuild=True)
    assert third.version == f"{first.version}-3" and third.manifest["version"] == third.version
    assert ensure(Store(tmp_path), "x") == third, "what was made last is what runs go on with"
    assert [store.open(a.reference) for a in (first, again, third)] == store.artifacts() == [first, again, third]


def test_a_copy_beside_an_artifact_is_nobodys(tmp_path, caplog):
    store = Store(tmp_path)
    first = ensure(store, "a")
    again = ensure(store, "b", rebuild=True)
    for name in (f"{first.path.name}-bak", f"{first.path.name}-bak-7", f"{again.path.name}-old"):
        shutil.copytree(first.path, first.path.with_name(name))
    assert ensure(Store(tmp_path)) == again
    assert ensure(Store(tmp_path), "c", rebuild=True).version == f"{first.version}-3"
    assert len(store.artifacts()) == 3 and "is passed over" in caplog.text


def test_a_reference_means_these_bytes(tmp_path):
    store = Store(tmp_path)
    made = ensure(store, "a")
    reference = made.reference
    store.remove(made)
    assert store.get(reference) is None
    swapped = ensure(Store(tmp_path), "b")
    assert swapped.path == made.path and store.get(reference) is None
    with pytest.raises(StoreError, match="came to other bytes"):
        store.open(reference)
    of_before = {name: value for name, value in reference.items() if name != "content"}
    assert store.open(of_before) == store.get(of_before) == swapped


def test_the_environment_is_read_in_the_path_of_a_store(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_STORES", str(tmp_path))
    assert Store("${MY_STORES}/shop").root == tmp_path / "shop"
    with pytest.raises(ConfigError, match="NO_STORES, which is not set"):
        Store("${NO_STORES}/shop")


def add_a_file(path: Path) -> None:
    (path.parent / "part-001.parquet").write_text("mine")


@pytest.mark.parametrize("harm", [lambda p: p.write_text("b"), lambda p: p.write_text("longer"), lambda p: p.unlink(), add_a_file])
def test_an_altered_artifact_is_refused_and_named(tmp_path, harm):
    path = ensure(Store(tmp_path)).path / "table.txt"
    harm(path)
    with pytest.raises(StoreError, match=f"(?s){path.parent}/.*--rebuild"):
        ensure(Store(tmp_path))
    assert not ensure(Store(tmp_path), rebuild=True).reused
    assert [a.version for a in Store(tmp_path).artifacts()] == [ensure(Store(tmp_path)).version], "it is healed in its place"


def test_a_folder_without_manifest_does_not_exist(tmp_path):
    (ensure(Store(tmp_path)).path / "manifest.json").unlink()
    assert Store(tmp_path).artifacts() == []
    assert not ensure(Store(tmp_path), "b").reused


def _build_slowly(root: Path, mark: Path, seconds: float) -> None:
    def build(draft: Draft) -> None:
        (draft.path / "table.txt").write_text("a")
        (draft.scratch / "checkpoint").write_text("1")
        mark.touch()
        time.sleep(seconds)

    Store(root).ensure("features", NIGHT, {"x": 1}, {}, build, code=CODE)


def _start(*args):
    process = multiprocessing.get_context("spawn").Process(target=_build_slowly, args=args)
    process.start()
    deadline = time.time() + 60
    while not args[1].exists():
        assert process.is_alive() and time.time() < deadline
        time.sleep(0.02)
    return process


def test_killed_while_building_nothing_is_visible_and_the_checkpoint_stays(tmp_path):
    process = _start(tmp_path / "store", tmp_path / "mark", 60)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    store = Store(tmp_path / "store")
    assert store.artifacts() == [] and len(list((store.root / ".tmp").iterdir())) == 1

    def resume(draft: Draft) -> None:
        assert (draft.scratch / "checkpoint").read_text() == "1"
        (draft.path / "table.txt").write_text("a")

    store.ensure("features", NIGHT, {"x": 1}, {}, resume, code=CODE)
    assert not list((store.root / ".tmp").iterdir()) and not list((store.root / ".scratch").iterdir())


def test_killed_after_its_artifact_was_there_an_attempt_leaves_nothing(tmp_path):
    store = Store(tmp_path / "store")
    made = ensure(store)
    scratch = store.root / ".scratch" / made.attempt
    scratch.mkdir(parents=True)
    with store.lock(made.attempt):
        assert ensure(store).reused and scratch.exists(), "somebody is making it again"
    assert ensure(store).reused and not scratch.exists()


def test_of_two_runs_the_second_waits_and_reads_the_first(tmp_path):
    process = _start(tmp_path / "store", tmp_path / "mark", 1.0)
    waited = ensure(Store(tmp_path / "store"), "b")
    process.join()
    assert process.exitcode == 0 and waited.reused
    assert (waited.path / "table.txt").read_text() == "a"


def test_a_run_at_work_is_not_swept_by_another(tmp_path):
    process = _start(tmp_path / "store", tmp_path / "mark", 1.0)
    ensure(Store(tmp_path / "store"), config={"another": 1})
    process.join()
    assert process.exitcode == 0
    assert len(Store(tmp_path / "store").artifacts("features")) == 2


def test_a_full_disk_is_an_answer(tmp_path):
    def fill(draft: Draft) -> None:
        with open("/dev/full", "w") as file:  # a real ENOSPC from the kernel
            file.write("x" * 100_000)

    with pytest.raises(StoreError, match="no space left.*published stays"):
        Store(tmp_path).ensure("features", NIGHT, {}, {}, fill, code=CODE)


def test_find_says_what_there_is(tmp_path):
    store = Store(tmp_path)
    made = ensure(store)
    assert store.find("features") == store.find("features", NIGHT) == store.find("features", version=made.version[:5]) == made
    with pytest.raises(StoreError, match=made.version):
        store.find("features", NIGHT + timedelta(days=1))
    with pytest.raises(StoreError, match="none at all"):
        store.find("training")


def test_a_broken_manifest_is_named_and_stops_no_other_night(tmp_path, caplog):
    store = Store(tmp_path)
    broken, whole = ensure(store), ensure(store, as_of=NIGHT + timedelta(days=1))
    (broken.path / "manifest.json").write_text("{trunc")
    assert Store(tmp_path).artifacts() == [whole]
    assert str(broken.path) in caplog.text
    with pytest.raises(StoreError, match=f"{broken.path}.*--rebuild"):
        ensure(Store(tmp_path))


def test_an_artifact_that_is_pruned_while_they_are_listed_is_passed_over(tmp_path, monkeypatch):
    store = Store(tmp_path)
    pruned, whole = ensure(store), ensure(store, as_of=NIGHT + timedelta(days=1))
    read_manifest = verification.read_manifest

    def meanwhile(folder):
        if pruned.path.exists():
            store.remove(pruned)
        return read_manifest(folder)

    monkeypatch.setattr(verification, "read_manifest", meanwhile)
    monkeypatch.setattr(Path, "glob", lambda path, pattern: [pruned.path / "manifest.json", whole.path / "manifest.json"])
    assert store.artifacts() == [whole]


@pytest.mark.parametrize("place", ["/proc/nowhere/store", "a file"])
def test_a_place_where_no_store_can_be_is_said_before_any_work(tmp_path, place):
    root = tmp_path / place  # an absolute place stays what it is
    if place == "a file":
        root.write_text("mine")
    with pytest.raises(StoreError, match="cannot be written"):
        Store(root).check_writable()


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="this kernel counts the memory of a process only once")
def test_the_memory_of_an_artifact_is_its_own(tmp_path):
    store, mebibyte = Store(tmp_path), 2**20

    def peak(name, n_bytes):
        made = store.ensure(
            name, NIGHT, {}, {}, lambda draft: draft.path.joinpath("size").write_text(str(len(bytearray(n_bytes)))), code=CODE
        )
        return json.loads((made.path / "run.json").read_text())["peak_memory_bytes"]

    large, small = peak("large", 200 * mebibyte), peak("small", 1)
    assert large - small > 150 * mebibyte
