"""Parts of the test users and of their relevant items that are looked at on their own."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import Ints
from recsys.evaluation.ground import Ground
from recsys.histories import Dictionary
from recsys.ranking.exclusions import flat
from recsys.ranking.lists import Lists
from recsys.ranking.metrics import Hits, find_hits
from recsys.windows import Cut, microseconds

HISTORY = {"1 event": (1, 2), "2-4 events": (2, 5), "5-9 events": (5, 10), "10-19 events": (10, 20), "20 events and more": (20, np.inf)}
DAY = 86_400 * 10**6
AGE = {"items younger than a day": (-np.inf, DAY), "items of 1 to 7 days": (DAY, 7 * DAY), "items of 7 days and more": (7 * DAY, np.inf)}


@dataclass(frozen=True)
class Slice:
    """Some test users (rows of the ground) and which of their relevant items count: a CSR over those users."""

    name: str
    users: Ints
    offsets: Ints
    relevant: Ints

    def hits(self, lists: Lists) -> Hits:
        """Of the lists of all test users."""
        return find_hits(lists.item_code[self.users], self.offsets, self.relevant)


def slices(ground: Ground, dictionary: Dictionary, cut: Cut) -> list[Slice]:
    """All users; users by the events before the cut; relevant items by their age at it. Parts without anybody are left out."""
    everything = np.ones(len(ground.relevant), dtype=bool)
    found = [_slice(ground, "all", np.ones(len(ground.users), dtype=bool), everything)]
    found += [_slice(ground, name, _within(ground.n_history, *bounds), everything) for name, bounds in HISTORY.items()]
    if cut.at is not None and dictionary.first_event_at is not None:
        age = microseconds(cut.at) - dictionary.first_event_at[ground.relevant]
        found += [_slice(ground, name, np.ones(len(ground.users), dtype=bool), _within(age, *bounds)) for name, bounds in AGE.items()]
    return [found[0], *(part for part in found[1:] if len(part.users))]


def _slice(ground: Ground, name: str, users: NDArray[np.bool_], relevant: NDArray[np.bool_]) -> Slice:
    """Of the chosen users those with at least one relevant item that counts."""
    before = np.concatenate([[0], np.cumsum(relevant)])
    n_relevant = before[ground.offsets[1:]] - before[ground.offsets[:-1]]
    chosen = np.flatnonzero(users & (n_relevant > 0))
    _, positions = flat(ground.offsets, chosen)
    offsets = np.concatenate([[0], np.cumsum(n_relevant[chosen])])
    return Slice(name, chosen, offsets, ground.relevant[positions][relevant[positions]])


def _within(values: Ints, low: float, high: float) -> NDArray[np.bool_]:
    return (values >= low) & (values < high)
