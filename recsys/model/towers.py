"""Towers: further inputs and encoders beside a network's own, merged with its hidden states or read by heads of their own."""

from collections.abc import Sequence

from torch import Tensor, nn

from recsys.errors import ConfigError
from recsys.model.aggregation import Aggregation, Sum
from recsys.model.encoders import Encoder
from recsys.model.inputs import InputBlock
from recsys.model.positions import NoPositions, Positions

MERGED = "merged"  # the name by which heads ask for the states of all towers together
MAIN = "main"  # the network's own inputs and encoder


class Tower(nn.Module):
    """Inputs, positions and an encoder, under a name that heads can ask for.

    >>> Tower(name="context", inputs=inputs, encoder=GRU(64))      # doctest: +SKIP
    """

    def __init__(self, *, name: str, inputs: InputBlock, encoder: Encoder, positions: Positions | None = None) -> None:
        super().__init__()
        if name in (MERGED, MAIN) or not name:
            raise ConfigError(f"Tower: the name {name!r} is taken by the network itself. Give it one of its own.")
        self.name, self.inputs, self.encoder, self.positions = name, inputs, encoder, positions or NoPositions()


class Merge(nn.Module):
    """The hidden states (B, L, D) of several towers as one: aggregated as the features of an event are, and projected to D."""

    def __init__(self, n_towers: int, aggregation: Aggregation | None = None, width: int | None = None) -> None:
        super().__init__()
        self.aggregation = aggregation or Sum()
        as_is = n_towers == 1 or self.aggregation.one_width
        self.projection = nn.Identity() if as_is or width is None else nn.Linear(n_towers * width, width)

    def forward(self, states: Sequence[Tensor]) -> Tensor:
        main, *others = states
        return self.projection(self.aggregation(main, others)) if others else main


def check_towers(towers: Sequence[Tower], asked: Sequence[str]) -> None:
    """ConfigError for two towers of one name, a head that asks for one that is not there, and one that no head reads."""
    names = [MERGED, MAIN, *(tower.name for tower in towers)]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"model.towers: {names.count(name)} towers are called {name!r}. Give each a name of its own.")
    for name in asked:
        if name not in names:
            raise ConfigError(f"A head reads the tower {name!r}, and there is none of that name. There are: {', '.join(names)}.")
    unread = [name for name in names[1:] if name not in asked]
    if MERGED not in asked and unread:
        raise ConfigError(
            f"No head reads the tower {' or '.join(map(repr, unread))}, so that it would never be trained. Leave it out of "
            f"model.towers (and make {MAIN!r} what the heads read), or let a head read {MERGED!r}, all of them together."
        )
