"""Softmax cross-entropy over the target and a sample of the catalogue."""

import torch
from torch import Tensor

from recsys.model.losses.sampled import Sampled, Scores
from recsys.model.negatives import Negatives


class SampledSoftmax(Sampled):
    """−log exp(s_y) / (exp(s_y) + Σ_j exp(s_j)) over the n negatives j ≠ y.

    With `log_q`, s_j − log(n q_j) takes the place of s_j, q_j being the probability of drawing j: the sum is then an unbiased
    estimate of that over all items but y (importance sampling: Bengio & Senécal 2008, Yi et al. 2019), and the loss goes to
    the full cross-entropy as n grows, whatever the sampler. The target is not drawn but always there, so nothing is taken
    off its score (Khrylchenko et al. 2025, "Correcting the LogQ Correction"). Without `log_q` often drawn items score lower
    in the end; with uniform negatives that concerns all items alike, and targets only win more easily.
    """

    def __init__(
        self,
        *,
        n_negatives: int = 256,
        shared_by: int | None = None,
        negatives: Negatives | None = None,
        log_q: bool = False,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(n_negatives=n_negatives, shared_by=shared_by, negatives=negatives, temperature=temperature)
        self.log_q = log_q

    def each(self, scores: Scores) -> Tensor:
        negative = scores.negative
        if self.log_q:
            negative = negative - self.negatives.log_expected(scores.items, self.n_negatives, scores.catalogue)
        logits = torch.cat([scores.target, negative.masked_fill(scores.hit, -torch.inf)], dim=-1)
        return logits.logsumexp(-1) - scores.target[..., 0]
