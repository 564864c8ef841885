"""What transformer blocks are made of."""

from torch import Tensor, nn
from torch.nn import functional

from recsys.errors import ConfigError
from recsys.model.dropout import Dropout
from recsys.model.encoders import View
from recsys.model.items import INITIAL_STD


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
