"""Paired bootstrap intervals of mean differences: one set of resamples of the users for all metrics and contenders.

Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13 (percentile intervals).
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEVEL = 0.95
MIN_USERS = 10  # with fewer, resamples say too little of who might have come
_DRAWS, _RESAMPLES = 2**20, 16  # drawn at once, and at least so many resamples: bound memory and time, change no number


def paired_intervals(differences: Floats, n_bootstrap: int, seed: int) -> tuple[Floats, Floats]:
    """Lower and upper ends (C,) of the 95 % interval of the mean of each column of `differences` (U, C).

    Each resample draws U users with replacement, the same for every column, and takes the mean over those of them whose
    difference is defined (not NaN). With fewer than `MIN_USERS` of them the interval is NaN.

    >>> paired_intervals(np.full((50, 1), 0.25), n_bootstrap=200, seed=1)
    (array([0.25]), array([0.25]))
    """
    n_users, n_columns = differences.shape
    if n_users == 0:
        return np.full(n_columns, np.nan), np.full(n_columns, np.nan)
    defined = ~np.isnan(differences)
    partly = ~defined.all(axis=0)
    values, counted = np.where(defined, differences, 0.0), defined[:, partly].astype(np.float64)
    rng = np.random.default_rng(seed)
    step = max(_RESAMPLES, _DRAWS // n_users)
    means = np.empty((n_bootstrap, n_columns))
    for start in range(0, n_bootstrap, step):
        rows = slice(start, min(start + step, n_bootstrap))
        times = _times_drawn(rng, rows.stop - start, n_users)
        n_defined = np.full((len(times), n_columns), float(n_users))
        n_defined[:, partly] = times @ counted
        with np.errstate(invalid="ignore"):
            means[rows] = times @ values / n_defined
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    few = defined.sum(axis=0) < MIN_USERS
    return np.where(few, np.nan, low), np.where(few, np.nan, high)


def _times_drawn(rng: np.random.Generator, n: int, n_users: int) -> Floats:
    """(n, U): how often each user is drawn in each of n resamples."""
    drawn = rng.integers(0, n_users, size=(n, n_users), dtype=np.int32) + np.arange(n)[:, None] * n_users
    return np.bincount(drawn.ravel(), minlength=n * n_users).reshape(n, n_users).astype(np.float64)
