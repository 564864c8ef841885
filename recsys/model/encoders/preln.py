"""Pre-norm transformer blocks."""

from pydantic import PositiveInt
from torch import Tensor, nn

from recsys.model.attention import Attention, FeedForward, attention_share
from recsys.model.dropout import Dropout
from recsys.model.encoders import View
from recsys.model.encoders.stacked import Stacked


class PreLN(Stacked):
    """Transformer blocks that normalise before each layer (GPT-2; Xiong et al. 2020, arXiv:2002.04745), with GELU."""

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
        self.blocks = nn.ModuleList(PreLNBlock(width, n_heads, inner_width_factor, dropout, of_weights) for _ in range(n_blocks))

    def layers(self) -> list[nn.Module]:
        return list(self.blocks)


class PreLNBlock(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x))."""

    def __init__(self, width: int, n_heads: int, inner_width_factor: int, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.attention_norm, self.inner_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, n_heads, attention_dropout)
        self.inner = FeedForward(width, inner_width_factor * width, nn.GELU(), dropout)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, view: View) -> Tensor:
        normed = self.attention_norm(x)
        x = view.looking(x) + self.dropout(self.attention(view.looking(normed), normed, view))
        return x + self.inner(self.inner_norm(x))
