"""Tables that nobody would make: what a night cannot read is refused with a sentence, and never with another library's error."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from recsys import frames
from recsys.config import Sequences
from recsys.errors import RecsysError

pytestmark = pytest.mark.chaos

HUGE, EARLY, LATE = 2**63 - 1, -(2**62), 2**62  # of timestamps: years far outside what DuckDB and Python can say
COLUMNS: dict[str, st.SearchStrategy[Any]] = {
    "id": st.integers(0, 3),
    "moment": st.sampled_from([1_700_000_000_000_000, 1_700_000_360_000_000, 1_700_086_400_000_000]),
    "small": st.integers(-3, 3) | st.none(),
    "large": st.integers(-HUGE - 1, HUGE) | st.none(),
    "text": st.text(max_size=5) | st.none(),
    "number": st.floats() | st.none(),
    "time": st.sampled_from([EARLY, -1, 0, 1_700_000_000_000_000, LATE]) | st.none(),
    "list": st.lists(st.text(max_size=2) | st.none(), max_size=3) | st.none(),
    "bytes": st.binary(max_size=3) | st.none(),
    "flag": st.booleans() | st.none(),
}
TYPES = {
    "id": pa.int64(), "moment": pa.timestamp("us"), "small": pa.int64(), "large": pa.int64(), "text": pa.string(), "number": pa.float64(),
    "time": pa.timestamp("us"), "list": pa.list_(pa.string()), "bytes": pa.binary(), "flag": pa.bool_(),
}  # fmt: skip
GOOD = {"user_id": "id", "item_id": "id", "at": "moment"}


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """An events table of up to eight rows with the right names: in `extra` anything, in the others mostly what belongs there."""
    n, columns = draw(st.integers(0, 8)), {}
    for name in (*GOOD, "extra"):
        kind = GOOD[name] if name in GOOD and draw(st.integers(0, 5)) else draw(st.sampled_from(sorted(COLUMNS)))
        columns[name] = pa.array(draw(st.lists(COLUMNS[kind], min_size=n, max_size=n)), TYPES[kind])
    return pa.table(columns)


ROLES = st.sampled_from(["categorical", "numeric", "log_numeric", "multi_categorical", "vector", "label", "weight", "session", "type"])


@pytest.mark.parametrize("part", range(6))
def test_random_tables(part: int, record_property: Any) -> None:
    """Random tables and roles through the contracts: read, or refused with a sentence"""
    ends = {"read": 0, "refused": 0}

    @seed(part)
    @settings(max_examples=25, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(tables(), ROLES)
    def read(events: pa.Table, role: str) -> None:
        given: Any = ["extra"] if role in ("categorical", "numeric", "log_numeric", "multi_categorical", "vector", "label") else "extra"
        try:
            frames.read({"events": events}, {"events": {"time": "at", role: given}}, Sequences())
            ends["read"] += 1
        except RecsysError as error:
            assert len(str(error)) > 20, error
            ends["refused"] += 1

    read()
    record_property("cases", sum(ends.values()))
    assert min(ends.values()) > 0, ends
