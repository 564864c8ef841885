"""Sample histories, and small networks on them: where the properties of parts are checked."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from recsys.config import Model
from recsys.dictionary import Dictionary
from recsys.histories import Histories
from recsys.model.blocks import build
from recsys.model.items.ids import IdEmbedding
from recsys.model.network import Network
from recsys.model.reader import Reader, Spans
from recsys.model.sample import sample
from recsys.model.vocabulary import Vocabulary
from recsys.parts import Spec
from recsys.recipes import resolve
from recsys.schema import Column

WIDTH, MAX_EVENTS = 16, 8
PLACES = 11  # of a part alone: what the contracts fill


@dataclass(frozen=True)
class World:
    """Sample histories with a column of every role."""

    histories: Histories
    dictionary: Dictionary
    vocabulary: Vocabulary

    def network(self, seed: int = 0, **fields: Any) -> tuple[Network, Reader, Spans]:
        """A small network, its reader and everybody's whole history."""
        torch.manual_seed(seed)
        network = build(self.model(**fields), self.vocabulary)
        reader = network.reader(self.histories, self.dictionary, self.vocabulary)
        return network, reader, reader.spans(*self.histories.sequences(self.histories.offsets[1:], "user"))

    def model(self, **fields: Any) -> Model:
        return resolve(Model(**{"width": WIDTH, "max_events": MAX_EVENTS, **fields}))

    def built(self, spec: Spec[Any]) -> Any:
        """The part alone, with all that a network supplies."""
        torch.manual_seed(0)
        sizes = {"width": WIDTH, "max_events": PLACES, "n_places": PLACES, "n_items": self.vocabulary.n_items}
        items = IdEmbedding(self.vocabulary.n_items, WIDTH)
        return spec.build(**sizes, schema=self.vocabulary.schema, vocabulary=self.vocabulary, items=items)


@cache
def world(label: Column | None = None) -> World:
    histories, dictionary = sample(label=label)
    return World(histories, dictionary, Vocabulary.fit(histories, dictionary, histories.offsets[1:], users=True))
