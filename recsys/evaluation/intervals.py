"""Paired bootstrap intervals of mean differences: the same resamples of users for every metric, contender and slice.

Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13 (percentile intervals).
"""

import numpy as np
from numpy.typing import NDArray

_DRAWS = 2**22  # drawn at once: bounds the memory, changes no number


def paired_intervals(
    differences: NDArray[np.float64], members: NDArray[np.bool_], n_bootstrap: int, seed: int, level: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper ends (C,) of the mean of each column of `differences` (U, C), over its `members` (U, C).

    Each of the `n_bootstrap` resamples draws U users with replacement; a column's mean in it is that of the drawn members,
    so that a slice of the users is resampled as the whole is. NaN for a column without members.

    >>> low, high = paired_intervals(np.full((50, 1), 0.25), np.ones((50, 1), dtype=bool), n_bootstrap=200, seed=1)
    >>> low, high
    (array([0.25]), array([0.25]))
    """
    n_users, n_columns = differences.shape
    if n_users == 0:
        return np.full(n_columns, np.nan), np.full(n_columns, np.nan)
    rng = np.random.default_rng(seed)
    summed = np.where(members, differences, 0.0)
    present = members.astype(np.float64)
    step = max(1, _DRAWS // n_users)
    means = np.empty((n_bootstrap, n_columns))
    for start in range(0, n_bootstrap, step):
        times = _times_drawn(rng, min(step, n_bootstrap - start), n_users)
        with np.errstate(invalid="ignore"):  # a resample without members of a small slice has no mean
            means[start : start + step] = (times @ summed) / (times @ present)
    tail = 100 * (1 - level) / 2
    low, high = _percentiles(means, (tail, 100 - tail))
    return low, high


def _times_drawn(rng: np.random.Generator, n: int, n_users: int) -> NDArray[np.float64]:
    """(n, U): how often each user is drawn in each of n resamples."""
    drawn = rng.integers(0, n_users, size=(n, n_users)) + np.arange(n)[:, None] * n_users
    return np.bincount(drawn.ravel(), minlength=n * n_users).reshape(n, n_users).astype(np.float64)


def _percentiles(means: NDArray[np.float64], at: tuple[float, float]) -> NDArray[np.float64]:
    """Per column, over the resamples that have a mean."""
    found = np.full((2, means.shape[1]), np.nan)
    some = ~np.isnan(means).all(axis=0)
    found[:, some] = np.nanpercentile(means[:, some], at, axis=0)
    return found
