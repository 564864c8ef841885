"""A model from a table and lists from a model, as in a notebook."""

import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from recsys import Recommender, fit, item_vectors, load, recommend, similar_items, user_vectors
from recsys.config import Model
from recsys.errors import ConfigError, ContractError, SourceError, StoreError
from recsys.model.encoders.preln import PreLN
from recsys.parts import part

N_ITEMS = 30
SMALL: dict[str, Any] = {
    "width": 16, "max_events": 10, "encoder": "PreLN(n_blocks=1, n_heads=2)", "max_epochs": 2, "learning_rate": 0.01, "deterministic": True,
}  # fmt: skip


def shop(n_users: int = 80, seed: int = 0) -> pd.DataFrame:
    """Everybody walks along a ring of items, one or two steps an hour, from a place of their own."""
    random = np.random.default_rng(seed)
    lengths = random.integers(3, 12, n_users)
    user = np.repeat(np.arange(n_users), lengths)
    steps = random.integers(1, 3, len(user))
    place = np.arange(len(user)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    walked = np.cumsum(steps) - np.repeat((np.cumsum(steps) - steps)[np.cumsum(lengths) - lengths], lengths)
    start = np.repeat(random.integers(0, N_ITEMS, n_users), lengths)
    return pd.DataFrame(
        {
            "user_id": user + 100,
            "item_id": (start + walked) % N_ITEMS + 1000,
            "at": pd.Timestamp("2025-03-01") + pd.to_timedelta(place, unit="h"),
            "device": np.where(user % 2, "phone", "desktop"),
        }
    )


EVENTS = shop()
USERS = pd.DataFrame({"user_id": EVENTS.user_id.unique(), "country": np.where(EVENTS.user_id.unique() % 3, "AT", "CH")})


@pytest.fixture(scope="module")
def model() -> Recommender:
    return fit("sasrec", EVENTS, **SMALL)


def test_a_table_in_and_a_table_out(model: Recommender) -> None:
    lists = recommend(model, [101, 100], k=3)
    assert isinstance(lists, pd.DataFrame)
    assert list(lists.columns) == ["user_id", "rank", "item_id", "score", "source"]
    assert lists.user_id.tolist() == [101] * 3 + [100] * 3, "in the order asked for"
    assert lists["rank"].tolist() == [1, 2, 3] * 2
    assert set(lists.source) == {"model"} and (lists.score.diff()[lists["rank"] > 1] <= 0).all()


def test_everybody_gets_what_they_have_not_seen(model: Recommender) -> None:
    lists = recommend(model)
    assert lists.groupby("user_id").size().to_dict() == dict.fromkeys(EVENTS.user_id.unique(), 10)
    assert not set(zip(lists.user_id, lists.item_id, strict=True)) & set(zip(EVENTS.user_id, EVENTS.item_id, strict=True))
    again = recommend(model, exclude_seen=False)
    assert set(zip(again.user_id, again.item_id, strict=True)) & set(zip(EVENTS.user_id, EVENTS.item_id, strict=True))


def test_it_has_learnt_the_walk() -> None:
    model = fit("sasrec", EVENTS, **{**SMALL, "max_epochs": 20})
    first = recommend(model, k=3)
    newest = EVENTS.sort_values("at").groupby("user_id").item_id.last()
    steps = (first.item_id.to_numpy() - newest[first.user_id].to_numpy()) % N_ITEMS
    assert np.isin(steps, [1, 2]).mean() > 0.4, "of three items listed, two can follow"
    assert model.metrics["ndcg_at_10"] > 0.3


def test_who_is_unknown_gets_what_is_popular(model: Recommender) -> None:
    lists = recommend(model, [7, 100, 8], k=4)
    counts = EVENTS.item_id.value_counts()
    popular = sorted(counts.index, key=lambda item: (-counts[item], item))[:4]
    for stranger in (7, 8):
        own = lists[lists.user_id == stranger]
        assert own.item_id.tolist() == popular and set(own.source) == {"popular"}
        assert own.score.tolist() == counts[popular].tolist()
    assert set(lists[lists.user_id == 100].source) == {"model"}


def test_pandas_arrow_and_duckdb_are_the_same(model: Recommender) -> None:
    arrow = pa.Table.from_pandas(EVENTS, preserve_index=False)
    relation = duckdb.connect().from_arrow(arrow)
    expected = recommend(model)
    for events in (arrow, relation):
        lists = recommend(fit("sasrec", events, **SMALL))
        assert isinstance(lists, pa.Table)
        pd.testing.assert_frame_equal(lists.to_pandas(), expected)


def test_users_are_named_in_any_array(model: Recommender) -> None:
    expected = recommend(model, [103, 104])
    for users in (np.array([103, 104]), pd.Series([103, 104, 103]), pa.array([103, 104]), pd.DataFrame({"user_id": [103, 104]})):
        pd.testing.assert_frame_equal(recommend(model, users), expected)


def test_a_recipe_is_a_name_a_model_or_a_dictionary(model: Recommender) -> None:
    training = {"max_epochs": 2, "learning_rate": 0.01, "deterministic": True}
    given = Model(width=16, max_events=10, encoder=part(PreLN, n_blocks=1, n_heads=2))
    flat = {"width": 16, "max_events": 10, "encoder": "PreLN", "encoder.n_blocks": 1, "encoder.n_heads": 2}
    expected = recommend(model)
    for recipe in (given, flat):
        pd.testing.assert_frame_equal(recommend(fit(recipe, EVENTS, **training)), expected)


def test_as_of_leaves_out_what_came_later() -> None:
    once = {**SMALL, "max_epochs": 1, "as_of": "2025-03-01T05:00"}
    before = EVENTS[EVENTS["at"] < "2025-03-01T05:00"]
    assert len(before) < len(EVENTS)
    pd.testing.assert_frame_equal(recommend(fit("sasrec", EVENTS, **once)), recommend(fit("sasrec", before, **once)))


def test_data_with_an_order_only() -> None:
    events = EVENTS.assign(place=range(len(EVENTS))).drop(columns="at")
    lists = recommend(fit("sasrec", events, data={"events": {"order": "place"}}, **{**SMALL, "max_epochs": 1}))
    assert len(lists) == 10 * EVENTS.user_id.nunique()


def test_saved_here_loaded_there(model: Recommender, tmp_path: Path) -> None:
    model.save(tmp_path / "mine")
    elsewhere = load(tmp_path / "mine")
    pd.testing.assert_frame_equal(recommend(elsewhere, events=EVENTS), recommend(model))
    with pytest.raises(StoreError, match="is there already"):
        model.save(tmp_path / "mine")
    with pytest.raises(ConfigError, match="loaded without histories"):
        recommend(elsewhere)
    with pytest.raises(StoreError, match="There is no model in .*model.json"):
        load(tmp_path)


def test_a_folder_of_a_store_loads_the_same_way(model: Recommender) -> None:
    assert (model.folder / "manifest.json").exists(), "an artifact of the step training"
    pd.testing.assert_frame_equal(recommend(load(model.folder), events=EVENTS), recommend(model))


def test_newer_events_are_newer_histories(model: Recommender) -> None:
    newer = pd.DataFrame({"user_id": [100, 555], "item_id": [1003, 1007], "at": [datetime(2025, 4, 1)] * 2})
    lists = recommend(model, events=newer)
    assert lists.user_id.unique().tolist() == [100, 555], "whoever has a history, known in training or not"
    assert set(lists.source) == {"model"} and len(lists) == 20, "any item of the model, not those of the events alone"
    assert 1003 not in lists[lists.user_id == 100].item_id.tolist()


def test_what_happened_lately_is_not_told_by_some_users() -> None:
    lately = fit("sasrec", EVENTS, **SMALL, heads=["NextItem(prior=Activity())"])
    assert set(recommend(lately, k=3).source) >= {"model"}
    with pytest.raises(ConfigError, match="weighs items by what happened with them lately, to everybody"):
        recommend(lately, k=3, events=EVENTS[EVENTS.user_id < 110])


def test_newer_events_of_new_items(model: Recommender) -> None:
    """What the model does not know is not read; who had nothing else gets what is popular."""
    newer = pd.DataFrame({"user_id": [1, 1, 2], "item_id": [5000, 1004, 5000], "at": [datetime(2025, 4, 1)] * 3})
    lists = recommend(model, events=newer, k=2)
    assert lists.groupby("user_id").source.first().to_dict() == {1: "model", 2: "popular"}
    with_first_only = recommend(model, events=newer[newer.item_id == 1004], k=2)
    assert lists[lists.user_id == 1].item_id.tolist() == with_first_only.item_id.tolist()


def test_features_of_events_and_users(tmp_path: Path) -> None:
    data = {"events": {"categorical": ["device"]}, "users": {"categorical": ["country"]}}
    inputs = 'Inputs(features=["device", "country"])'
    model = fit("sasrec", EVENTS, users=USERS, data=data, inputs=inputs, **{**SMALL, "max_epochs": 1})
    model.save(tmp_path / "model")
    elsewhere = load(tmp_path / "model")
    pd.testing.assert_frame_equal(recommend(elsewhere, USERS, events=EVENTS), recommend(model, USERS))
    with pytest.raises(ConfigError, match="reads country of the users: give `users` as a table"):
        recommend(elsewhere, [100], events=EVENTS)
    with pytest.raises(SourceError, match="no column 'device'"):
        recommend(elsewhere, USERS, events=EVENTS.drop(columns="device"))


def test_names_of_columns_are_said_once(tmp_path: Path) -> None:
    renamed = EVENTS.rename(columns={"user_id": "customer", "item_id": "article"}).assign(seen_at=EVENTS["at"] + timedelta(days=1))
    data = {"events": {"user": "customer", "item": "article", "time": "at"}}
    model = fit("sasrec", renamed, data=data, **SMALL)
    model.save(tmp_path / "model")
    pd.testing.assert_frame_equal(recommend(load(tmp_path / "model", data=data), events=renamed), recommend(model))


def test_sessions(tmp_path: Path) -> None:
    events = EVENTS.assign(visit=(EVENTS["at"] - EVENTS["at"].min()) // timedelta(hours=3))
    data = {"events": {"session": "visit"}}
    model = fit("sasrec", events, data=data, sequences={"key": "session"}, **{**SMALL, "max_epochs": 1})
    model.save(tmp_path / "model")
    elsewhere = load(tmp_path / "model", data=data)
    assert elsewhere.sequences.key == "session"
    pd.testing.assert_frame_equal(recommend(elsewhere, events=events), recommend(model))


def test_vectors_make_the_scores(model: Recommender) -> None:
    users, items = (table.set_index(table.columns[0]).vector for table in (user_vectors(model, [100, 7]), item_vectors(model)))
    assert list(users.index) == [100] and sorted(items.index) == sorted(EVENTS.item_id.unique())
    for row in recommend(model, [100]).itertuples():
        assert items[row.item_id] @ users[100] == pytest.approx(row.score, abs=1e-4)
    pd.testing.assert_frame_equal(user_vectors(model, events=EVENTS), user_vectors(model))


def test_similar_items_are_of_one_direction(model: Recommender) -> None:
    items = item_vectors(model).set_index("item_id").vector
    similar = similar_items(model, k=3)
    assert len(similar) == 3 * len(items) and (similar.item_id != similar.similar_item_id).all()
    for row in similar.itertuples():
        a, b = items[row.item_id], items[row.similar_item_id]
        assert row.score == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-5)


@pytest.mark.parametrize(
    ("events", "arguments", "error", "says"),
    [
        (EVENTS.astype({"user_id": float}), {}, SourceError, "user_id.* 17 and 17.0 would be two ids"),
        (EVENTS.assign(item_id=EVENTS.item_id.astype("Int64").where(EVENTS.index > 0)), {}, ContractError, "item_id"),
        (EVENTS.drop(columns="item_id"), {}, SourceError, "no column 'item_id'"),
        (EVENTS.drop(columns="at"), {}, ConfigError, "no timestamp: name its time column.*'order'"),
        (EVENTS.assign(known=EVENTS["at"]), {}, ConfigError, "the timestamps at, known: name its time column"),
        (EVENTS.assign(at=EVENTS["at"] + timedelta(days=40_000)), {}, ContractError, "not_after_run_start"),
        (EVENTS, {"data": {"events": {"categorica": ["device"]}}}, ConfigError, "data.events.categorica: .*Did you mean categorical"),
        (EVENTS, {"data": {"items": {"categorical": ["brand"]}}}, ConfigError, "data.items names columns of a table that is not given"),
        (EVENTS, {"as_of": "2024-01-01"}, SourceError, "no rows between"),
        (EVENTS, {"max_epoch": 3}, ConfigError, "max_epoch: there is no such setting.*max_epochs"),
        (EVENTS, {"encoder": "PreNL"}, ConfigError, "no Encoder 'PreNL'. Did you mean PreLN"),
        (EVENTS, {"width": 15, "encoder": "PreLN(n_heads=2)"}, ConfigError, "n_heads"),
        ([1, 2], {}, SourceError, "events is a builtins.list: give a pandas DataFrame"),
        ({"user_id": [1, "a"]}, {}, SourceError, "events cannot be read as a table"),
    ],
)
def test_bad_input_is_refused_as_by_a_night(events: Any, arguments: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        fit("sasrec", events, **{"max_epochs": 1, **arguments})


def test_the_document_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block of docs/notebook.md, one after the other."""
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[1] / "docs" / "notebook.md").read_text()
    names: dict[str, Any] = {"events": EVENTS, "users": USERS}
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        exec(compile(block, "docs/notebook.md", "exec"), names)
    assert set(names["lists"].columns) == {"user_id", "rank", "item_id", "score", "source"}
    assert len(names["readers"]) == EVENTS.user_id.nunique() and len(names["alike"]) == 5 * len(names["items"])


def test_bad_requests_are_refused(model: Recommender) -> None:
    with pytest.raises(ConfigError, match="string, and user ids are int64"):
        recommend(model, ["100"])
    with pytest.raises(ConfigError, match="1 of the 2 users asked for are null"):
        recommend(model, pa.array([100, None]))
    with pytest.raises(ConfigError, match="k is 0"):
        recommend(model, k=0)
    with pytest.raises(ConfigError, match="k is '3'"):
        recommend(model, k="3")
    with pytest.raises(ConfigError, match="k is 0"):
        similar_items(model, k=0)
    assert len(repr(model)) < 200 and str(model.folder) in repr(model)
