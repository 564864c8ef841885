"""Who a night compares: two models and two lists by popularity, by the names that settings, tables and files use."""

from typing import Literal

Baseline = Literal["popular_lately", "popular"]

MODELS = ("candidate", "current")  # on some nights there is no current one
BASELINES: tuple[Baseline, ...] = ("popular_lately", "popular")  # of equals, the first
CONTENDERS = (*MODELS, *BASELINES)

NAMES = {  # in a sentence
    "candidate": "the candidate",
    "current": "the current model",
    "popular_lately": "popular-lately",
    "popular": "popular overall",
}
