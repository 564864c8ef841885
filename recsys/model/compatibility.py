"""Which parts go together. What does not fit is refused when a network is built, with what would work instead."""

from collections.abc import Iterable, Sequence

from recsys.errors import ConfigError
from recsys.model.encoders import Direction, Encoder
from recsys.model.heads import Head
from recsys.model.heads.label import LabelHead
from recsys.model.heads.next_item import NextItem
from recsys.model.inputs import InputBlock
from recsys.model.objectives import Objective
from recsys.model.priors import Prior
from recsys.slots import choices


def check_heads(inputs: InputBlock, objective: Objective, encoders: Sequence[Encoder], heads: Sequence[Head]) -> None:
    """ConfigError for no head at all, one that is tied to vectors of another width, one that would see what it is to learn, and
    two of one name."""
    if not heads:
        raise ConfigError("A network needs a head: nothing is predicted without one. The usual one is NextItem().")
    for head in heads:
        if isinstance(head, NextItem) and head.own_items is None and inputs.items.width != head.width:
            raise ConfigError(
                f"NextItem is tied to item vectors of width {inputs.items.width}, and hidden states have width {head.width}. "
                "Use NextItem(tied=false), or an item table that is as wide as the network."
            )

    named = [head.name for head in heads if isinstance(head, LabelHead)]
    for name in named:
        if named.count(name) > 1:
            raise ConfigError(
                f'model.heads: {named.count(name)} heads are called {name!r}. Give each a name of its own, as name="{name}_2".'
            )
    looking_ahead = [encoder for encoder in encoders if direction_of(objective, encoder) == "both sides"]
    for head in heads:
        if isinstance(head, LabelHead) and head.of == "event" and looking_ahead:
            backward = [name for name, cls in choices(Objective).items() if "left to right" in cls.directions]
            raise ConfigError(
                f"{type(head).__name__}(label={head.label!r}, of='event'): under {type(objective).__name__}, "
                f"{type(looking_ahead[0]).__name__} looks at both sides of an event, and would see what a label that looks ahead is to "
                f"foretell. Use of='sequence', or read from left to right: {' or '.join(backward)}, with an encoder that can."
            )


def check_no_times(parts: Sequence[Objective | Encoder], priors: Iterable[type[Prior]] = ()) -> None:
    """ConfigError that names the parts and priors, where there are any that read times: for data that have none."""
    names = ", ".join(dict.fromkeys(cls.__name__ for cls in (*map(type, parts), *priors)))
    if names:
        raise ConfigError(
            f"The data have an order only, and the times of events are read by: {names}. Choose another objective or encoder in "
            "its place, or HSTU(time_bias=false); leave a prior out."
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
