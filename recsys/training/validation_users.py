"""Who validates: users whose newest event is held out of training, and predicted after every epoch."""

from abc import ABC, abstractmethod

import duckdb
import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from recsys.model.reader import Spans


class ValidationUsers(ABC):
    """The contract of the slot `validation_users`."""

    @abstractmethod
    def choose(self, user_id: pa.Array, spans: Spans, n: int, generator: torch.Generator) -> Tensor:
        """Rows (≤ n,) int64, each once, of the U users who can validate: `user_id` (U,) and what each has done up to now (U,)."""


class RandomUsers(ValidationUsers):
    """Users drawn by the run's seed: others where anybody joins or leaves."""

    def choose(self, user_id: pa.Array, spans: Spans, n: int, generator: torch.Generator) -> Tensor:
        return torch.randperm(len(user_id), generator=generator)[:n]


class SameUsers(ValidationUsers):
    """Users drawn by a hash of their id: the same night after night, as long as they are there, so that nights compare."""

    def choose(self, user_id: pa.Array, spans: Spans, n: int, generator: torch.Generator) -> Tensor:
        users = pa.table({"row": np.arange(len(user_id)), "id": user_id})  # noqa: F841  # DuckDB finds it by its name
        rows = duckdb.execute("select row from users order by md5_number_lower(id::varchar), row limit ?", [n]).fetchnumpy()["row"]
        return torch.from_numpy(rows.copy())
