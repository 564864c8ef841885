"""A trained network as a source of lists: encode the histories, rank the catalogue. One path for evaluation and tonight."""

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from recsys.arrays import Ints
from recsys.dictionary import Dictionary
from recsys.errors import RecsysError
from recsys.histories import Histories, Key
from recsys.model import saving
from recsys.model.catalogue import Catalogue
from recsys.model.inference import read
from recsys.model.network import Network
from recsys.model.reader import Reader, Spans
from recsys.model.vocabulary import USER, Vocabulary
from recsys.ranking import exclusions
from recsys.ranking.alike import FEW, alike
from recsys.ranking.topk import restrict, top_k
from recsys.schema import Schema


class Ranker:
    """A network over the items of a night's dictionary that it knows and that are eligible, in the order of its vocabulary.

    It is made once, and reads shard after shard: `ranker.reading(histories, ends, now)` is a source of lists. `key` is what
    the network was trained on: users' histories, or sessions.
    """

    @torch.inference_mode()
    def __init__(
        self, name: str, network: Network, vocabulary: Vocabulary, dictionary: Dictionary, device: str = "cpu", *, key: Key = "user"
    ) -> None:
        self.name, self.vocabulary, self.dictionary, self.key = name, vocabulary, dictionary, key
        self.network = network.to(device).eval()
        known = vocabulary.item_map(dictionary)  # item_code → item_index
        code = np.full(vocabulary.n_items, -1)
        code[known[known >= 0]] = np.flatnonzero(known >= 0)
        shown = np.flatnonzero((code >= 0) & dictionary.eligible[code])
        self._shown = torch.from_numpy(shown).to(device)
        self.catalogue = restrict(self.network.catalogue(), self._shown)
        self.item_code = code[shown]
        self.place = np.full(dictionary.n_items, -1)  # item_code → row of the catalogue
        self.place[self.item_code] = np.arange(len(shown))

    @classmethod
    def load(cls, name: str, folder: Path, dictionary: Dictionary, device: str = "cpu") -> "Ranker":
        """Of the model in a training artifact."""
        network, vocabulary = saving.load(folder)
        return cls(name, network, vocabulary, dictionary, device, key=saving.key_of(folder))

    @property
    def item_id(self) -> pa.Array:
        """Of the catalogue's items."""
        return self.dictionary.item_id.take(pa.array(self.item_code))

    @property
    def columns(self) -> tuple[str, ...]:
        """Features that histories have to be loaded with."""
        return tuple(name for name in (*self.network.event_columns, *self.network.user_columns) if name != USER)

    def reading(self, histories: Histories, ends: Ints, now: int | None) -> "Reading":
        """What the network predicts after each user's history or last session before the ends (U,), at the moment `now` (µs since 1970)."""
        starts, ends = histories.last_sequences(ends, self.key)
        reader = self.network.reader(histories, self.dictionary, self.vocabulary, labels=False)
        said = {h.name: np.full((histories.n_users, *h.shape), np.nan, dtype=np.float32) for h in self.network.label_heads}
        catalogue = self.catalogue
        if self.network.next_item.prior is not None and now is not None:
            with torch.inference_mode():
                catalogue = self.weighed(self.network.next_item.prior(torch.tensor([now], device=self.network.device)))
        return Reading(self, reader, reader.spans(starts, ends), now, catalogue, reader.n_unknown(starts, ends), said)

    def weighed(self, prior: Tensor, row: Tensor | None = None) -> Catalogue:
        """The catalogue with what the network's prior (T, V) says, at one moment or at that of each prediction, `row` (n,)."""
        return replace(self.catalogue, prior=prior[:, self._shown], prior_row=row)


@dataclass(frozen=True)
class Reading:
    """A ranker at work on some histories. Users of whom it knows no item get nothing from it."""

    ranker: Ranker
    reader: Reader
    spans: Spans
    now: int | None
    catalogue: Catalogue
    n_unknown: int  # events that are not read, since the network does not know their item
    said: dict[str, NDArray[np.float32]]  # by name what other heads say of the users who were read (U,) or (U, C); NaN for nothing
    notes: Counter[str] = field(default_factory=Counter)  # how the lists so far were made

    @property
    def name(self) -> str:
        return self.ranker.name

    @property
    def lengths(self) -> Ints:
        """Events of each user that the network knows (U,)."""
        return self.spans.lengths.numpy()

    @property
    def near(self) -> Ints:
        """(U,): users with near values have histories of about the same length, and short ones the same newest items."""
        lengths = self.spans.lengths.clamp(max=self.ranker.network.max_events)
        items = functional.pad(self.reader.item_index.cpu().long(), (2, 0))
        newest, before = (items[self.spans.end + 2 - i] for i in (1, 2))  # of anybody, where there is none
        return (lengths << 48 | newest << 24 | before).numpy()

    @torch.inference_mode()
    def hidden(self, users: Ints) -> tuple[Ints, Tensor]:
        """Which of the users (B,) the network knows an event of, (n,), and what it compares with the items for each, (n, D)."""
        spans = self.spans[torch.from_numpy(users)]
        known = np.flatnonzero(spans.lengths.numpy() > 0)
        hidden, said = read(self.ranker.network, self.reader, spans[torch.from_numpy(known)], self.now)
        for name, answers in said.items():
            self.said[name][users[known]] = answers.cpu().numpy()
        return known, hidden

    def rank(self, users: Ints, k: int, rows: Ints, item_code: Ints) -> tuple[NDArray[np.float32], Ints]:
        """Scores and item codes (B, k) of a tile of users, without the excluded pairs; −inf and −1 at the end of short lists.

        Users who are alike get one list.
        """
        rows, items = exclusions.by_row(*exclusions.indexed(rows, item_code, self.ranker.place))
        first, kind = self._alike(users, rows, items)
        number = np.full(len(users), -1)
        number[first] = np.arange(len(first))
        kept = number[rows] >= 0
        scores, codes = self._rank(users[first], k, number[rows[kept]], items[kept])
        for said in self.said.values():
            said[users] = said[users[first]][kind]
        self.notes["lists_shared"] += len(users) - len(first)
        return scores[kind], codes[kind]

    @torch.inference_mode()
    def _rank(self, users: Ints, k: int, rows: Ints, items: Ints) -> tuple[NDArray[np.float32], Ints]:
        """Of users who are all different; items as rows of the catalogue."""
        known, hidden = self.hidden(users)
        place = np.full(len(users), -1)
        place[known] = np.arange(len(known))
        of_known = place[rows] >= 0
        excluded = (torch.from_numpy(part[of_known]).to(hidden.device) for part in (place[rows], items))
        catalogue = self._catalogue_of(users[known])
        found, at = (result.cpu().numpy() for result in top_k(hidden, catalogue, k, *excluded))
        scores, codes = np.full((len(users), k), -np.inf, dtype=np.float32), np.full((len(users), k), -1)
        scores[known], codes[known] = found, np.append(self.ranker.item_code, -1)[at]
        return scores, codes

    def _catalogue_of(self, users: Ints) -> Catalogue:
        """The catalogue of the moment; without one, with what the prior says when each of the users (n,) had their next event."""
        prior = self.ranker.network.next_item.prior
        if self.now is not None or prior is None:
            return self.catalogue
        at = self.reader.next_at(self.spans[torch.from_numpy(users)])
        return self.ranker.weighed(*prior.rows(at.to(self.ranker.network.device)))

    def _alike(self, users: Ints, rows: Ints, items: Ints) -> tuple[Ints, Ints]:
        """The first of each kind of users and everybody's kind: of one kind are those with the same events and exclusions.

        Where the network reads times, or more of a user than events, nobody is like another.
        """
        reader, spans = self.reader, self.spans[torch.from_numpy(users)].newest(self.ranker.network.max_events)
        columns = [reader.item_index, reader.weight, *reader.event_columns.values()]
        plain = all(isinstance(column, torch.Tensor) and column.ndim == 1 for column in columns)
        if not plain or reader.user_columns or reader.event_at is not None or int(spans.lengths.min()) > FEW:
            return np.arange(len(users)), np.arange(len(users))
        whose, events = exclusions.flat(np.append(0, np.cumsum(spans.lengths.numpy())), np.arange(len(users)))
        events += (spans.start - spans.lengths.cumsum(0) + spans.lengths).numpy()[whose]
        read = [column[torch.from_numpy(events)].cpu().numpy() for column in columns if isinstance(column, torch.Tensor)]
        bits = [values.view(f"i{values.itemsize}") for values in read]  # so that nulls of numbers are alike too
        return alike(len(users), [(rows, items), *((whose, values) for values in bits)])


def misfit(model: Path, histories: Path) -> str | None:
    """Why the model in a training artifact cannot read the histories of a sequences artifact, in words; None where it can."""
    try:
        network, vocabulary = saving.load(model)
    except RecsysError as error:  # an own part that is gone, a parameter of another name, weights that no longer fit
        return str(error)
    return unreadable(network, vocabulary, histories)


def unreadable(network: Network, vocabulary: Vocabulary, histories: Path) -> str | None:
    """Why a network cannot read the histories of a sequences artifact, in words; None where it can."""
    there = {(c.table, c.name): (c.role, c.type) for c in Schema.load(histories).columns}
    for column in vocabulary.schema.columns:
        if column.name in (*network.event_columns, *network.user_columns):
            found = there.get((column.table, column.name))
            if found != (column.role, column.type):
                now = "is not there any more" if found is None else f"is {found[0]}, {found[1]} now"
                return f"its column {column.name} ({column.role}, {column.type}) {now}"
    return None
