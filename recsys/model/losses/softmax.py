"""Softmax cross-entropy over the whole catalogue, in tiles."""

from typing import Any, Literal

import torch
from torch import Tensor

from recsys.errors import ConfigError
from recsys.model.catalogue import Catalogue
from recsys.model.losses import Loss, share_of

# A tile is as many rows of scores as exist at one time. Few rows make slow products, many fall out of a CPU's cache.
TILE_ROWS = {"cpu": 512, "cuda": 2**14}
TILE_SCORES = {"cpu": 2**24, "cuda": 2**26}
MIN_TILE_ROWS = 32


class CrossEntropy(Loss):
    """Softmax cross-entropy over the whole catalogue: −log softmax(scores / temperature)[target].

    With label smoothing ε, spread over `all` items, the target has probability 1 − ε + ε/V and every other item ε/V, as in
    torch; spread over the `others`, it has 1 − ε and they ε/(V − 1), as in the paper of Transformers4Rec (de Souza Pereira
    Moreira et al. 2021). Scores are made and used up in tiles, so that no (N, V) tensor exists, forward or backward.
    """

    def __init__(self, *, label_smoothing: float = 0.0, smoothed_over: Literal["all", "others"] = "all", temperature: float = 1.0) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ConfigError(f"CrossEntropy: label_smoothing={label_smoothing} is outside [0, 1).")
        if smoothed_over not in ("all", "others"):
            raise ConfigError(f'CrossEntropy: smoothed_over={smoothed_over!r} has to be "all" or "others".')
        if not temperature > 0:
            raise ConfigError(f"CrossEntropy: temperature={temperature} has to be above 0.")
        self.label_smoothing, self.smoothed_over, self.temperature = label_smoothing, smoothed_over, temperature

    def forward(self, hidden: Tensor, target: Tensor, catalogue: Catalogue, weight: Tensor) -> Tensor:
        share = share_of(weight)
        # Half precision would cost the loss its digits; tiles are too small for it to pay.
        with torch.autocast(hidden.device.type, enabled=False):
            h = hidden.float() / self.temperature
            vectors = catalogue.vectors.float()
            bias = None if catalogue.bias is None else catalogue.bias.float() / self.temperature
            prior = None if catalogue.prior is None else catalogue.prior.float() / self.temperature
            row = torch.zeros_like(target) if catalogue.prior_row is None else catalogue.prior_row
            loss = _SoftmaxNLL.apply(h, vectors, bias, prior, row, target, share)
            epsilon = self._epsilon(catalogue.n_items)
            if epsilon:
                # ε·(score of the target − mean score) turns the loss of one target into that of the smoothed targets.
                gap = (h * (vectors[target] - vectors.mean(0))).sum(1)
                if bias is not None:
                    gap = gap + bias[target] - bias.mean()
                if prior is not None:
                    gap = gap + prior[row, target] - prior.mean(1)[row]
                loss = loss + epsilon * (share * gap).sum()
        return loss

    def _epsilon(self, n_items: int) -> float:
        """What is spread over all items, the target too, so that the target keeps what it should."""
        if self.smoothed_over == "all":
            return self.label_smoothing
        return self.label_smoothing * n_items / (n_items - 1) if n_items > 1 else 0.0


class _SoftmaxNLL(torch.autograd.Function):
    """Σ_i share_i · (logsumexp_j scores_ij − scores_i,target_i), with the gradients made in the same pass over the scores."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        vectors: Tensor,
        bias: Tensor | None,
        prior: Tensor | None,
        prior_row: Tensor,
        target: Tensor,
        share: Tensor,
    ) -> Tensor:
        kind = "cpu" if hidden.device.type == "cpu" else "cuda"
        n_rows = max(MIN_TILE_ROWS, min(TILE_ROWS[kind], TILE_SCORES[kind] // len(vectors)))
        tile = hidden.new_empty(min(n_rows, len(hidden)), len(vectors))
        grads = [None if x is None else torch.zeros_like(x) for x in (hidden, vectors, bias, prior)]
        d_hidden, d_vectors, d_bias, d_prior = grads
        assert d_hidden is not None and d_vectors is not None
        loss = hidden.new_zeros(())
        for start in range(0, len(hidden), n_rows):
            rows = slice(start, start + n_rows)
            h, y, w = hidden[rows], target[rows, None], share[rows, None]
            scores = torch.mm(h, vectors.T, out=tile[: len(h)])
            if bias is not None:
                scores += bias
            if prior is not None:
                scores += prior[prior_row[rows]]
            highest, of_target = scores.amax(1, keepdim=True), scores.gather(1, y)
            total = scores.sub_(highest).exp_().sum(1, keepdim=True)
            loss += (w * (total.log() + highest - of_target)).sum()
            # d loss / d scores = w · (softmax − one-hot) = factor · gradient; the factor goes to the narrow side of a product.
            gradient, factor = scores.scatter_add_(1, y, -total), w / total
            torch.mm(gradient, vectors, out=d_hidden[rows]).mul_(factor)
            d_vectors.addmm_(gradient.T, h * factor)
            if d_bias is not None:
                d_bias.addmv_(gradient.T, factor[:, 0])
            if d_prior is not None:
                d_prior.index_add_(0, prior_row[rows], gradient * factor)
        ctx.save_for_backward(*grads)
        return loss

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (grad_output,) = grad_outputs
        return *(None if grad is None else grad * grad_output for grad in ctx.saved_tensors), None, None, None
