"""Sequence encoders: (B, L, D) in, (B, L, D) out. They know neither the objective nor the loss."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from recsys.errors import ConfigError
from recsys.model.dropout import Dropout
from recsys.model.items import INITIAL_STD

Direction = Literal["left to right", "both sides"]


@dataclass(frozen=True)
class View:
    """How an encoder may look at the events of a bucket."""

    lengths: Tensor  # (B,): events of each sequence; what stands after them is padding
    direction: Direction  # what an event may see: itself and those before it, or all of its sequence
    mask: Tensor | None = None  # (B, L, L) bool: event i may see event j; only where lengths and direction do not say it all
    times: Tensor | None = None  # (B, L) int64, µs
    next_times: Tensor | None = None  # (B, L) int64, µs: when what is predicted there happens

    def attention_mask(self, n_positions: int) -> Tensor | None:
        """(B, 1, L or 1, L) bool of what may be seen; None from left to right, where padding is in nobody's sight."""
        if self.mask is not None:
            return self.mask[:, None]
        if self.direction == "left to right":
            return None
        return (torch.arange(n_positions, device=self.lengths.device) < self.lengths[:, None])[:, None, None]


class Encoder(nn.Module, ABC):
    """The contract of the slot `encoder`. What stands in the padding of its output is nobody's concern."""

    directions: ClassVar[frozenset[Direction]] = frozenset({"left to right", "both sides"})
    reads_times: ClassVar[bool] = False

    @abstractmethod
    def forward(self, x: Tensor, view: View) -> Tensor:
        """Hidden states (B, L, D) of the events x (B, L, D)."""


class SASRec(Encoder):
    """The blocks of SASRec as its authors wrote them (Kang & McAuley 2018, arXiv:1808.09781, and its code).

    Only queries are normalised, and it is the normalised input that the residual carries; ReLU, D wide inside.
    """

    def __init__(self, width: int, *, n_blocks: int = 2, n_heads: int = 1, dropout: float = 0.2, attention_dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.blocks = nn.ModuleList(_SASRecBlock(width, n_heads, dropout, attention_dropout) for _ in range(n_blocks))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, view: View) -> Tensor:
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x, view)
        return self.norm(x)


class PreLN(Encoder):
    """Transformer blocks that normalise before each layer (GPT-2; Xiong et al. 2020, arXiv:2002.04745), with GELU."""

    def __init__(
        self,
        width: int,
        *,
        n_blocks: int = 2,
        n_heads: int = 2,
        inner_width_factor: int = 4,
        dropout: float = 0.2,
        attention_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.blocks = nn.ModuleList(_PreLNBlock(width, n_heads, inner_width_factor, dropout, attention_dropout) for _ in range(n_blocks))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, view: View) -> Tensor:
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x, view)
        return self.norm(x)


class _SASRecBlock(nn.Module):
    def __init__(self, width: int, n_heads: int, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.query_norm, self.inner_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, n_heads, attention_dropout)
        self.inner = FeedForward(width, width, nn.ReLU(), dropout)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, view: View) -> Tensor:
        query = self.query_norm(x)
        x = query + self.dropout(self.attention(query, x, view))
        x = self.inner_norm(x)
        return x + self.inner(x)


class _PreLNBlock(nn.Module):
    def __init__(self, width: int, n_heads: int, inner_width_factor: int, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.attention_norm, self.inner_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, n_heads, attention_dropout)
        self.inner = FeedForward(width, inner_width_factor * width, nn.GELU(), dropout)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, view: View) -> Tensor:
        normed = self.attention_norm(x)
        x = x + self.dropout(self.attention(normed, normed, view))
        return x + self.inner(self.inner_norm(x))


class Attention(nn.Module):
    """Scaled dot-product attention of several heads (Vaswani et al. 2017).

    From left to right it needs no mask: an event never sees what stands after it, so it never sees padding. Dropout of
    attention weights leaves the fast kernel on a CPU and makes attention several times slower there.
    """

    def __init__(self, width: int, n_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if width % n_heads:
            raise ConfigError(
                f"width {width} cannot be divided among {n_heads} attention heads. "
                f"Choose model.width as a multiple of {n_heads}, or another n_heads."
            )
        self.n_heads, self.dropout = n_heads, dropout
        self.query, self.key_value, self.out = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)
        _initialise(self.query, self.key_value, self.out)

    def forward(self, query: Tensor, context: Tensor, view: View) -> Tensor:
        """What each event of query (B, L, D) finds in the events of context (B, L, D)."""
        B, L, D = query.shape
        heads = (B, L, self.n_heads, D // self.n_heads)
        q = self.query(query).view(heads).transpose(1, 2)  # (B, heads, L, D / heads)
        k, v = (x.view(heads).transpose(1, 2) for x in self.key_value(context).chunk(2, dim=-1))
        mask = view.attention_mask(L)
        found = functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, dropout_p=self.dropout if self.training else 0.0
        )
        return self.out(found.transpose(1, 2).reshape(B, L, D))


class FeedForward(nn.Module):
    """Two linear layers with an activation between them, for each position by itself."""

    def __init__(self, width: int, inner_width: int, activation: nn.Module, dropout: float) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Linear(width, inner_width), nn.Linear(inner_width, width)
        self.activation, self.dropout = activation, Dropout(dropout)
        _initialise(self.wide, self.narrow)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.narrow(self.dropout(self.activation(self.wide(x)))))


def _initialise(*layers: nn.Linear) -> None:
    for layer in layers:
        nn.init.normal_(layer.weight, std=INITIAL_STD)
        nn.init.zeros_(layer.bias)
