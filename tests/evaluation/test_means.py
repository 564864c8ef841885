"""Means over folds, with intervals in which a user is drawn with all that they have in any fold."""

from dataclasses import dataclass

import numpy as np
import pytest

from recsys.evaluation.means import Means

NDCG, COVERAGE = ("NDCG", 10), ("CatalogCoverage", 10)


@dataclass
class Ground:
    users: np.ndarray


@dataclass
class Fold:
    """What a comparison knows of a fold: values of its users, rows of the histories, by model."""

    users: np.ndarray
    values: dict[str, np.ndarray]
    coverage: dict[str, float]
    reference: str = "popular"

    @property
    def ground(self) -> Ground:
        return Ground(self.users)

    @property
    def everybody(self) -> dict[str, dict[tuple[str, int], np.ndarray]]:
        return {name: {NDCG: values} for name, values in self.values.items()}

    def rows(self) -> list[dict[str, object]]:
        """Of each model its NDCG, its coverage, and a slice that is none of all users."""
        found: list[dict[str, object]] = []
        for name, values in self.values.items():
            of_all = {"contender": name, "slice": "all", "k": 10, "difference": None, "low": None, "high": None}
            defined = values[~np.isnan(values)]
            value = defined.mean() if len(defined) else np.nan
            found.append({**of_all, "metric": "NDCG", "value": value, "n_users": len(defined)})
            found.append({**of_all, "metric": "CatalogCoverage", "value": self.coverage[name], "n_users": len(values)})
            found.append({**of_all, "slice": "users with 1 event", "metric": "NDCG", "value": 0.99, "n_users": 1})
        return found


def table(folds: list[Fold], n_users: int, tested: tuple[str, ...] = ("popular", "sasrec"), baselines: tuple[str, ...] = ("popular",)):
    means = Means(n_users, n_bootstrap=1000, seed=1)
    for fold in folds:
        means.add(fold, fold.rows())  # type: ignore[arg-type]  # all that it looks at
    rows = means.table(tested, baselines).to_pylist()
    return {(row["model"], (row["metric"], row["k"])): row for row in rows}


def fold(users: np.ndarray, sasrec: np.ndarray, popular: np.ndarray | None = None, **more) -> Fold:
    values = {"popular": np.zeros(len(users)) if popular is None else popular, "sasrec": sasrec}
    return Fold(users, values, {"popular": 0.1, "sasrec": 0.3}, **more)


def test_by_hand():
    two = [fold(np.arange(20), np.full(20, 0.5)), fold(np.arange(5, 15), np.full(10, 0.2), np.full(10, 0.1))]
    found = table(two, 30)
    sasrec = found["sasrec", NDCG]
    assert (sasrec["value"], sasrec["folds"], sasrec["reference"]) == (0.35, 2, "popular")
    assert sasrec["difference"] == pytest.approx(0.3) and (sasrec["low"], sasrec["high"]) == pytest.approx((0.3, 0.3))
    assert [found["popular", NDCG][name] for name in ("value", "difference", "low", "high")] == [0.05, None, None, None]
    coverage = found["sasrec", COVERAGE]
    assert coverage["difference"] == pytest.approx(0.2) and (coverage["low"], coverage["high"]) == (None, None)


def test_a_user_of_several_folds_is_drawn_with_all_of_them():
    """Ten folds that say the same of the same users know no more than one of them; of other users they do."""
    draw = np.random.default_rng(1).normal(0.2, 1.0, (10, 200))
    same = table([fold(np.arange(200), draw[0]) for _ in range(10)], 200)["sasrec", NDCG]
    others = table([fold(np.arange(200) + 200 * n, draw[n]) for n in range(10)], 2000)["sasrec", NDCG]
    half_of_one, half_of_ten = 1.96 / np.sqrt(200), 1.96 / np.sqrt(2000)
    assert (same["high"] - same["low"]) / 2 == pytest.approx(half_of_one, rel=0.15)
    assert (others["high"] - others["low"]) / 2 == pytest.approx(half_of_ten, rel=0.15)


def test_models_are_paired():
    easy = np.random.default_rng(2).normal(0.0, 1.0, 500)
    found = table([fold(np.arange(500), easy + 0.01, easy) for _ in range(2)], 500)["sasrec", NDCG]
    assert (found["low"], found["high"]) == pytest.approx((0.01, 0.01))


def test_the_means_of_one_fold_are_the_fold():
    one = fold(np.arange(20), np.full(20, 0.5))
    rows = one.rows()
    rows[3] |= {"difference": 0.51, "low": 0.4, "high": 0.6}
    means = Means(20, 1000, 1)
    means.add(one, rows)  # type: ignore[arg-type]
    found = {(row["model"], row["metric"]): row for row in means.table(("popular", "sasrec"), ("popular",)).to_pylist()}
    assert [found["sasrec", "NDCG"][name] for name in ("value", "difference", "low", "high")] == [0.5, 0.51, 0.4, 0.6]


def test_a_fold_without_anybody_counts_for_nothing_and_few_users_have_no_interval():
    nobody = fold(np.zeros(0, dtype=np.int64), np.zeros(0))
    found = table([fold(np.arange(20), np.full(20, 0.5)), nobody], 20)["sasrec", NDCG]
    assert (found["value"], found["folds"]) == (0.5, 1) and found["low"] == pytest.approx(0.5)
    few = table([fold(np.arange(9), np.full(9, 0.5)), fold(np.arange(8), np.full(8, 0.5))], 20)["sasrec", NDCG]
    assert few["difference"] == 0.5 and few["low"] is None, "nine people, though in both folds"
    only_nine = np.where(np.arange(40) < 9, 0.5, np.nan)
    of_nine = table([fold(np.arange(40), only_nine, only_nine) for _ in range(2)], 40)["sasrec", NDCG]
    assert of_nine["difference"] == 0 and of_nine["low"] is None, "nine of forty people have a value"
    undefined = table([fold(np.arange(20), np.full(20, np.nan)) for _ in range(2)], 20)["sasrec", NDCG]
    assert (undefined["folds"], undefined["low"]) == (0, None)
    assert np.isnan(table([nobody, nobody], 20)["sasrec", NDCG]["value"])


def test_a_user_without_a_value_in_a_fold_is_left_out_there():
    some = np.where(np.arange(40) < 20, 0.4, np.nan)
    found = table([fold(np.arange(40), some), fold(np.arange(40), np.full(40, 0.2))], 40)["sasrec", NDCG]
    assert found["value"] == pytest.approx(0.3) and (found["low"], found["high"]) == pytest.approx((0.3, 0.3))


def test_folds_that_were_compared_with_different_models_have_the_best_baseline_in_common():
    two = [fold(np.arange(20), np.full(20, 0.5)), fold(np.arange(20), np.full(20, 0.2), reference="sasrec")]
    assert table(two, 20)["sasrec", NDCG]["reference"] == "popular"
    assert table(two, 20, baselines=())["popular", NDCG]["reference"] == "sasrec", "where there is none, the best model"
    found = table(two, 20, tested=("sasrec",))
    assert list(dict.fromkeys(model for model, _ in found)) == ["sasrec"] and found["sasrec", NDCG]["difference"] == pytest.approx(0.35)
