"""Pruning: what the newest nights and promotions need stays, the rest goes, and nobody at work is disturbed."""

import multiprocessing
import shutil
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from recsys import attempts, published, turn
from recsys.errors import StoreError
from recsys.pruning import prune, size, waste
from recsys.store import Artifact, Draft, Store

FIRST = datetime(2017, 10, 15, tzinfo=timezone.utc)
DAYS = [FIRST + timedelta(days=n) for n in range(6)]


def artifact(store: Store, step: str, as_of: datetime, text: str = "", rebuild: bool = False, **inputs: Artifact | None) -> Artifact:
    def build(draft: Draft) -> None:
        (draft.path / "x.txt").write_text(text or f"{step} {as_of}")

    given = {name: one for name, one in inputs.items() if one is not None}
    return store.ensure(step, as_of, {"text": text and step}, given, build, code="recsys.windows", rebuild=rebuild)


def night(store: Store, as_of: datetime) -> published.Promotion:
    """A night whose model starts from the one before, as with training.warm_start."""
    last = published.before(store, as_of)
    features = artifact(store, "features", as_of)
    twin = artifact(store, "training", as_of, "twin", features=features, warm_from=last and last.artifact(store, "twin"))
    scoring = artifact(store, "scoring", as_of, training=twin, features=features)
    return published.promotion(as_of, "c", "candidate", {"twin": twin, "scoring": scoring}, ("better",))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Six published nights."""
    store = Store(tmp_path)
    for day in DAYS:
        published.publish(store, night(store, day))
    return store


def left(store: Store) -> set[tuple[str, int]]:
    return {(a.step, (a.as_of - FIRST).days) for a in store.artifacts()}


def test_what_the_newest_nights_and_promotions_need_stays(store: Store) -> None:
    published.rollback(store, "bad lists", "2017-10-18")  # day 3
    whole = [(step, day) for step in ("features", "training", "scoring") for day in (2, 3, 5)]
    parents = [("training", 1), ("training", 4)]  # which days 2 and 5 started from; not what those were made from
    found = waste(store, nights=1, promotions=2)
    assert found.kept_nights == (DAYS[5],) and len(left(store)) == 18, "nothing is touched by asking"
    before = {path: size(path) for path in (a.path for a in store.artifacts())}
    assert prune(store, nights=1, promotions=2) == found
    assert left(store) == {*whole, *parents}
    assert found.bytes == sum(before.values()) - sum(size(a.path) for a in store.artifacts())
    assert not (store.root / "features" / "as_of=2017-10-15").exists()
    now = published.current(store)
    assert now is not None and now.moment == DAYS[3]
    for name in now.artifacts:
        now.artifact(Store(store.root), name)
    assert published.rollback(store, "still whole").moment == DAYS[2]
    assert {a.as_of for a in prune(store, nights=1, promotions=2).artifacts} == {DAYS[3]}, "what was taken back is needed no more"
    assert prune(store, nights=1, promotions=2).artifacts == ()


def test_a_night_with_the_lists_of_an_earlier_model_keeps_that_model(store: Store) -> None:
    model = published.newest(store, 1)[0].artifact(store, "twin")
    assert model is not None
    later = FIRST + timedelta(days=6)
    lists = artifact(store, "scoring", later, features=artifact(store, "features", later), training=model)
    published.publish(store, published.promotion(later, "c", "current", {"training": model, "scoring": lists}, ()))
    prune(store, nights=1, promotions=1)
    assert left(store) == {("features", 6), ("scoring", 6), ("training", 5)}


def test_what_is_held_stays(store: Store) -> None:
    model = artifact(store, "training", DAYS[0], "held")
    later = FIRST + timedelta(days=6)
    published.set_aside(store, published.promotion(later, "other", "current", {"training": model}, ()), "hold")
    prune(store, nights=1, promotions=1)
    assert ("training", 0) in left(store) and ("features", 0) not in left(store)
    published.publish(store, night(store, later))
    prune(store, nights=1, promotions=1)
    assert ("training", 0) not in left(store), "nobody waits for it any more"


def test_of_bytes_made_again_the_last_stay_and_those_that_are_published(store: Store) -> None:
    for text in ("one", "two", "three"):
        artifact(store, "features", DAYS[5], text, rebuild=True)
    named = store.artifacts("features")[-2]
    assert named.number == 2
    published.publish(store, published.promotion(DAYS[5], "c", "popular", {"scoring": named}, ()))
    gone = prune(store, nights=6, promotions=1).artifacts
    assert [a.number for a in gone] == [1] and store.open(named.reference) == named


def test_leftovers_of_failed_attempts_go_with_their_night_or_once_it_is_finished_otherwise(store: Store) -> None:
    def fail(draft: Draft) -> None:
        (draft.scratch / "last.ckpt").write_bytes(bytes(1000))
        raise ValueError("boom")

    for day in (DAYS[0], DAYS[5]):
        with pytest.raises(ValueError, match="boom"):
            store.ensure("training", day, {"max_epochs": 3}, {}, fail, code="recsys.windows")
    found = prune(store, nights=1, promotions=1)
    assert [path.name[:19] for path in found.leftovers] == ["training-2017-10-15"] and found.bytes > 1000
    assert [attempt.night for attempt in attempts.attempts(store.root)] == ["2017-10-20"], "it is gone on with"
    time.sleep(0.01)
    artifact(store, "training", DAYS[5], "of another configuration")
    assert len(prune(store, nights=1, promotions=1).leftovers) == 1
    assert not list((store.root / ".scratch").iterdir())
    assert {path.name for path in (store.root / ".locks").iterdir()} == {"published", "runs"}


def work(root: Path, mark: Path) -> None:
    store = Store(root)
    with store.at_work("nightly-2017-10-20"):
        old = store.artifacts("features")[0]
        mark.touch()
        time.sleep(1.0)
        assert (old.path / "x.txt").exists(), "what a run has found is there until its end"


def test_pruning_waits_for_the_runs_at_work(store: Store, tmp_path: Path) -> None:
    run = multiprocessing.get_context("spawn").Process(target=work, args=(store.root, tmp_path / "mark"))
    run.start()
    while not (tmp_path / "mark").exists():
        assert run.exitcode is None
        time.sleep(0.01)
    assert waste(store, nights=1, promotions=1).artifacts, "a look waits for nobody"
    assert prune(store, nights=1, promotions=1).artifacts
    run.join(timeout=30)
    assert run.exitcode == 0


def test_nobody_waits_while_the_bytes_go(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rollback, and the turn of the next run, come between putting aside and removing, which takes as long as it takes."""
    remove, before = shutil.rmtree, [p.moment for p in published.newest(store, 2)]

    def meanwhile(path: Path, **options: bool) -> None:
        if published.current(store).moment == DAYS[5]:  # type: ignore[union-attr]
            assert not attempts.is_held(store.root, "published") and turn.at_work(store.root) is None, "or all would hang here"
            assert published.rollback(store, "bad lists").moment == before[0]
            with store.at_work("nightly-2017-10-21"):
                assert left(store) == whole, "what nobody needs is out of sight already"
        remove(path, **options)

    whole = {*((step, day) for step in ("features", "training", "scoring") for day in (4, 5)), ("training", 3)}
    monkeypatch.setattr(attempts.shutil, "rmtree", meanwhile)
    assert prune(store, nights=1, promotions=2).artifacts
    assert left(store) == whole and not list((store.root / ".tmp").iterdir())
    now = published.current(store)
    assert now is not None and now.moment == DAYS[4] and now.artifact(Store(store.root), "scoring") is not None


@pytest.mark.parametrize("numbers", [(0, 1), (1, 0), (-1, 5)])
def test_something_is_kept(store: Store, numbers: tuple[int, int]) -> None:
    with pytest.raises(StoreError, match="At least one night and one promotion"):
        prune(store, *numbers)


def test_an_empty_store_has_no_waste(tmp_path: Path) -> None:
    assert prune(Store(tmp_path / "none"), 3, 3).artifacts == ()
