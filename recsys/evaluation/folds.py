"""A contender's lists of the test users of one fold, as an artifact: made once, and compared with any others."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.arrays import to_numpy
from recsys.config import Evaluation
from recsys.errors import ConfigError
from recsys.evaluation.baselines import try_windows
from recsys.evaluation.ground import Ground, Kept, fold_ground
from recsys.histories import Dictionary, Histories
from recsys.model import own_parts, saving
from recsys.model.device import device_of
from recsys.ranking.lists import Lists, Source, as_table, counting, make_lists
from recsys.ranking.metrics import Metric, named
from recsys.ranking.popularity import Popularity
from recsys.ranking.ranker import Ranker, Reading
from recsys.store import Artifact, Draft, Store
from recsys.windows import Cut, Fold, microseconds, spelt


@dataclass(frozen=True)
class Rules:
    """What all contenders of a backtest share: how lists are made, what is asked for, and of how many users."""

    evaluation: Evaluation
    kept: Kept
    exclude_seen: bool
    segment: str | None  # the users' column by which popular items are counted
    seed: int
    code: str | None = None  # the folder of own metrics

    def metrics(self) -> dict[str, Metric]:
        """What is measured, by name. ConfigError where there is no such metric."""
        own_parts.put_on_path(self.code)
        return named(self.evaluation.metrics, "evaluation.metrics")

    def versioned(self) -> dict[str, Any]:
        """What lists depend on, as JSON values."""
        evaluation = self.evaluation
        longer = [name for name, metric in self.metrics().items() if metric.places(1, 1) > 1]
        asked = {"k": max(evaluation.k), "longer": longer, "max_users": evaluation.max_users, "popular_windows": evaluation.popular_windows}
        return {**asked, "kept": asdict(self.kept), "exclude_seen": self.exclude_seen, "segment": self.segment, "seed": self.seed}

    def length(self, ground: Ground) -> int:
        """How long lists have to be for what is measured on them."""
        most = int(np.diff(ground.offsets).max(initial=0))
        return max(metric.places(k, most) for metric in self.metrics().values() for k in self.evaluation.k)

    def ground(self, histories: Histories, dictionary: Dictionary, fold: Fold) -> tuple[Histories, Ground]:
        """The histories that may be read in a fold, and whom it asks for what."""
        past, ground = fold_ground(histories, dictionary, fold, self.exclude_seen, self.kept)
        return past, ground.some(self.evaluation.max_users, self.seed)


def list_fold(
    store: Store,
    as_of: datetime,
    fold: Fold,
    rules: Rules,
    sequences: Artifact,
    contender: Artifact | str,
    *,
    window: str | None = None,
    progress: Callable[[float], None] | None = None,
    rebuild: bool = False,
) -> Artifact:
    """The artifact with `lists.parquet` of the fold's test users: `user_id, rank, item_id, score, source`, users by id.

    `contender` is a *training* artifact whose training ended at `fold.learn`, or the name of a baseline. What is popular lately
    is counted in `window`, or in the best of `evaluation.popular_windows` on the time before the fold; it also fills what a
    model leaves open, as it would tonight.

    Raises: ConfigError for what is popular lately where the fold is no window of time.
    """
    if contender == "popular_lately":
        check_lately(fold)
    model = contender if isinstance(contender, Artifact) else None
    config = {"fold": {name: str(value) for name, value in vars(fold).items()}, **rules.versioned(), "window": window}
    config["contender"] = "model" if model is not None else contender

    def build(draft: Draft) -> None:
        _write(draft, fold, rules, sequences, contender, window, progress)

    inputs = {"sequences": sequences} if model is None else {"sequences": sequences, "training": model}
    sources = None if model is None else saving.sources(model.path)
    return store.ensure("folds", as_of, config, inputs, build, code=__name__, sources=sources, rebuild=rebuild)


def check_lately(fold: Fold) -> None:
    """ConfigError where there is no lately."""
    if fold.learn.at is None:
        raise ConfigError(f"popular_lately needs folds that are windows of time, and {fold.name} is none: leave it out of backtest.models.")


def read_lists(artifact: Artifact, user_id: pa.Array, dictionary: Dictionary) -> Lists:
    """The lists of the users (N,), in their order, as item codes (N, K)."""
    table = pq.read_table(artifact.path / "lists.parquet")
    row = to_numpy(pc.index_in(table["user_id"], value_set=user_id))
    place = to_numpy(table["rank"]) - 1
    shape = (len(user_id), int(artifact.counts["places"]))
    lists = Lists(np.full(shape, -1), np.full(shape, -np.inf, dtype=np.float32), np.full(shape, -1, dtype=np.int8))
    lists.item_code[row, place] = to_numpy(pc.index_in(table["item_id"], value_set=dictionary.item_id))
    lists.score[row, place] = to_numpy(table["score"])
    lists.source[row, place] = to_numpy(pc.index_in(table["source"], value_set=pc.unique(table["source"])))
    return lists


def _write(
    draft: Draft,
    fold: Fold,
    rules: Rules,
    sequences: Artifact,
    contender: Artifact | str,
    window: str | None,
    progress: Callable[[float], None] | None,
) -> None:
    dictionary = Dictionary.load(sequences.path)
    ranker = Ranker.load("model", contender.path, dictionary, device_of("auto")) if isinstance(contender, Artifact) else None
    columns = {*(ranker.columns if ranker else ()), *([rules.segment] if rules.segment else [])}
    histories = Histories.load(sequences.path, columns=columns)
    past, ground = rules.ground(histories, dictionary, fold)
    lately = window or _lately(past, dictionary, fold, rules)
    popular = _popular(past, dictionary, fold, lately, rules.segment)
    reading = None if ranker is None else _reading(ranker, past, ground, fold)
    sources: list[Source] = [*popular[str(contender)]] if reading is None else [reading, *next(iter(popular.values()))]
    advance = counting(len(ground.users), progress)
    lists = make_lists(sources, ground.users, rules.length(ground), ground.excluded, ground.n_history, progress=advance)
    table = as_table(past.user_id.take(pa.array(ground.users)), lists, dictionary.item_id, [source.name for source in sources])
    pq.write_table(table, draft.path / "lists.parquet", compression="zstd")
    draft.counts = {**ground.counts, "places": lists.item_code.shape[1]}
    if reading is not None:
        draft.counts |= {"fallback_users": int((lists.source[:, 0] > 0).sum()), "unknown_events": reading.n_unknown}
    if lately is not None:
        draft.metrics = {"popular_window": lately}


def _lately(past: Histories, dictionary: Dictionary, fold: Fold, rules: Rules) -> str | None:
    """The best window of what is popular lately, on the time before the fold; None where folds are no windows of time."""
    learn, start, stop = fold.learn.at, fold.start.at, fold.stop.at
    if learn is None or start is None or stop is None:
        return None
    evaluation = rules.evaluation
    tried = try_windows(
        past, dictionary, Cut(at=learn), spelt(stop - start), evaluation.popular_windows,
        exclude_seen=rules.exclude_seen, segment=rules.segment, max_users=evaluation.max_users, seed=rules.seed,
    )  # fmt: skip
    return next(row.window for row in tried if row.chosen)


def _popular(past: Histories, dictionary: Dictionary, fold: Fold, window: str | None, segment: str | None) -> Mapping[str, list[Any]]:
    """What is popular where models learn: of everything before, however far back they learn."""
    return Popularity.count([past], dictionary, fold.learn, window, segment).sources(past)


def _reading(ranker: Ranker, past: Histories, ground: Ground, fold: Fold) -> Reading:
    """A model where the fold's histories end: its windows are predicted at the moment of their cut, events at their own."""
    now = microseconds(fold.read.at) if fold.read.at is not None and not fold.read.last else None
    return ranker.reading(past, ground.ends, now)
