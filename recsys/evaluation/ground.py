"""The common ground of an evaluation or of a fold: the same users, relevant items and exclusions for every contender.

A test user has an event before the cut and at least one relevant item after it. Relevant are the distinct items of the
held-out target events that had an event before the cut by anybody, are eligible, not blocked for the user and, where seen
items are left out of lists, not yet seen by the user. What is dropped on the way is counted.
"""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.arrays import Ints
from recsys.dictionary import Dictionary
from recsys.histories import Histories
from recsys.ranking.exclusions import Pairs, flat
from recsys.ranking.popularity import count_events
from recsys.splits import held_out, readable
from recsys.windows import Cut, Fold


@dataclass(frozen=True)
class Ground:
    """Test users and what is relevant to them.

    `users` (N,) are rows of the histories, in order of user_id; the relevant items of the i-th are
    `relevant[offsets[i]:offsets[i + 1]]`, ascending item codes. `n_history` (N,) are their events before the cut, `ends`
    (all users) is where histories end, `excluded` what must not be listed, `counts` what was held out and what became of it.
    """

    users: Ints
    n_history: Ints
    offsets: Ints
    relevant: Ints
    ends: Ints
    excluded: tuple[Pairs, ...]
    counts: dict[str, int]

    def some(self, n: int, seed: int) -> "Ground":
        """At most n of the test users, drawn by seed; whichever shards they are in."""
        if len(self.users) <= n:
            return self
        chosen = np.sort(np.random.default_rng(seed).choice(len(self.users), n, replace=False))
        _, positions = flat(self.offsets, chosen)
        offsets = np.concatenate([[0], np.cumsum(np.diff(self.offsets)[chosen])])
        return replace(
            self,
            users=self.users[chosen],
            n_history=self.n_history[chosen],
            offsets=offsets,
            relevant=self.relevant[positions],
            counts=self.counts | {"test_users": n},
        )


@dataclass(frozen=True)
class Kept:
    """What is asked for although lists can hardly have it: of new users, new items, and what the user has had before (None: where
    lists may have it).
    """

    cold_users: bool = False
    cold_items: bool = False
    seen: bool | None = None


def common_ground(histories: Histories, dictionary: Dictionary, cut: Cut, stops: Ints, exclude_seen: bool) -> Ground:
    """The ground of a holdout that begins at `cut` and ends, for each user, at the position `stops` (U,)."""
    ends = histories.cut(cut)
    held = histories.before(np.maximum(stops, ends)) & ~histories.before(ends)
    return _ground(histories, histories, dictionary, held, cut, cut, exclude_seen, Kept())


def fold_ground(histories: Histories, dictionary: Dictionary, fold: Fold, exclude_seen: bool, kept: Kept) -> tuple[Histories, Ground]:
    """The histories that may be read in a fold, and its ground, whose `ends` are positions of them.

    Lists may leave out what was seen (`exclude_seen`) and it be asked for all the same (`kept`): then nobody can find it.
    """
    past = readable(histories, fold.learn)
    held = held_out(histories, fold)
    return past, _ground(histories, past, dictionary, held, fold.learn, fold.read, exclude_seen, kept)


def _ground(
    histories: Histories,
    past: Histories,
    dictionary: Dictionary,
    held: NDArray[np.bool_],
    learn: Cut,
    read: Cut,
    exclude_seen: bool,
    kept: Kept,
) -> Ground:
    """Of the events that are `held` out of the histories (n,), what is relevant; `past` is what may be read, up to `read`."""
    users, items, counts = _held_out(histories, held, dictionary.n_items)
    ends = past.cut(read)
    seen, blocked = past.seen(read), past.blocked()
    known = count_events(past, past.before(past.cut(learn)), dictionary.n_items)[0] > 0
    cold_user = (ends == past.offsets[:-1])[users]
    was_seen = _among(users, items, seen, dictionary.n_items)
    nobody = np.zeros(len(users), dtype=bool)
    drops = {
        "dropped_cold_user": nobody if kept.cold_users else cold_user,
        "dropped_cold_item": nobody if kept.cold_items else ~known[items],
        "dropped_not_eligible": ~dictionary.eligible[items],
        "dropped_blocked": _among(users, items, blocked, dictionary.n_items),
        "dropped_seen": nobody if kept.seen or (kept.seen is None and not exclude_seen) else was_seen,
    }
    left = np.ones(len(users), dtype=bool)
    for reason, dropped in drops.items():  # a pair counts under the first reason that drops it
        counts[reason] = int((left & dropped).sum())
        left &= ~dropped
    counts["cold_users"] = len(np.unique(users[cold_user]))
    counts["cold_items"] = len(np.unique(items[~known[items]]))
    counts["seen_pairs"] = int(was_seen.sum())
    excluded = (seen, blocked) if exclude_seen else (blocked,)
    return _by_user_id(past, users[left], items[left], ends, excluded, counts)


def _held_out(histories: Histories, held: NDArray[np.bool_], n_items: int) -> tuple[Ints, Ints, dict[str, int]]:
    """Distinct (user, item) of the held-out target events, ordered, and how many there were."""
    wanted = held & histories.targets
    users = np.repeat(np.arange(histories.n_users), np.diff(histories.offsets))[wanted]
    pairs = np.unique(users * n_items + histories.item_code[wanted])
    users, items = np.divmod(pairs, n_items)
    counts = {"holdout_events": int(held.sum()), "holdout_target_events": int(wanted.sum())}
    counts |= {"holdout_users": len(np.unique(users)), "holdout_pairs": len(pairs), "holdout_items": len(np.unique(items))}
    return users, items, counts


def _among(users: Ints, items: Ints, pairs: Pairs, n_items: int) -> NDArray[np.bool_]:
    """Which of the (user, item) are among the pairs of the CSR."""
    offsets, codes = pairs
    rows, positions = flat(offsets, np.unique(users))
    return np.isin(users * n_items + items, np.unique(users)[rows] * n_items + codes[positions])


def _by_user_id(histories: Histories, users: Ints, items: Ints, ends: Ints, excluded: tuple[Pairs, ...], counts: dict[str, int]) -> Ground:
    """Test users in order of their id, so that neither draws nor tables depend on the shards."""
    found, first, n_relevant = np.unique(users, return_index=True, return_counts=True)
    order = pc.sort_indices(histories.user_id.take(found)).to_numpy()
    offsets = np.concatenate([[0], np.cumsum(n_relevant[order])])
    _, positions = flat(np.append(first, len(users)), order)
    users = found[order]
    return Ground(
        users,
        (ends - histories.offsets[:-1])[users],
        offsets,
        items[positions],
        ends,
        excluded,
        counts | {"test_users_found": len(found), "test_users": len(found), "relevant_pairs": len(items)},
    )
