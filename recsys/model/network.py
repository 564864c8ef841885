"""The network: inputs, positions, an objective, an encoder and heads that fit together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from recsys.config import Model
from recsys.errors import ConfigError
from recsys.histories import Dictionary, Histories
from recsys.model import own_parts
from recsys.model.bucket import Bucket
from recsys.model.catalogue import Catalogue
from recsys.model.encoders import Direction, Encoder, View
from recsys.model.heads import Head, Predictions
from recsys.model.heads.next_item import NextItem
from recsys.model.inputs import InputBlock
from recsys.model.items import ItemTable
from recsys.model.objectives import Objective, Plan
from recsys.model.objectives.masked import Masking
from recsys.model.positions import NoPositions, Positions
from recsys.model.reader import Reader
from recsys.model.vocabulary import Vocabulary
from recsys.parts import Spec, choices, parse

T = TypeVar("T")


class Network(nn.Module):
    """A sequential recommender. `max_events` is how many of a history's newest events it reads."""

    def __init__(
        self,
        inputs: InputBlock,
        objective: Objective,
        encoder: Encoder,
        heads: Sequence[Head],
        *,
        max_events: int,
        positions: Positions | None = None,
    ) -> None:
        super().__init__()
        _check_fit(inputs, objective, encoder, heads)
        self.inputs, self.objective, self.encoder = inputs, objective, encoder
        self.direction = _direction(objective, encoder)
        self.heads = nn.ModuleList(heads)
        self.positions = positions or NoPositions()
        self.max_events = max_events

    @property
    def _heads(self) -> list[Head]:
        return [head for head in self.heads if isinstance(head, Head)]

    @property
    def items(self) -> ItemTable:
        return self.inputs.items

    @property
    def next_item(self) -> NextItem:
        """The head that recommends; ConfigError where there is none."""
        for head in self._heads:
            if isinstance(head, NextItem):
                return head
        raise ConfigError('This network has no NextItem head, so it recommends nothing. Add "NextItem()" to model.heads.')

    @property
    def n_parameters(self) -> int:
        return sum(p.numel() for p in self.parameters())

    def reader(self, histories: Histories, dictionary: Dictionary, vocabulary: Vocabulary) -> Reader:
        """The histories as this network reads them, with the columns that its parts ask for."""
        columns = {"event_columns": self.inputs.event_columns, "user_columns": self.inputs.user_columns}
        return Reader(histories, dictionary, vocabulary, **columns, times=self.encoder.reads_times or self.objective.reads_times)

    def hidden(self, plan: Plan) -> Tensor:
        """Hidden states (B, L, D) of what the plan reads."""
        events = self.objective.places(self.inputs(plan.bucket), plan)
        return self.encoder(self.positions(events, plan.lengths), self._view(plan))

    def _view(self, plan: Plan) -> View:
        times, next_times = plan.bucket.event_at, plan.bucket.next_at
        if plan.query and times is not None and next_times is not None:
            newest = next_times.gather(1, (plan.bucket.lengths - 1).clamp(min=0)[:, None])
            times, next_times = (
                torch.cat([x, newest], dim=1).scatter(1, plan.bucket.lengths[:, None], newest) for x in (times, next_times)
            )
        query = self.objective.mask if plan.two_streams and isinstance(self.objective, Masking) else None
        return View(plan.lengths, self.direction, plan.mask, query, times, next_times)

    def loss(self, buckets: Sequence[Bucket], generator: torch.Generator | None = None) -> Tensor:
        """Loss of a training step on the buckets of one batch. A scalar."""
        return self.objective.loss(self, buckets, generator)

    def predict(self, planned: Sequence[tuple[Plan, Tensor]]) -> Tensor:
        """Weighted loss of all heads over the planned predictions and the hidden states they are made from."""
        losses = []
        for head in self._heads:
            predictions = Predictions.joined([head.select(hidden, plan) for plan, hidden in planned])
            losses.append(head.weight * head.loss(predictions, self.items))
        return torch.stack(losses).sum()

    def encode(self, bucket: Bucket) -> Tensor:
        """(B, D): what is compared with the catalogue's vectors to predict the event that follows each sequence."""
        plan = self.objective.reading(bucket)
        return self.next_item.similarity(self.hidden(plan)[plan.row, plan.col])

    def catalogue(self) -> Catalogue:
        """What can be recommended, V items."""
        return self.next_item.catalogue(self.items)


@dataclass(frozen=True)
class Blocks:
    """The building blocks of a resolved configuration, found and checked but not built."""

    items: Spec[ItemTable]
    inputs: Spec[InputBlock]
    positions: Spec[Positions]
    objective: Spec[Objective]
    encoder: Spec[Encoder]
    heads: tuple[Spec[Head], ...]

    @classmethod
    def of(cls, model: Model) -> "Blocks":
        """ConfigError names the field and what would be valid. Nothing is built, so this is cheap to do before any work."""
        own_parts.put_on_path(model.code)
        slots = {"items": ItemTable, "inputs": InputBlock, "positions": Positions, "objective": Objective, "encoder": Encoder}
        found = {name: _parse(f"model.{name}", getattr(model, name), slot) for name, slot in slots.items()}
        return cls(**found, heads=tuple(_parse("model.heads", text, Head) for text in model.heads or ()))

    def check(self, width: int, max_events: int) -> None:
        """ConfigError where blocks cannot be built at this size or do not fit each other, as far as that is known without data."""
        size = {"width": width, "max_events": max_events}
        objective = _built_early("model.objective", self.objective, size)
        n_places = objective.n_places(max_events) if objective is not None else max_events
        _built_early("model.positions", self.positions, {**size, "n_places": n_places})
        encoder = _built_early("model.encoder", self.encoder, {**size, "n_places": n_places})
        if objective is not None and encoder is not None:
            _direction(objective, encoder)

    def in_canonical_text(self, model: Model) -> Model:
        """The configuration with every block spelt in one way: "PreLN" and "PreLN()" are one version."""
        texts = {name: str(getattr(self, name)) for name in ("items", "inputs", "positions", "objective", "encoder")}
        return model.model_copy(update={**texts, "heads": tuple(map(str, self.heads))})


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
    objective = blocks.objective.build(**known)
    known["n_places"] = objective.n_places(known["max_events"])
    items = blocks.items.build(**known)
    return Network(
        blocks.inputs.build(items=items, **known),
        objective,
        blocks.encoder.build(**known),
        [head.build(**known) for head in blocks.heads],
        max_events=known["max_events"],
        positions=blocks.positions.build(**known),
    )


def _built_early(field: str, block: Spec[T], size: dict[str, Any]) -> T | None:
    """A block that needs no data, built to see whether it can be; None for others."""
    if not block.supplied_by(*size):
        return None
    try:
        return block.build(**size)
    except ConfigError as error:
        raise ConfigError(f"{field}: {error}") from None


def _parse(field: str, text: str | None, slot: type) -> Spec[Any]:
    if text is None:
        raise ConfigError(f"{field} is not given, and no recipe has filled it in: see recsys.recipes.resolve.")
    try:
        return parse(text, slot)
    except ConfigError as error:
        raise ConfigError(f"{field}: {error}") from None


def _check_fit(inputs: InputBlock, objective: Objective, encoder: Encoder, heads: Sequence[Head]) -> None:
    if not heads:
        raise ConfigError("A network needs a head: nothing is predicted without one. The usual one is NextItem().")
    for head in heads:
        if isinstance(head, NextItem) and head.own_items is None and inputs.items.width != head.width:
            raise ConfigError(
                f"NextItem is tied to item vectors of width {inputs.items.width}, and hidden states have width {head.width}. "
                "Use NextItem(tied=false), or an item table that is as wide as the network."
            )


def _direction(objective: Objective, encoder: Encoder) -> Direction:
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
