"""Everything that can be recommended, as the loss and top-k both see it: what is ranked is what was trained."""

from dataclasses import dataclass

from torch import Tensor

IMPOSSIBLE = -1e4  # the prior of an item that could not be recommended: as good as −inf, and nothing becomes NaN by it


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

    def scores(self, hidden: Tensor, rows: slice) -> Tensor:
        """(n, V): those of the predictions `rows`, n of all N with hidden states (N, D)."""
        scores = hidden[rows] @ self.vectors.T
        if self.bias is not None:
            scores += self.bias
        if self.prior is not None:
            scores += self.prior if self.prior_row is None else self.prior[self.prior_row[rows]]
        return scores
