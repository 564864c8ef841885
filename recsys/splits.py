"""What a split makes of histories: what a model learns from at a cut, and which events a fold holds out.

Nothing is copied for a split by time or by position, where cutting is a second array of ends. Only a random split takes
events out of the middle of histories.
"""

from dataclasses import replace

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.arrays import Array, Ints, Ragged
from recsys.histories import Histories, Seen
from recsys.windows import Cut, Drawn, Fold, microseconds


def readable(histories: Histories, cut: Cut) -> Histories:
    """The histories without what is drawn out of them; the rest is cut by position and not copied."""
    return histories if cut.drawn is None else without(histories, drawn(histories, cut.drawn))


def learnt_from(histories: Histories, cut: Cut) -> Histories:
    """What a model that learns at the cut is given: labels as far as they are known at it, and of the events those that it may read.

    Events before `since` are read and not predicted, so that the first ones of a window have a history too.
    """
    given = readable(histories, cut).as_known(cut)
    if cut.since is None:
        return given
    assert given.event_at is not None, "a window of time is cut out of data with times"
    return replace(given, weight=np.where(given.event_at < microseconds(cut.since), np.float32(0), given.weight))


def held_out(histories: Histories, fold: Fold) -> NDArray[np.bool_]:
    """Which events (n,) the fold holds out."""
    if fold.learn.drawn is not None:
        return drawn(histories, fold.learn.drawn)
    begin = np.maximum(histories.cut(fold.read), histories.cut(fold.start))
    return histories.before(np.maximum(begin, histories.cut(fold.stop))) & ~histories.before(begin)


def drawn(histories: Histories, draw: Drawn) -> NDArray[np.bool_]:
    """Which events (n,) of all users are drawn: the same ones whichever shards the users are in."""
    first, n_events = histories.offsets[:-1], np.diff(histories.offsets)
    order = pc.sort_indices(histories.user_id).to_numpy()
    number = np.random.default_rng(draw.seed).random(len(histories.item_code))  # of the events, by user_id
    begins = np.empty_like(first)
    begins[order] = np.cumsum(n_events[order]) - n_events[order]
    own = number[np.arange(len(number)) + np.repeat(begins - first, n_events)]
    return (own >= draw.low) & (own < draw.high)


def without(histories: Histories, gone: NDArray[np.bool_]) -> Histories:
    """The histories without some of the events (n,), as if they had never happened: what only they showed was not seen."""
    kept = np.flatnonzero(~gone)
    before = np.concatenate([[0], np.cumsum(~gone)])  # kept events before each one

    def of_kept(column: Array) -> Array:
        return column.take(kept) if isinstance(column, Ragged) else column[kept]

    return replace(
        histories,
        offsets=before[histories.offsets],
        item_code=histories.item_code[kept],
        event_at=None if histories.event_at is None else histories.event_at[kept],
        session=None if histories.session is None else histories.session[kept],
        is_target=None if histories.is_target is None else histories.is_target[kept],
        weight=histories.weight[kept],
        columns={name: of_kept(column) for name, column in histories.columns.items()},
        known_at={name: moments[kept] for name, moments in histories.known_at.items()},
        seen_pairs=None if histories.seen_pairs is None else _still_seen(histories, histories.seen_pairs, gone),
    )


def _still_seen(histories: Histories, seen: Seen, gone: NDArray[np.bool_]) -> Seen:
    """The seen pairs less those that only events that are gone showed. One seen longer ago than the history stays."""
    n_items = 1 + max(histories.item_code.max(initial=0), seen.item_code.max(initial=0))
    event = np.repeat(np.arange(histories.n_users), np.diff(histories.offsets)) * n_items + histories.item_code
    user = np.repeat(np.arange(histories.n_users), np.diff(seen.offsets))
    pair = user * n_items + seen.item_code
    lost, first = np.unique(event[gone], return_index=True)
    stays = ~np.isin(pair, lost) | np.isin(pair, event[~gone])
    if seen.first_event_at is not None and histories.event_at is not None and len(lost):
        at = histories.event_at[gone][first][np.searchsorted(lost, pair).clip(max=len(lost) - 1)]
        stays |= seen.first_event_at < at
    return Seen(
        offsets=np.concatenate([[0], np.cumsum(stays)])[seen.offsets],
        item_code=seen.item_code[stays],
        first_event_at=None if seen.first_event_at is None else seen.first_event_at[stays],
        first_position=None if seen.first_position is None else _moved(histories, user, seen.first_position, gone)[stays],
    )


def _moved(histories: Histories, user: Ints, position: NDArray[np.integer], gone: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Positions in the histories of some users (p,), counted without the events that are gone."""
    n_gone = np.concatenate([[0], np.cumsum(gone)])
    begin = histories.offsets[user]
    return (position - (n_gone[begin + position] - n_gone[begin])).astype(np.int32)
