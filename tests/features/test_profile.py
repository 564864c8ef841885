"""What a column looks like, by hand, and to the same bytes however it is read."""

from math import sqrt
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from recsys.features.profile import SAMPLE, profile
from recsys.schema import Role

Duck = duckdb.DuckDBPyConnection


def column(con: Duck, value: str, role: Role | None = None, name: str = "x", rows: str = "") -> dict[str, Any]:
    """The profile of one column, of an expression over rows."""
    con.execute(f"create or replace table given as select {value} as {name} {rows}")
    (found,) = profile(con, "given", {name: role} if role else {})
    return found


def test_numbers(duck: Duck) -> None:
    found = column(duck, "unnest([4, 1, 3, 2, null, 10])")
    assert [found[name] for name in ("table", "column", "type", "rows", "nulls", "distinct", "min", "max")] == [
        "given", "x", "INTEGER", 6, 1, 5, "1", "10",
    ]  # fmt: skip
    assert found["mean"] == 4.0 and found["std"] == pytest.approx(sqrt(10), rel=1e-5)
    assert [found["quantiles"][level] for level in (0, 20, 21, 50, 80, 81, 100)] == [1, 1, 2, 3, 4, 10, 10]
    assert found["top"] == [{"value": value, "rows": 1} for value in ("1", "10", "2", "3", "4")]


def test_numbers_that_are_none_are_left_out_of_means(duck: Duck) -> None:
    found = column(duck, "unnest([1.0, 'inf'::double, '-inf'::double, 'nan'::double, 2.0])")
    assert (found["mean"], found["std"], found["quantiles"][0], found["quantiles"][100]) == (1.5, 0.5, 1.0, 2.0)
    nothing = column(duck, "unnest(['inf'::double, 'nan'::double])")
    assert nothing["mean"] is nothing["std"] is nothing["quantiles"] is None
    assert column(duck, "unnest([7, 7])")["std"] == 0.0


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e15])
def test_means_are_those_of_numpy(duck: Duck, scale: float) -> None:
    numbers = np.random.default_rng(1).normal(3, 2, 5000) * scale
    duck.register("numbers", pa.table({"n": numbers}))
    found = column(duck, "n", rows="from numbers")
    assert (found["mean"], found["std"]) == (pytest.approx(numbers.mean(), rel=1e-5), pytest.approx(numbers.std(), rel=1e-5))
    assert found["quantiles"][1:] == np.sort(numbers)[49::50].tolist(), "the 50th of 5,000 is the least that 1 % do not exceed"
    assert found["top"] is None


def test_categories_have_their_most_frequent_values(duck: Duck) -> None:
    few = column(duck, "unnest(['b', 'a', 'b', null])")
    assert (few["nulls"], few["distinct"], few["top"]) == (1, 2, [{"value": "b", "rows": 2}, {"value": "a", "rows": 1}])
    many = column(duck, "i % 150", "categorical", rows="from range(300) t (i)")
    assert (many["distinct"], len(many["top"]), many["top"][-1]) == (150, 101, {"value": None, "rows": 100})
    assert many["quantiles"] is None, "a number that means a category"


def test_of_a_list_its_elements_count(duck: Duck) -> None:
    found = column(duck, "unnest([['x', 'y'], ['x'], [], null])", "multi_categorical")
    assert (found["rows"], found["nulls"], found["min"]) == (4, 1, None)
    assert found["top"] == [{"value": "x", "rows": 2}, {"value": "y", "rows": 1}]


@pytest.mark.parametrize(
    ("select", "role", "name"),
    [("unnest([1, 2])", None, "item_id"), ("unnest(['a', 'b'])", "text", "x"), ("unnest([[1.0], [2.0]])", "vector", "x")],
)
def test_ids_texts_and_vectors_have_no_distribution(duck: Duck, select: str, role: Role | None, name: str) -> None:
    found = column(duck, select, role, name)
    assert found["rows"] == 2 and found["mean"] is found["quantiles"] is found["top"] is None


def test_an_empty_table(duck: Duck) -> None:
    found = column(duck, "1", rows="where false")
    assert (found["rows"], found["nulls"], found["mean"], found["quantiles"]) == (0, 0, None, None)


def test_the_same_however_many_threads_read_it(duck: Duck) -> None:
    """Sums near zero of large numbers: of floats, each order would come to another."""
    duck.execute("set threads = 4")
    number, rows = "(hash(i) / 1.8446744e19 - 0.5) * 1e9", f"from range({3 * SAMPLE}) t (i)"
    found = [column(duck, number, rows=rows)]
    duck.execute("set threads = 1")
    found.append(column(duck, number, rows=rows))
    assert found[0] == found[1] and found[0]["quantiles"][50] == pytest.approx(found[0]["mean"], abs=2e7)


def test_the_same_in_whatever_order_a_table_lies(duck: Duck) -> None:
    """What is staged lies as threads and memory would have it."""
    found = [column(duck, "i * i", rows=f"from range({3 * SAMPLE}) t (i) order by i {order}") for order in ("asc", "desc")]
    assert found[0] == found[1] and found[0]["quantiles"][50] == pytest.approx((1.5 * SAMPLE) ** 2, rel=0.01)
