"""Paired bootstrap intervals of mean differences: one set of resamples of the users for all metrics and contenders.

Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13 (percentile intervals).
"""

import warnings
from collections.abc import Iterator

import numpy as np

from recsys.arrays import Floats, Ints

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
    low, high = ends(resampled_means(differences, np.arange(len(differences)), len(differences), n_bootstrap, seed))
    few = (~np.isnan(differences)).sum(axis=0) < MIN_USERS
    return np.where(few, np.nan, low), np.where(few, np.nan, high)


def resampled_means(values: Floats, users: Ints, n_users: int, n_bootstrap: int, seed: int) -> Floats:
    """The mean of each column of `values` (U, C) in each resample (n_bootstrap, C); NaN where none of those drawn has a value.

    The values are of some of `n_users` users, those at `users` (U,), and all of them are drawn from: so a seed draws the same
    people whichever of them have a value, in one fold and in the next.
    """
    rng = np.random.default_rng(seed)
    unit, n_units = _units(n_users, rng)
    order = np.argsort(unit[users], kind="stable")
    there, starts = np.unique(unit[users][order], return_index=True)
    defined = ~np.isnan(values)
    sums = np.add.reduceat(np.where(defined, values, 0.0)[order], starts, axis=0)
    counts = np.add.reduceat(defined[order], starts, axis=0, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return np.concatenate([times @ sums / (times @ counts) for times in _times_drawn(rng, n_bootstrap, n_units, there)])


def ends(means: Floats) -> tuple[Floats, Floats]:
    """Lower and upper ends (C,) of the interval that most of the resampled means (n, C) lie in; NaN of a column without any."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice encountered")
        low, high = np.nanquantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high


def _units(n_users: int, rng: np.random.Generator) -> tuple[Ints, int]:
    """The unit (U,) of each user, and how many there are: one user each, or about as many as in any other."""
    if n_users <= MAX_UNITS:
        return np.arange(n_users), n_users
    unit = np.empty(n_users, dtype=np.int64)
    unit[rng.permutation(n_users)] = np.arange(n_users) * MAX_UNITS // n_users
    return unit, MAX_UNITS


def _times_drawn(rng: np.random.Generator, n: int, n_units: int, there: Ints) -> Iterator[Floats]:
    """How often each unit that is there is drawn (m, len(there)) in each of n resamples of all of them, some at a time."""
    step = max(1, _DRAWS // n_units)
    for start in range(0, n, step):
        m = min(step, n - start)
        drawn = rng.integers(0, n_units, size=(m, n_units), dtype=np.int32) + np.arange(m)[:, None] * n_units
        yield np.bincount(drawn.ravel(), minlength=m * n_units).reshape(m, n_units)[:, there].astype(np.float64)
