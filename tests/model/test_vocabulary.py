from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from recsys.arrays import Ragged
from recsys.errors import ContractError
from recsys.model.sample import sample
from recsys.model.vocabulary import UNKNOWN, Numeric, Vocabulary

HISTORIES, DICTIONARY = sample()
HALF = (HISTORIES.offsets[:-1] + HISTORIES.offsets[1:]) // 2  # everybody's first half


def before(ends: np.ndarray) -> np.ndarray:
    """Places of the events before the ends, by a plain loop."""
    return np.concatenate([np.arange(start, end) for start, end in zip(HISTORIES.offsets[:-1], ends, strict=True)])


def test_items_and_values_are_those_before_the_end() -> None:
    vocabulary = Vocabulary.fit(HISTORIES, DICTIONARY, HALF, min_item_events=3)
    counts = np.bincount(HISTORIES.item_code[before(HALF)], minlength=DICTIONARY.n_items)
    items = np.flatnonzero(counts >= 3)
    assert 0 < len(items) < DICTIONARY.n_items
    assert vocabulary.item_id.to_pylist() == DICTIONARY.item_id.take(pa.array(items)).to_pylist()
    assert vocabulary.n_events.tolist() == counts[items].tolist()
    codes = HISTORIES.columns["device"][before(HALF)]
    assert vocabulary.values["device"].to_pylist() == [f"device-{c}" for c in sorted({*codes.tolist()} - {-1})]
    users = np.flatnonzero(HALF > HISTORIES.offsets[:-1])
    ages = HISTORIES.user_columns["age"][users]
    assert vocabulary.numeric["age"].mean == pytest.approx(np.nanmean(ages, dtype=np.float64))
    gaps = np.log1p(HISTORIES.columns["gap_seconds"][before(HALF)].astype(np.float64))
    assert vocabulary.numeric["gap_seconds"] == Numeric("log", pytest.approx(np.nanmean(gaps)), pytest.approx(np.nanstd(gaps)))


def test_another_night_is_read_through_maps() -> None:
    """Tonight's dictionary has other rows: items and values the model does not know, and not all that it does."""
    vocabulary = Vocabulary.fit(HISTORIES, DICTIONARY, HALF)
    ids = pa.array([5, *DICTIONARY.item_id.to_pylist()[3:], 10_000])
    tonight = replace(DICTIONARY, item_id=ids, known={**DICTIONARY.known, "device": pa.array(["device-3", "watch", "device-0"])})
    known = vocabulary.item_id.to_pylist()
    assert vocabulary.item_map(tonight).tolist() == [known.index(i) if i in known else -1 for i in ids.to_pylist()]
    values = vocabulary.values["device"].to_pylist()
    assert vocabulary.translate("device", np.array([0, 1, 2, -1]), tonight).tolist() == [
        values.index("device-3") + 1, UNKNOWN, values.index("device-0") + 1, UNKNOWN,
    ]  # fmt: skip


def test_it_survives_its_files(tmp_path: Path) -> None:
    vocabulary = Vocabulary.fit(HISTORIES, DICTIONARY, HALF)
    vocabulary.save(tmp_path)
    again = Vocabulary.load(tmp_path, vocabulary.schema)
    assert again.item_id == vocabulary.item_id and again.numeric == vocabulary.numeric and again.values == vocabulary.values
    assert again.n_events.tolist() == vocabulary.n_events.tolist()
    for name, column in vocabulary.item_columns.items():
        other = again.item_columns[name]
        if isinstance(column, Ragged):
            np.testing.assert_array_equal(other.values, column.values)
            np.testing.assert_array_equal(other.offsets, column.offsets)
        else:
            np.testing.assert_array_equal(other, column)
            assert other.dtype == column.dtype


def test_numbers_without_spread_or_at_all() -> None:
    histories = replace(HISTORIES, columns={**HISTORIES.columns, "gap_seconds": np.full(len(HISTORIES.item_code), 7, dtype=np.float32)})
    assert Vocabulary.fit(histories, DICTIONARY, HALF).numeric["gap_seconds"] == Numeric("log", pytest.approx(np.log(8)), 1.0)
    histories.columns["gap_seconds"][:] = np.nan
    assert Vocabulary.fit(histories, DICTIONARY, HALF).numeric["gap_seconds"] == Numeric("log", 0.0, 1.0)


def test_ids_of_another_type_are_an_error() -> None:
    vocabulary = Vocabulary.fit(HISTORIES, DICTIONARY, HALF)
    with pytest.raises(ContractError, match="item_id is string in tonight's tables and int64 in the model"):
        vocabulary.item_map(replace(DICTIONARY, item_id=DICTIONARY.item_id.cast(pa.string())))


def test_no_item_at_all_is_an_error() -> None:
    with pytest.raises(ContractError, match="No item has 1000 or more .*min_item_events"):
        Vocabulary.fit(HISTORIES, DICTIONARY, HALF, min_item_events=1000)
