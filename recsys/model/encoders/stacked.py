"""What encoders of one layer after the other have in common."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace

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
        """The layers (B, L, D), View → (B, L, D) in the order in which they are applied; one that is shared stands there again.

        Of the last one only the places that look are asked for: `View.looking`.
        """

    def forward(self, x: Tensor, view: View) -> Tensor:
        x = self.dropout(x)
        for layer in self.layers():
            x = layer(x, view)
        return self.norm(x)

    def at(self, x: Tensor, view: View, place: Tensor) -> Tensor:
        """As `forward`, with the last layer's queries and feed-forward of one place alone."""
        x = self.dropout(x)
        *layers, last = self.layers()
        for layer in layers:
            x = layer(x, view)
        return self.norm(last(x, replace(view, place=place)))[:, 0]
