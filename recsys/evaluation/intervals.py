"""Paired bootstrap intervals of mean differences: one set of resamples of the users for all metrics and contenders.

Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13 (percentile intervals).
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEVEL = 0.95
_DRAWS = 2**22  # drawn at once: bounds the memory, changes no number


def paired_intervals(differences: Floats, n_bootstrap: int, seed: int) -> tuple[Floats, Floats]:
    """Lower and upper ends (C,) of the 95 % interval of the mean of each column of `differences` (U, C).

    Each resample draws U users with replacement, the same for every column.

    >>> paired_intervals(np.full((50, 1), 0.25), n_bootstrap=200, seed=1)
    (array([0.25]), array([0.25]))
    """
    n_users, n_columns = differences.shape
    if n_users == 0:
        return np.full(n_columns, np.nan), np.full(n_columns, np.nan)
    rng = np.random.default_rng(seed)
    step = max(1, _DRAWS // n_users)
    sizes = [min(step, n_bootstrap - start) for start in range(0, n_bootstrap, step)]
    means = np.concatenate([_times_drawn(rng, n, n_users) @ differences / n_users for n in sizes])
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high


def _times_drawn(rng: np.random.Generator, n: int, n_users: int) -> Floats:
    """(n, U): how often each user is drawn in each of n resamples."""
    drawn = rng.integers(0, n_users, size=(n, n_users)) + np.arange(n)[:, None] * n_users
    return np.bincount(drawn.ravel(), minlength=n * n_users).reshape(n, n_users).astype(np.float64)
