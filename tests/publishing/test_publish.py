"""Publishing: the pointer moves for good lists only, forward only, and once."""

import json
import threading
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import duckdb
import pytest

from recsys import published
from recsys.config import Export, Publishing, Scoring
from recsys.errors import ContractError, ExportError
from recsys.publishing.exports import export
from recsys.publishing.publish import publish
from recsys.store import Artifact, Store


def night(
    store: Store,
    as_of: datetime,
    shop: Any,
    rows: list[dict[str, Any]] | None = None,
    config: str = "c",
    action: Literal["publish", "hold"] = "publish",
    **changes: Any,
) -> Artifact:
    """A night published from hand-made lists, as the flow does it."""
    limits = Publishing(min_user_coverage=0.5, **changes)
    lists, sequences = shop.scoring(store, as_of, shop.rows() if rows is None else rows), shop.sequences(store, as_of)
    last = published.before(store, as_of)
    artifact = publish(
        store, as_of, limits, Scoring(k=shop.k), lists, sequences,
        config=config, source="candidate", reasons=["Better.", "Fresh."], others={"training": None}, last=last, action=action,
    )  # fmt: skip
    done = published.finished(store, as_of, config)
    if done is not None:
        export(store, done, limits.exports)
    return artifact


def test_good_lists_are_published_with_their_reasons(store: Store, nights: list[datetime], shop: Any) -> None:
    artifact = night(store, nights[0], shop)
    now = published.current(store)
    assert now is not None
    assert (now.moment, now.source, now.reasons) == (nights[0], "candidate", ("Better.", "Fresh."))
    assert set(now.artifacts) == {"sequences", "scoring", "publishing"}
    assert now.artifact(store, "publishing") == artifact
    assert now.artifacts["scoring"]["version"] == artifact.manifest["inputs"]["scoring"]["version"]


def test_publishing_the_same_again_changes_nothing(store: Store, nights: list[datetime], shop: Any) -> None:
    night(store, nights[0], shop)
    lines = (store.root / "promotions.jsonl").read_text()
    assert night(store, nights[0], shop).reused
    assert (store.root / "promotions.jsonl").read_text() == lines


def test_what_is_held_leaves_the_pointer_and_the_copies_until_it_is_promoted(
    store: Store, nights: list[datetime], shop: Any, tmp_path: Path
) -> None:
    copy = Export(format="csv", path=str(tmp_path / "out"))
    night(store, nights[0], shop, exports=(copy,))
    before = (store.root / "current.json").read_text(), (tmp_path / "out" / "recommendations.csv.json").read_text()
    checked = night(store, nights[1], shop, action="hold", exports=(copy,))
    assert before == ((store.root / "current.json").read_text(), (tmp_path / "out" / "recommendations.csv.json").read_text())
    waiting = published.held(store)
    assert waiting is not None and waiting.artifact(store, "publishing") == checked
    promoted = published.promote(store, "looked at it")
    assert export(store, promoted, [copy]) == [str(tmp_path / "out" / "recommendations.csv")]
    with pytest.raises(ContractError):
        night(store, nights[2], shop, shop.rows()[3:], action="hold")
    assert published.held(store) is None, "lists that break a contract wait for nobody"


def test_broken_lists_leave_what_was_published(store: Store, nights: list[datetime], shop: Any, tmp_path: Path) -> None:
    copy = Export(format="csv", path=str(tmp_path / "out"))
    night(store, nights[0], shop, exports=(copy,))
    before = (store.root / "current.json").read_text(), (tmp_path / "out" / "recommendations.csv").read_text()
    with pytest.raises(ContractError, match="every_user"):
        night(store, nights[1], shop, shop.rows()[3:], exports=(copy,))
    assert before == ((store.root / "current.json").read_text(), (tmp_path / "out" / "recommendations.csv").read_text())
    assert published.finished(store, nights[1], "c") is None


def test_an_older_night_takes_nobodys_place(store: Store, nights: list[datetime], shop: Any, tmp_path: Path) -> None:
    copy = Export(format="parquet", path=str(tmp_path / "out"))
    night(store, nights[1], shop, exports=(copy,))
    night(store, nights[0], shop, exports=(copy,))
    now = published.current(store)
    assert now is not None and now.moment == nights[1]
    assert published.finished(store, nights[0], "c") is not None
    assert json.loads((tmp_path / "out" / "recommendations.parquet.json").read_text())["as_of"] == nights[1].isoformat()


def test_nights_that_race_end_with_the_newest(store: Store, nights: list[datetime], shop: Any, tmp_path: Path) -> None:
    copy = Export(format="csv", path=str(tmp_path / "out"))
    errors: list[BaseException] = []

    def run(as_of: datetime) -> None:
        try:
            night(Store(store.root), as_of, shop, exports=(copy,))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(as_of,)) for as_of in nights * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    now = published.current(store)
    assert errors == []
    assert now is not None and now.moment == nights[-1]
    assert json.loads((store.root / "current.json").read_text())["id"] == now.id
    assert json.loads((tmp_path / "out" / "recommendations.csv.json").read_text())["promotion"] == now.id
    # Each night may be checked against whichever was published before it, but is on record once for each such set.
    assert {p.moment for p in published.history(store)} == set(nights)


def test_a_copy_that_fails_leaves_the_lists_published_and_says_how_to_go_on(
    store: Store, nights: list[datetime], shop: Any, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "broken.duckdb").write_text("no database" * 1000)
    exports = (
        Export(format="csv", path=str(tmp_path / "file" / "out")),
        Export(format="duckdb", path=str(tmp_path / "broken.duckdb")),
        Export(format="parquet", path=str(tmp_path / "out")),
    )
    with pytest.raises(ExportError) as caught:
        night(store, nights[0], shop, exports=exports)
    message = str(caught.value)
    assert "The lists of 2017-10-15 are published, but 2 of 3 copies could not be written" in message
    assert str(tmp_path / "file" / "out" / "recommendations.csv") in message and str(tmp_path / "broken.duckdb") in message
    assert str(store.root / "scoring") in message and "`recsys export lists`" in message and caught.value.may_pass
    assert published.finished(store, nights[0], "c") is not None
    assert duckdb.sql(f"select count(*) from '{tmp_path}/out/recommendations.parquet'").fetchall() == [(len(shop.rows()),)]

    (tmp_path / "file").unlink()
    (tmp_path / "broken.duckdb").unlink()
    night(store, nights[0], shop, exports=exports)
    assert (tmp_path / "file" / "out" / "recommendations.csv").exists()
    assert len(published.history(store)) == 1
