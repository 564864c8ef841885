"""The predictions table: one row per user, head and class, for whoever has an answer."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.model.heads import Head
from recsys.model.heads.label import LabelHead
from recsys.model.sample import sample
from recsys.model.vocabulary import Vocabulary
from recsys.parts import part
from recsys.scoring.parts import PartWriter
from recsys.scoring.predictions import predictions
from recsys.slots import choices


def head(kind: str, **settings: str) -> LabelHead:
    histories, dictionary = sample()
    vocabulary = Vocabulary.fit(histories, dictionary, histories.offsets[1:])
    built = part(choices(Head)[kind], **settings).build(width=4, vocabulary=vocabulary)
    assert isinstance(built, LabelHead)
    return built


@pytest.mark.parametrize("users_per_row_group", [1, 2, 100])
def test_rows_by_user_head_and_class(tmp_path: Path, users_per_row_group: int) -> None:
    """Of users in the middle of whom somebody has no known event, by heads in the order of their names."""
    heads = [head("Regression", label="spent"), head("Binary", label="bought"), head("MultiClass", label="reason", name="cause")]
    classes = np.array([[0.1, 0.2, 0.3, 0.4, 0.0], [np.nan] * 5, [0.5, 0.1, 0.1, 0.1, 0.2]], dtype=np.float32)
    said = {"spent": np.array([9.5, np.nan, -1], np.float32), "bought": np.array([0.25, np.nan, 0.75], np.float32), "cause": classes}
    user_id = pa.array(["u1", "u2", "u3"])
    with PartWriter(tmp_path / "predictions" / "part-000.parquet") as part:
        for first in range(0, 3, users_per_row_group):
            group = slice(first, first + users_per_row_group)
            part.write(predictions, user_id[group], heads, {name: of_all[group] for name, of_all in said.items()})
    table = pq.read_table(tmp_path / "predictions" / "part-000.parquet")
    expected = [
        row
        for user, i in (("u1", 0), ("u3", 2))
        for row in [
            (user, "bought", None, said["bought"][i]),
            *((user, "cause", f"reason-{c}", classes[i, c]) for c in range(5)),
            (user, "spent", None, said["spent"][i]),
        ]
    ]
    assert [tuple(row.values()) for row in table.to_pylist()] == expected
    assert table.schema.names == ["user_id", "head", "class", "value"] and table.schema.field("value").type == pa.float32()


def test_nobody_has_an_answer() -> None:
    table = predictions(pa.array([1, 2]), [head("Binary", label="bought")], {"bought": np.full(2, np.nan, np.float32)})
    assert table.num_rows == 0 and table.schema.field("value").type == pa.float32()
