"""A contender's lists of the test users of one fold, as an artifact: made once, and compared with any others."""

import time
from collections.abc import Callable
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.arrays import to_numpy
from recsys.dictionary import Dictionary
from recsys.errors import ConfigError
from recsys.evaluation.terms import Terms
from recsys.histories import Histories
from recsys.model import saving
from recsys.model.device import device_of, threads
from recsys.ranking.lists import Lists, Source, as_table, counting, make_lists
from recsys.ranking.popularity import Popularity
from recsys.ranking.ranker import Ranker, Reading
from recsys.splits import readable
from recsys.store import Artifact, Draft, Store
from recsys.windows import Fold, microseconds


def list_fold(
    store: Store,
    as_of: datetime,
    terms: Terms,
    contender: Artifact | str,
    *,
    window: str | None = None,
    progress: Callable[[float], None] | None = None,
    rebuild: bool = False,
) -> Artifact:
    """The artifact with `lists.parquet` of the fold's test users: `user_id, rank, item_id, score, source`, users by id.

    `contender` is a *training* artifact whose training ended at `fold.learn`, or the name of a baseline. What is popular lately
    is counted in `window`, or in the best of `evaluation.popular_windows` on the time before the fold; it also fills what a
    model leaves open, as it would tonight. Terms are shared: the next contender finds what the one before has made of them.

    Raises: ConfigError for what is popular lately where the fold is no window of time.
    """
    fold, rules = terms.fold, terms.rules
    if contender == "popular_lately":
        check_lately(fold)
    model = contender if isinstance(contender, Artifact) else None
    config = {"fold": {name: str(value) for name, value in vars(fold).items()}, **rules.versioned(), "window": window}
    config["contender"] = "model" if model is not None else contender

    def build(draft: Draft) -> None:
        with threads(rules.scoring.threads):
            _write(draft, terms, contender, window, progress)

    sequences = terms.tables.sequences
    inputs = {"sequences": sequences} if model is None else {"sequences": sequences, "training": model}
    sources = None if model is None else saving.sources(model.path)
    return store.ensure("folds", as_of, config, inputs, build, code=__name__, sources=sources, rebuild=rebuild)


def check_lately(fold: Fold) -> None:
    """ConfigError where there is no lately."""
    if fold.learn.at is None:
        raise ConfigError(f"popular_lately needs folds that are windows of time, and {fold.name} is none: leave it out of backtest.models.")


def read_lists(artifact: Artifact, user_id: pa.Array, dictionary: Dictionary) -> Lists:
    """The lists of the users (N,), in their order, as item codes (N, K). Sources are numbered as they come in the table."""
    table = pq.read_table(artifact.path / "lists.parquet")
    row = to_numpy(pc.index_in(table["user_id"], value_set=user_id))
    place = to_numpy(table["rank"]) - 1
    shape = (len(user_id), int(artifact.counts["places"]))
    lists = Lists(np.full(shape, -1), np.full(shape, -np.inf, dtype=np.float32), np.full(shape, -1, dtype=np.int8))
    lists.item_code[row, place] = to_numpy(pc.index_in(table["item_id"], value_set=dictionary.item_id))
    lists.score[row, place] = to_numpy(table["score"])
    lists.source[row, place] = to_numpy(pc.index_in(table["source"], value_set=pc.unique(table["source"])))
    return lists


def _write(draft: Draft, terms: Terms, contender: Artifact | str, window: str | None, progress: Callable[[float], None] | None) -> None:
    ground, dictionary = terms.ground, terms.tables.dictionary
    popular = terms.popular if window is None else terms.popular_in(window)
    started = time.perf_counter()  # from here on it is this contender's own work
    reading = _reading(contender, terms) if isinstance(contender, Artifact) else None
    sources: list[Source] = [*popular[str(contender)]] if reading is None else [reading, *Popularity.after_a_model(popular)]
    advance = counting(len(ground.users), progress)
    lists = make_lists(sources, ground.users, terms.rules.length(ground), ground.excluded, ground.n_history, progress=advance)
    draft.note(listing_seconds=round(time.perf_counter() - started, 3))
    table = as_table(terms.past.user_id.take(pa.array(ground.users)), lists, dictionary.item_id, [source.name for source in sources])
    pq.write_table(table, draft.path / "lists.parquet", compression="zstd")
    draft.counts = {**ground.counts, "places": lists.item_code.shape[1]}
    if reading is not None:
        draft.counts |= {"fallback_users": int((lists.source[:, 0] > 0).sum()), "unknown_events": reading.n_unknown}
    lately = window or terms.lately
    if lately is not None:
        draft.metrics = {"popular_window": lately}


def _reading(model: Artifact, terms: Terms) -> Reading:
    """A model where the fold's histories end: its windows are predicted at the moment of their cut, events at their own."""
    fold, tables = terms.fold, terms.tables
    ranker = Ranker.load("model", model.path, tables.dictionary, device_of(terms.rules.scoring.accelerator))
    past = terms.past
    if ranker.columns:
        past = readable(Histories.load(tables.sequences.path, columns=ranker.columns), fold.learn)
    now = microseconds(fold.read.at) if fold.read.at is not None and not fold.read.last else None
    return ranker.reading(past, terms.ground.ends, now)
