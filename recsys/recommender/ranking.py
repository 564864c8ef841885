"""The lists of some users, from a model and the histories that it reads."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.arrays import Ints
from recsys.dictionary import Dictionary
from recsys.frames import Past
from recsys.histories import Histories, Key
from recsys.model.device import device_of
from recsys.model.network import Network
from recsys.model.vocabulary import Vocabulary
from recsys.ranking.lists import Lists, Source, as_table, make_lists
from recsys.ranking.popularity import Popularity
from recsys.ranking.ranker import Ranker
from recsys.windows import everything, microseconds


class Ranking:
    """A model at work on histories: made once, asked for some users at a time."""

    def __init__(self, network: Network, vocabulary: Vocabulary, key: Key, past: Past) -> None:
        folder = past.sequences.path
        self.past = past  # its folder stays as long as this does
        self.dictionary = Dictionary.load(folder)
        ranker = Ranker("model", network, vocabulary, self.dictionary, device_of("auto"), key=key)
        self.histories = Histories.load(folder, columns=ranker.columns)
        has_times = self.dictionary.schema.has_times
        cut = everything(past.as_of, has_times)
        self.reading = ranker.reading(self.histories, self.histories.cut(cut), microseconds(past.as_of) if has_times else None)
        self.excluded = {True: (self.histories.seen(cut), self.histories.blocked()), False: (self.histories.blocked(),)}
        index = vocabulary.item_map(self.dictionary)
        counts = np.where(index >= 0, np.append(vocabulary.n_events, 0)[index], 0)
        self.popular = Popularity(counts[None], None, self.dictionary.eligible, None).sources(self.histories)["popular"]

    def rows(self, user_id: pa.Array) -> Ints:
        """Where the users (U,) stand in the histories, −1 where they do not."""
        return pc.fill_null(pc.index_in(user_id, value_set=self.histories.user_id), -1).to_numpy(zero_copy_only=False).astype(np.int64)

    def table(self, user_id: pa.Array, k: int, exclude_seen: bool) -> pa.Table:
        """The lists of some users."""
        row = self.rows(user_id)
        sources: list[Source] = [self.reading, *self.popular]
        made = make_lists(sources, row[row >= 0], k, self.excluded[exclude_seen], self.reading.near[row[row >= 0]])
        lists = self._of_strangers(len(row), k)
        lists.item_code[row >= 0], lists.score[row >= 0], lists.source[row >= 0] = made.item_code, made.score, made.source
        return as_table(user_id, lists, self.dictionary.item_id, [source.name for source in sources])

    def _of_strangers(self, n: int, k: int) -> Lists:
        """The same popular list for n users of whom nothing is known."""
        nothing: Ints = np.zeros(0, dtype=np.int64)
        scores, codes = self.popular[0].rank(np.zeros(1, dtype=np.int64), k, nothing, nothing)
        source = np.where(codes >= 0, 1, -1).astype(np.int8)
        return Lists(np.repeat(codes, n, axis=0), np.repeat(scores, n, axis=0), np.repeat(source, n, axis=0))
