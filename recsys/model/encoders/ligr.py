"""Pre-norm transformer blocks with gates."""

from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from recsys.model.attention import Attention, attention_share, initialise
from recsys.model.dropout import Dropout
from recsys.model.encoders import View
from recsys.model.encoders.stacked import Stacked


class LiGR(Stacked):
    """The blocks of LiGR (Borisyuk et al. 2025, arXiv:2502.03417), the encoder of eSASRec (Tikhonovich et al. 2025, arXiv:2508.06450).

    x + σ(Wx) ⊙ f(norm(x)): a gate says how much of each layer's output joins the input. Inside is SwiGLU without biases
    (Shazeer 2020, arXiv:2002.05202).
    """

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
        super().__init__(width, dropout, causal)
        of_weights = attention_share(attention_dropout, dropout)
        self.blocks = nn.ModuleList(_LiGRBlock(width, n_heads, inner_width_factor, dropout, of_weights) for _ in range(n_blocks))

    def layers(self) -> list[nn.Module]:
        return list(self.blocks)


class _LiGRBlock(nn.Module):
    def __init__(self, width: int, n_heads: int, inner_width_factor: int, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.attention_norm, self.inner_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, n_heads, attention_dropout)
        self.inner = SwiGLU(width, inner_width_factor * width, dropout)
        self.attention_gate, self.inner_gate = nn.Linear(width, width), nn.Linear(width, width)
        self.dropout = Dropout(dropout)
        initialise(self.attention_gate, self.inner_gate)

    def forward(self, x: Tensor, view: View) -> Tensor:
        normed = self.attention_norm(x)
        x = view.looking(x)
        x = x + self.attention_gate(x).sigmoid() * self.dropout(self.attention(view.looking(normed), normed, view))
        return x + self.inner_gate(x).sigmoid() * self.inner(self.inner_norm(x))


class SwiGLU(nn.Module):
    """(SiLU(x W₁) ⊙ x W₂) W₃, for each position by itself."""

    def __init__(self, width: int, inner_width: int, dropout: float) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Linear(width, 2 * inner_width, bias=False), nn.Linear(inner_width, width, bias=False)
        self.dropout = Dropout(dropout)
        initialise(self.wide, self.narrow)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.wide(x).chunk(2, dim=-1)
        return self.dropout(self.narrow(self.dropout(functional.silu(gate) * value)))
