"""What is published: publishing, publishing again, an older night, rollback, pruning."""

import json
import os
from datetime import datetime, timedelta, timezone

import pytest

from recsys import disk, published
from recsys.errors import StoreError
from recsys.store import Draft, Store

FIRST = datetime(2017, 10, 15, tzinfo=timezone.utc)
DAYS = [FIRST + timedelta(days=n) for n in range(4)]


def artifact(store: Store, step: str, as_of: datetime, **inputs):
    def build(draft: Draft) -> None:
        (draft.path / "x.txt").write_text(f"{step} {as_of}")

    return store.ensure(step, as_of, {}, inputs, build, code="recsys.windows")


def night(store: Store, as_of: datetime, config: str = "c") -> published.Promotion:
    features = artifact(store, "features", as_of)
    training = artifact(store, "training", as_of, features=features)
    scoring = artifact(store, "scoring", as_of, training=training)
    return published.promotion(as_of, config, "candidate", {"training": training, "twin": None, "scoring": scoring}, ("better",))


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def test_nothing_is_published_at_first(store):
    assert published.current(store) is None and published.before(store, FIRST) is None and published.history(store) == []


def test_publishing_moves_the_pointer_and_twice_is_once(store):
    new = night(store, DAYS[0])
    published.publish(store, new)
    published.publish(store, new)
    assert [p.id for p in published.history(store)] == [new.id]
    read = json.loads((store.root / "current.json").read_text())
    assert read["id"] == new.id and read["reasons"] == ["better"] and set(read["artifacts"]) == {"training", "scoring"}
    assert published.current(store).artifact(store, "scoring").step == "scoring"
    assert published.current(store).artifact(store, "twin") is None


def test_an_older_night_is_recorded_but_not_pointed_to(store):
    published.publish(store, night(store, DAYS[1]))
    published.publish(store, night(store, DAYS[0]))
    assert published.current(store).moment == DAYS[1]
    assert published.finished(store, DAYS[0], "c")


def test_a_night_is_finished_for_its_configuration(store):
    published.publish(store, night(store, DAYS[0]))
    assert published.finished(store, DAYS[0], "c")
    assert not published.finished(store, DAYS[0], "other") and not published.finished(store, DAYS[1], "c")


def test_on_record_is_the_person_also_behind_sudo(store, monkeypatch):
    monkeypatch.setenv("SUDO_USER", "ada")
    published.publish(store, night(store, DAYS[0]))
    monkeypatch.delenv("SUDO_USER")
    monkeypatch.setenv("LOGNAME", "grace")
    published.publish(store, night(store, DAYS[1]))
    assert [line.by for line in published.history(store)] == ["ada", "grace"]


def test_the_current_model_of_a_night_is_of_an_earlier_one(store):
    for day in DAYS[:3]:
        published.publish(store, night(store, day))
    assert published.before(store, DAYS[2]).moment == DAYS[1]
    assert published.before(store, DAYS[0]) is None


def test_a_promotion_whose_model_was_pruned_is_no_current_model(store):
    older, newer = night(store, DAYS[0]), night(store, DAYS[1])
    for new in (older, newer):
        published.publish(store, new)
    store.remove(newer.artifact(store, "training"))
    assert published.before(store, DAYS[2]).id == older.id
    store.remove(older.artifact(store, "scoring"))
    assert published.before(store, DAYS[2]) is None


def test_rollback_goes_one_back_and_is_logged(store):
    with pytest.raises(StoreError, match="Nothing is published"):
        published.rollback(store, "why")
    for day in DAYS[:3]:
        published.publish(store, night(store, day))
    assert published.rollback(store, "bad lists").moment == DAYS[1]
    assert json.loads((store.root / "current.json").read_text())["as_of"] == DAYS[1].isoformat()
    assert published.before(store, DAYS[3]).moment == DAYS[1]
    assert published.rollback(store, "again").moment == DAYS[0]
    with pytest.raises(StoreError, match="only night"):
        published.rollback(store, "and again")
    last = published.history(store)[-1]
    assert last.action == "rollback" and last.reasons == ("again",) and last.by and last.at


def test_a_night_can_be_published_again_after_a_rollback(store):
    for day in DAYS[:2]:
        published.publish(store, night(store, day))
    published.rollback(store, "bad lists")
    published.publish(store, night(store, DAYS[1]))
    assert published.current(store).moment == DAYS[1]


def test_another_configuration_of_the_same_night_replaces_it(store):
    published.publish(store, night(store, DAYS[0], "one"))
    published.publish(store, night(store, DAYS[0], "two"))
    assert published.current(store).config == "two"


@pytest.mark.parametrize("newer", [False, True])
def test_going_back_to_the_first_configuration_of_a_night_publishes_it_again(store, newer):
    one = night(store, DAYS[0], "one")
    published.publish(store, one)
    published.publish(store, night(store, DAYS[0], "two"))
    if newer:
        published.publish(store, night(store, DAYS[1]))
    assert published.finished(store, DAYS[0], "two") and not published.finished(store, DAYS[0], "one"), "two has taken its place"
    published.publish(store, one)
    assert published.finished(store, DAYS[0], "one").id == one.id
    assert published.before(store, DAYS[1]).config == "one"


def test_a_pointer_lost_to_a_crash_is_made_again(store):
    new = night(store, DAYS[0])
    published.publish(store, new)
    (store.root / "current.json").unlink()
    published.publish(store, new)
    assert json.loads((store.root / "current.json").read_text())["id"] == new.id
    assert len(published.history(store)) == 1


def test_rollback_to_a_named_one_takes_back_all_that_came_after(store):
    made = [published.publish(store, night(store, day)) for day in DAYS]
    again = published.publish(store, night(store, DAYS[0], "another"))
    assert published.rollback(store, "three bad days", made[0].id[:6]) == made[0]
    assert published.current(store) == made[0], "not the other configuration of that night"
    assert {line.undoes for line in published.history(store) if line.action == "rollback"} == {p.id for p in [*made[1:], again]}
    assert published.promote(store, "two were fine", "2017-10-16").moment == DAYS[1]
    assert published.rollback(store, "or not", "2017-10-15") == made[0]


@pytest.mark.parametrize("name", ["2017-10-17", "nothing", "2017"])
def test_rollback_to_what_never_was_says_what_there_is(store, name):
    made = [published.publish(store, night(store, day)) for day in DAYS[:2]]
    with pytest.raises(StoreError, match=f"no such promotion '{name}'.*2017-10-15 {made[0].id}"):
        published.rollback(store, "why", name)
    with pytest.raises(StoreError, match="is what is published"):
        published.rollback(store, "why", made[1].id)
    assert published.history(store) == made


def test_rollback_to_what_is_damaged_changes_nothing(store):
    made = [published.publish(store, night(store, day)) for day in DAYS[:2]]
    (made[0].artifact(store, "scoring").path / "x.txt").write_text("altered")
    with pytest.raises(StoreError, match="x.txt is not what was written"):
        published.rollback(Store(store.root), "why")
    assert published.current(store) == made[1] and published.history(store) == made


def test_rollback_reads_the_lists_and_looks_at_the_sizes_of_what_they_were_made_with(store):
    made = [published.publish(store, night(store, day)) for day in DAYS[:2]]
    model = made[0].artifact(store, "training").path / "x.txt"
    whole = model.read_text()
    model.write_text(whole[:-1])
    with pytest.raises(StoreError, match="x.txt is not what was written.*Remove the folder"):
        published.rollback(Store(store.root), "why")
    model.write_text(whole.upper())
    assert published.rollback(Store(store.root), "why") == made[0]
    with pytest.raises(StoreError, match="is not what was written"):
        published.current(store).artifact(Store(store.root), "training")


def test_what_is_held_waits_for_a_person(store):
    first = published.publish(store, night(store, DAYS[0]))
    with pytest.raises(StoreError, match="Nothing is held"):
        published.promote(store, "why")
    held = published.set_aside(store, night(store, DAYS[1]), "hold")
    assert published.set_aside(store, night(store, DAYS[1]), "hold") == held, "twice is once"
    assert published.current(store) == published.before(store, DAYS[2]) == first
    assert published.held(store) == published.waiting(store, DAYS[1], held.config) == held
    assert published.waiting(store, DAYS[0], held.config) is None and published.waiting(store, DAYS[1], "other") is None
    done = published.promote(store, "looked at the lists")
    assert (done.id, done.action, done.reasons) == (held.id, "promote", ("Published by a person: looked at the lists", "better"))
    assert done.by and done.at
    assert published.current(store) == published.finished(store, DAYS[1], "c") == done and published.held(store) is None
    assert json.loads((store.root / "current.json").read_text())["id"] == held.id
    assert published.rollback(store, "it was worse") == first and published.held(store) is None
    published.set_aside(store, night(store, DAYS[1]), "hold")
    assert published.held(store).moment == DAYS[1], "the night was run again"


def test_what_is_older_than_what_is_published_is_not_promoted(store):
    older = published.set_aside(store, night(store, DAYS[0]), "hold")
    published.publish(store, night(store, DAYS[1]))
    assert published.held(store) is None and published.waiting(store, DAYS[0], older.config) == older
    with pytest.raises(StoreError, match="Nothing is held"):
        published.promote(store, "why")
    with pytest.raises(StoreError, match="2017-10-15 is older than 2017-10-16"):
        published.promote(store, "why", "2017-10-15")


def test_what_is_held_waits_no_longer_where_its_night_is_published_otherwise(store):
    published.set_aside(store, night(store, DAYS[0], "one"), "hold")
    published.publish(store, night(store, DAYS[0], "two"))
    assert published.held(store) is None
    again = published.set_aside(store, night(store, DAYS[0], "three"), "hold")
    assert published.held(store) == again, "it was decided on later"


def test_a_night_whose_lists_were_removed_is_not_finished(store):
    new = night(store, DAYS[0])
    published.publish(store, new)
    store.remove(new.artifact(store, "scoring"))
    assert not published.finished(store, DAYS[0], "c")
    published.publish(store, night(store, DAYS[0]))  # the same set, made anew
    assert published.finished(store, DAYS[0], "c")
    assert len(published.history(store)) == 1


def test_a_rollback_to_what_was_pruned_names_what_is_whole(store):
    pruned, damaged, whole, now = (published.publish(store, night(store, day)) for day in DAYS)
    store.remove(pruned.artifact(store, "training"))
    (damaged.artifact(store, "scoring").path / "x.txt").write_text("damage")
    for name in (pruned.id, damaged.id):
        with pytest.raises(StoreError, match=rf"Whole are: 2017-10-17 {whole.id}\.$"):
            published.rollback(Store(store.root), "bad lists", name)
    store.remove(whole.artifact(store, "scoring"))
    with pytest.raises(StoreError, match=r"was it pruned, or removed by hand\? Run its night again\. Whole are: none of the others\.$"):
        published.rollback(Store(store.root), "bad lists")
    assert published.current(store) == now


def test_a_broken_line_of_the_history_is_named(store):
    published.publish(store, night(store, DAYS[0]))
    with (store.root / "promotions.jsonl").open("a") as file:
        file.write("{trunc\n")
    with pytest.raises(StoreError, match="promotions.jsonl, line 2"):
        published.current(store)


def test_a_history_that_was_mended_by_hand_goes_on(store):
    """Also by an editor that leaves no new line at the end."""
    first = published.publish(store, night(store, DAYS[0]))
    record = store.root / "promotions.jsonl"
    record.write_text(record.read_text().removesuffix("\n"))
    second = published.publish(store, night(store, DAYS[1]))
    assert published.history(store) == [first, second] and record.read_text().count("\n") == 2


def test_a_promotion_stays_after_a_power_cut(store, monkeypatch):
    """The bytes of the record and of the pointer are on the disk before their names are, and these before anybody goes on."""
    done = []
    renamed = os.replace
    monkeypatch.setattr(disk, "sync", lambda path: done.append(path.name))
    new = night(store, DAYS[0])
    monkeypatch.setattr(os, "replace", lambda aside, place: (done.append(f"-> {place.name}"), renamed(aside, place)))
    done.clear()
    published.publish(store, new)
    steps = [(f".{name}.new", f"-> {name}", store.root.name) for name in ("promotions.jsonl", "current.json")]
    assert done == [step for one in steps for step in one]


def test_a_history_that_is_no_text_is_named_too(store):
    published.publish(store, night(store, DAYS[0]))
    with (store.root / "promotions.jsonl").open("ab") as file:
        file.write(b"\xff\xfe\n")
    with pytest.raises(StoreError, match="promotions.jsonl, line 2 is no promotion"):
        published.current(store)
