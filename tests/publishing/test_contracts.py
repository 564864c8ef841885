"""Contracts on the lists: good lists keep them, and for every rule there are lists that break it."""

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys import published
from recsys.config import Publishing, Scoring
from recsys.errors import ContractError
from recsys.publishing.contracts import RULES, keep_contracts
from recsys.store import Artifact, Store

Row = dict[str, Any]
LOOSE = Publishing(min_user_coverage=0.5)  # one user of five has seen nearly everything
SHARES = {"user_coverage", "fallback_share", "overlap"}


def kept(store: Store, as_of: datetime, shop: Any, rows: list[Row], limits: Publishing = LOOSE, **changes: Any) -> Artifact:
    given = {"source": "candidate", "last": None, "exclude_seen": True, "segment": None, "schema": None, **changes}
    lists = shop.scoring(store, as_of, rows, given.pop("schema"), given.pop("predictions", ()))
    sequences = shop.sequences(store, as_of)
    scoring = Scoring(k=shop.k, exclude_seen=given.pop("exclude_seen"), segment=given.pop("segment"))
    return keep_contracts(store, as_of, limits, scoring, lists, sequences, **given)


def checks(artifact: Artifact) -> dict[str, Row]:
    return {row["rule"]: row for row in pq.read_table(artifact.path / "checks.parquet").to_pylist()}


# ---------------------------------------------------------------- lists that are right


@pytest.mark.parametrize("ids", ["integers", "strings"])
def test_good_lists_keep_every_contract(store: Store, nights: list[datetime], shop: Any, with_strings: Any, ids: str) -> None:
    shop = with_strings if ids == "strings" else shop
    found = checks(kept(store, nights[0], shop, shop.rows()))
    assert all(row["passed"] for row in found.values())
    assert found["user_coverage"]["value"] == 0.8 and found["user_coverage"]["limit"] == 0.5
    assert found["fallback_share"]["value"] == 0.0
    assert found["overlap"]["value"] is None  # nothing was published before
    assert {row["value"] for rule, row in found.items() if rule not in SHARES} == {0.0}


def test_good_predictions_keep_every_contract(store: Store, nights: list[datetime], shop: Any, with_strings: Any) -> None:
    rows = [said(1, "a"), said(1, "b"), {**said(1), "head": "spent"}, said(4, "a")]
    for ids in (shop, with_strings):
        assert checks(kept(store, nights[0], ids, ids.rows(), predictions=rows))["predictions"]["passed"]


def test_seen_items_may_be_recommended_where_nobody_excludes_them(store: Store, nights: list[datetime], shop: Any) -> None:
    rows = shop.rows(exclude_seen=False)
    assert kept(store, nights[0], shop, rows, exclude_seen=False).metrics["user_coverage"] == 1.0
    with pytest.raises(ContractError, match="left_out_items"):
        kept(store, nights[0], shop, rows, exclude_seen=True)


def test_a_night_from_a_baseline_has_no_fallback_share(store: Store, nights: list[datetime], shop: Any) -> None:
    rows = [{**row, "source": "popular_lately"} for row in shop.rows()]
    found = checks(kept(store, nights[0], shop, rows, LOOSE.model_copy(update={"max_fallback_share": 0.0}), source="popular_lately"))
    assert found["fallback_share"] == {"rule": "fallback_share", "value": None, "limit": 0.0, "passed": True}


def test_scores_of_a_segment_and_of_everybody_are_not_compared(store: Store, nights: list[datetime], shop: Any) -> None:
    rows = [{**row, "source": "popular", "score": [3.0, 2.0, 100.0][row["rank"] - 1]} for row in shop.rows()]
    assert kept(store, nights[0], shop, rows, source="candidate", segment="country").metrics["falling_scores"] == 0
    with pytest.raises(ContractError, match="falling_scores"):
        kept(store, nights[0], shop, rows, source="popular")
    with pytest.raises(ContractError, match="falling_scores"):
        kept(store, nights[0], shop, [{**row, "source": "candidate"} for row in rows], segment="country")


def test_overlap_is_the_mean_share_of_the_last_list_that_is_still_there(store: Store, nights: list[datetime], shop: Any) -> None:
    rows = [row for row in shop.rows() if row["user_id"] in (2, 3)]  # the others are new tonight
    yesterday = [{**row, "item_id": 19} if (row["user_id"], row["rank"]) == (2, 1) else row for row in rows]
    last = published.promotion(nights[0], "c", "candidate", {"scoring": shop.scoring(store, nights[0], yesterday)}, ())
    assert kept(store, nights[1], shop, shop.rows(), last=last).metrics["overlap"] == pytest.approx((2 / 3 + 1) / 2, abs=1e-6)


def test_another_data_set_before_has_nothing_to_compare(store: Store, nights: list[datetime], shop: Any, with_strings: Any) -> None:
    foreign = [{**row, "user_id": f"u{row['user_id']}"} for row in shop.rows()]
    last = published.promotion(nights[0], "c", "candidate", {"scoring": with_strings.scoring(store, nights[0], foreign)}, ())
    assert checks(kept(store, nights[1], shop, shop.rows(), last=last))["overlap"]["value"] is None


def test_the_same_lists_are_checked_once(store: Store, nights: list[datetime], shop: Any) -> None:
    first = kept(store, nights[0], shop, shop.rows())
    assert not first.reused and kept(store, nights[0], shop, shop.rows()).reused
    assert not kept(store, nights[0], shop, shop.rows(), LOOSE.model_copy(update={"min_user_coverage": 0.6})).reused


@pytest.mark.parametrize("seed", range(6))
def test_random_histories_are_excluded_as_a_plain_loop_does_it(store: Store, nights: list[datetime], shop: Any, seed: int) -> None:
    draw = random.Random(seed)
    everybody = tuple(tuple(range(shard * 10, shard * 10 + draw.randrange(2, 8))) for shard in range(3))
    pairs = [{user: draw.sample(shop.items, draw.randrange(12)) for shard in everybody for user in shard} for _ in range(2)]
    random_shop = replace(shop, shards=everybody, seen=pairs[0], blocked=pairs[1])
    anything = Publishing(min_user_coverage=0.0)
    rows = random_shop.rows()
    assert kept(store, nights[0], random_shop, rows, anything).metrics["length"] == 0
    row = draw.choice([r for r in rows if random_shop.seen[r["user_id"]] or random_shop.blocked[r["user_id"]]])
    forbidden = draw.choice(random_shop.seen[row["user_id"]] + random_shop.blocked[row["user_id"]])
    with pytest.raises(ContractError, match=r"left_out_items: 1 × .*item_id=" + str(forbidden)):
        kept(store, nights[0], random_shop, [{**r, "item_id": forbidden} if r is row else r for r in rows], anything)


# ---------------------------------------------------------------- lists that are wrong


def change(user: int, at: int, /, **values: Any) -> Callable[[list[Row]], list[Row]]:
    """One recommendation, altered."""
    return lambda rows: [{**row, **values} if (row["user_id"], row["rank"]) == (user, at) else row for row in rows]


def drop(user: int, *ranks: int) -> Callable[[list[Row]], list[Row]]:
    return lambda rows: [row for row in rows if not (row["user_id"] == user and row["rank"] in ranks)]


def add(**row: Any) -> Callable[[list[Row]], list[Row]]:
    return lambda rows: [*rows, {"rank": 1, "item_id": 10, "score": 1.0, "source": "candidate", **row}]


def retype(name: str, kind: pa.DataType | None) -> dict[str, Any]:
    """The lists with a column of another type, or without it."""
    types = {"user_id": pa.int64(), "rank": pa.int32(), "item_id": pa.int64(), "score": pa.float32(), "source": pa.string()}
    changed = {**types, name: kind}
    return {"schema": pa.schema([(column, found) for column, found in changed.items() if found is not None])}


def unchanged(rows: list[Row]) -> list[Row]:
    return rows


def said(user: int, class_: str | None = None, value: float = 0.5) -> Row:
    return {"user_id": user, "head": "bought", "class": class_, "value": value}


# rule → (what is done to good lists, what the message shows, limits, further arguments)
BROKEN: dict[str, list[tuple[Callable[[list[Row]], list[Row]], str, Publishing, dict[str, Any]]]] = {
    "columns": [
        (unchanged, "1 × .*, as .*item_id is INTEGER, not BIGINT", LOOSE, retype("item_id", pa.int32())),
        (unchanged, "score is DOUBLE, not FLOAT", LOOSE, retype("score", pa.float64())),
        (unchanged, "source is missing, not VARCHAR", LOOSE, retype("source", None)),
    ],
    "known_users": [(add(user_id=99), "1 × .*, as {user_id=99", LOOSE, {})],
    "every_user": [(drop(2, 1, 2, 3), "1 × .*, as {user_id=2 n_items_left=10", LOOSE, {})],
    "length": [
        (drop(2, 3), "1 × .*, as {user_id=2 n_listed=2 n_expected=3", LOOSE, {}),
        (drop(4, 2), "1 × .*, as {user_id=4 n_listed=1 n_expected=2", LOOSE, {}),
        (add(user_id=2, rank=4, item_id=19, score=0.1), "user_id=2 n_listed=4 n_expected=3", LOOSE, {}),
    ],
    "ranks": [
        (change(2, 3, rank=4), "1 × .*, as {user_id=2 n_listed=3 n_ranks=3 first_rank=1 last_rank=4", LOOSE, {}),
        (change(2, 2, rank=3), "n_ranks=2", LOOSE, {}),
        (change(2, 3, rank=0), "first_rank=0", LOOSE, {}),
        (change(2, 3, rank=None), "n_ranks=2", LOOSE, {}),
    ],
    "distinct_items": [(change(2, 3, item_id=10), "1 × .*, as {user_id=2 item_id=10 times=2", LOOSE, {})],
    "eligible_items": [
        (change(2, 3, item_id=20), "1 × .*, as {user_id=2 rank=3 item_id=20", LOOSE, {}),
        (change(2, 3, item_id=99), "user_id=2 rank=3 item_id=99", LOOSE, {}),
        (change(2, 3, item_id=None), "user_id=2 rank=3 item_id=None", LOOSE, {}),
    ],
    "left_out_items": [
        (change(1, 3, item_id=10), "1 × .*, as {user_id=1 rank=3 item_id=10 reason='seen'", LOOSE, {}),
        (change(1, 3, item_id=12), "user_id=1 rank=3 item_id=12 reason='blocked'", LOOSE, {}),
        (change(3, 3, item_id=15), "user_id=3 rank=3 item_id=15 reason='seen'", LOOSE, {}),
    ],
    "finite_scores": [
        (change(2, 3, score=float("-inf")), "1 × .*, as {user_id=2 rank=3 item_id=12 score=-inf", LOOSE, {}),
        (change(2, 1, score=float("nan")), "score=nan", LOOSE, {}),
        (change(2, 3, score=None), "score=None", LOOSE, {}),
    ],
    "falling_scores": [(change(2, 2, score=1.5), "1 × .*, as .*score=1.5 score_before=1.0", LOOSE, {})],
    "sources": [
        (change(2, 3, source="current"), "1 × .*, as .*source='current'", LOOSE, {}),
        (change(2, 3, source=None), "source=None", LOOSE, {}),
    ],
    "predictions": [
        (unchanged, "1 × .*, as {user_id=99 head='bought'.* is_known=False", LOOSE, {"predictions": [said(99)]}),
        (unchanged, "1 × .*, as {user_id=2 .*value=nan", LOOSE, {"predictions": [said(1), said(2, value=float("nan"))]}),
        (unchanged, "2 × .*, as {user_id=4 .*times=2", LOOSE, {"predictions": [said(4, "b"), said(4, "b")]}),
    ],
    "user_coverage": [(unchanged, "0.8, and the limit is 0.99", Publishing(min_user_coverage=0.99), {})],
    "fallback_share": [
        (change(2, 1, source="popular"), "0.2, and the limit is 0.1", LOOSE.model_copy(update={"max_fallback_share": 0.1}), {}),
    ],
    "overlap": [(unchanged, "0.2, and the limit is 0.9", LOOSE.model_copy(update={"min_overlap": 0.9}), {"last": True})],
}


@pytest.mark.parametrize(("rule", "case"), [(rule, i) for rule, cases in BROKEN.items() for i in range(len(cases))])
def test_broken_lists_are_refused(store: Store, nights: list[datetime], shop: Any, rule: str, case: int) -> None:
    alter, shown, limits, given = BROKEN[rule][case]
    if given.get("last"):
        others = [{**row, "item_id": 19} for row in shop.rows()]
        given = {"last": published.promotion(nights[0], "c", "candidate", {"scoring": shop.scoring(store, nights[0], others)}, ())}
    with pytest.raises(ContractError, match=f"(?s)break 1 of their contracts.*{rule}: .*{shown}") as caught:
        kept(store, nights[1], shop, alter(shop.rows()), limits, **given)
    assert "What was published stays" in str(caught.value)
    assert store.artifacts("publishing") == []


def test_every_rule_has_lists_that_break_it(store: Store, nights: list[datetime], shop: Any) -> None:
    rules = set(checks(kept(store, nights[0], shop, shop.rows())))
    assert rules == set(BROKEN)
    assert {path.stem for path in RULES} == rules - SHARES - {"columns"}


def test_all_broken_rules_are_named_at_once_with_three_rows_each(store: Store, nights: list[datetime], shop: Any) -> None:
    rows = [{**row, "item_id": 20 if row["rank"] == 1 else row["item_id"], "source": "elsewhere"} for row in shop.rows()]
    with pytest.raises(ContractError) as caught:
        kept(store, nights[0], shop, rows)
    message = str(caught.value)
    assert "break 2 of their contracts" in message
    assert "eligible_items: 5 × recommendation of an item that is not eligible tonight, as {user_id=1" in message
    assert "sources: 14 ×" in message
    assert message.count("user_id=") == 6
    assert str(store.root / "scoring") in message and "--rebuild" in message


def test_lists_of_nobody_are_refused(store: Store, nights: list[datetime], shop: Any) -> None:
    with pytest.raises(ContractError, match="every_user: 5 × .*\n.*user_coverage: 0.0, and the limit is 0.5"):
        kept(store, nights[0], shop, [])
