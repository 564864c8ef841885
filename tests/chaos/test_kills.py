"""Nights that are killed, and nights that race: what is visible is whole, and the next run comes to the same bytes."""

import random
import shutil
from pathlib import Path

import pytest

from recsys import published
from recsys.store import Store
from tests.chaos.nights import STEPS, Night, assert_whole, contents, damaged, step_of

pytestmark = pytest.mark.chaos

KILLED = -9


def killed_and_resumed(kill_at: int, undisturbed: Night, store: Path) -> None:
    assert (night := Night(store, kill_at)).run() == KILLED, night.said()
    made, whole = contents(store), contents(undisturbed.store)
    assert made.items() <= whole.items() and damaged(store) == []
    now = published.current(Store(store))
    assert now is None or made == whole, "published before it was whole"
    assert (again := Night(store)).run() == 0, again.said()
    assert_whole(store, undisturbed.store)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("seed", range(3))
def test_killed_in_a_step(step: str, seed: int, undisturbed: Night, tmp_path: Path) -> None:
    """SIGKILL in each of the seven steps, three times, and a resume"""
    places = [place for place, path in enumerate(undisturbed.touched()) if step_of(path) == step]
    killed_and_resumed(random.Random(f"{step} {seed}").choice(places), undisturbed, tmp_path / "store")


@pytest.mark.parametrize("seed", range(30))
def test_killed_anywhere(seed: int, undisturbed: Night, tmp_path: Path) -> None:
    """SIGKILL at random points of a night, and a resume"""
    killed_and_resumed(random.Random(seed).randrange(len(undisturbed.touched())), undisturbed, tmp_path / "store")


@pytest.mark.parametrize("seed", range(3))
def test_killed_again_and_again(seed: int, undisturbed: Night, tmp_path: Path) -> None:
    """SIGKILL again and again, each resume killed too, until one comes through"""
    draw = random.Random(seed)
    for _ in range(5):
        Night(tmp_path / "store", draw.randrange(len(undisturbed.touched()))).run()
        assert damaged(tmp_path / "store") == []
    assert (last := Night(tmp_path / "store")).run() == 0, last.said()
    assert_whole(tmp_path / "store", undisturbed.store)


@pytest.mark.parametrize("seed", range(5))
def test_a_night_after_it_is_killed(seed: int, undisturbed: Night, tmp_path: Path) -> None:
    """SIGKILL in the night after: what was published before stays, byte by byte"""
    store = Path(shutil.copytree(undisturbed.store, tmp_path / "store"))
    place = random.Random(seed).randrange(len(undisturbed.touched()))
    assert (night := Night(store, place, {"seed": 2})).run() == KILLED, night.said()
    now = published.current(Store(store))
    assert now is not None and damaged(store) == [] and contents(undisturbed.store).items() <= contents(store).items()
    assert (again := Night(store, given={"seed": 2})).run() == 0, again.said()
    assert len(published.history(Store(store))) == 2 and contents(undisturbed.store).items() <= contents(store).items()


@pytest.mark.parametrize("n", [2, 4])
def test_nights_at_once(n: int, undisturbed: Night, tmp_path: Path) -> None:
    """Two and four nights at once on one store: one set of artifacts, published once"""
    nights = [Night(tmp_path / "store") for _ in range(n)]
    for process in [night.start() for night in nights]:
        process.join(300)
        assert process.exitcode == 0, nights[0].said()
    assert_whole(tmp_path / "store", undisturbed.store)


@pytest.mark.parametrize("seed", range(3))
def test_one_of_two_is_killed(seed: int, undisturbed: Night, tmp_path: Path) -> None:
    """Two nights at once, one of them killed: the other waits for nobody, and ends"""
    place = random.Random(seed).randrange(len(undisturbed.touched()))
    first, second = Night(tmp_path / "store", place).start(), Night(tmp_path / "store").start()
    for process in (first, second):
        process.join(300)
    assert second.exitcode == 0 and first.exitcode in (KILLED, 0)  # it may have found everything made
    assert_whole(tmp_path / "store", undisturbed.store)
