"""Sequence encoders: (B, L, D) in, (B, L, D) out. They know neither the objective nor the loss."""

from abc import ABC, abstractmethod
from collections.abc import Set
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from recsys.errors import ConfigError

Direction = Literal["left to right", "both sides"]
LEFT_TO_RIGHT: frozenset[Direction] = frozenset({"left to right"})
BOTH_SIDES: frozenset[Direction] = frozenset({"both sides"})
EITHER: frozenset[Direction] = LEFT_TO_RIGHT | BOTH_SIDES


@dataclass(frozen=True)
class View:
    """How an encoder may look at the places of a bucket: its events, and where there is one the query after them."""

    lengths: Tensor  # (B,): places of each sequence; what stands after them is padding
    direction: Direction  # what a place may see: itself and those before it, or all of its sequence
    mask: Tensor | None = None  # (B, L, L) bool: place i may see place j; only where lengths and direction do not say it all
    second_stream: Tensor | None = None  # (D,): what it starts from; its place i sees mask[i], and that of the first also itself
    times: Tensor | None = None  # (B, L) int64, µs
    next_times: Tensor | None = None  # (B, L) int64, µs: when what is predicted there happens
    rotary_base: float | None = None  # of the angles by which queries and keys are turned, where positions are `Rotary`
    place: Tensor | None = None  # (B,): the only place of each sequence that looks; None: all of them do

    def __post_init__(self) -> None:
        if self.second_stream is not None and self.mask is None:
            raise ConfigError("A second stream needs a mask: by length and direction alone its places would see what they predict.")

    def looking(self, x: Tensor) -> Tensor:
        """Of x (B, L, D) the places that look: all of them, or (B, 1, D)."""
        return x if self.place is None else at(x, self.place)[:, None]

    def attention_mask(self, n_places: int) -> Tensor | None:
        """(B, 1, L or 1, L) bool of what may be seen; None from left to right, where padding is in nobody's sight.

        The padding of an empty sequence sees one place of it: a softmax over nothing is not a number.
        """
        if self.mask is not None:
            return self.looking(self.mask)[:, None]
        if self.direction == "both sides":
            n_seen = self.lengths.clamp(min=1)
        elif self.place is not None:
            n_seen = self.place + 1
        else:
            return None
        return (torch.arange(n_places, device=self.lengths.device) < n_seen[:, None])[:, None, None]


class Encoder(nn.Module, ABC):
    """The contract of the slot `encoder`. What stands in the padding of its output is nobody's concern.

    `causal` narrows an encoder that can do both: True reads from left to right, False reads both sides, and None, the
    default, does what the objective asks for.
    """

    directions: Set[Direction] = EITHER
    two_streams: ClassVar[bool] = False  # whether it reads `View.second_stream`
    reads_rotary: ClassVar[bool] = False  # whether it reads `View.rotary_base`
    reads_times: bool = False  # whether it reads `View.times` and `View.next_times`

    def __init__(self, causal: bool | None = None) -> None:
        super().__init__()
        if causal is not None:
            self.directions = LEFT_TO_RIGHT if causal else BOTH_SIDES

    @abstractmethod
    def forward(self, x: Tensor, view: View) -> Tensor:
        """Hidden states (B, L, D) of the events x (B, L, D)."""

    def at(self, x: Tensor, view: View, place: Tensor) -> Tensor:
        """Hidden states (B, D) of one place (B,) of each sequence: what recommending reads.

        They are those of `forward`. An encoder overrides it where one place is less work than all of them.
        """
        return at(self(x, view), place)


def at(states: Tensor, place: Tensor) -> Tensor:
    """(B, D): of states (B, L, D) those of one place (B,) of each sequence."""
    return states[torch.arange(len(states), device=states.device), place]
