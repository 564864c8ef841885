"""Whether the winner, repeated on everything before the night, is still itself: its lists are much like its twin's.

The twin is the model that was evaluated. The refit would be published instead of it, and there is nothing left to test it on.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recsys.config import Scoring
from recsys.cutoff import K
from recsys.dictionary import Dictionary
from recsys.histories import Histories
from recsys.model import saving
from recsys.model.device import device_of, threads
from recsys.ranking.lists import make_lists
from recsys.ranking.ranker import Ranker
from recsys.store import Artifact
from recsys.windows import Cut, label, microseconds

N_USERS = 1000


@dataclass(frozen=True)
class RefitCheck:
    """Whether the refit may be published, or its twin has to be, and why."""

    passed: bool
    reason: str
    overlap: float


def check_refit(
    refit: Artifact, twin: Artifact, sequences: Artifact, cut: Cut, scoring: Scoring, *, min_overlap: float, seed: int
) -> RefitCheck:
    """Compare the two models' top lists, for a seeded sample of users, on the twin's ground: histories before the `cut`, where
    the holdout starts, and items that both know. What the refit knows besides is not held against it.
    """
    with threads(scoring.threads):
        overlap = mean_overlap(*_top_lists((refit, twin), sequences, cut, device_of(scoring.accelerator), seed))
    shared = f"{overlap:.1%} of its top {K} with its twin, which was trained before the holdout"
    if overlap >= min_overlap:
        return RefitCheck(True, f"The refit on everything before {label(refit.as_of)} shares {shared}.", overlap)
    return RefitCheck(False, f"The refit is given up for its twin: it shares {shared}, and {min_overlap:.1%} are asked for.", overlap)


def mean_overlap(one: NDArray[np.integer], other: NDArray[np.integer]) -> float:
    """Mean share of a list that is in the other, over users with both: (U, K) item codes, −1 where short; 1 without any.

    >>> mean_overlap(np.array([[1, 2], [3, -1]]), np.array([[2, 5], [3, 4]]))
    0.75
    """
    common = ((one[:, :, None] == other[:, None, :]) & (one >= 0)[:, :, None]).any(axis=2).sum(axis=1)
    lengths = np.minimum((one >= 0).sum(axis=1), (other >= 0).sum(axis=1))
    return float(np.mean(common[lengths > 0] / lengths[lengths > 0])) if lengths.any() else 1.0


def _top_lists(models: tuple[Artifact, Artifact], sequences: Artifact, cut: Cut, device: str, seed: int) -> list[NDArray[np.int64]]:
    """(U, K) item codes that each model ranks first at the moment of the cut."""
    dictionary = Dictionary.load(sequences.path)
    known = [saving.load_vocabulary(model.path).item_map(dictionary) >= 0 for model in models]
    common = replace(dictionary, eligible=dictionary.eligible & known[0] & known[1])
    rankers = [Ranker.load("model", model.path, common, device) for model in models]
    histories = Histories.load(sequences.path, columns={column for ranker in rankers for column in ranker.columns})
    ends = histories.cut(cut)
    now = None if cut.at is None else microseconds(cut.at)
    users = _sample(np.flatnonzero(ends > histories.offsets[:-1]), seed)
    readings = [ranker.reading(histories, ends, now) for ranker in rankers]
    return [make_lists([reading], users, K, [], reading.near[users]).item_code for reading in readings]


def _sample(users: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    return np.sort(np.random.default_rng(seed).permutation(users)[:N_USERS])
