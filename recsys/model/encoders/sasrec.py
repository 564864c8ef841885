"""SASRec's own blocks."""

from pydantic import PositiveInt
from torch import Tensor, nn

from recsys.model.attention import Attention, FeedForward, attention_share
from recsys.model.encoders import View
from recsys.model.encoders.stacked import Stacked


class SASRec(Stacked):
    """The blocks of SASRec as its authors wrote them (Kang & McAuley 2018, arXiv:1808.09781, and its code).

    Only queries are normalised, and it is the normalised input that the residual carries; ReLU, D wide inside. `dropout` is of
    what comes in, of the feed-forward and of attention's weights; of what attention finds there is none.
    """

    def __init__(
        self,
        width: int,
        *,
        n_blocks: PositiveInt = 2,
        n_heads: PositiveInt = 1,
        dropout: float = 0.2,
        attention_dropout: float | None = None,
        causal: bool | None = None,
    ) -> None:
        super().__init__(width, dropout, causal)
        of_weights = attention_share(attention_dropout, dropout)
        self.blocks = nn.ModuleList(_SASRecBlock(width, n_heads, dropout, of_weights) for _ in range(n_blocks))

    def layers(self) -> list[nn.Module]:
        return list(self.blocks)


class _SASRecBlock(nn.Module):
    def __init__(self, width: int, n_heads: int, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.query_norm, self.inner_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, n_heads, attention_dropout)
        self.inner = FeedForward(width, width, nn.ReLU(), dropout)

    def forward(self, x: Tensor, view: View) -> Tensor:
        query = self.query_norm(view.looking(x))
        x = query + self.attention(query, x, view)
        x = self.inner_norm(x)
        return x + self.inner(x)
