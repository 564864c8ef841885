"""Paired bootstrap intervals of mean differences: one set of resamples of the users for all metrics and contenders.

Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13 (percentile intervals).
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from recsys.arrays import Ints

Floats = NDArray[np.float64]

LEVEL = 0.95
MIN_USERS = 10  # with fewer, resamples say too little of who might have come
MAX_UNITS = 10_000  # what is drawn: users, or where there are more, groups of them put together by chance, which say as much
_DRAWS = 2**20  # at once: bounds the memory, changes no number


def paired_intervals(differences: Floats, n_bootstrap: int, seed: int) -> tuple[Floats, Floats]:
    """Lower and upper ends (C,) of the 95 % interval of the mean of each column of `differences` (U, C).

    Each resample draws as many users as there are, with replacement, the same for every column, and takes the mean over those of
    them whose difference is defined (not NaN). With fewer than `MIN_USERS` of them the interval is NaN.

    >>> paired_intervals(np.full((50, 1), 0.25), n_bootstrap=200, seed=1)
    (array([0.25]), array([0.25]))
    """
    if not len(differences):
        return np.full(differences.shape[1], np.nan), np.full(differences.shape[1], np.nan)
    rng = np.random.default_rng(seed)
    defined = ~np.isnan(differences)
    order, starts = _units(len(differences), rng)
    sums = np.add.reduceat(np.where(defined, differences, 0.0)[order], starts, axis=0)
    counts = np.add.reduceat(defined[order], starts, axis=0, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        means = np.concatenate([times @ sums / (times @ counts) for times in _times_drawn(rng, n_bootstrap, len(starts))])
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    few = defined.sum(axis=0) < MIN_USERS
    return np.where(few, np.nan, low), np.where(few, np.nan, high)


def _units(n_users: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """An order of the users, and where in it each unit starts: of one user, or of about as many as any other."""
    if n_users <= MAX_UNITS:
        return np.arange(n_users), np.arange(n_users)
    return rng.permutation(n_users), np.arange(MAX_UNITS) * n_users // MAX_UNITS


def _times_drawn(rng: np.random.Generator, n: int, n_units: int) -> Iterator[Floats]:
    """How often each unit is drawn (m, units) in each of n resamples, some at a time."""
    step = max(1, _DRAWS // n_units)
    for start in range(0, n, step):
        m = min(step, n - start)
        drawn = rng.integers(0, n_units, size=(m, n_units), dtype=np.int32) + np.arange(m)[:, None] * n_units
        yield np.bincount(drawn.ravel(), minlength=m * n_units).reshape(m, n_units).astype(np.float64)
