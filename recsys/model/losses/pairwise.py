"""Losses of pairs: the target before each negative. r is a score, y the target, j one of the n negatives, j ≠ y.

The last three are GRU4Rec's (Hidasi et al. 2016, arXiv:1511.06939; Hidasi & Karatzoglou 2018, arXiv:1706.03847). Their
weights s_j = softmax(r)_j are over the negatives alone: with the target among them, they would vanish once it wins.
"""

import torch
from torch import Tensor
from torch.nn import functional

from recsys.errors import ConfigError
from recsys.model.losses.sampled import Sampled, Scores
from recsys.model.negatives import Negatives


class BPR(Sampled):
    """mean_j −log σ(r_y − r_j): Rendle et al. 2009, arXiv:1205.2618."""

    def each(self, scores: Scores) -> Tensor:
        return scores.mean(-functional.logsigmoid(scores.target - scores.negative))


class TOP1(Sampled):
    """mean_j [σ(r_j − r_y) + σ(r_j²)]: the target's relative rank, and negatives kept near 0."""

    def each(self, scores: Scores) -> Tensor:
        return scores.mean(_top1(scores))


class TOP1Max(Sampled):
    """Σ_j s_j [σ(r_j − r_y) + σ(r_j²)]: TOP1 against the highest negatives, which alone still teach something."""

    def each(self, scores: Scores) -> Tensor:
        return (_log_weights(scores).exp() * _top1(scores)).masked_fill(scores.hit, 0).sum(-1)


class BPRMax(Sampled):
    """−log Σ_j s_j σ(r_y − r_j) + regularisation · Σ_j s_j r_j²: BPR against the highest negatives."""

    def __init__(
        self,
        *,
        n_negatives: int = 256,
        regularisation: float = 1.0,
        shared_by: int | None = None,
        negatives: Negatives | None = None,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(n_negatives=n_negatives, shared_by=shared_by, negatives=negatives, temperature=temperature)
        if not regularisation >= 0:
            raise ConfigError(f"BPRMax: regularisation={regularisation} has to be 0 or above.")
        self.regularisation = regularisation

    def each(self, scores: Scores) -> Tensor:
        log_s = _log_weights(scores)
        wins = (log_s + functional.logsigmoid(scores.target - scores.negative)).logsumexp(-1)  # a log of the sum would reach log 0
        size = (log_s.exp() * scores.negative.square()).masked_fill(scores.hit, 0).sum(-1)
        return torch.where(scores.n > 0, -wins, 0) + self.regularisation * size


def _top1(scores: Scores) -> Tensor:
    return (scores.negative - scores.target).sigmoid() + scores.negative.square().sigmoid()


def _log_weights(scores: Scores) -> Tensor:
    """log s_j (G, S, n). The lowest number, not −inf, stands for an accidental hit: a row of hits alone has no NaN then."""
    return scores.negative.masked_fill(scores.hit, torch.finfo(scores.negative.dtype).min).log_softmax(-1)
