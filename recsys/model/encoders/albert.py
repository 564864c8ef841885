"""Transformer blocks that share their weights."""

from pydantic import PositiveInt
from torch import nn

from recsys.errors import ConfigError
from recsys.model.attention import attention_share
from recsys.model.encoders.preln import PreLNBlock
from recsys.model.encoders.stacked import Stacked


class Albert(Stacked):
    """Pre-norm blocks with ALBERT's cross-layer sharing (Lan et al. 2019, arXiv:1909.11942, section 3.1).

    The n_blocks blocks fall into n_hidden_groups runs of equal length, and each block applies the n_inner_groups layers of
    its group one after the other: n_blocks · n_inner_groups layers deep, with the weights of n_hidden_groups · n_inner_groups.
    Its other technique, item vectors that are narrower than the network, is `Factorised` in the slot `items`.
    """

    def __init__(
        self,
        width: int,
        *,
        n_blocks: PositiveInt = 2,
        n_hidden_groups: PositiveInt = 1,
        n_inner_groups: PositiveInt = 1,
        n_heads: PositiveInt = 2,
        inner_width_factor: PositiveInt = 4,
        dropout: float = 0.2,
        attention_dropout: float | None = None,
        causal: bool | None = None,
    ) -> None:
        super().__init__(width, dropout, causal)
        of_weights = attention_share(attention_dropout, dropout)
        if n_hidden_groups > n_blocks:
            raise ConfigError(
                f"Albert: n_hidden_groups={n_hidden_groups} is above n_blocks={n_blocks}: each group needs a block of its own."
            )
        self.n_blocks = n_blocks
        self.groups = nn.ModuleList(
            nn.ModuleList(PreLNBlock(width, n_heads, inner_width_factor, dropout, of_weights) for _ in range(n_inner_groups))
            for _ in range(n_hidden_groups)
        )

    def layers(self) -> list[nn.Module]:
        groups = [list(group.children()) for group in self.groups]
        return [layer for block in range(self.n_blocks) for layer in groups[block * len(groups) // self.n_blocks]]
