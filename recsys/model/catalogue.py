"""Everything that can be recommended, as the loss and top-k both see it: what is ranked is what was trained."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Catalogue:
    """The score of item j after a hidden state i is  hidden[i] · vectors[j] + bias[j] + prior[prior_row[i], j]."""

    vectors: Tensor  # (V, D)
    bias: Tensor | None = None  # (V,)
    prior: Tensor | None = None  # (T, V): one row per distinct hour among the predictions; T = 1 without times
    prior_row: Tensor | None = None  # (N,) int64; None where T = 1
    counts: Tensor | None = None  # (V,) events of each item in the training period

    @property
    def n_items(self) -> int:
        return len(self.vectors)
