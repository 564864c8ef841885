"""Tonight's lists: the k best items of every user, without what they have seen and what is blocked, as original ids.

Memory holds one shard's histories and one row group of lists, whatever the number of users.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from recsys.arrays import Ints
from recsys.config import Scoring
from recsys.errors import ConfigError
from recsys.histories import Dictionary, Histories, shards_of
from recsys.model import saving
from recsys.ranking.lists import Lists, Source, counting, make_lists
from recsys.ranking.popularity import Popularity
from recsys.ranking.ranker import Ranker, Reading, device_of
from recsys.scoring import vectors
from recsys.scoring.parts import USERS_PER_ROW_GROUP, PartWriter
from recsys.scoring.predictions import write_predictions
from recsys.store import Artifact, Draft, Store
from recsys.windows import everything, microseconds

MODELS = ("candidate", "current")


def recommend(
    store: Store,
    as_of: datetime,
    scoring: Scoring,
    sequences: Artifact,
    model: Artifact | None,
    source: str,
    popular_window: str,
    *,
    progress: Callable[[float], None] | None = None,
    rebuild: bool = False,
) -> Artifact:
    """The artifact with `recommendations/part-000.parquet` …, one part per shard: a list for every user of `sequences`;
    of a model's lists also `vectors/` and `similar_items.parquet`, where `scoring` asks for them.

    `source` says whose lists they are: "candidate" or "current", which takes the `model`, or "popular_lately" or "popular",
    which takes none. Lists that a model cannot make or fill go on with what was popular lately in `popular_window` (as "6h";
    empty for data with an order only), then with what was ever.
    """
    if (source in MODELS) != (model is not None):
        raise ConfigError(f"The source of the lists is {source!r}: give {' or '.join(MODELS)} a model, and a baseline none.")
    if source == "popular_lately" and not popular_window:
        raise ConfigError('The source of the lists is "popular_lately", which needs a popular_window, as "6h".')
    config = {**scoring.versioned(), "source": source, "popular_window": popular_window}
    inputs = {"sequences": sequences} if model is None else {"sequences": sequences, "model": model}

    def build(draft: Draft) -> None:
        with _threads(scoring.threads):
            night = _Night(as_of, scoring, sequences, model, source, popular_window)
            draft.note(device=night.device)
            draft.counts = night.write(draft.path / "recommendations", progress)

    sources = None if model is None else saving.sources(model.path)
    return store.ensure("scoring", as_of, config, inputs, build, code="recsys.scoring.recommend", sources=sources, rebuild=rebuild)


class _Night:
    """One night's scoring at work: what does not change from shard to shard."""

    def __init__(
        self, as_of: datetime, scoring: Scoring, sequences: Artifact, model: Artifact | None, source: str, popular_window: str
    ) -> None:
        self.scoring, self.source, self.folder = scoring, source, sequences.path
        self.dictionary = Dictionary.load(self.folder)
        self.cut = everything(as_of, self.dictionary.schema.has_times)
        self.now = microseconds(as_of) if self.dictionary.schema.has_times else None
        self.device = device_of(scoring.accelerator) if model else "cpu"
        self.ranker = Ranker.load(source, model.path, self.dictionary, self.device) if model else None
        self.shards = shards_of(self.folder)
        self.n_users = sum(pq.read_metadata(file).num_rows for file in (self.folder / "users").glob("*.parquet"))
        segment = [scoring.segment] if scoring.segment else []
        shards = (Histories.load(self.folder, [shard], columns=segment) for shard in self.shards)
        self.popular = Popularity.count(shards, self.dictionary, self.cut, popular_window or None, scoring.segment)
        self.columns = [*segment, *(self.ranker.columns if self.ranker else ())]

    def write(self, folder: Path, progress: Callable[[float], None] | None) -> dict[str, int | float]:
        """Every part, and what is in them."""
        folder.mkdir()
        counts: Counter[str] = Counter()
        advance = counting(self.n_users, progress)
        for shard in self.shards:
            histories = Histories.load(self.folder, [shard], self.columns)
            counts += self._write_part(folder, shard, histories, advance)
        if self.ranker is not None:
            self._write_items(folder.parent, self.ranker)
        return dict(sorted(counts.items()))

    def _write_items(self, folder: Path, ranker: Ranker) -> None:
        """What is asked for besides the lists."""
        if self.scoring.vectors:
            vectors.write_items(folder / "vectors", ranker)
        if self.scoring.similar_items:
            similar = vectors.similar_items(ranker.item_id, ranker.catalogue, self.scoring.similar_items)
            pq.write_table(similar, folder / "similar_items.parquet", compression="zstd")

    def _write_part(self, folder: Path, shard: int, histories: Histories, advance: Callable[[int], None]) -> Counter[str]:
        ends = histories.cut(self.cut)
        sources = self._sources(histories, ends)
        near = sources[0].near if isinstance(sources[0], Reading) else ends - histories.offsets[:-1]
        excluded = (histories.seen(self.cut), histories.blocked()) if self.scoring.exclude_seen else (histories.blocked(),)
        counts: Counter[str] = Counter(users=histories.n_users)
        if isinstance(sources[0], Reading):
            counts["events_of_unknown_items"] = sources[0].n_unknown
            if self.scoring.vectors:
                counts["user_vectors"] = vectors.write_users(folder.parent / "vectors", shard, sources[0], histories.user_id)
        path, names = folder / f"part-{shard:03}.parquet", [source.name for source in sources]
        with PartWriter(path, histories.user_id.type, self.dictionary.item_id, names) as part:
            for first in range(0, histories.n_users, USERS_PER_ROW_GROUP):
                users = np.arange(first, min(first + USERS_PER_ROW_GROUP, histories.n_users))
                lists = make_lists(sources, users, self.scoring.k, excluded, near[users], self.scoring.users_per_tile, advance)
                part.write(histories.user_id.take(pa.array(users)), lists)
                counts += _counted(lists, sources)
        if isinstance(sources[0], Reading) and (heads := sources[0].ranker.network.label_heads):
            predicted = folder.parent / "predictions" / f"part-{shard:03}.parquet"
            counts["predictions"] = write_predictions(predicted, histories.user_id, heads, sources[0].said)
        return counts

    def _sources(self, histories: Histories, ends: Ints) -> list[Source]:
        popular = self.popular.sources(histories)
        if self.ranker is None:
            return list(popular[self.source])
        return [self.ranker.reading(histories, ends, self.now), *next(iter(popular.values()))]


def _counted(lists: Lists, sources: list[Source]) -> Counter[str]:
    """Where the items come from, and how many lists do not begin with the first source or are not full."""
    counts = Counter(users_without_first_source=int((lists.source[:, 0] != 0).sum()), short_lists=int((lists.item_code[:, -1] < 0).sum()))
    for number, n_items in enumerate(np.bincount(lists.source[lists.source >= 0], minlength=len(sources)).tolist()):
        counts[f"items_from_{sources[number].name}"] += n_items
    return counts


@contextmanager
def _threads(n: int | None) -> Iterator[None]:
    """Torch's threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(n or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
