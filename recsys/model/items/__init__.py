"""The item table: one vector per item, read by row for the events of a history and as a whole by the catalogue."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

INITIAL_STD = 0.02  # of weights and positions, as in BERT and GPT-2
ITEM_STD = 0.05  # of item vectors, as in Transformers4Rec: tied ones are also what scores are made of

# A module says in `row_of` which of its parameters have one row per item, or per value of a column or of several, so that
# a warm start can move their rows from one vocabulary to another.
ITEM = "item_id"


class ItemTable(nn.Module, ABC):
    """The contract of the slot `items`."""

    width: int  # of its vectors

    @abstractmethod
    def rows(self, item_index: Tensor) -> Tensor:
        """Vectors (…, D) of the items in item_index (…)."""

    @abstractmethod
    def vectors(self) -> Tensor:
        """Vectors (V, D) of all items."""
