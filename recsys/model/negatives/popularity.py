"""Popular items more often."""

import math

from torch import Tensor

from recsys.errors import ConfigError
from recsys.model.catalogue import Catalogue
from recsys.model.negatives import Negatives, draw_in_proportion


class Popularity(Negatives):
    """Items in proportion to (their events in the training period) ** exponent; 0.75 is word2vec's (Mikolov et al. 2013).

    It reads the counts themselves, so that the order in which items are numbered means nothing.
    """

    def __init__(self, *, exponent: float = 0.75) -> None:
        super().__init__()
        if not exponent >= 0:
            raise ConfigError(f"Popularity: exponent={exponent} has to be 0 (every item alike) or above.")
        self.exponent = exponent

    def draw(self, n_sets: int, n: int, catalogue: Catalogue, target: Tensor, weight: Tensor) -> Tensor:
        return draw_in_proportion(n_sets, n, self._weight(catalogue))

    def log_expected(self, items: Tensor, n: int, catalogue: Catalogue) -> Tensor:
        weight = self._weight(catalogue)
        return (math.log(n) + weight[items].log() - weight.sum().log()).float()

    def _weight(self, catalogue: Catalogue) -> Tensor:
        return counts_of(catalogue, "Popularity").double() ** self.exponent


def counts_of(catalogue: Catalogue, reader: str) -> Tensor:
    """Events (V,) of each item in the training period; ConfigError where the catalogue has none."""
    if catalogue.counts is None:
        raise ConfigError(
            f"{reader} needs the events of each item, and this catalogue has no counts. A network that is built from a configuration "
            "has them; in Python give them with NextItem(n_items, width, vocabulary) or Catalogue(vectors, counts=…)."
        )
    return catalogue.counts
