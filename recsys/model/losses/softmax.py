"""Softmax cross-entropy over the whole catalogue, in tiles."""

from typing import Any, Literal

import torch
from torch import Tensor

from recsys.errors import ConfigError
from recsys.model.catalogue import IMPOSSIBLE, Catalogue
from recsys.model.losses import Loss, share_of

# A tile is as many rows of scores as exist at one time. On a CPU about so many scores stay in its cache; rows of a large catalogue
# are MIN_TILE_ROWS at least, since thin products are slow, unless they would hold more scores than MAX_TILE_SCORES.
TILE_SCORES = {"cpu": 2**22, "cuda": 2**26}
MAX_TILE_SCORES = {"cpu": 2**25, "cuda": 2**28}
MIN_TILE_ROWS = 128
PRODUCT_ROWS = 2**16  # of the item vectors' gradient at a time

# Products in bfloat16 pay from about so many numbers in the item vectors on; below, changing the type takes as long as it saves.
BFLOAT16_PAYS = 2**17

Products = Literal["auto", "float32", "bfloat16"]


class CrossEntropy(Loss):
    """Softmax cross-entropy over the whole catalogue: −log softmax(scores / temperature)[target].

    With label smoothing ε, spread over `all` items, the target has probability 1 − ε + ε/V and every other item ε/V, as in
    torch; spread over the `others`, it has 1 − ε and they ε/(V − 1), as in the paper of Transformers4Rec (de Souza Pereira
    Moreira et al. 2021). Scores are made and used up in tiles, so that no (N, V) tensor exists, forward or backward.

    `products` are the matrix products with the item vectors, of scores and of gradients. "auto" makes them in bfloat16 on a CPU
    with instructions for it (AVX512-BF16, AMX) if the catalogue is large enough, and in float32 elsewhere, which is TF32 on a GPU.
    Softmax, sums over tiles and the gradients that come out are float32 in any case.
    """

    def __init__(
        self,
        *,
        label_smoothing: float = 0.0,
        smoothed_over: Literal["all", "others"] = "all",
        temperature: float = 1.0,
        products: Products = "auto",
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ConfigError(f"CrossEntropy: label_smoothing={label_smoothing} is outside [0, 1).")
        if smoothed_over not in ("all", "others"):
            raise ConfigError(f'CrossEntropy: smoothed_over={smoothed_over!r} has to be "all" or "others".')
        if not temperature > 0:
            raise ConfigError(f"CrossEntropy: temperature={temperature} has to be above 0.")
        if products not in ("auto", "float32", "bfloat16"):
            raise ConfigError(f'CrossEntropy: products={products!r} has to be "auto", "float32" or "bfloat16".')
        self.label_smoothing, self.smoothed_over, self.temperature = label_smoothing, smoothed_over, temperature
        self.products = products

    def forward(self, hidden: Tensor, target: Tensor, catalogue: Catalogue, weight: Tensor) -> Tensor:
        share = share_of(weight)
        with torch.autocast(hidden.device.type, enabled=False):
            h = hidden.float() / self.temperature
            vectors = catalogue.vectors.float()
            bias = None if catalogue.bias is None else catalogue.bias.float() / self.temperature
            prior = None if catalogue.prior is None else catalogue.prior.float() / self.temperature
            row = torch.zeros_like(target) if catalogue.prior_row is None else catalogue.prior_row
            loss = _SoftmaxNLL.apply(h, vectors, bias, prior, row, target, share, self._dtype(vectors))
            epsilon = self._epsilon(catalogue.n_items)
            if epsilon:
                # ε·(score of the target − mean score) turns the loss of one target into that of the smoothed targets.
                gap = (h * (vectors[target] - vectors.mean(0))).sum(1)
                if bias is not None:
                    gap = gap + bias[target] - bias.mean()
                if prior is not None:
                    possible = prior > IMPOSSIBLE / self.temperature
                    gap = gap + prior[row, target] - (prior.where(possible, 0).sum(1) / possible.sum(1))[row]
                loss = loss + epsilon * (share * gap).sum()
        return loss

    def _epsilon(self, n_items: int) -> float:
        """What is spread over all items, the target too, so that the target keeps what it should."""
        if self.smoothed_over == "all":
            return self.label_smoothing
        return self.label_smoothing * n_items / (n_items - 1) if n_items > 1 else 0.0

    def _dtype(self, vectors: Tensor) -> torch.dtype:
        if self.products == "auto":
            pays = vectors.device.type == "cpu" and vectors.numel() >= BFLOAT16_PAYS and cpu_multiplies_bfloat16()
            return torch.bfloat16 if pays else torch.float32
        return torch.bfloat16 if self.products == "bfloat16" else torch.float32


def cpu_multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for products of bfloat16; without them, they are slower than those of float32."""
    able = torch.cpu.get_capabilities()
    return any(able.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


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
        dtype: torch.dtype,
    ) -> Tensor:
        items = vectors.to(dtype)
        grads = [None if x is None else torch.zeros_like(x) for x in (hidden, vectors, bias, prior)]
        d_hidden, d_vectors, d_bias, d_prior = grads
        assert d_hidden is not None and d_vectors is not None
        loss = hidden.new_zeros(())
        n_rows = min(len(hidden), _tile_rows(hidden.device.type, len(vectors)))
        tile = hidden.new_empty(n_rows, len(vectors))  # made once, as is that of the products
        narrow = tile if dtype == tile.dtype else torch.empty_like(tile, dtype=dtype)
        for start in range(0, len(hidden), max(1, n_rows)):
            rows = slice(start, start + n_rows)
            h, y, w = hidden[rows], target[rows, None], share[rows, None]
            scores = tile[: len(h)]
            product = scores if narrow is tile else narrow[: len(h)]
            scores.copy_(torch.mm(h.to(dtype), items.T, out=product))
            if bias is not None:
                scores += bias
            if prior is not None:
                scores += prior[prior_row[rows]]
            highest, of_target = scores.amax(1, keepdim=True), scores.gather(1, y)
            p = torch.softmax(scores, 1, out=scores)  # in their place: an element is read for the last time before it is written
            loss += (w * (highest - p.amax(1, keepdim=True).log() - of_target)).sum()
            # d loss / d scores = w · (p − one-hot); the w goes to the narrow side of a product.
            gradient = p.scatter_add_(1, y, p.new_full(y.shape, -1))
            if d_bias is not None:
                d_bias.addmv_(gradient.T, w[:, 0])
            if d_prior is not None:
                d_prior.index_add_(0, prior_row[rows], gradient * w)
            gradient = product.copy_(gradient)
            torch.mul(gradient @ items, w, out=d_hidden[rows])
            _add_product(d_vectors, gradient.T, (h * w).to(dtype))
        ctx.save_for_backward(*grads)
        return loss

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (grad_output,) = grad_outputs
        # In place, as the vectors' alone may be hundreds of megabytes: a second backward of the same loss is an error.
        return *(None if grad is None else grad.mul_(grad_output) for grad in ctx.saved_tensors), None, None, None, None


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total += a @ b, summed up in the precision of the total, and without a second total beside it."""
    if a.dtype == total.dtype:
        total.addmm_(a, b)
    else:
        for part, rows in zip(total.split(PRODUCT_ROWS), a.split(PRODUCT_ROWS), strict=True):
            part += rows @ b


def _tile_rows(device: str, n_items: int) -> int:
    device = "cpu" if device == "cpu" else "cuda"
    return max(TILE_SCORES[device] // n_items, min(MIN_TILE_ROWS, MAX_TILE_SCORES[device] // n_items), 1)
