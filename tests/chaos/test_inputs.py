"""Tables and building blocks that nobody would write: refused with a sentence, and never with another library's error."""

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from recsys import frames, published
from recsys.config import Features, Sequences
from recsys.errors import ConfigError, RecsysError
from recsys.grammar import check_grammar
from recsys.parts import parse
from recsys.store import Store
from tests.chaos.nights import REFUSED, Night, contents, damaged
from tests.features.conftest import AS_OF, QUIET
from tests.features.malformed import MALFORMED
from tests.test_parts import Loss, tokens

pytestmark = pytest.mark.chaos


@pytest.mark.cases(len(MALFORMED))
@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_sources(case: str, undisturbed: Night, tmp_path: Path) -> None:
    """A night of each malformed source that the tests of the features know: it says which and what to do, and what is published stays"""
    make, says = MALFORMED[case]
    (tmp_path / "data").mkdir()
    store = Path(shutil.copytree(undisturbed.store, tmp_path / "store"))
    night = Night(store, given={"as_of": AS_OF, "data": make(tmp_path / "data"), "features": Features(**QUIET)})
    assert night.run() == REFUSED, night.said()
    assert not [part for part in says if part not in night.said()], night.said()
    now = published.current(Store(store))
    assert now is not None and contents(store) == contents(undisturbed.store) and damaged(store) == []


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


@pytest.mark.cases(150)
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


@pytest.mark.cases(2000)
@pytest.mark.parametrize("part", range(4))
def test_random_building_blocks(part: int, record_property: Any) -> None:
    """Random strings in the place of a building block: read, or refused with a sentence that quotes them"""
    ends = {"read": 0, "refused": 0}

    @seed(part)
    @settings(max_examples=500, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.text(max_size=60) | st.lists(tokens, max_size=20).map("".join))
    def read(text: str) -> None:
        try:
            check_grammar(text)
            parse(text, Loss)
            ends["read"] += 1
        except ConfigError as error:
            assert repr(text) in str(error)
            ends["refused"] += 1

    read()
    record_property("cases", sum(ends.values()))
    assert ends["refused"] > 0, ends
