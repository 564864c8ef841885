"""The works that are measured side by side."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Side:
    """One of those that do a row's work: `process` is a key of `benchmarks.sides.MODULES`, `work` one of that module's."""

    label: str
    process: Literal["ours", "RecTools"]
    work: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    input: str | None = None  # the row's, unless said


@dataclass(frozen=True)
class Row:
    """A work, as it is done by several sides on the same events with the same settings."""

    title: str
    input: str
    sides: tuple[Side, ...]
    reach: tuple[str, ...] = ("",)  # by pair: what the second over the first, or the first alone, shall be
    pairs: tuple[tuple[int, ...], ...] = ((0, 1),)  # which sides stand beside each other
    of: Literal["seconds", "peak_gib", "rate_share"] = "seconds"
    settings: Mapping[str, Any] = field(default_factory=dict)
    takes_share: bool = False  # of an epoch's steps
    repeats: int | None = None  # at most, where memory is measured


def _training(title: str, table: str, reach: str, theirs: str = "train", **settings: Any) -> Row:
    sides = (
        Side("ours", "ours", "train"),
        Side("FlatSASRecNet" if theirs == "train-flat" else "SASRecModel", "RecTools", theirs),
    )
    return Row(title, table, sides, (reach,), settings=settings, takes_share=True)


RECOMMEND = (Side("ours", "ours", "recommend"), Side("SASRecModel", "RecTools", "recommend"))
WHOLE = (Side("ours", "ours", "whole"), Side("SASRecModel", "RecTools", "whole"))
SEQUENCES = (
    Side("ours, features and sequences", "ours", "sequences"),
    Side("ours, sequences", "ours", "sequences-only"),
    Side("SASRecModel", "RecTools", "sequences"),
    Side("build_sequences", "RecTools", "sequences-flat"),
)
MILLION = (Side("ours", "ours", "train"), Side("SASRecModel, 16 GiB at most", "RecTools", "train", {"memory_gib": 16.0}))
SCORING = (
    Side("ours, 30,000 users", "ours", "scoring", input="kion-x10"),
    Side("ours, 300,000 users", "ours", "scoring", input="kion-x100"),
    Side("SASRecModel, 3,000 users", "RecTools", "recommend", input="kion"),
    Side("SASRecModel, 30,000 users", "RecTools", "recommend", input="kion-x10"),
)

ROWS = {
    "train-ml1m": _training("full softmax, ML-1M: an epoch", "ml-1m", "≥ 5"),
    "train-kion": _training("full softmax, KION-like, 7,376 items: an epoch", "kion", "≥ 50"),
    "train-kion-15k": _training("full softmax, KION-like, 15,000 items: an epoch", "kion-15k", ""),
    "flat-ml1m": _training("full softmax, pre-norm blocks, ML-1M: an epoch", "ml-1m", "", "train-flat", architecture="preln"),
    "flat-kion": _training("full softmax, pre-norm blocks, KION-like: an epoch", "kion", "", "train-flat", architecture="preln"),
    "sampled-ml1m": _training("sampled softmax, ML-1M: an epoch", "ml-1m", "≥ 10", loss="sampled"),
    "sampled-kion": _training("sampled softmax, KION-like: an epoch", "kion", "≥ 10", loss="sampled"),
    "recommend-ml1m": Row("top-10 for all users, seen items removed, ML-1M", "ml-1m", RECOMMEND, ("≥ 5",)),
    "recommend-kion": Row("top-10 for all users, seen items removed, KION-like", "kion", RECOMMEND, ("≥ 30",)),
    "sequences": Row(
        "event table to training-ready sequences, 3 million rows",
        "3m",
        SEQUENCES,
        ("≥ 10", "", "≥ 1"),
        ((0, 2), (1, 2), (1, 3)),
        settings={"width": 64},
    ),
    "whole-globo": Row(
        "fit 3 epochs, recommend for everyone, write parquet: globo, one user in 64",
        "globo-64th",
        WHOLE,
        ("≥ 20",),
        settings={"width": 64, "max_events": 50, "epochs": 3},
    ),
    "rate-ml1m": Row(
        "share of the measured rate of float32 products, training ML-1M",
        "ml-1m",
        (Side("ours", "ours", "train"),),
        ("≥ 50 %",),
        ((0,),),
        of="rate_share",
        takes_share=True,
    ),
    "memory-million": Row(
        "peak memory of training, full softmax over 1 million items",
        "million-items",
        MILLION,
        ("≤ 3 GB",),
        of="peak_gib",
        settings={"width": 64, "share": 0.03},
        repeats=1,
    ),
    "memory-scoring": Row(
        "peak memory of scoring as users grow 10 ×",
        "kion",
        SCORING,
        ("≤ 1.1", ""),
        ((0, 1), (2, 3)),
        of="peak_gib",
        settings={"width": 64},
        repeats=1,
    ),
}
