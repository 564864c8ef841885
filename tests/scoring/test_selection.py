"""Lists of some users only, and everybody else's as they were."""

from dataclasses import replace
from datetime import datetime, timezone

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.config import Scoring
from recsys.errors import ConfigError
from recsys.scoring.recommend import recommend
from recsys.store import Artifact, Store
from recsys.windows import microseconds

AS_OF = datetime(2025, 3, 2, tzinfo=timezone.utc)
SOME = ("17", "1", "140")


def rows(artifact: Artifact, table: str = "recommendations") -> list[dict]:
    return pa.concat_tables([pq.read_table(file) for file in sorted((artifact.path / table).glob("*.parquet"))]).to_pylist()


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


def test_who_has_nothing_left_to_recommend_keeps_one_prediction(night, tmp_path) -> None:
    """Without a list they are asked again, and what the model's other heads said of them before is not kept besides."""
    blocked = [list(range(len(night.world.eligible))), *night.world.blocked[1:]]
    alone = replace(night, store=Store(tmp_path), world=replace(night.world, blocked=blocked))
    asked = (alone.store, AS_OF, Scoring(k=10), alone.sequences(), alone.model(heads=('Binary(label="bought")',)), "candidate", "6h")
    before = recommend(*asked)
    said = [row["user_id"] for row in rows(before, "predictions")]
    assert 0 in said and 0 not in {row["user_id"] for row in rows(before)}
    after = recommend(*asked, users=SOME, others=before)
    assert [row["user_id"] for row in rows(after, "predictions")] == said
    assert [row["item_id"] for row in rows(after)] == [row["item_id"] for row in rows(before)]


def test_lists_of_other_histories_do_not_stay(night, everybody) -> None:
    """One event more, of anybody: their old list may name what they have seen."""
    item = next(row["item_id"] for row in rows(everybody) if row["user_id"] == 5) - 1000
    events, device = list(night.world.events), list(night.world.device)
    events[5], device[5] = [*events[5], (microseconds(AS_OF) - 1, item)], [*device[5], 0]
    late = replace(night, world=replace(night.world, events=events, device=device)).sequences(key="late rows")
    asked = (night.store, AS_OF, Scoring(k=10), late, night.model(), "candidate", "6h")
    said = rf"{everybody}, .* \({night.sequences()}\) .* \({late}\)\. .*make everybody's lists \(leave --user out\)"
    with pytest.raises(ConfigError, match=said):
        recommend(*asked, users=SOME, others=everybody)
    assert recommend(*asked, users=SOME).counts["users"] == 3, "of some alone they are made"


def test_string_ids(night_by_order) -> None:
    night = night_by_order
    some = recommend(night.store, AS_OF, Scoring(k=5), night.sequences(), None, "popular", "", users=("id-00007",))
    assert {row["user_id"] for row in rows(some)} == {"id-00007"} and len(rows(some)) == 5
    all_of_them = recommend(night.store, AS_OF, Scoring(k=5), night.sequences(), None, "popular", "", users=("id-00008",), others=some)
    assert [row for row in rows(all_of_them) if row["user_id"] == "id-00007"] == rows(some)


def test_a_user_without_a_history_is_refused(night) -> None:
    with pytest.raises(ConfigError, match=r"1 of 2 users have no history in .*, as \{user_id: '9999'\}\. Leave"):
        recommend(night.store, AS_OF, Scoring(), night.sequences(), None, "popular", "", users=("9999", "1"))
