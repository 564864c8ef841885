"""Which window makes popular-lately strongest: chosen on the period before the holdout, so that the test decides nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recsys.cutoff import K
from recsys.dictionary import Dictionary
from recsys.evaluation.ground import common_ground
from recsys.histories import Histories
from recsys.ranking.lists import make_lists
from recsys.ranking.metrics import judge
from recsys.ranking.metrics.ranking import NDCG
from recsys.ranking.popularity import Popularity
from recsys.windows import Cut, duration

DIGITS = 9  # of means in tables: what adding up in another order leaves alone


@dataclass(frozen=True)
class Tried:
    """One window of popular-lately and its NDCG@10 in the rehearsal, NaN where there was no event in it or no test user."""

    window: str
    ndcg_at_10: float
    chosen: bool = False


def try_windows(
    histories: Histories,
    dictionary: Dictionary,
    cut: Cut,
    holdout: str,
    windows: Sequence[str],
    *,
    exclude_seen: bool,
    segment: str | None,
    max_users: int,
    seed: int,
) -> list[Tried]:
    """Every window, in the given order, measured on a holdout of the same length that ends where the real one begins.

    The best is chosen, of equals the longer. One without any event lists what is popular ever, and is not chosen, unless no window can be
    measured. Empty for data with an order only, which has no lately.
    """
    if cut.at is None:
        return []
    rehearsal = Cut(at=cut.at - duration(holdout))
    ground = common_ground(histories, dictionary, rehearsal, histories.cut(cut), exclude_seen).some(max_users, seed)
    values = []
    for window in windows:
        popular = Popularity.count([histories], dictionary, rehearsal, window, segment)
        lists = make_lists(popular.sources(histories)["popular_lately"], ground.users, K, ground.excluded, ground.n_history)
        judged = judge(lists.item_code, ground.offsets, ground.relevant)
        measured = len(ground.users) and popular.lately is not None and popular.lately.any()
        values.append(round(NDCG().overall(judged, K), DIGITS) if measured else float("nan"))
    best = max(range(len(windows)), key=lambda i: (np.nan_to_num(values[i], nan=-1.0), duration(windows[i])))
    return [Tried(window, value, i == best) for i, (window, value) in enumerate(zip(windows, values, strict=True))]
