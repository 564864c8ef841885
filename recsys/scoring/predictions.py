"""The predictions table: what heads of labels say of each user's newest event."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.model.heads.label import LabelHead


def predictions(user_id: pa.Array, heads: Sequence[LabelHead], said: Mapping[str, NDArray[np.float32]]) -> pa.Table:
    """`user_id, head, class, value` of some users (U,), by user, head and class.

    `said` is by head (U,), or of C classes (U, C), and NaN for users without an answer, who are left out. `class` is null
    but for a head of several classes, which has a row, its probability, for each.
    """
    heads = sorted(heads, key=lambda head: head.name)
    names = [(head.name, label) for head in heads for label in (head.classes.to_pylist() if head.classes is not None else [None])]
    values = np.concatenate([said[head.name].reshape(len(user_id), -1) for head in heads], axis=1)
    known = np.flatnonzero(~np.isnan(values[:, 0]))
    head, label = (pa.array([pair[i] for pair in names], pa.string()) for i in range(2))
    user, column = pa.array(np.repeat(known, len(names))), pa.array(np.tile(np.arange(len(names)), len(known)))
    columns = [user_id.take(user), head.take(column), label.take(column), pa.array(values[known].ravel(), pa.float32())]
    return pa.table(columns, names=["user_id", "head", "class", "value"])
