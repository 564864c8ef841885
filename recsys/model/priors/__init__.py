"""Priors: what speaks for each item at a moment, whoever is asked. Added to the scores, learned with the rest of the network."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from recsys.dictionary import Dictionary
from recsys.model.vocabulary import Vocabulary


class Prior(nn.Module, ABC):
    """The contract of the slot `prior`. It reads times, and what it knows of the items comes from the night's dictionary."""

    @abstractmethod
    def enter(self, dictionary: Dictionary, vocabulary: Vocabulary) -> None:
        """Take from a night what is read at its moments, in the model's item_index. A network's reader calls it."""

    @abstractmethod
    def moments(self, at: Tensor) -> Tensor:
        """(…) int64: for lists that are made at these times (…) µs, the moments that the prior tells apart."""

    @abstractmethod
    def forward(self, moments: Tensor) -> Tensor:
        """(T, V) float32 at the moments (T,) int64 µs; −inf for an item that no list could have had then."""

    def rows(self, at: Tensor) -> tuple[Tensor, Tensor]:
        """Of predictions at these times (N,): the prior (T, V) at the moments that differ, and the row (N,) of each."""
        moments, row = self.moments(at).unique(return_inverse=True)
        return self(moments), row
