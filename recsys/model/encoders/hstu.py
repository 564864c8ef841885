"""Hierarchical sequential transduction units, which know when events happened."""

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from recsys.errors import ConfigError
from recsys.model.attention import check_attention
from recsys.model.dropout import Dropout
from recsys.model.encoders import LEFT_TO_RIGHT, Encoder, View
from recsys.model.items import INITIAL_STD

N_BUCKETS = 129  # of time spans, as in the authors' code
BUCKET_WIDTH = 0.301  # in the natural logarithm of seconds: a bucket is a third longer than the one before it


class HSTU(Encoder):
    """The units of HSTU (Zhai et al. 2024, arXiv:2402.17152, section 3.2), with attention that is not normalised to sum to 1.

    An attention weight depends on how many places two events are apart (`position_bias`) and on the time from the one that
    is looked at to the moment that is predicted (`time_bias`), which is known when recommending. The weighted sum is
    divided by the number of events that are seen, where the paper divides by the most there can be: the layer norm that
    follows takes out the difference, and nothing depends on padding. `positions` may be NoPositions().
    """

    directions = LEFT_TO_RIGHT

    def __init__(
        self,
        width: int,
        n_places: int,
        *,
        n_blocks: PositiveInt = 2,
        n_heads: PositiveInt = 1,
        dropout: float = 0.2,
        position_bias: bool = True,
        time_bias: bool = True,
    ) -> None:
        super().__init__()
        self.reads_times, self.n_places = time_bias, n_places
        self.dropout = Dropout(dropout)
        self.units = nn.ModuleList(_Unit(width, n_heads, dropout) for _ in range(n_blocks))
        self.biases = nn.ModuleList(_Bias(n_places if position_bias else 0, N_BUCKETS if time_bias else 0) for _ in range(n_blocks))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, view: View) -> Tensor:
        if x.shape[1] > self.n_places:
            raise ConfigError(f"{x.shape[1]} places came to an HSTU with {self.n_places}: model.max_events is too small.")
        span = _spans(view) if self.reads_times else None
        x = self.dropout(x)
        for unit, bias in zip(self.units, self.biases, strict=True):
            x = unit(x, bias(x.shape[1], span))
        return self.norm(x)


class _Unit(nn.Module):
    def __init__(self, width: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        check_attention(width, n_heads)
        self.n_heads = n_heads
        self.norm, self.found_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project, self.out = nn.Linear(width, 4 * width), nn.Linear(width, width)
        self.dropout = Dropout(dropout)
        for layer in (self.project, self.out):
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """x (B, L, D), bias (B or 1, 1, L, L) of attention weights."""
        L = x.shape[1]
        gate, *qkv = functional.silu(self.project(self.norm(x))).chunk(4, dim=-1)
        q, k, v = (part.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for part in qkv)
        n_seen = torch.arange(1, L + 1, device=x.device)[:, None]
        weight = functional.silu(q @ k.transpose(-2, -1) + bias).tril() / n_seen
        found = (weight @ v).transpose(1, 2).flatten(2)
        return x + self.out(self.dropout(gate * self.found_norm(found)))


class _Bias(nn.Module):
    """A number per distance in places and one per bucket of time spans; 0 of them for none."""

    def __init__(self, n_places: int, n_buckets: int) -> None:
        super().__init__()
        self.of_place, self.of_span = (nn.Parameter(torch.empty(n).normal_(std=INITIAL_STD)) if n else None for n in (n_places, n_buckets))

    def forward(self, n_places: int, span: Tensor | None) -> Tensor:
        """(B or 1, 1, L, L); span (B, L, L) of buckets."""
        bias = torch.zeros(())
        if self.of_place is not None:
            place = torch.arange(n_places, device=self.of_place.device)
            bias = _looked_up((place[:, None] - place).clamp(min=0), self.of_place)[None, None]
        if self.of_span is not None and span is not None:
            bias = bias + _looked_up(span, self.of_span)[:, None]
        return bias


def _looked_up(index: Tensor, numbers: Tensor) -> Tensor:
    return functional.embedding(index, numbers[:, None])[..., 0]


def _spans(view: View) -> Tensor:
    """(B, L, L) int64: at [i, j] the bucket of the time from event j to what is predicted at place i."""
    if view.times is None or view.next_times is None:
        raise ConfigError("HSTU reads times, and this view has none. Give times and next_times, or HSTU(time_bias=false).")
    seconds = (view.next_times[:, :, None] - view.times[:, None]).abs() / 1e6
    return (seconds.clamp(min=1).log() / BUCKET_WIDTH).long().clamp(max=N_BUCKETS - 1)
