"""Lists of some users only, and everybody else's as they were."""

from datetime import datetime, timezone

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.config import Scoring
from recsys.errors import ConfigError, StoreError
from recsys.scoring.recommend import recommend
from recsys.scoring.selection import Selection
from recsys.store import Artifact

AS_OF = datetime(2025, 3, 2, tzinfo=timezone.utc)
SOME = ("17", "1", "140")


def rows(artifact: Artifact) -> list[dict]:
    return pa.concat_tables([pq.read_table(file) for file in sorted((artifact.path / "recommendations").glob("*.parquet"))]).to_pylist()


@pytest.fixture(scope="module")
def everybody(night) -> Artifact:
    return recommend(night.store, AS_OF, Scoring(k=10), night.sequences(), night.model(), "candidate", "6h")


def test_lists_of_some_are_those_that_they_have_among_everybody(night, everybody) -> None:
    some = recommend(night.store, AS_OF, Scoring(k=10, vectors=True), night.sequences(), night.model(), "candidate", "6h", users=SOME)
    items = [(row["user_id"], row["rank"], row["item_id"], row["source"]) for row in rows(some)]
    assert items == [(r["user_id"], r["rank"], r["item_id"], r["source"]) for r in rows(everybody) if str(r["user_id"]) in SOME]
    assert some.counts["users"] == 3 and some.version != everybody.version
    assert not (some.path / "vectors").exists(), "vectors are of everybody"
    again = recommend(
        night.store, AS_OF, Scoring(k=10, vectors=True), night.sequences(), night.model(), "candidate", "6h", users=SOME[::-1]
    )
    assert again.version == some.version and again.reused


def test_everybody_else_keeps_their_lists(night, everybody) -> None:
    asked = {"users": SOME, "others": everybody}
    mixed = recommend(night.store, AS_OF, Scoring(k=10, exclude_seen=False), night.sequences(), None, "popular", "6h", **asked)
    popular = recommend(night.store, AS_OF, Scoring(k=10, exclude_seen=False), night.sequences(), None, "popular", "6h", users=SOME)
    assert [row for row in rows(mixed) if str(row["user_id"]) not in SOME] == [r for r in rows(everybody) if str(r["user_id"]) not in SOME]
    assert [row for row in rows(mixed) if str(row["user_id"]) in SOME] == rows(popular)
    order = [(row["user_id"] % 3, row["user_id"], row["rank"]) for row in rows(mixed)]
    assert order == sorted(order), "by shard, user and rank, as everywhere"
    assert mixed.manifest["inputs"]["others"]["version"] == everybody.version


def test_who_has_no_list_yet_gets_one(night, everybody) -> None:
    some = recommend(night.store, AS_OF, Scoring(k=10), night.sequences(), night.model(), "candidate", "6h", users=SOME)
    whole = recommend(night.store, AS_OF, Scoring(k=10), night.sequences(), night.model(), "candidate", "6h", users=("5",), others=some)
    keys = [(row["user_id"], row["rank"], row["item_id"]) for row in rows(whole)]
    assert keys == [(row["user_id"], row["rank"], row["item_id"]) for row in rows(everybody)]


def test_string_ids(night_by_order) -> None:
    night = night_by_order
    some = recommend(night.store, AS_OF, Scoring(k=5), night.sequences(), None, "popular", "", users=("id-00007",))
    assert {row["user_id"] for row in rows(some)} == {"id-00007"} and len(rows(some)) == 5
    all_of_them = recommend(night.store, AS_OF, Scoring(k=5), night.sequences(), None, "popular", "", users=("id-00008",), others=some)
    assert [row for row in rows(all_of_them) if row["user_id"] == "id-00007"] == rows(some)


def test_a_user_without_a_history_and_lists_of_other_shards_are_refused(night, everybody) -> None:
    with pytest.raises(ConfigError, match="There is no user '9999' in .*: 1 of 2"):
        recommend(night.store, AS_OF, Scoring(), night.sequences(), None, "popular", "", users=("9999", "1"))
    with pytest.raises(StoreError, match="are of other shards than"):
        Selection(SOME, everybody.path).check(night.sequences(1).path)
