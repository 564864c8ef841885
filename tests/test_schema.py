"""Roles in, roles out."""

import json
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.schema import Column, Role, Scale, Schema, Table

SHOP = Schema(
    (
        Column("user_id", "events", "user", "BIGINT"),
        Column("item_id", "events", "item", "BIGINT"),
        Column("device", "events", "categorical", "VARCHAR"),
        Column("seconds", "events", "numeric", "FLOAT", scale="log"),
        Column("purchased", "events", "label", "BOOLEAN"),
        Column("genres", "items", "multi_categorical", "VARCHAR[]"),
        Column("price", "items", "numeric", "FLOAT", scale="standard"),
        Column("picture", "items", "vector", "FLOAT[]", size=16),
        Column("title", "items", "text", "VARCHAR"),
        Column("country", "users", "categorical", "VARCHAR"),
    )
)

columns = st.builds(
    Column,
    name=st.text(min_size=1, max_size=8),
    table=st.sampled_from(get_args(Table)),
    role=st.sampled_from(get_args(Role)),
    type=st.sampled_from(["", "BIGINT", "VARCHAR[]"]),
    scale=st.sampled_from(get_args(Scale)),
    size=st.integers(0, 512),
)


def test_columns_are_selected_by_role_and_table_in_order() -> None:
    assert SHOP.names("numeric") == ("seconds", "price")
    assert SHOP.names("categorical", table="users") == ("country",)
    assert SHOP.names("numeric", "categorical", table="events") == ("device", "seconds")
    assert SHOP.select("session") == ()


def test_a_model_reads_features_but_neither_ids_nor_text_nor_labels() -> None:
    assert [c.name for c in SHOP.features("events")] == ["device", "seconds"]
    assert [c.name for c in SHOP.features("items")] == ["genres", "price", "picture"]
    assert [c.name for c in SHOP.features("users")] == ["country"]


@given(st.lists(columns, max_size=6), st.booleans())
def test_a_schema_reads_back_equal(found: list[Column], has_times: bool) -> None:
    schema = Schema(tuple(found), has_times)
    assert Schema.from_json(schema.to_json()) == schema


def test_a_schema_lies_beside_its_tables(tmp_path: Path) -> None:
    SHOP.save(tmp_path)
    assert Schema.load(tmp_path) == SHOP
    written = json.loads((tmp_path / "schema.json").read_text())
    assert written["columns"][3] == {"name": "seconds", "table": "events", "role": "numeric", "type": "FLOAT", "scale": "log", "size": 0}


def test_a_column_of_a_later_version_is_not_read_as_something_else() -> None:
    with pytest.raises(TypeError):
        Schema.from_json('{"has_times": true, "columns": [{"name": "a", "table": "events", "role": "text", "unit": "s"}]}')
