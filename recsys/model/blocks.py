"""From the text of a configuration to building blocks, and from those to a network."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from recsys.config import Model
from recsys.errors import ConfigError
from recsys.model import own_parts
from recsys.model.aggregation import Aggregation
from recsys.model.batching import Batching
from recsys.model.compatibility import check_no_times, direction_of
from recsys.model.embeddings.user import UserId
from recsys.model.encoders import Encoder
from recsys.model.fusion import Fusion
from recsys.model.heads import Head
from recsys.model.heads.label import LabelHead
from recsys.model.heads.next_item import NextItem
from recsys.model.initialisation import Initialisation
from recsys.model.inputs import InputBlock
from recsys.model.items import ItemTable
from recsys.model.network import Network
from recsys.model.objectives import Objective
from recsys.model.positions import Positions
from recsys.model.priors import Prior
from recsys.model.towers import Merge, Tower
from recsys.model.vocabulary import Vocabulary
from recsys.parts import Spec, parse

T = TypeVar("T")

# Fields of the `model` group, and the contract of what each names.
ONE: dict[str, type] = {"items": ItemTable, "inputs": InputBlock, "objective": Objective, "encoder": Encoder, "positions": Positions}
OPTIONAL: dict[str, type] = {"merge": Aggregation, "fusion": Fusion, "batching": Batching}
SEVERAL: dict[str, type] = {"heads": Head, "towers": Tower}
USUAL: dict[str, tuple[type, str]] = {  # what every network has, and hardly any has otherwise
    "network": (Network, "Network()"),
    "initialisation": (Initialisation, "AsBuilt()"),
}


@dataclass(frozen=True)
class Blocks:
    """The building blocks of a resolved configuration, found and checked but not built."""

    model: Model = field(compare=False)  # as it was written, which is no difference
    one: dict[str, Spec[Any]]  # by field of the `model` group
    several: dict[str, tuple[Spec[Any], ...]]

    @classmethod
    def of(cls, model: Model) -> "Blocks":
        """ConfigError names the field and what would be valid. Nothing is built, so this is cheap to do before any work."""
        own_parts.put_on_path(model.code)
        asked = {**ONE, **{name: slot for name, slot in OPTIONAL.items() if getattr(model, name) is not None}}
        for name in ONE:
            if getattr(model, name) is None:
                raise ConfigError(f"model.{name} is not given, and no recipe has filled it in: see recsys.recipes.resolve.")
        one: dict[str, Spec[Any]] = {name: parse(getattr(model, name), slot, f"model.{name}") for name, slot in asked.items()}
        one |= {name: parse(getattr(model, name) or usual, slot, f"model.{name}") for name, (slot, usual) in USUAL.items()}
        several: dict[str, tuple[Spec[Any], ...]] = {
            name: tuple(parse(x, slot, f"model.{name}") for x in getattr(model, name) or ()) for name, slot in SEVERAL.items()
        }
        return cls(model, one, several)

    @property
    def reads_users(self) -> bool:
        """Whether a part embeds user ids, so that the vocabulary has to keep them."""
        return any(issubclass(cls, UserId) for cls in self.classes())

    def classes(self) -> set[type]:
        """Classes of all blocks, nested ones too."""
        return {cls for spec in (*self.one.values(), *(s for specs in self.several.values() for s in specs)) for cls in spec.classes()}

    def check(self, has_times: bool = True) -> None:
        """ConfigError where blocks cannot be built at this size or do not fit each other or data without times, as far as that
        is known before any work."""
        assert self.model.width is not None and self.model.max_events is not None, "recipes fill these in"
        size = {"width": self.model.width, "max_events": self.model.max_events}
        objective = self._built_early("objective", size)
        size["n_places"] = self.model.max_events if objective is None else objective.n_places(self.model.max_events)
        positions = self._built_early("positions", size)
        encoders = [self._built_early("encoder", size), *self._encoders_of_towers(size)]
        if positions is not None and encoders[0] is not None:
            positions.check(encoders[0])
        known = [encoder for encoder in encoders if encoder is not None]
        for encoder in known if objective is not None else ():
            direction_of(objective, encoder)
        if not has_times:
            priors = [cls for head in self.several["heads"] for cls in head.classes() if issubclass(cls, Prior)]
            check_no_times([part for part in (objective, *known) if part is not None and part.reads_times], priors)

    def check_aims(self, labels: Collection[str]) -> None:
        """ConfigError where no head recommends, or one is to learn a label that the events do not have."""
        heads = self.several["heads"]
        if not any(issubclass(head.cls, NextItem) for head in heads):
            raise ConfigError('model.heads: none of them recommends, which is what a night is for. Add "NextItem()".')
        for head in heads:
            if issubclass(head.cls, LabelHead) and (label := head.arguments.get("label")) not in (None, *labels):
                there = ", ".join(labels) or "none"
                raise ConfigError(
                    f"model.heads: {head} learns a label that the events do not have; they have: {there}. Name {label!r} in "
                    "data.events.label, where it is a column of the events or a file of sql/labels."
                )

    def in_canonical_text(self) -> Model:
        """The configuration with every block spelt in one way: "PreLN" and "PreLN()" are one version."""
        one = {name: str(spec) for name, spec in self.one.items()}
        several = {name: tuple(map(str, specs)) or None for name, specs in self.several.items()}
        return self.model.model_copy(update={**one, **several})

    def _encoders_of_towers(self, size: dict[str, Any]) -> list[Encoder | None]:
        named = [tower.arguments.get("encoder") for tower in self.several["towers"]]
        return [_built_early("model.towers", spec, size) for spec in named if isinstance(spec, Spec)]

    def _built_early(self, field: str, size: dict[str, Any]) -> Any:
        return _built_early(f"model.{field}", self.one[field], size)


def build(model: Model, vocabulary: Vocabulary) -> Network:
    """The network of a resolved configuration for a vocabulary, with weights from torch's random numbers."""
    blocks = Blocks.of(model)
    known: dict[str, Any] = {
        "width": model.width,
        "max_events": model.max_events,
        "n_items": vocabulary.n_items,
        "schema": vocabulary.schema,
        "vocabulary": vocabulary,
    }
    objective = blocks.one["objective"].build(**known)
    known["n_places"] = objective.n_places(known["max_events"])
    known["items"] = blocks.one["items"].build(**known)
    made = {name: spec.build(**known) for name, spec in blocks.one.items() if name not in ("items", "objective", "network")}
    towers = [tower.build(**known) for tower in blocks.several["towers"]]
    network = blocks.one["network"].build(
        inputs=made["inputs"],
        objective=objective,
        encoder=made["encoder"],
        heads=[head.build(**known) for head in blocks.several["heads"]],
        max_events=known["max_events"],
        positions=made["positions"],
        towers=towers,
        merge=Merge(len(towers) + 1, made.get("merge"), known["width"]),
        batching=made.get("batching"),
        fusion=made.get("fusion"),
    )
    with torch.no_grad():
        made["initialisation"](network)
    return network


def _built_early(field: str, block: Spec[T], size: dict[str, Any]) -> T | None:
    """A block that needs no data, built to see whether it can be; None for others."""
    if not block.supplied_by(*size):
        return None
    try:
        return block.build(**size)
    except ConfigError as error:
        raise ConfigError(f"{field}: {error}") from None
