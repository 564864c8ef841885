"""The step *sequences* by example, and its histories against a loop over users."""

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.arrays import Ragged
from recsys.config import Features, Sequences
from recsys.dictionary import Dictionary
from recsys.errors import ConfigError, ContractError, RecsysError, StoreError
from recsys.histories import Histories
from recsys.schema import Column
from recsys.shards import shards_of
from recsys.store import Artifact
from recsys.windows import NEVER, Cut, microseconds

Build = Callable[..., Artifact]


def at(hour: float) -> datetime:
    return datetime(2025, 3, 1, tzinfo=timezone.utc) + timedelta(hours=hour)


def event(user: int | str, item: int | str, hour: float, **more: Any) -> dict[str, Any]:
    return {"user_id": user, "item_id": item, "hour": hour, **more}


SHOP = [
    event(8, 300, 1),
    event(7, 100, 2),
    event(7, 300, 3),
    event(7, 100, 9),
    event(9, 200, 4),
]


def told(histories: Histories, dictionary: Dictionary) -> dict[Any, list[Any]]:
    """Item ids of each user, as lists."""
    ids = dictionary.item_id.take(histories.item_code).to_pylist()
    bounds = zip(histories.user_id.to_pylist(), histories.offsets[:-1], histories.offsets[1:], strict=True)
    return {user: ids[start:end] for user, start, end in bounds}


def test_histories_are_flat_with_offsets(build: Build) -> None:
    artifact = build(events=SHOP)
    histories, dictionary = Histories.load(artifact.path), Dictionary.load(artifact.path)

    assert dictionary.item_id.to_pylist() == [100, 200, 300] and dictionary.n_events.tolist() == [2, 1, 2]
    assert histories.user_id.to_pylist() == [7, 8, 9]
    assert histories.offsets.tolist() == [0, 3, 4, 5]
    assert histories.item_code.tolist() == [0, 2, 0, 2, 1]
    assert histories.event_at is not None
    assert histories.event_at.tolist() == [microseconds(at(h)) for h in (2, 3, 9, 1, 4)]
    assert histories.session is None and histories.is_target is None and histories.weight.tolist() == [1] * 5
    counts = {"users": 3, "users_without_events": 0, "items": 3, "events": 5, "events_of_other_types": 0, "targets": 5}
    assert artifact.counts == counts | {"seen_pairs": 4, "blocked_pairs": 0}


def test_types_of_arrays(build: Build) -> None:
    histories = Histories.load(build(events=SHOP).path)
    kinds = {name: getattr(histories, name).dtype.name for name in ("offsets", "item_code", "event_at", "weight")}
    assert kinds == {"offsets": "int64", "item_code": "int32", "event_at": "int64", "weight": "float32"}


def test_seen_reaches_further_back_than_the_history(build: Build) -> None:
    histories = Histories.load(build(events=SHOP, older=[event(7, 200, -48), event(5, 100, -50), event(7, 300, -40)]).path)
    assert histories.user_id.to_pylist() == [5, 7, 8, 9]
    offsets, items = histories.seen(Cut(at=at(3)))  # 300 was seen before its first event of the history, 100 in it
    assert offsets.tolist() == [0, 1, 4, 5, 5] and items.tolist() == [0, 0, 1, 2, 2]
    offsets, items = histories.seen(Cut(at=at(0)))
    assert offsets.tolist() == [0, 1, 3, 3, 3] and items.tolist() == [0, 1, 2]


def test_users_and_items_without_events_have_rows_too(build: Build) -> None:
    artifact = build(events=SHOP, users=[{"user_id": 1}], items=[{"item_id": 50}, {"item_id": 300, "eligible": False}])
    histories, dictionary = Histories.load(artifact.path), Dictionary.load(artifact.path)
    assert told(histories, dictionary) == {1: [], 7: [100, 300, 100], 8: [300], 9: [200]}
    assert dictionary.item_id.to_pylist() == [50, 100, 200, 300] and dictionary.eligible.tolist() == [True, True, True, False]
    assert dictionary.first_event_at is not None
    assert dictionary.first_event_at.tolist() == [NEVER, *(microseconds(at(h)) for h in (2, 4, 1))]
    assert artifact.counts["users_without_events"] == 1


def test_string_ids_stay_strings(build: Build) -> None:
    artifact = build(events=[event("u2", "b", 1), event("u10", "a", 2), event("u2", "B", 3)])
    histories, dictionary = Histories.load(artifact.path), Dictionary.load(artifact.path)
    assert dictionary.item_id.to_pylist() == ["B", "a", "b"]
    assert told(histories, dictionary) == {"u10": ["a"], "u2": ["b", "B"]}


COLUMNS = (
    Column("device", "events", "categorical", "VARCHAR"),
    Column("seconds", "events", "numeric", "DOUBLE", "log"),
    Column("bought", "events", "label", "BIGINT"),
    Column("reason", "events", "label", "VARCHAR"),
    Column("tags", "items", "multi_categorical", "VARCHAR[]"),
    Column("look", "items", "vector", "FLOAT[]", size=2),
    Column("title", "items", "text", "VARCHAR"),
    Column("age", "users", "numeric", "BIGINT", "standard"),
    Column("towns", "users", "multi_categorical", "BIGINT[]"),
)
RICH: dict[str, Any] = {
    "columns": COLUMNS,
    "events": [
        event(1, 100, 1, device="phone", seconds=1.5, bought=1, reason="gift"),
        event(1, 200, 2, device=None, seconds=1e300, bought=None, reason=None),
        event(2, 100, 3, device="desk", seconds=None, bought=0, reason="need"),
    ],
    "items": [
        {"item_id": 100, "tags": ["new", "sale", None], "look": [0.5, 1.0], "title": "Lamp"},
        {"item_id": 200, "tags": None, "look": None, "title": None},
        {"item_id": 300, "tags": ["art", "new"], "look": [2.0, 3.0], "title": "Vase"},
    ],
    "users": [{"user_id": 1, "age": 30, "towns": [7, 3]}, {"user_id": 2, "age": None, "towns": []}],
}


def test_features_as_codes_and_numbers(build: Build) -> None:
    artifact = build(**RICH)
    histories, dictionary = Histories.load(artifact.path), Dictionary.load(artifact.path)
    assert dictionary.values("device").to_pylist() == ["desk", "phone"] and dictionary.values("towns").to_pylist() == [3, 7]
    assert dictionary.values("tags").to_pylist() == ["art", "new", "sale"] and dictionary.values("reason").to_pylist() == ["gift", "need"]
    np.testing.assert_array_equal(histories.columns["device"], [1, -1, 0])
    np.testing.assert_array_equal(histories.columns["seconds"], np.array([1.5, np.nan, np.nan], np.float32))  # 1e300 is no float32
    np.testing.assert_array_equal(histories.columns["bought"], np.array([1, np.nan, 0], np.float32))
    np.testing.assert_array_equal(histories.columns["reason"], [0, -1, 1])
    np.testing.assert_array_equal(histories.user_columns["age"], np.array([30, np.nan], np.float32))
    towns, tags = histories.user_columns["towns"], dictionary.columns["tags"]
    assert isinstance(towns, Ragged) and towns.values.tolist() == [1, 0] and towns.offsets.tolist() == [0, 2, 2]
    assert isinstance(tags, Ragged) and tags.values.tolist() == [1, 2, 0, 1] and tags.offsets.tolist() == [0, 2, 2, 4]
    np.testing.assert_array_equal(dictionary.columns["look"], np.array([[0.5, 1], [0, 0], [2, 3]], np.float32))
    assert dictionary.texts["title"].to_pylist() == ["Lamp", None, "Vase"]
    assert histories.columns["device"].dtype == np.int32 and tags.values.dtype == np.int32


def test_a_label_is_null_at_every_cut_before_it_was_known(build: Build) -> None:
    """The first is known at its event, the last three hours after it."""
    events = [dict(row) for row in RICH["events"]]
    events[2] |= {"bought_known_at": 6, "reason_known_at": 6}
    histories = Histories.load(build(**{**RICH, "events": events}).path)
    np.testing.assert_array_equal(histories.known_at["bought"], [microseconds(at(1)), NEVER, microseconds(at(6))])
    for hour, bought, reason in ((1, [], []), (4, [1.0], [0]), (6, [1.0], [0]), (7, [1.0, 0.0], [0, 1])):
        known = histories.as_known(Cut(at=at(hour)))
        assert known.columns["bought"][~np.isnan(known.columns["bought"])].tolist() == bought
        assert known.columns["reason"][known.columns["reason"] >= 0].tolist() == reason
    last = histories.as_known(Cut(last=1))  # without the newest event of each: of user 1, what was known before hour 2
    assert last.columns["bought"][0] == 1 and np.isnan(last.columns["bought"][1:]).all()
    assert Histories.load(build(**{**RICH, "events": events}).path, columns=["device"]).known_at == {}


def test_only_the_columns_asked_for(build: Build) -> None:
    artifact = build(**RICH)
    some = Histories.load(artifact.path, columns=["device", "age"])
    assert set(some.columns) == {"device"} and set(some.user_columns) == {"age"}
    assert Histories.load(artifact.path, columns=[]).columns == {}
    with pytest.raises(ConfigError, match="no column devise. There are: device, seconds, age"):
        Histories.load(artifact.path, columns=["devise"])


@pytest.mark.parametrize("n_users", [1, 2, 100])
def test_pieces_are_the_whole(build: Build, n_users: int) -> None:
    artifact = build(**RICH, blocked=[{"user_id": 2, "item_id": 100}], n_shards=2)
    for shard in shards_of(artifact.path):
        whole, pieces = Histories.load(artifact.path, [shard]), list(Histories.pieces(artifact.path, shard, None, n_users))
        assert [piece.n_users for piece in pieces][:-1] == [n_users] * (len(pieces) - 1)
        assert sum((piece.user_id.to_pylist() for piece in pieces), []) == whole.user_id.to_pylist()
        for of in (lambda h: (h.offsets, h.item_code), lambda h: h.seen(Cut(at=at(99))), lambda h: h.blocked()):
            found = [own.tolist() for piece in pieces for own in np.split(of(piece)[1], of(piece)[0][1:-1])]
            assert found == [own.tolist() for own in np.split(of(whole)[1], of(whole)[0][1:-1])]
        for name, column in whole.columns.items():
            if isinstance(column, np.ndarray):
                np.testing.assert_array_equal(np.concatenate([piece.columns[name] for piece in pieces]), column)
        for name, column in whole.user_columns.items():
            if isinstance(column, np.ndarray):
                np.testing.assert_array_equal(np.concatenate([piece.user_columns[name] for piece in pieces]), column)


VISITS = [
    event(1, 10, 1, event_type="view"),
    event(1, 20, 2, event_type="buy"),
    event(1, 30, 3, event_type="hover"),
    event(1, 20, 4, event_type="view"),
    event(2, 10, 5, event_type="hover"),
    event(2, 30, 6, event_type=None),
]


def test_event_types_in_three_lists(build: Build) -> None:
    chosen = Sequences(input_types=("view", "buy"), target_types=("buy",), seen_types=("buy", "hover"))
    artifact = build(chosen, events=VISITS)
    histories, dictionary = Histories.load(artifact.path), Dictionary.load(artifact.path)
    assert told(histories, dictionary) == {1: [10, 20, 20], 2: []}
    assert histories.is_target is not None and histories.is_target.tolist() == [False, True, False]
    offsets, items = histories.seen(Cut(at=at(24)))
    assert offsets.tolist() == [0, 2, 3] and dictionary.item_id.take(items).to_pylist() == [20, 30, 10]
    assert histories.seen(Cut(at=at(3)))[1].tolist() == [1]
    assert artifact.counts["events"] == 3 and artifact.counts["events_of_other_types"] == 3 and artifact.counts["targets"] == 1


def test_where_every_type_is_a_target_there_is_no_such_column(build: Build) -> None:
    for chosen in (Sequences(input_types=("view", "buy"), target_types=("buy", "view")), Sequences(target_types=("view", "buy", "hover"))):
        assert Histories.load(build(chosen, events=VISITS[:5]).path).is_target is None


def test_an_event_without_a_type_is_no_target_where_types_are_named(build: Build) -> None:
    artifact = build(Sequences(target_types=("view", "buy", "hover")), events=VISITS)
    is_target = Histories.load(artifact.path).is_target
    assert is_target is not None and is_target.tolist() == [True] * 5 + [False]
    assert artifact.counts["targets"] == 5


@pytest.mark.parametrize("field", ["input_types", "target_types", "seen_types"])
def test_an_unknown_type_is_an_error_that_names_the_known(build: Build, field: str) -> None:
    asked = {"input_types": (), field: ("wiew", "buy")}
    with pytest.raises(ConfigError, match=rf"sequences.{field} \['wiew'\] do not occur in the events. There are: buy, hover, view"):
        build(Sequences(**asked), events=VISITS)


def test_types_of_events_without_types(build: Build) -> None:
    with pytest.raises(ConfigError, match="no type column: name it in data.events.type"):
        build(Sequences(seen_types=("buy",)), events=SHOP)


def test_no_event_left_is_an_error(build: Build) -> None:
    with pytest.raises(ContractError, match="none of the 6 events"):
        build(Sequences(input_types=("wish",)), events=VISITS, older=[event(1, 10, -50, event_type="wish")])


def test_sessions_from_their_column(build: Build) -> None:
    """A session is a run: one that another interrupts goes on as a new one, and is counted."""
    ids = [(1, "b"), (1, "b"), (1, "a"), (1, "b"), (2, "b"), (2, None), (2, None), (3, "a")]
    artifact = build(events=[event(user, 10, hour, session_id=session) for hour, (user, session) in enumerate(ids)])
    session = Histories.load(artifact.path).session
    assert session is not None and session.tolist() == [0, 0, 1, 2, 0, 1, 1, 0] and session.dtype == np.int32
    assert artifact.counts["sessions"] == 6 and artifact.counts["sessions_interrupted"] == 1


def test_sessions_by_pauses(build: Build) -> None:
    hours = [(1, 0.0), (1, 1.9), (1, 3.9), (1, 4.0), (2, 4.1), (2, 8.0)]
    artifact = build(Sequences(session_gap="2h"), events=[event(user, 10, hour) for user, hour in hours])
    session = Histories.load(artifact.path).session
    assert session is not None and session.tolist() == [0, 0, 1, 1, 0, 1]
    assert artifact.counts["sessions"] == 4


def test_a_declared_session_goes_before_pauses(build: Build) -> None:
    events = [event(1, 10, hour, session_id=5) for hour in (0, 10)]
    assert Histories.load(build(Sequences(session_gap="1h"), events=events).path).session.tolist() == [0, 0]  # type: ignore[union-attr]


def test_sessions_of_nothing_to_tell_them_by(build: Build) -> None:
    with pytest.raises(ConfigError, match="name data.events.session, or give sequences.session_gap"):
        build(Sequences(key="session"), events=SHOP)
    with pytest.raises(ConfigError, match="needs times"):
        build(Sequences(session_gap="1h"), events=[{"user_id": 1, "item_id": 2}], has_times=False)


IN_ORDER = [
    {"user_id": user, "item_id": item, "event_type": kind}
    for user, item, kind in [(1, 10, "view"), (1, 20, "hover"), (1, 10, "view"), (1, 30, "view"), (2, 30, "view"), (3, 20, "hover")]
]


def test_data_with_an_order_only(build: Build) -> None:
    artifact = build(Sequences(input_types=("view",)), events=IN_ORDER, has_times=False)
    histories, dictionary = Histories.load(artifact.path), Dictionary.load(artifact.path)
    assert histories.event_at is None and dictionary.first_event_at is None
    assert told(histories, dictionary) == {1: [10, 10, 30], 2: [30], 3: []}
    assert (histories.cut(Cut(last=1)) - histories.offsets[:-1]).tolist() == [2, 0, 0]
    assert seen_of(histories, dictionary, Cut()) == {1: [10, 20, 30], 2: [30], 3: [20]}
    assert seen_of(histories, dictionary, Cut(last=1)) == {1: [10, 20], 2: [], 3: []}
    assert seen_of(histories, dictionary, Cut(last=2)) == {1: [10], 2: [], 3: []}
    with pytest.raises(ConfigError, match='Hold out "last-1"'):
        histories.cut(Cut(at=at(1)))
    with pytest.raises(ConfigError, match="no item activity"):
        dictionary.item_activity()


def test_item_activity_by_code(build: Build) -> None:
    activity = [
        {"item_id": 300, "hour": 4, "events_10m": 1, "events_1h": 1, "events_6h": 2, "events_1d": 2, "events_7d": 2},
        {"item_id": 100, "hour": 4, "events_10m": 0, "events_1h": 0, "events_6h": 1, "events_1d": 1, "events_7d": 1},
        {"item_id": 100, "hour": 3, "events_10m": 0, "events_1h": 1, "events_6h": 1, "events_1d": 1, "events_7d": 1},
    ]
    found = Dictionary.load(build(events=SHOP, activity=activity).path).item_activity()
    assert found.item_code.tolist() == [0, 0, 2] and found.hour_at.tolist() == [microseconds(at(h)) for h in (3, 4, 4)]
    assert found.at(at(4.9), "6h").tolist() == [1, 0, 2] and found.at(at(4), "1h").tolist() == [0, 0, 1]
    assert found.at(at(3), "10m").tolist() == [0, 0, 0] and found.at(at(4), "10m").tolist() == [0, 0, 1]
    assert found.at(at(5), "7d").tolist() == [0, 0, 0]


def test_blocked_pairs(build: Build) -> None:
    blocked = [{"user_id": 9, "item_id": 300}, {"user_id": 7, "item_id": 200}, {"user_id": 7, "item_id": 100}]
    offsets, items = Histories.load(build(events=SHOP, blocked=blocked).path).blocked()
    assert offsets.tolist() == [0, 2, 2, 3] and items.tolist() == [0, 1, 2]


def test_weights(build: Build) -> None:
    histories = Histories.load(build(events=[event(1, 10, 1, weight=0.5), event(1, 10, 2, weight=None)]).path)
    assert histories.weight.tolist() == [0.5, 1]


def test_features_that_do_not_fit_together(build: Build) -> None:
    with pytest.raises(ContractError, match="rows of blocked.parquet whose item_id items.parquet does not have: 1 of 1, as {item_id: 999}"):
        build(events=SHOP, blocked=[{"user_id": 9, "item_id": 999}])


@pytest.mark.parametrize(("table", "name"), [("events", "session"), ("users", "n_seen"), ("items", "n_events")])
def test_names_that_the_histories_use_themselves(build: Build, table: Any, name: str) -> None:
    with pytest.raises(ConfigError, match=f"{table}.{name} .*rename"):
        build(events=SHOP, columns=[Column(name, table, "categorical", "BIGINT")])


def test_a_shard_alone(build: Build) -> None:
    events = [event(user, 10 * (user % 3), user) for user in range(1, 20)]
    artifact = build(events=events, n_shards=3)
    assert shards_of(artifact.path) == [0, 1, 2]
    whole = Histories.load(artifact.path)
    parts = [Histories.load(artifact.path, shards=[shard]) for shard in (0, 1, 2)]
    assert min(part.n_users for part in parts) > 0
    np.testing.assert_array_equal(np.concatenate([part.item_code for part in parts]), whole.item_code)
    assert sum((part.user_id.to_pylist() for part in parts), []) == whole.user_id.to_pylist()
    with pytest.raises(StoreError, match="no such shard"):
        Histories.load(artifact.path, shards=[7])


def test_equal_inputs_give_equal_bytes(build: Build) -> None:
    events = [event(user, item, hour) for hour, (user, item) in enumerate((u, i) for u in range(30) for i in range(30))]
    one, other = (build(events=events, n_shards=2) for _ in range(2))
    assert one.path != other.path and one.content == other.content and one.version == other.version


def test_duckdb_keeps_to_the_configured_limits_which_change_nothing(build: Build) -> None:
    small = build(events=SHOP, limits=Features(memory_limit="100MB", threads=1))
    assert (small.version, small.content) == ((usual := build(events=SHOP)).version, usual.content)
    with pytest.raises(ConfigError, match="features.memory_limit='plenty'"):
        build(events=SHOP, limits=Features(memory_limit="plenty"))
    with pytest.raises(RecsysError, match="features.memory_limit=1MB, even with spilling"):
        build(events=[event(n, n, 1) for n in range(2000)], limits=Features(memory_limit="1MB"))


def seen_of(histories: Histories, dictionary: Dictionary, cut: Cut) -> dict[Any, list[Any]]:
    offsets, items = histories.seen(cut)
    ids = dictionary.item_id.take(items).to_pylist()
    return {user: ids[offsets[row] : offsets[row + 1]] for row, user in enumerate(histories.user_id.to_pylist())}


EVENT = st.builds(event, st.integers(0, 5), st.integers(0, 6), st.integers(0, 30), event_type=st.sampled_from(["view", "buy"]))
EVENTS = st.lists(EVENT, min_size=1, max_size=30)


@settings(max_examples=15, deadline=None)
@given(events=EVENTS, n_shards=st.integers(1, 4), hour=st.integers(0, 31))
def test_any_histories_equal_those_of_a_loop_whatever_the_shards(
    build: Build, events: list[dict[str, Any]], n_shards: int, hour: int
) -> None:
    events += [event(9, 0, 0, event_type="view"), event(9, 0, 0, event_type="buy")]  # so that both types occur
    chosen = Sequences(input_types=("view",), seen_types=("buy",))
    artifact = build(chosen, events=events, n_shards=n_shards)
    histories, dictionary = Histories.load(artifact.path), Dictionary.load(artifact.path)
    ordered = sorted(events, key=lambda e: e["hour"])
    users = {e["user_id"] for e in events}
    assert told(histories, dictionary) == {
        u: [e["item_id"] for e in ordered if e["user_id"] == u and e["event_type"] == "view"] for u in users
    }

    cut = Cut(at=at(hour))
    before = [e for e in ordered if e["hour"] < hour]
    lengths = dict(zip(histories.user_id.to_pylist(), (histories.cut(cut) - histories.offsets[:-1]).tolist(), strict=True))
    assert lengths == {u: sum(e["user_id"] == u and e["event_type"] == "view" for e in before) for u in users}
    assert seen_of(histories, dictionary, cut) == {
        u: sorted({e["item_id"] for e in before if e["user_id"] == u and e["event_type"] == "buy"}) for u in users
    }


@settings(max_examples=15, deadline=None)
@given(events=EVENTS, n=st.integers(0, 4))
def test_what_was_seen_before_the_last_n_events(build: Build, events: list[dict[str, Any]], n: int) -> None:
    in_order = [{key: value for key, value in e.items() if key != "hour"} for e in events]
    artifact = build(events=in_order, has_times=False)
    histories, dictionary = Histories.load(artifact.path), Dictionary.load(artifact.path)
    of_user = {u: [e["item_id"] for e in events if e["user_id"] == u] for u in {e["user_id"] for e in events}}
    assert seen_of(histories, dictionary, Cut(last=n)) == {u: sorted(set(items[: max(0, len(items) - n)])) for u, items in of_user.items()}
