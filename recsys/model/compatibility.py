"""Which parts go together. What does not fit is refused when a network is built, with what would work instead."""

from collections.abc import Sequence

from recsys.errors import ConfigError
from recsys.model.encoders import Direction, Encoder
from recsys.model.heads import Head
from recsys.model.heads.next_item import NextItem
from recsys.model.inputs import InputBlock
from recsys.model.objectives import Objective
from recsys.parts import choices


def check_heads(inputs: InputBlock, heads: Sequence[Head]) -> None:
    """ConfigError for no head at all, and for one that is tied to vectors of another width."""
    if not heads:
        raise ConfigError("A network needs a head: nothing is predicted without one. The usual one is NextItem().")
    for head in heads:
        if isinstance(head, NextItem) and head.own_items is None and inputs.items.width != head.width:
            raise ConfigError(
                f"NextItem is tied to item vectors of width {inputs.items.width}, and hidden states have width {head.width}. "
                "Use NextItem(tied=false), or an item table that is as wide as the network."
            )


def direction_of(objective: Objective, encoder: Encoder) -> Direction:
    """How the encoder looks at the events, both sides where both can; ConfigError says what would fit where they cannot."""
    common = set(objective.directions) & set(encoder.directions)
    if common and (encoder.two_streams or not objective.two_streams):
        return "both sides" if "both sides" in common else "left to right"
    objectives = [n for n, c in choices(Objective).items() if c.directions & encoder.directions and c.two_streams <= encoder.two_streams]
    encoders = [n for n, c in choices(Encoder).items() if c.directions & objective.directions and c.two_streams >= objective.two_streams]
    needs = "an encoder with two streams" if common else " or ".join(sorted(objective.directions))
    raise ConfigError(
        f"{type(encoder).__name__} reads {' or '.join(sorted(encoder.directions))}; {type(objective).__name__} needs {needs}. "
        f"Use {' or '.join(objectives) or 'another objective'}, or one of: {', '.join(encoders)}."
    )
