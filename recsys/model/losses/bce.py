"""Binary cross-entropy: is this the next item or not?"""

from torch import Tensor
from torch.nn import functional

from recsys.errors import ConfigError
from recsys.model.losses.sampled import Sampled, Scores
from recsys.model.negatives import Negatives


class BCE(Sampled):
    """−[log σ(s_y) + Σ_j log(1 − σ(s_j))] / (1 + n) over the n negatives j ≠ y: SASRec's loss (Kang & McAuley 2018)."""

    def each(self, scores: Scores) -> Tensor:
        positive = -self.beta(scores) * functional.logsigmoid(scores.target[..., 0])
        negative = -functional.logsigmoid(-scores.negative).masked_fill(scores.hit, 0).sum(-1)
        return (positive + negative) / (1 + scores.n)

    def beta(self, scores: Scores) -> float:
        """The power of the target's probability."""
        return 1.0


class GBCE(BCE):
    """BCE with σ(s_y)^β for σ(s_y): gSASRec (Petrov & Macdonald 2023, arXiv:2308.07192).

    Of few negatives BCE learns probabilities that are too high, of the highest ranked items above all. With the sampling rate
    α = n / (V − 1), 1 at most, and β = α (t (1 − 1/α) + 1/α) = 1 − t (1 − α), t = 1 calibrates them in full and t = 0 is
    BCE. The paper draws uniformly and recommends t = 0.75. log σ(s)^β = β log σ(s) needs neither clamps nor float64.
    """

    def __init__(
        self,
        *,
        n_negatives: int = 256,
        t: float = 0.75,
        shared_by: int | None = None,
        negatives: Negatives | None = None,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(n_negatives=n_negatives, shared_by=shared_by, negatives=negatives, temperature=temperature)
        if not 0 <= t <= 1:
            raise ConfigError(f"GBCE: t={t} is outside [0, 1]: 0 is BCE, 1 calibrates in full.")
        self.t = t

    def beta(self, scores: Scores) -> float:
        rate = min(1.0, self.n_negatives / max(1, scores.catalogue.n_items - 1))
        return 1 - self.t * (1 - rate)
