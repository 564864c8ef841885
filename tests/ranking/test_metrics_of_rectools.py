"""Values equal those of RecTools 0.19.0 on generated lists, user by user (benchmarks/metrics_of_rectools.py made them)."""

import json
from pathlib import Path

import numpy as np
import pytest

from recsys.arrays import Ragged
from recsys.ranking.metrics import Judged, Metric, Past, UserMetric, judge, named
from recsys.ranking.metrics.debiased import Debiased
from recsys.slots import choices

RECTOOLS = json.loads((Path(__file__).parent / "metrics_of_rectools.json").read_text())
GIVEN, DEBIASED = RECTOOLS["given"], RECTOOLS["debiased"]


def padded(lists: list[list[int]]) -> np.ndarray:
    """(U, K) with −1 behind short lists."""
    full = np.full((len(lists), max(map(len, lists))), -1)
    for row, items in zip(full, lists, strict=True):
        row[: len(items)] = items
    return full


def ragged(lists: list[list[int]]) -> Ragged:
    return Ragged(np.array([value for own in lists for value in own]), np.cumsum([0, *map(len, lists)]))


@pytest.fixture(scope="module")
def judged() -> Judged:
    relevant = ragged(GIVEN["relevant"])
    columns = {"colour": np.array(GIVEN["colour"]), "brand": np.array(GIVEN["brand"]), "tags": ragged(GIVEN["tags"])}
    past = Past.counted(*np.array(GIVEN["past"]).T, np.arange(GIVEN["n_items"]) < GIVEN["n_catalog"], columns)
    return judge(padded(GIVEN["lists"]), relevant.offsets, relevant.values, past, {"reference": padded(GIVEN["others"])})


def metric_at(key: str) -> tuple[Metric, int]:
    text, _, k = key.rpartition("@")
    return named([text])[text], int(k)


def values(numbers: list[float | None]) -> np.ndarray:
    return np.array(numbers, dtype=np.float64)  # None is NaN


@pytest.mark.parametrize("key", [key for key in RECTOOLS["per_user"] if not key.startswith("repeated")])
def test_per_user(key: str, judged: Judged) -> None:
    metric, k = metric_at(key)
    assert isinstance(metric, UserMetric)
    digits = 1e-6 if "tags" in key else 1e-12  # its distances of sparse features are in float32
    np.testing.assert_allclose(metric.per_user(judged, k), values(RECTOOLS["per_user"][key]), rtol=digits)


@pytest.mark.parametrize("key", [key for key in RECTOOLS["per_user"] if key.startswith("repeated")])
def test_lists_with_repeated_items(key: str, judged: Judged) -> None:
    metric, k = metric_at(key.removeprefix("repeated "))
    assert isinstance(metric, UserMetric)
    repeated = judge(padded(GIVEN["repeated"]), judged.offsets, judged.relevant)
    np.testing.assert_allclose(metric.per_user(repeated, k), values(RECTOOLS["per_user"][key]))


@pytest.mark.parametrize("key", RECTOOLS["overall"])
def test_of_all_lists_together(key: str, judged: Judged) -> None:
    metric, k = metric_at(key)
    assert metric.overall(judged, k) == pytest.approx(RECTOOLS["overall"][key])


def test_as_many_pairs_are_left_of_every_item(judged: Judged) -> None:
    debiased = Debiased(metric=named(["NDCG"])["NDCG"], iqr_coef=DEBIASED["iqr_coef"])  # type: ignore[arg-type]
    ours, theirs = debiased.kept(judged.relevant), np.array(DEBIASED["kept"])
    assert 0 < ours.sum() < len(ours)
    assert np.bincount(judged.relevant[ours]).tolist() == np.bincount(judged.relevant[theirs]).tolist()


@pytest.mark.parametrize("key", DEBIASED["per_user"])
def test_on_the_pairs_that_its_debiasing_drew(key: str, judged: Judged) -> None:
    metric, k = metric_at(key)
    assert isinstance(metric, UserMetric)
    left = judged.part(np.arange(len(judged.items)), np.array(DEBIASED["kept"]))
    some = np.flatnonzero(left.n_relevant)
    found = metric.per_user(left.part(some, np.ones(len(left.relevant), dtype=bool)), k)
    expected = values(DEBIASED["per_user"][key])
    np.testing.assert_allclose(found, expected[some], rtol=1e-12)
    assert np.flatnonzero(~np.isnan(expected)).tolist() == some.tolist()


def test_every_metric_is_compared() -> None:
    compared = {key.split("@")[0].split("(")[0] for key in (*RECTOOLS["per_user"], *RECTOOLS["overall"])}
    assert compared >= set(choices(Metric)) - {"Debiased"}
    assert RECTOOLS["rectools"] == "0.19.0"
