"""What transformer blocks are made of."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from recsys.errors import ConfigError
from recsys.model.dropout import Dropout, check_share
from recsys.model.encoders import View
from recsys.model.items import INITIAL_STD


class Attention(nn.Module):
    """Scaled dot-product attention of several heads (Vaswani et al. 2017).

    From left to right it needs no mask: an event never sees what stands after it, so it never sees padding.
    """

    def __init__(self, width: int, n_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        check_attention(width, n_heads, dropout)
        self.n_heads, self.dropout = n_heads, Dropout(dropout)
        self.query, self.key_value, self.out = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)
        initialise(self.query, self.key_value, self.out)

    def forward(self, query: Tensor, context: Tensor, view: View) -> Tensor:
        """What each place that looks, query (B, L or 1, D), finds in the events of context (B, L, D)."""
        L = context.shape[1]
        q, k, v = (
            x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)  # (B, heads, L, D / heads)
            for x in (self.query(query), *self.key_value(context).chunk(2, dim=-1))
        )
        if view.rotary_base is not None:
            q, k = rotated(q, view.rotary_base, view.place), rotated(k, view.rotary_base)
        found = attend(q, k, v, view.attention_mask(L), dropout=self.dropout)
        return self.out(found.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Two linear layers with an activation between them, for each position by itself."""

    def __init__(self, width: int, inner_width: int, activation: nn.Module, dropout: float) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Linear(width, inner_width), nn.Linear(inner_width, width)
        self.activation, self.dropout = activation, Dropout(dropout)
        initialise(self.wide, self.narrow)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.narrow(self.dropout(self.activation(self.wide(x)))))


def attend(q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None, bias: Tensor | None = None, dropout: Dropout | None = None) -> Tensor:
    """softmax(q kᵀ / √W + bias) v of q (B, heads, L or 1, W) and k, v (B, heads, L, W) over the places `seen`, (B or 1, 1, L or 1, L).

    None, with no bias, stands for the places up to each one's own. A place that sees nothing finds zeros, and no NaN in any gradient,
    whatever the kernel makes of an empty softmax. `dropout` is of the softmax.
    """
    if seen is None:
        return _found(q, k, v, None, dropout)
    blind = ~seen.any(-1, keepdim=True)
    mask = seen | blind
    mask = mask if bias is None else bias.masked_fill(~mask, -torch.inf)
    return _found(q, k, v, mask, dropout).masked_fill(blind, 0)


def _found(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: Dropout | None) -> Tensor:
    p = dropout.p if dropout is not None and dropout.training else 0.0
    if dropout is None or p == 0 or q.device.type != "cpu":
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, dropout_p=p)
    # On a CPU torch has no kernel with dropout, and what it does instead takes half as long again as this.
    if mask is None:
        mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril()
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    return dropout(scores.softmax(-1)) @ v


def attention_share(attention_dropout: float | None, dropout: float) -> float:
    """The share of attention's weights that is dropped: an encoder's `dropout`, unless it has one of its own."""
    check_share(dropout)
    return dropout if attention_dropout is None else attention_dropout


def check_attention(width: int, n_heads: int, dropout: float = 0.0) -> None:
    """ConfigError where heads cannot be of equal width, or the share of attention weights that is dropped is none."""
    if n_heads < 1 or width % n_heads:
        raise ConfigError(
            f"width {width} cannot be divided among {n_heads} attention heads. "
            f"Choose model.width as a multiple of {max(n_heads, 1)}, or another n_heads."
        )
    check_share(dropout, "attention_dropout")


def initialise(*layers: nn.Linear) -> None:
    """Small normal weights, as in BERT and GPT-2, and no bias."""
    for layer in layers:
        nn.init.normal_(layer.weight, std=INITIAL_STD)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def rotated(x: Tensor, base: float, place: Tensor | None = None) -> Tensor:
    """x (…, L, W) with pairs of coordinates turned by place · base^(−2i / W), i = 0 … W / 2 − 1 (arXiv:2104.09864, eq. 34).

    Places are 0 … L − 1, or of x (B, heads, 1, W) one of each sequence, `place` (B,).
    """
    L, W = x.shape[-2:]
    places = torch.arange(L, device=x.device)[:, None] if place is None else place[:, None, None, None]
    angle = places * base ** (-torch.arange(0, W, 2, device=x.device) / W)
    sin, cos = angle.sin().to(x.dtype), angle.cos().to(x.dtype)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)
