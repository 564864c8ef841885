"""What encoders of one layer after the other have in common."""

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from recsys.model.dropout import Dropout
from recsys.model.encoders import Encoder, View


class Stacked(Encoder):
    """Dropout of what comes in, the layers one after the other, and a norm of what goes out. Its attention may be rotary."""

    reads_rotary = True

    def __init__(self, width: int, dropout: float, causal: bool | None) -> None:
        super().__init__(causal)
        self.dropout, self.norm = Dropout(dropout), nn.LayerNorm(width)

    @abstractmethod
    def layers(self) -> Sequence[nn.Module]:
        """The layers (B, L, D), View → (B, L, D) in the order in which they are applied; one that is shared stands there again."""

    def forward(self, x: Tensor, view: View) -> Tensor:
        x = self.dropout(x)
        for layer in self.layers():
            x = layer(x, view)
        return self.norm(x)
