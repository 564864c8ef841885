"""The network: inputs, positions, an objective, encoders and heads that fit together."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from recsys.dictionary import Dictionary
from recsys.errors import ConfigError
from recsys.histories import Histories
from recsys.model.batching import Batching, ByLength, FixedEdges
from recsys.model.bucket import Bucket
from recsys.model.catalogue import Catalogue
from recsys.model.compatibility import check_heads, check_no_times, direction_of
from recsys.model.encoders import Direction, Encoder, View, at
from recsys.model.fusion import Fusion
from recsys.model.heads import Head, Predictions
from recsys.model.heads.label import LabelHead
from recsys.model.heads.next_item import NextItem
from recsys.model.inputs import InputBlock
from recsys.model.items import ItemTable
from recsys.model.objectives import Objective, Plan
from recsys.model.positions import NoPositions, Positions
from recsys.model.reader import Reader
from recsys.model.towers import MAIN, MERGED, Merge, Tower, check_towers
from recsys.model.vocabulary import Vocabulary

States = dict[str, Tensor]  # by name of a tower


class Network(nn.Module):
    """A sequential recommender. `max_events` is how many of a history's newest events it reads.

    It is the contract of the slot `network` too: a subclass replaces what it does in a step (`loss`), with a history
    (`states`) or when it recommends (`read`, `catalogue`). What is keyword-only in its constructor is set in a
    configuration, and the rest it hands on: `def __init__(self, *, scale: float = 1.0, **parts: Any)`.
    """

    def __init__(
        self,
        inputs: InputBlock,
        objective: Objective,
        encoder: Encoder,
        heads: Sequence[Head],
        max_events: int,
        positions: Positions | None = None,
        towers: Sequence[Tower] = (),
        merge: Merge | None = None,
        batching: Batching | None = None,
        fusion: Fusion | None = None,
    ) -> None:
        super().__init__()
        check_heads(inputs, objective, [encoder, *(tower.encoder for tower in towers)], heads)
        check_towers(towers, [head.tower for head in heads])
        self.inputs, self.objective, self.encoder = inputs, objective, encoder
        directions = {direction_of(objective, each) for each in (encoder, *(tower.encoder for tower in towers))}
        self.direction: Direction = "both sides" if "both sides" in directions else "left to right"
        self.positions = positions or NoPositions()
        self.positions.check(encoder)
        for tower in towers:
            tower.positions.check(tower.encoder)
        self.heads = nn.ModuleList(heads)
        self.towers = nn.ModuleList(towers)
        self.merge, self.fusion = merge or Merge(len(towers) + 1), fusion
        self.max_events, self._batching = max_events, batching

    @property
    def _heads(self) -> list[Head]:
        return [head for head in self.heads if isinstance(head, Head)]

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def batching(self) -> Batching:
        """The one that was given; without one what is fast on the device, which changes nothing that is predicted."""
        return self._batching or (ByLength() if self.device.type == "cpu" else FixedEdges())

    @batching.setter
    def batching(self, batching: Batching | None) -> None:
        self._batching = batching

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
    def label_heads(self) -> list[LabelHead]:
        """The heads that answer something else than what comes next."""
        return [head for head in self._heads if isinstance(head, LabelHead)]

    @property
    def recommends(self) -> bool:
        """Whether it has a NextItem head."""
        return any(isinstance(head, NextItem) for head in self._heads)

    @property
    def n_parameters(self) -> int:
        return sum(p.numel() for p in self.parameters())

    @property
    def _towers(self) -> list[Tower]:
        return [tower for tower in self.towers if isinstance(tower, Tower)]

    @property
    def event_columns(self) -> tuple[str, ...]:
        """Columns of the events that its parts read."""
        return tuple(dict.fromkeys(name for inputs in self._inputs for name in inputs.event_columns))

    @property
    def user_columns(self) -> tuple[str, ...]:
        """Columns of the users that its parts read; with USER, their ids."""
        fused = self.fusion.user_columns if self.fusion is not None else ()
        return tuple(dict.fromkeys([*(name for inputs in self._inputs for name in inputs.user_columns), *fused]))

    @property
    def _inputs(self) -> list[InputBlock]:
        return [self.inputs, *(tower.inputs for tower in self._towers)]

    def reader(self, histories: Histories, dictionary: Dictionary, vocabulary: Vocabulary, *, labels: bool = True) -> Reader:
        """The histories as this network reads them, with the columns that its parts ask for; the labels that its heads learn
        can be left out where nothing is learned."""
        parts: list[Objective | Encoder] = [self.objective, self.encoder, *(tower.encoder for tower in self._towers)]
        of_times = [part for part in parts if part.reads_times]
        priors = [head.prior for head in self._heads if isinstance(head, NextItem) and head.prior is not None]
        if histories.event_at is None:
            check_no_times(of_times, map(type, priors))
        learned = tuple(dict.fromkeys(name for head in self._heads for name in head.event_columns if labels))
        columns = {"event_columns": self.event_columns, "user_columns": self.user_columns, "labels": learned}
        for prior in priors:
            prior.enter(dictionary, vocabulary)
        reader = Reader(histories, dictionary, vocabulary, **columns, times=bool(of_times or priors))
        for head in self.label_heads if labels else ():
            head.check(reader.labels[head.label])
        return reader

    def states(self, plan: Plan, place: Tensor | None = None) -> States:
        """Hidden states (B, L, D) of what the plan reads, by tower: each one's own, and all of them merged.

        With `place` (B,), those of one place of each sequence alone, (B, 1, D).
        """
        found = {MAIN: self._encoded(self.inputs, self.positions, self.encoder, plan, place)}
        found |= {tower.name: self._encoded(tower.inputs, tower.positions, tower.encoder, plan, place) for tower in self._towers}
        merged = self.merge(list(found.values()))
        return {**found, MERGED: merged if self.fusion is None else self.fusion(merged, plan.bucket)}

    def hidden(self, plan: Plan) -> Tensor:
        """Hidden states (B, L, D) of what the plan reads, of all towers together."""
        return self.states(plan)[MERGED]

    def _encoded(self, inputs: InputBlock, positions: Positions, encoder: Encoder, plan: Plan, place: Tensor | None) -> Tensor:
        events = positions(self.objective.places(inputs(plan.bucket), plan), plan.lengths)
        view = self._view(plan, direction_of(self.objective, encoder), positions.rotary_base)
        return encoder(events, view) if place is None else encoder.at(events, view, place)[:, None]

    def _view(self, plan: Plan, direction: Direction, rotary_base: float | None) -> View:
        times, next_times = plan.bucket.event_at, plan.bucket.next_at
        if plan.query and times is not None and next_times is not None:
            newest = next_times.gather(1, (plan.bucket.lengths - 1).clamp(min=0)[:, None])
            times, next_times = (
                torch.cat([x, newest], dim=1).scatter(1, plan.bucket.lengths[:, None], newest) for x in (times, next_times)
            )
        return View(plan.lengths, direction, plan.mask, plan.second_stream, times, next_times, rotary_base)

    def loss(self, buckets: Sequence[Bucket], generator: torch.Generator | None = None) -> Tensor:
        """Loss of a training step on the buckets of one batch. A scalar."""
        return self.objective.loss(self, buckets, generator)

    def predict(self, planned: Sequence[tuple[Plan, States]]) -> Tensor:
        """Weighted loss of all heads over the planned predictions and the hidden states they are made from."""
        losses = []
        for head in self._heads:
            predictions = Predictions.joined([head.select(states[head.tower], plan) for plan, states in planned])
            losses.append(head.weight * head.loss(predictions, self.items))
        return torch.stack(losses).sum()

    def encode(self, bucket: Bucket) -> Tensor:
        """(B, D): what is compared with the catalogue's vectors to predict the event that follows each sequence."""
        recommending, _ = self.read(bucket)
        assert recommending is not None, "a network without a NextItem head recommends nothing"
        return recommending

    def read(self, bucket: Bucket) -> tuple[Tensor | None, dict[str, Tensor]]:
        """In one pass what `encode` gives (B, D), None without a NextItem head, and by name what every other head says of each
        sequence: (B,), or of C classes (B, C)."""
        plan = self.objective.reading(bucket)
        all_places = bool(self.label_heads) or self.fusion is not None  # who may look at more than the one that recommends
        states = self.states(plan, None if all_places else plan.col)
        said = {head.name: head.answer(states[head.tower], plan) for head in self.label_heads}
        if not self.recommends:
            return None, said
        hidden = states[self.next_item.tower]
        return self.next_item.similarity(at(hidden, plan.col) if all_places else hidden[:, 0]), said

    def catalogue(self) -> Catalogue:
        """What can be recommended, V items, without what a prior says of them at a moment."""
        return self.next_item.catalogue(self.items)
