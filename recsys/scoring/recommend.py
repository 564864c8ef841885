"""Tonight's lists: the k best items of every user, without what they have seen and what is blocked, as original ids.

Memory holds the histories and lists of one row group of users, whatever their number. Shards may go to several processes.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from recsys.arrays import Ints
from recsys.config import Scoring
from recsys.contenders import MODELS
from recsys.dictionary import Dictionary
from recsys.errors import ConfigError, RecsysError
from recsys.histories import Histories
from recsys.model import saving
from recsys.model.device import device_of, threads
from recsys.ranking.lists import Lists, Source, as_table, counting, make_lists
from recsys.ranking.popularity import Popularity
from recsys.ranking.ranker import Ranker, Reading
from recsys.scoring import vectors
from recsys.scoring.parts import USERS_PER_ROW_GROUP, PartWriter
from recsys.scoring.predictions import predictions
from recsys.scoring.selection import Selection, check_histories, joined
from recsys.shards import shards_of
from recsys.store import Artifact, Draft, Store
from recsys.windows import Cut, everything, microseconds

_of_process: "_Night"  # of a process that makes parts


def recommend(
    store: Store,
    as_of: datetime,
    scoring: Scoring,
    sequences: Artifact,
    model: Artifact | None,
    source: str,
    popular_window: str,
    *,
    users: Sequence[str] = (),
    others: Artifact | None = None,
    progress: Callable[[float], None] | None = None,
    rebuild: bool = False,
) -> Artifact:
    """The artifact with `recommendations/part-000.parquet` …, one part per shard: a list for every user of `sequences`;
    of a model's lists also `vectors/` and `similar_items.parquet`, where `scoring` asks for them.

    `source` says whose lists they are: "candidate" or "current", which takes the `model`, or "popular_lately" or "popular",
    which takes none. Lists that a model cannot make or fill go on with what was popular lately in `popular_window` (as "6h";
    empty for data with an order only), then with what was ever.

    Only the lists of `users` are made where ids are given, and no vectors; with `others`, an earlier scoring artifact,
    everybody else keeps the list that they have there. ConfigError for a user without a history, and where `others` were
    made from other histories.
    """
    if (source in MODELS) != (model is not None):
        raise ConfigError(f"The source of the lists is {source!r}: give {' or '.join(MODELS)} a model, and a baseline none.")
    if source == "popular_lately" and not popular_window:
        raise ConfigError('The source of the lists is "popular_lately", which needs a popular_window, as "6h".')
    config = {**scoring.versioned(), "source": source, "popular_window": popular_window}
    config |= {"users": sorted(set(users))} if users else {}
    inputs = {"sequences": sequences, **({"model": model} if model else {}), **({"others": others} if others else {})}
    selection = Selection(tuple(users), others.path if others else None)
    selection.check(sequences.path)
    if others is not None:
        check_histories(others, sequences)

    def build(draft: Draft) -> None:
        device = device_of(scoring.accelerator) if model else "cpu"
        with threads(scoring.threads):
            popular = _popularity(as_of, sequences.path, popular_window, scoring.segment)
            night = _Night(as_of, scoring, sequences.path, model.path if model else None, source, popular, device, selection)
            counts = _write_parts(night, draft.path, progress)
            if not users:
                night.write_items(draft.path)
        draft.note(device=device, processes=scoring.processes, lists_shared=counts.pop("lists_shared", 0))
        draft.counts = dict(sorted(({"users": 0} | counts).items()))

    sources = None if model is None else saving.sources(model.path)
    return store.ensure("scoring", as_of, config, inputs, build, code=__name__, sources=sources, rebuild=rebuild)


@dataclass(frozen=True)
class _Night:
    """One night's scoring: what each process that makes some of the parts has to know."""

    as_of: datetime
    scoring: Scoring
    sequences: Path
    model: Path | None
    source: str
    popular: Popularity
    device: str
    selection: Selection

    @cached_property
    def dictionary(self) -> Dictionary:
        return Dictionary.load(self.sequences)

    @cached_property
    def cut(self) -> Cut:
        return everything(self.as_of, self.dictionary.schema.has_times)

    @cached_property
    def ranker(self) -> Ranker | None:
        return None if self.model is None else Ranker.load(self.source, self.model, self.dictionary, self.device)

    def write_items(self, folder: Path) -> None:
        """What is asked for besides the lists."""
        if self.ranker is not None and self.scoring.vectors:
            vectors.write_items(folder / "vectors", self.ranker)
        if self.ranker is not None and self.scoring.similar_items:
            similar = vectors.similar_items(self.ranker.item_id, self.ranker.catalogue, self.scoring.similar_items)
            pq.write_table(similar, folder / "similar_items.parquet", compression="zstd")

    def write_part(self, folder: Path, shard: int, advance: Callable[[int], None]) -> Counter[str]:
        """A shard's part of every table, a row group of users at a time, and what is in them."""
        counts: Counter[str] = Counter()
        segment = [self.scoring.segment] if self.scoring.segment else []
        columns = [*segment, *(self.ranker.columns if self.ranker else ())]
        name = f"part-{shard:03}.parquet"
        with (
            PartWriter(folder / "recommendations" / name) as lists,
            PartWriter(folder / "predictions" / name) as predicted,
            PartWriter(vectors.users_part(folder / "vectors", shard)) as users,
        ):
            for histories in Histories.pieces(self.sequences, shard, columns, USERS_PER_ROW_GROUP):
                kept = self.selection.kept("recommendations", name, histories.user_id)
                rows = self.selection.rows(histories.user_id, kept)
                advance(len(histories.user_id) - len(rows))  # those whom nobody asked about
                if not len(rows) and kept is None:
                    continue
                sources = self._sources(histories)
                reading = sources[0] if isinstance(sources[0], Reading) else None
                if reading and self.scoring.vectors and not self.selection.users:
                    counts["user_vectors"] += vectors.write_users(users, reading, histories.user_id)
                counts += self._write_lists(lists, histories, rows, kept, sources, advance)
                if reading and reading.ranker.network.label_heads:
                    counts["predictions"] += int(sum((~np.isnan(said)).sum() for said in reading.said.values()))
                    predicted.write(self._predictions, name, histories.user_id, rows, reading)
        return counts

    def _predictions(self, name: str, user_id: pa.Array, rows: Ints, reading: Reading) -> pa.Table:
        made = predictions(user_id, reading.ranker.network.label_heads, reading.said)
        others = user_id.take(pa.array(np.delete(np.arange(len(user_id)), rows)))  # who had no list to keep was asked again
        return joined("predictions", made, self.selection.kept("predictions", name, others))

    def _sources(self, histories: Histories) -> list[Source]:
        popular = self.popular.sources(histories)
        if self.ranker is None:
            return list(popular[self.source])
        now = microseconds(self.as_of) if self.dictionary.schema.has_times else None
        return [self.ranker.reading(histories, histories.cut(self.cut), now), *Popularity.after_a_model(popular)]

    def _write_lists(
        self, part: PartWriter, histories: Histories, rows: Ints, kept: pa.Table | None, sources: list[Source],
        advance: Callable[[int], None],
    ) -> Counter[str]:  # fmt: skip
        excluded = (histories.seen(self.cut), histories.blocked()) if self.scoring.exclude_seen else (histories.blocked(),)
        near = sources[0].near if isinstance(sources[0], Reading) else np.diff(histories.offsets)
        lists = make_lists(sources, rows, self.scoring.k, excluded, near[rows], self.scoring.users_per_tile, advance)
        part.write(self._lists, histories.user_id.take(pa.array(rows)), lists, [source.name for source in sources], kept)
        return _counted(lists, sources)

    def _lists(self, user_id: pa.Array, lists: Lists, sources: Sequence[str], kept: pa.Table | None) -> pa.Table:
        return joined("recommendations", as_table(user_id, lists, self.dictionary.item_id, sources), kept)


def _popularity(as_of: datetime, sequences: Path, window: str, segment: str | None) -> Popularity:
    dictionary = Dictionary.load(sequences)
    columns = [segment] if segment else []
    pieces = (piece for shard in shards_of(sequences) for piece in Histories.pieces(sequences, shard, columns, USERS_PER_ROW_GROUP))
    return Popularity.count(pieces, dictionary, everything(as_of, dictionary.schema.has_times), window or None, segment)


def _write_parts(night: _Night, folder: Path, progress: Callable[[float], None] | None) -> Counter[str]:
    """All parts, one after the other or in several processes."""
    shards = shards_of(night.sequences)
    n_users = {shard: pq.read_metadata(night.sequences / "users" / f"part-{shard:03}.parquet").num_rows for shard in shards}
    advance = counting(sum(n_users.values()), progress)
    counts: Counter[str] = Counter()
    if night.scoring.processes == 1:
        for shard in shards:
            counts += night.write_part(folder, shard, advance)
        return counts
    n_threads = max(1, torch.get_num_threads() // night.scoring.processes)
    with ProcessPoolExecutor(night.scoring.processes, get_context("spawn"), _begin, (night, n_threads)) as pool:
        making = {pool.submit(_write_part, folder, shard): shard for shard in shards}
        try:
            for done in as_completed(making):
                counts += done.result()
                advance(n_users[making[done]])
        except BrokenProcessPool as error:
            raise RecsysError(
                f"One of the {night.scoring.processes} processes that make lists ended without a word, which is what lack of memory "
                "looks like. Set scoring.processes lower."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)
    return counts


def _begin(night: _Night, n_threads: int) -> None:
    """In a new process: what it makes parts of."""
    global _of_process
    torch.set_num_threads(n_threads)
    _of_process = night


def _write_part(folder: Path, shard: int) -> Counter[str]:
    return _of_process.write_part(folder, shard, lambda _: None)


def _counted(lists: Lists, sources: list[Source]) -> Counter[str]:
    """Where the items come from, and how many lists do not begin with the first source or are not full."""
    counts = Counter(
        users=len(lists.item_code),
        users_without_first_source=int((lists.source[:, 0] != 0).sum()),
        short_lists=int((lists.item_code[:, -1] < 0).sum()),
    )
    if isinstance(sources[0], Reading):
        counts["events_of_unknown_items"] = sources[0].n_unknown
        counts["lists_shared"] = sources[0].notes["lists_shared"]
    for number, n_items in enumerate(np.bincount(lists.source[lists.source >= 0], minlength=len(sources)).tolist()):
        counts[f"items_from_{sources[number].name}"] += n_items
    return counts
