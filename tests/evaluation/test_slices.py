from dataclasses import replace
from datetime import datetime, timezone

import numpy as np
import pyarrow as pa
import pytest

from recsys.arrays import Ragged
from recsys.errors import ConfigError
from recsys.evaluation.ground import common_ground
from recsys.evaluation.slices import check_columns, slices, user_columns
from recsys.schema import Column, Schema
from recsys.windows import Cut, holdout

AS_OF = datetime(2025, 3, 2, tzinfo=timezone.utc)
DAY = holdout(AS_OF, "1d")

# Item 0 is 10 days old at the cut, item 1 two days, item 2 an hour; user 9 made them so.
EVENTS = {
    1: [(30, 3), (5, 0), (4, 1)],
    2: [(40, 3), (39, 4), (5, 2)],
    3: [(40, 3), (39, 4), (38, 5), (5, 0)],
    9: [(24 * 11, 0), (24 * 3, 1), (25, 2)],
}


def test_by_hand(by_hand):
    histories, dictionary = by_hand(EVENTS, 6)
    ground = common_ground(histories, dictionary, DAY, histories.offsets[1:], exclude_seen=True)
    found = {part.name: part for part in slices(ground, histories, dictionary, DAY)}
    assert {name: part.users.tolist() for name, part in found.items()} == {
        "all": [0, 1, 2],
        "users with 1 event": [0],
        "users with 2-4 events": [1, 2],
        "users known for less than a day": [0, 1, 2],
        "items known for less than a day": [1],
        "items known for 1 to 7 days": [0],
        "items known for 7 days and more": [0, 2],
    }
    assert ground.relevant.tolist() == [0, 1, 2, 0]
    assert found["all"].counted is None and found["users with 1 event"].counted is None
    assert found["items known for 7 days and more"].counted.tolist() == [True, False, False, True]


def test_who_came_first_long_ago_is_no_new_user(by_hand):
    old = {**EVENTS, 2: [(24 * 9, 3), (39, 4), (5, 2)], 3: [(24 * 4, 3), (39, 4), (38, 5), (5, 0)]}
    histories, dictionary = by_hand(old, 6)
    ground = common_ground(histories, dictionary, DAY, histories.offsets[1:], exclude_seen=True)
    found = {part.name: part.users.tolist() for part in slices(ground, histories, dictionary, DAY)}
    assert [found[f"users known for {age}"] for age in ("less than a day", "1 to 7 days", "7 days and more")] == [[0], [2], [1]]


def test_nobody_has_an_age_in_data_with_an_order_only(by_hand):
    histories, dictionary = by_hand(EVENTS, 6)
    ground = common_ground(histories, dictionary, Cut(last=1), histories.offsets[1:], exclude_seen=True)
    assert not [part.name for part in slices(ground, histories, dictionary, Cut(last=1)) if "known" in part.name]


def test_nobody_is_in_all_alone(by_hand):
    histories, dictionary = by_hand({1: [(40, 0)]}, 1)
    ground = common_ground(histories, dictionary, DAY, histories.offsets[1:], exclude_seen=True)
    assert [(part.name, len(part.users)) for part in slices(ground, histories, dictionary, DAY)] == [("all", 0)]


# ---------------------------------------------------------------- by columns

COLUMNS = Schema(
    (
        Column("country", "users", "categorical"),
        Column("age", "users", "numeric"),
        Column("genres", "items", "multi_categorical"),
        Column("price", "items", "numeric"),
        Column("look", "items", "vector"),
    )
)


class Values:
    """The values of the columns, without files."""

    def __init__(self, **values):
        self.given = values

    def __call__(self, column):
        return pa.array(self.given[column])


@pytest.fixture
def shop(by_hand, monkeypatch):
    """Test users 1, 2 and 3 as above. Users 1 and 3 are from BR, user 2 is from nowhere known; items 0 and 1 are dramas."""
    histories, dictionary = by_hand(EVENTS, 6)
    monkeypatch.setattr(type(dictionary), "values", lambda self, column: Values(country=["AR", "BR"], genres=["Crime", "Drama"])(column))
    histories = replace(
        histories,
        schema=COLUMNS,
        user_columns={"country": np.array([1, -1, 1, 0], dtype=np.int32), "age": np.array([20, np.nan, 40, 90], dtype=np.float32)},
    )
    genres = Ragged(np.array([1, 0, 1, 0], dtype=np.int32), np.array([0, 1, 3, 4, 4, 4, 4]))
    dictionary = replace(dictionary, columns={"genres": genres, "price": np.arange(6, dtype=np.float32)})
    return common_ground(histories, dictionary, DAY, histories.offsets[1:], exclude_seen=True), histories, dictionary


def by_column(shop, *columns):
    return {part.name: part for part in slices(*shop, DAY, columns) if " with " in part.name and "event" not in part.name}


def test_users_and_items_by_category(shop):
    found = by_column(shop, "country", "genres")
    assert {name: part.users.tolist() for name, part in found.items()} == {
        "users with country BR": [0, 2],
        "users with country null": [1],
        "items with genres Drama": [0, 2],
        "items with genres Crime": [0, 1],
    }
    assert found["items with genres Crime"].counted.tolist() == [False, True, True, False]  # items 1 and 2


def test_numbers_are_cut_at_the_quartiles(shop):
    users = {name: part.users.tolist() for name, part in by_column(shop, "age").items()}
    assert users == {
        "users with age below 25": [0],
        "users with age 35 and more": [2],
        "users with age null": [1],
    }
    items = {name: part.counted.tolist() for name, part in by_column(shop, "price").items()}
    assert items == {  # relevant are 0, 1, 2 and 0: a quarter or more is 0
        "items with price below 0.5": [True, False, False, True],
        "items with price 0.5 to below 1.25": [False, True, False, False],
        "items with price 1.25 and more": [False, False, True, False],
    }


def test_only_the_most_frequent_values_have_a_slice(shop, monkeypatch):
    monkeypatch.setattr("recsys.evaluation.slices.MAX_VALUES", 1)
    assert list(by_column(shop, "country", "genres")) == ["users with country BR", "items with genres Drama"]


def test_which_columns_can_slice():
    check_columns(COLUMNS, ("country", "price"))
    assert user_columns(COLUMNS, ("country", "price")) == {"country"}
    with pytest.raises(ConfigError, match="evaluation.slices: 'contry' is no category and no number .* Did you mean country"):
        check_columns(COLUMNS, ("age", "contry"))
    with pytest.raises(ConfigError, match="'look' is no category"):
        check_columns(COLUMNS, ("look",))
