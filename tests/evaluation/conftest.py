"""Histories by hand: a few users whose every event can be read."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone

import numpy as np
import pyarrow as pa
import pytest

from recsys.dictionary import Dictionary
from recsys.histories import Histories, Seen
from recsys.schema import Schema
from recsys.windows import NEVER, microseconds

AS_OF = datetime(2025, 3, 2, tzinfo=timezone.utc)

Event = tuple[float, int]  # hours before as_of, item code
Builder = Callable[..., tuple[Histories, Dictionary]]


@pytest.fixture
def by_hand(tmp_path) -> Builder:
    """Makes histories and dictionary from `{user_id: [(hours before as_of, item), …]}` and pairs `(user_id, item)`."""

    def build(
        events: dict[int, Sequence[Event]],
        n_items: int,
        seen: Sequence[tuple[float, int, int]] = (),  # further pairs: hours before as_of, user_id, item
        blocked: Sequence[tuple[int, int]] = (),
        ineligible: Sequence[int] = (),
        is_target: np.ndarray | None = None,
    ) -> tuple[Histories, Dictionary]:
        flat = [(at(hours), item) for user in events.values() for hours, item in user]
        first: dict[tuple[int, int], int] = {}
        pairs = [(user, item, at(hours)) for user, own in events.items() for hours, item in own] + [(u, i, at(h)) for h, u, i in seen]
        for user, item, moment in pairs:
            first[user, item] = min(moment, first.get((user, item), NEVER))
        known = sorted(first)
        histories = Histories(
            user_id=pa.array(list(events)),
            offsets=np.cumsum([0] + [len(user) for user in events.values()]),
            item_code=np.array([item for _, item in flat], dtype=np.int32),
            event_at=np.array([moment for moment, _ in flat], dtype=np.int64),
            session=None,
            is_target=is_target,
            weight=np.ones(len(flat), dtype=np.float32),
            schema=Schema(()),
            seen_pairs=Seen(
                offsets_of(list(events), known),
                np.array([item for user in events for u, item in known if u == user], dtype=np.int32),
                np.array([first[u, i] for user in events for u, i in known if u == user], dtype=np.int64),
            ),
            blocked_pairs=(
                offsets_of(list(events), sorted(blocked)),
                np.array([item for user in events for u, item in sorted(blocked) if u == user], dtype=np.int32),
            ),
        )
        eligible = ~np.isin(np.arange(n_items), ineligible)
        moments = [min([moment for moment, i in flat if i == item], default=NEVER) for item in range(n_items)]
        counts = np.bincount(histories.item_code, minlength=n_items)
        dictionary = Dictionary(pa.array(range(n_items)), eligible, np.array(moments), counts, Schema(()), {}, {}, tmp_path)
        return histories, dictionary

    return build


def at(hours: float) -> int:
    return microseconds(AS_OF - timedelta(hours=hours))


def offsets_of(users: list[int], pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    return np.cumsum([0] + [sum(u == user for u, _ in pairs) for user in users])
