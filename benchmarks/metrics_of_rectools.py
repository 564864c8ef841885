"""What RecTools makes of generated lists, for tests/ranking/test_metrics_of_rectools.py to be compared with.

    PYTHON benchmarks/metrics_of_rectools.py tests/ranking/metrics_of_rectools.json

PYTHON is one that has RecTools 0.19.0, in an environment of its own: it is no dependency of ours. Everything is drawn by seed;
the file holds what was drawn too, so that the test needs no RecTools and no generator.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rectools import Columns, metrics
from rectools.dataset import IdMap, SparseFeatures
from rectools.metrics.debias import DebiasConfig, debias_interactions
from rectools.metrics.distances import PairwiseHammingDistanceCalculator, SparsePairwiseHammingDistanceCalculator
from scipy.sparse import csr_matrix

SEED, N_USERS, N_ITEMS, N_CATALOG, LENGTH = 7, 60, 80, 70, 30  # the last ten items may not be listed
KS = (1, 5, 10)
DEBIAS = DebiasConfig(iqr_coef=0.5, random_state=SEED)

# Our text of a metric → the metric at k. What each takes besides the lists follows from its kind.
OF_TEST = {
    "HitRate": lambda k: metrics.HitRate(k),
    "Precision": lambda k: metrics.Precision(k),
    "Precision(r_precision=true)": lambda k: metrics.Precision(k, r_precision=True),
    "Recall": lambda k: metrics.Recall(k),
    "F1Beta": lambda k: metrics.F1Beta(k),
    "F1Beta(beta=2.0)": lambda k: metrics.F1Beta(k, beta=2.0),
    "MAP": lambda k: metrics.MAP(k),
    "MAP(divide_by_k=true)": lambda k: metrics.MAP(k, divide_by_k=True),
    "NDCG": lambda k: metrics.NDCG(k, divide_by_achievable=True),
    "NDCG(divide_by_achievable=false)": lambda k: metrics.NDCG(k),
    "MRR": lambda k: metrics.MRR(k),
    "PartialAUC": lambda k: metrics.PartialAUC(k),
    "PAP": lambda k: metrics.PAP(k),
    "CoveredUsers": lambda k: metrics.CoveredUsers(k),
}
OF_CATALOG = {"Accuracy": metrics.Accuracy, "MCC": metrics.MCC}
OF_PAST = {
    "AvgRecPopularity": lambda k: metrics.AvgRecPopularity(k),
    "AvgRecPopularity(normalize=true)": lambda k: metrics.AvgRecPopularity(k, normalize=True),
    "MeanInvUserFreq": lambda k: metrics.MeanInvUserFreq(k),
}
OF_LISTS = {
    "SufficientReco": lambda k: metrics.SufficientReco(k),
    "SufficientReco(deep=true)": lambda k: metrics.SufficientReco(k, deep=True),
    "UnrepeatedReco": lambda k: metrics.UnrepeatedReco(k),
    "UnrepeatedReco(deep=true)": lambda k: metrics.UnrepeatedReco(k, deep=True),
}
OF_OTHER_LISTS = {
    "Intersection": lambda k: metrics.Intersection(k),
    "Intersection(ref_k=3)": lambda k: metrics.Intersection(k, ref_k=3),
}
DEBIASED = {
    "Recall": lambda k: metrics.Recall(k, debias_config=DEBIAS),
    "NDCG": lambda k: metrics.NDCG(k, divide_by_achievable=True, debias_config=DEBIAS),
    "MAP": lambda k: metrics.MAP(k, debias_config=DEBIAS),
    "PAP": lambda k: metrics.PAP(k, debias_config=DEBIAS),
}


def main() -> None:
    given = drawn(np.random.default_rng(SEED))
    found = {
        "rectools": version("rectools"),
        "given": given,
        "per_user": per_user(given),
        "overall": overall(given),
        "debiased": debiased(given),
    }
    Path(sys.argv[1]).write_text(json.dumps(found) + "\n")


def drawn(rng: np.random.Generator) -> dict[str, Any]:
    """Lists, relevant items, past events, categories of the items, and lists of another model."""
    popularity = 1 / np.arange(1, N_CATALOG + 1)
    popularity /= popularity.sum()
    lists, others, repeated = [], [], []
    for length in rng.choice([0, 1, 4, LENGTH], p=[0.05, 0.05, 0.1, 0.8], size=N_USERS):
        lists.append(rng.choice(N_CATALOG, size=length, replace=False, p=popularity).tolist())
        others.append(rng.choice(N_CATALOG, size=LENGTH, replace=False, p=popularity).tolist())
        repeated.append(rng.integers(0, 12, size=length).tolist())
    relevant = [sorted(rng.choice(N_CATALOG, size=rng.integers(1, 14), replace=False, p=popularity).tolist()) for _ in range(N_USERS)]
    past = np.stack([rng.integers(0, 40, 600), np.minimum(rng.geometric(0.05, 600), N_ITEMS) - 1], axis=1)
    tags = (rng.random((N_ITEMS, 6)) < 0.3).astype(int)
    columns = {"colour": rng.integers(0, 4, N_ITEMS).tolist(), "brand": rng.integers(0, 9, N_ITEMS).tolist()}
    return {
        "n_items": N_ITEMS, "n_catalog": N_CATALOG, "ks": KS, "lists": lists, "others": others, "repeated": repeated,
        "relevant": relevant, "past": past.tolist(), "tags": [np.flatnonzero(row).tolist() for row in tags], **columns,
    }  # fmt: skip


def per_user(given: dict[str, Any]) -> dict[str, list[float | None]]:
    """`{"NDCG@5": one value per user}`, null where RecTools has none."""
    reco, others, test, past = recommended(given["lists"]), recommended(given["others"]), interactions(given["relevant"]), events(given)
    catalog = range(N_CATALOG)
    found: dict[str, Any] = {}
    for k in given["ks"]:
        found |= {f"{name}@{k}": make(k).calc_per_user(reco, test) for name, make in OF_TEST.items()}
        found |= {f"{name}@{k}": make(k).calc_per_user(reco, test, catalog) for name, make in OF_CATALOG.items()}
        found |= {f"{name}@{k}": make(k).calc_per_user(reco, past) for name, make in OF_PAST.items()}
        found |= {f"{name}@{k}": make(k).calc_per_user(reco) for name, make in OF_LISTS.items()}
        found |= {f"{name}@{k}": make(k).calc_per_user(reco, others) for name, make in OF_OTHER_LISTS.items()}
        found[f"Serendipity@{k}"] = metrics.Serendipity(k).calc_per_user(reco, test, past, catalog)
        for name, distances in calculators(given).items():
            found[f"{name}@{k}"] = metrics.IntraListDiversity(k, distances).calc_per_user(reco)
        for name in ("UnrepeatedReco", "UnrepeatedReco(deep=true)"):
            found[f"repeated {name}@{k}"] = OF_LISTS[name](k).calc_per_user(recommended(given["repeated"]))
    return {name: of_users(values) for name, values in found.items()}


def overall(given: dict[str, Any]) -> dict[str, float]:
    reco = recommended(given["lists"])
    found = {}
    for k in given["ks"]:
        found[f"CatalogCoverage@{k}"] = metrics.CatalogCoverage(k, normalize=True).calc(reco, range(N_CATALOG))
        found[f"CatalogCoverage(normalize=false)@{k}"] = float(metrics.CatalogCoverage(k).calc(reco, range(N_CATALOG)))
    return found


def debiased(given: dict[str, Any]) -> dict[str, Any]:
    """Which pairs RecTools keeps (its draw is its own), and what it makes of them."""
    reco, test = recommended(given["lists"]), interactions(given["relevant"])
    left = set(map(tuple, debias_interactions(test, DEBIAS)[[Columns.User, Columns.Item]].to_numpy().tolist()))
    kept = [pair in left for pair in map(tuple, test.to_numpy().tolist())]
    values = {f"{name}@{k}": of_users(make(k).calc_per_user(reco, test)) for k in given["ks"] for name, make in DEBIASED.items()}
    return {"iqr_coef": DEBIAS.iqr_coef, "kept": kept, "per_user": values}


def calculators(given: dict[str, Any]) -> dict[str, Any]:
    """Distances by columns with one category an item, and by one with several."""
    labels = pd.DataFrame({"colour": given["colour"], "brand": given["brand"]})
    tags = np.zeros((N_ITEMS, 6))
    for item, own in enumerate(given["tags"]):
        tags[item, own] = 1
    sparse = SparseFeatures(values=csr_matrix(tags), names=tuple(f"tag {n}" for n in range(6)))
    return {
        'IntraListDiversity(columns=["colour", "brand"])': PairwiseHammingDistanceCalculator(labels),
        'IntraListDiversity(columns=["tags"])': SparsePairwiseHammingDistanceCalculator(sparse, IdMap(np.arange(N_ITEMS))),
    }


def recommended(lists: list[list[int]]) -> pd.DataFrame:
    rows = [(user, item, rank) for user, items in enumerate(lists) for rank, item in enumerate(items, start=1)]
    return pd.DataFrame(rows, columns=[Columns.User, Columns.Item, Columns.Rank])


def interactions(relevant: list[list[int]]) -> pd.DataFrame:
    return pd.DataFrame([(user, item) for user, items in enumerate(relevant) for item in items], columns=[Columns.User, Columns.Item])


def events(given: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(given["past"], columns=[Columns.User, Columns.Item])


def of_users(values: pd.Series) -> list[float | None]:
    return [None if pd.isna(value) else float(value) for value in values.reindex(range(N_USERS))]


if __name__ == "__main__":
    main()
