"""A whole store against what was written."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from recsys import published
from recsys.audit import audit, audit_pointer, folders
from recsys.store import Draft, Store

FIRST = datetime(2017, 10, 15, tzinfo=timezone.utc)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two published nights with one artifact each."""
    store = Store(tmp_path)

    def build(draft: Draft) -> None:
        (draft.path / "table.txt").write_text("a")

    for day in range(2):
        as_of = FIRST + timedelta(days=day)
        made = store.ensure("scoring", as_of, {}, {}, build, code="recsys.windows")
        published.publish(store, published.promotion(as_of, "c", "candidate", {"scoring": made}, ("better",)))
    return store


def problems(store: Store) -> list[str]:
    return [*audit_pointer(store), *(problem for folder in folders(store) for problem in audit(folder))]


def test_a_store_as_it_was_written(store: Store) -> None:
    assert problems(store) == [] and len(folders(store)) == 2
    published.rollback(store, "bad lists")
    assert problems(store) == []


def test_a_store_in_which_nothing_was_published(tmp_path: Path) -> None:
    assert problems(Store(tmp_path)) == []


def newest(store: Store) -> Path:
    return store.artifacts()[-1].path


def as_if_of_another_promotion(store: Store) -> None:
    pointed = json.loads((store.root / "current.json").read_text())
    (store.root / "current.json").write_text(json.dumps({**pointed, "source": "popular"}))


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda store: (newest(store) / "table.txt").write_text("b"), "its bytes do not match the manifest"),
        (lambda store: (newest(store) / "table.txt").unlink(), "table.txt is missing"),
        (lambda store: (newest(store) / "mine.parquet").touch(), "mine.parquet is not listed"),
        (lambda store: (newest(store) / "manifest.json").write_text("{trunc"), "manifest.json is not what was written"),
        (lambda store: (store.root / "current.json").write_text("{trunc"), "current.json is not what was written"),
        (lambda store: (store.root / "current.json").unlink(), "current.json is missing"),
        (as_if_of_another_promotion, "does not show the promotion that promotions.jsonl ends with"),
        (lambda store: (store.root / "promotions.jsonl").write_text("{trunc\n"), "promotions.jsonl, line 1 is no promotion"),
        (lambda store: store.remove(store.artifacts()[-1]), "is published, but is not in"),
    ],
)
def test_every_damage_is_one_sentence_with_what_to_do(store: Store, harm: Callable[[Store], object], says: str) -> None:
    harm(store)
    (found,) = problems(store)
    assert says in found


def test_a_folder_without_manifest_is_named(store: Store) -> None:
    (store.artifacts()[0].path / "manifest.json").unlink()
    (found,) = problems(store)
    assert "has no manifest, so that nobody reads it. Remove the folder" in found
