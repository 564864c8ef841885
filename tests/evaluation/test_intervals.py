import numpy as np
import pytest

from recsys.evaluation import intervals
from recsys.evaluation.intervals import ends, paired_intervals, resampled_means


@pytest.mark.parametrize("n_users", [4000, 25_000])  # drawn one by one, and in groups
def test_agrees_with_the_normal_interval_of_a_mean(n_users):
    differences = np.random.default_rng(1).normal(0.3, 1.0, size=(n_users, 1))
    low, high = paired_intervals(differences, n_bootstrap=4000, seed=2)
    half = 1.96 * differences.std() / np.sqrt(len(differences))
    assert low[0] == pytest.approx(differences.mean() - half, abs=0.1 * half)
    assert high[0] == pytest.approx(differences.mean() + half, abs=0.1 * half)


def test_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(3)
    columns = rng.normal(0.0, 1.0, size=(200, 400))  # 400 experiments whose true mean is 0
    low, high = paired_intervals(columns, n_bootstrap=1000, seed=4)
    assert 0.91 < ((low < 0) & (high > 0)).mean() < 0.98


def test_groups_of_users_cover_the_truth_as_often(monkeypatch):
    monkeypatch.setattr(intervals, "MAX_UNITS", 300)
    columns = np.random.default_rng(13).exponential(1.0, size=(2011, 400)) - 1.0
    low, high = paired_intervals(columns, n_bootstrap=1000, seed=14)
    assert 0.92 < ((low < 0) & (high > 0)).mean() < 0.98


def test_a_seed_is_a_result_and_chunks_change_nothing(monkeypatch):
    differences = np.random.default_rng(5).random((97, 3))
    first = paired_intervals(differences, 500, seed=6)
    monkeypatch.setattr(intervals, "_DRAWS", 1000)
    again = paired_intervals(differences, 500, seed=6)
    np.testing.assert_allclose(first, again, rtol=1e-12)
    assert not np.array_equal(first, paired_intervals(differences, 500, seed=7))


def test_pairing_is_what_makes_a_small_difference_visible():
    rng = np.random.default_rng(8)
    reference = rng.random(2000)
    candidate = reference + 0.01  # always a little better
    low, high = paired_intervals((candidate - reference)[:, None], 300, seed=9)
    assert low[0] == pytest.approx(0.01) and high[0] == pytest.approx(0.01)


def test_nobody_has_no_interval():
    low, high = paired_intervals(np.empty((0, 2)), 100, seed=1)
    assert np.isnan(low).all() and np.isnan(high).all()


def test_users_without_a_difference_are_left_out():
    rng = np.random.default_rng(10)
    differences = rng.normal(0.2, 1.0, size=(900, 1))
    low, high = paired_intervals(differences, 3000, seed=11)
    padded = np.full((1800, 1), np.nan)
    padded[::2] = differences
    some_low, some_high = paired_intervals(np.hstack([padded, np.ones((1800, 1))]), 3000, seed=11)
    assert (some_low[0], some_high[0]) == pytest.approx((low[0], high[0]), abs=0.01)
    assert (some_low[1], some_high[1]) == (1.0, 1.0)


def test_a_few_users_have_no_interval():
    differences = np.full((30, 2), 0.5)
    differences[9:, 1] = np.nan
    low, high = paired_intervals(differences, 200, seed=12)
    assert (low[0], high[0]) == (0.5, 0.5)
    assert np.isnan(low[1]) and np.isnan(high[1])


def test_a_seed_draws_the_same_people_whichever_of_them_have_a_value():
    """So that two folds, or two models, can be added up resample by resample."""
    values = np.random.default_rng(15).random((40, 2))
    some = np.array([31, 4, 17])
    whole = resampled_means(values, np.arange(40), 40, 300, seed=16)
    masked = np.full_like(values, np.nan)
    masked[some] = values[some]
    of_some = resampled_means(values[some], some, 40, 300, seed=16)
    np.testing.assert_allclose(of_some, resampled_means(masked, np.arange(40), 40, 300, seed=16))
    assert np.isnan(of_some).any(), "where none of the three was drawn"
    np.testing.assert_allclose(ends(whole), paired_intervals(values, 300, seed=16))


def test_of_many_people_it_is_groups_that_are_drawn(monkeypatch):
    monkeypatch.setattr(intervals, "MAX_UNITS", 50)
    people = np.random.default_rng(17).permutation(1000)[:600]
    means = resampled_means(np.random.default_rng(18).normal(1.0, 1.0, (600, 1)), people, 1000, 2000, seed=19)
    assert means.std() == pytest.approx(1 / np.sqrt(600), rel=0.25) and means.mean() == pytest.approx(1, abs=0.1)


def test_an_end_of_nothing_is_nothing():
    low, high = ends(np.array([[np.nan, 1.0], [np.nan, np.nan], [np.nan, 3.0]]))
    assert np.isnan([low[0], high[0]]).all() and (low[1], high[1]) == (1.05, 2.95)
