"""What folds ask for equals what RecTools 0.19.0 holds out of the same events (benchmarks/splits_of_rectools.py made it)."""

import json
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest

from recsys.evaluation.ground import Kept, fold_ground
from recsys.windows import folds

RECTOOLS = json.loads((Path(__file__).parent / "splits_of_rectools.json").read_text())
AS_OF = datetime(2025, 3, 2, tzinfo=timezone.utc)  # of the fixture, where the generated days end


@pytest.mark.parametrize("key", RECTOOLS["held_out"])
def test_pairs_of_every_fold(key, by_hand):
    split, _, n, filters = key.split()
    cold_users, cold_items, seen = (letter == "n" for letter in filters)
    events = {user: [] for user in sorted({user for user, _, _ in RECTOOLS["events"]})}
    for user, item, hour in sorted(RECTOOLS["events"], key=lambda event: event[2]):  # of one hour, in the order of the source
        events[user].append((24 * RECTOOLS["n_days"] - hour, item))
    histories, dictionary = by_hand(events, RECTOOLS["n_items"])
    kept = Kept(cold_users, cold_items, seen)
    for fold, expected in zip(folds(AS_OF, split, int(n)), RECTOOLS["held_out"][key], strict=True):
        _, ground = fold_ground(histories, dictionary, fold, exclude_seen=False, kept=kept)
        user = histories.user_id.to_numpy()[np.repeat(ground.users, np.diff(ground.offsets))]
        assert np.stack([user, ground.relevant], axis=1).tolist() == expected
