"""Nights that are killed, and nights that race: what is visible is whole, and the next run comes to the same bytes."""

import json
import random
import shutil
from pathlib import Path

import psutil
import pytest

from recsys import published
from recsys.store import Store
from tests.chaos.nights import KILLED, STEPS, Night, assert_half_done, assert_whole, contents, damaged, processor_seconds, step_of

pytestmark = pytest.mark.chaos


def assert_resumed(store: Path, undisturbed: Night) -> None:
    assert_half_done(store, undisturbed.store)
    assert (again := Night(store)).run() == 0, again.said()
    assert_whole(store, undisturbed.store)


def killed_and_resumed(kill_at: int, undisturbed: Night, store: Path) -> None:
    assert (night := Night(store, kill_at)).run() == KILLED, night.said()
    assert_resumed(store, undisturbed)


@pytest.mark.cases(7)
@pytest.mark.parametrize("step", STEPS)
def test_killed_in_a_step(step: str, undisturbed: Night, tmp_path: Path) -> None:
    """SIGKILL in each of the seven steps, and a resume"""
    places = [place for place, path in enumerate(undisturbed.touched()) if step_of(path) == step]
    killed_and_resumed(random.Random(step).choice(places), undisturbed, tmp_path / "store")


@pytest.mark.cases(30)
@pytest.mark.parametrize("seed", range(30))
def test_killed_anywhere(seed: int, undisturbed: Night, tmp_path: Path) -> None:
    """SIGKILL before one of all the files that a night touches, drawn at random, and a resume"""
    killed_and_resumed(random.Random(seed).randrange(len(undisturbed.touched())), undisturbed, tmp_path / "store")


@pytest.mark.cases(10)
@pytest.mark.parametrize("seed", range(10))
def test_killed_at_any_time(seed: int, undisturbed: Night, tmp_path: Path) -> None:
    """SIGKILL at a random time, in the middle of a query, an epoch or a digest, and a resume"""
    seconds = random.Random(f"time {seed}").uniform(0.1, 0.95) * undisturbed.seconds
    if Night(tmp_path / "store").killed_once(lambda night: processor_seconds(night) >= seconds) != KILLED:
        pytest.skip("the night was over before")
    assert_resumed(tmp_path / "store", undisturbed)


@pytest.mark.cases(2)
@pytest.mark.parametrize("share", [0.25, 0.5])
def test_killed_for_its_memory(share: float, undisturbed: Night, tmp_path: Path) -> None:
    """SIGKILL as soon as it takes a quarter or a half of the memory that a night takes, and a resume"""
    first: list[int] = []

    def too_much(night: psutil.Process) -> bool:
        """What it shares with the process that it was forked from is not counted."""
        first.append(night.memory_info().rss)
        return first[-1] - first[0] > share * (peak_memory(undisturbed.store) - first[0])

    assert Night(tmp_path / "store").killed_once(too_much) == KILLED
    assert_resumed(tmp_path / "store", undisturbed)


def peak_memory(store: Path) -> int:
    """Bytes that the process of a night had at most, in whichever step."""
    return max(json.loads((artifact.path / "run.json").read_text())["peak_memory_bytes"] for artifact in Store(store).artifacts())


@pytest.mark.cases(2)
@pytest.mark.parametrize("seed", range(2))
def test_killed_again_and_again(seed: int, undisturbed: Night, tmp_path: Path) -> None:
    """SIGKILL again and again, each resume killed too, until one comes through"""
    draw = random.Random(seed)
    for _ in range(5):
        Night(tmp_path / "store", draw.randrange(len(undisturbed.touched()))).run()
        assert damaged(tmp_path / "store") == []
    assert (last := Night(tmp_path / "store")).run() == 0, last.said()
    assert_whole(tmp_path / "store", undisturbed.store)


@pytest.fixture(scope="session")
def night_after(undisturbed: Night, tmp_path_factory: pytest.TempPathFactory) -> Night:
    """Another model of the same date, made where the undisturbed night is published."""
    store = Path(shutil.copytree(undisturbed.store, tmp_path_factory.mktemp("after") / "store"))
    night = Night(store, given={"seed": 2})
    assert night.run() == 0, night.said()
    return night


@pytest.mark.cases(3)
@pytest.mark.parametrize("seed", range(3))
def test_a_night_after_it_is_killed(seed: int, undisturbed: Night, night_after: Night, tmp_path: Path) -> None:
    """SIGKILL in the night after, and a resume: what was published before stays, byte by byte"""
    store = Path(shutil.copytree(undisturbed.store, tmp_path / "store"))
    place = random.Random(seed).randrange(len(night_after.touched()))
    assert (night := Night(store, place, {"seed": 2})).run() == KILLED, night.said()
    now = published.current(Store(store))
    assert now is not None and damaged(store) == [] and contents(undisturbed.store).items() <= contents(store).items()
    assert (again := Night(store, given={"seed": 2})).run() == 0, again.said()
    assert_whole(store, night_after.store)


@pytest.mark.cases(2)
@pytest.mark.parametrize("n", [2, 4])
def test_nights_at_once(n: int, undisturbed: Night, tmp_path: Path) -> None:
    """Two and four nights at once on one store: one set of artifacts, published once"""
    night = Night(tmp_path / "store")
    for process in [night.start() for _ in range(n)]:
        assert night.ended(process) == 0, night.said()
    assert_whole(tmp_path / "store", undisturbed.store)


@pytest.mark.cases(2)
@pytest.mark.parametrize("seed", range(2))
def test_one_of_two_is_killed(seed: int, undisturbed: Night, tmp_path: Path) -> None:
    """Two nights at once, one of them killed: the other waits for nobody, and ends"""
    place = random.Random(seed).randrange(len(undisturbed.touched()))
    first, second = Night(tmp_path / "store", place), Night(tmp_path / "store")
    killed, whole = first.start(), second.start()
    assert first.ended(killed) in (KILLED, 0)  # it may have found everything made
    assert second.ended(whole) == 0, second.said()
    assert_whole(tmp_path / "store", undisturbed.store)
