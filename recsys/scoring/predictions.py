"""Parts of the predictions table: what heads of labels say of each user's newest event."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.model.heads.label import LabelHead
from recsys.scoring.parts import USERS_PER_ROW_GROUP


def write_predictions(path: Path, user_id: pa.Array, heads: Sequence[LabelHead], said: Mapping[str, NDArray[np.float32]]) -> int:
    """One part, `user_id, head, class, value`, by user, head and class; returns its rows.

    `said` is by head (U,), or of C classes (U, C), and NaN for users without an answer, who are left out. `class` is null
    but for a head of several classes, which has a row, its probability, for each.
    """
    heads = sorted(heads, key=lambda head: head.name)
    names = [(head.name, label) for head in heads for label in (head.classes.to_pylist() if head.classes is not None else [None])]
    values = np.concatenate([said[head.name].reshape(len(user_id), -1) for head in heads], axis=1)
    known = np.flatnonzero(~np.isnan(values[:, 0]))
    head, label = (pa.array([pair[i] for pair in names], pa.string()) for i in range(2))
    schema = pa.schema([("user_id", user_id.type), ("head", pa.string()), ("class", pa.string()), ("value", pa.float32())])
    path.parent.mkdir(exist_ok=True)
    with pq.ParquetWriter(path, schema, compression="zstd") as file:
        for first in range(0, len(known), USERS_PER_ROW_GROUP):
            users = known[first : first + USERS_PER_ROW_GROUP]
            user, column = pa.array(np.repeat(users, len(names))), pa.array(np.tile(np.arange(len(names)), len(users)))
            columns = [
                user_id.take(user),
                head.take(column),
                label.take(column),
                pa.array(values[users].ravel()),
            ]
            file.write_table(pa.Table.from_arrays(columns, schema=schema))
    return len(known) * len(names)
