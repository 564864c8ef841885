"""XLNet: relative attention, and a second stream for predictions in a random order."""

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from recsys.model.attention import FeedForward, attend, attention_share, check_attention
from recsys.model.dropout import Dropout
from recsys.model.encoders import Encoder, View
from recsys.model.items import INITIAL_STD


class XLNet(Encoder):
    """The transformer of XLNet (Yang et al. 2019, arXiv:1906.08237): post-norm blocks that know how far apart two places are.

    Order is in its attention (Transformer-XL, Dai et al. 2019, arXiv:1901.02860, section 3.3), so `positions` is NoPositions().
    With `View.second_stream` it returns the states of that, the query stream, which sees what the mask says; the content stream beside it
    also sees itself. Without, there is one stream, as in any transformer.
    """

    two_streams = True

    def __init__(
        self,
        width: int,
        *,
        n_blocks: PositiveInt = 2,
        n_heads: PositiveInt = 2,
        inner_width_factor: PositiveInt = 4,
        dropout: float = 0.2,
        attention_dropout: float | None = None,
        causal: bool | None = None,
    ) -> None:
        super().__init__(causal)
        of_weights = attention_share(attention_dropout, dropout)
        self.dropout = Dropout(dropout)
        self.blocks = nn.ModuleList(_XLNetBlock(width, n_heads, inner_width_factor, dropout, of_weights) for _ in range(n_blocks))

    def forward(self, x: Tensor, view: View) -> Tensor:
        """Hidden states (B, L, D) of the events x (B, L, D): of the query stream where there is a query."""
        L, D = x.shape[1:]
        seen = _seen(view, L)
        one_sided = view.mask is None and view.direction == "left to right"
        distance = self.dropout(distances(D, L, 0 if one_sided else 1 - L, x.device).to(x.dtype))
        content = self.dropout(x)
        if view.second_stream is None:
            for block in self.blocks:
                content = block(content, content, distance, seen)
            return self.dropout(content)
        itself = torch.eye(L, dtype=torch.bool, device=x.device)
        query = self.dropout(view.second_stream.to(x.dtype).expand_as(x))
        for i, block in enumerate(self.blocks):
            context, query = content, block(query, content, distance, seen)
            if i + 1 < len(self.blocks):  # nobody reads the last block's content
                content = block(context, context, distance, seen | itself)
        return self.dropout(query)


class _XLNetBlock(nn.Module):
    def __init__(self, width: int, n_heads: int, inner_width_factor: int, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.attention = RelativeAttention(width, n_heads, attention_dropout)
        self.attention_norm, self.inner_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.inner = FeedForward(width, inner_width_factor * width, nn.GELU(), dropout)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, context: Tensor, distance: Tensor, seen: Tensor) -> Tensor:
        x = self.attention_norm(x + self.dropout(self.attention(x, context, distance, seen)))
        return self.inner_norm(x + self.inner(x))


class RelativeAttention(nn.Module):
    """Attention whose weight of place j at place i also depends on i − j (Dai et al. 2019, section 3.3, terms a to d)."""

    def __init__(self, width: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        check_attention(width, n_heads, dropout)
        self.n_heads, self.dropout = n_heads, Dropout(dropout)
        self.query, self.key, self.value, self.distance, self.out = (nn.Linear(width, width, bias=False) for _ in range(5))
        self.content_bias, self.distance_bias = (nn.Parameter(torch.empty(width)) for _ in range(2))
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=INITIAL_STD)

    def forward(self, x: Tensor, context: Tensor, distance: Tensor, seen: Tensor) -> Tensor:
        """What each place of x (B, L, D) finds in context (B, L, D). `seen` (B or 1, 1, L or 1, L) bool."""
        q, k, v, r = (
            layer(of).unflatten(-1, (self.n_heads, -1)).transpose(-3, -2)
            for layer, of in ((self.query, x), (self.key, context), (self.value, context), (self.distance, distance))
        )
        content_bias, distance_bias = (bias.view(self.n_heads, 1, -1) for bias in (self.content_bias, self.distance_bias))
        by_distance = from_distances((q + distance_bias) @ r.transpose(-2, -1)) / q.shape[-1] ** 0.5
        found = attend(q + content_bias, k, v, seen, by_distance, self.dropout)
        return self.out(found.transpose(1, 2).flatten(2))


def distances(width: int, farthest: int, nearest: int, device: torch.device) -> Tensor:
    """(farthest − nearest + 1, D): sines and cosines of the distances farthest, farthest − 1 … nearest."""
    frequency = 10_000 ** (-torch.arange(0, width, 2, device=device) / width)
    angle = torch.arange(farthest, nearest - 1, -1, device=device)[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=-1)[:, :width]


def from_distances(score: Tensor) -> Tensor:
    """(…, L, L): at [i, j] the score at [i, L − i + j], which belongs to the distance i − j.

    score (…, L, W) of the distances L, L − 1 …; with W = L + 1 only j ≤ i has one, and anything stands at the others.
    """
    L, W = score.shape[-2:]
    return score.flatten(-2)[..., L:].unflatten(-1, (L, W - 1))[..., :L]


def _seen(view: View, n_places: int) -> Tensor:
    mask = view.attention_mask(n_places)
    if mask is None:
        return torch.ones(n_places, n_places, dtype=torch.bool, device=view.lengths.device).tril()[None, None]
    return mask
