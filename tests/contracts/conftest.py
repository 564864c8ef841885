"""One small world with a column of every role, for all building blocks."""

from dataclasses import dataclass

import pytest
import torch

from recsys.config import Model
from recsys.dictionary import Dictionary
from recsys.histories import Histories
from recsys.model.blocks import build
from recsys.model.network import Network
from recsys.model.reader import Reader, Spans
from recsys.model.sample import sample
from recsys.model.vocabulary import Vocabulary
from recsys.recipes import resolve

WIDTH, MAX_EVENTS = 16, 8


@dataclass(frozen=True)
class World:
    histories: Histories
    dictionary: Dictionary
    vocabulary: Vocabulary

    def model(self, **fields: object) -> Model:
        """A small resolved configuration."""
        return resolve(Model(**{"width": WIDTH, "max_events": MAX_EVENTS, **fields}))

    def network(self, seed: int = 0, **fields: object) -> tuple[Network, Reader, Spans]:
        """A small network of the configuration, its reader and everybody's whole history."""
        torch.manual_seed(seed)
        network = build(self.model(**fields), self.vocabulary)
        reader = network.reader(self.histories, self.dictionary, self.vocabulary)
        return network, reader, reader.spans(*self.histories.sequences(self.histories.offsets[1:], "user"))

    def supplied(self) -> dict[str, object]:
        """What a network supplies when it builds a part."""
        sizes = {"width": WIDTH, "max_events": MAX_EVENTS, "n_places": MAX_EVENTS + 1, "n_items": self.vocabulary.n_items}
        return {**sizes, "schema": self.vocabulary.schema, "vocabulary": self.vocabulary}


@pytest.fixture(scope="session")
def world() -> World:
    histories, dictionary = sample()
    return World(histories, dictionary, Vocabulary.fit(histories, dictionary, histories.offsets[1:]))


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
