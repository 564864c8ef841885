"""Metrics of how different the items of a list are, and two lists of one user."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from recsys.arrays import Array, Ragged
from recsys.errors import ConfigError
from recsys.ranking.metrics import Floats, Judged, UserMetric
from recsys.schema import Schema
from recsys.validation import closest


@dataclass(frozen=True, kw_only=True)
class IntraListDiversity(UserMetric):
    """Mean Hamming distance of all pairs of listed items over the items' categories, 0 with fewer than two. Of users with a list.

    Of a column with one category an item, two items differ by 0 or 1; of one with lists, by the number of categories that
    one has and the other has not. Null is a category of its own. `columns` are the items' categorical ones unless named.
    Smyth and McClave, Similarity vs. diversity, 2001.
    """

    columns: tuple[str, ...] = ()

    def misfit(self, schema: Schema) -> str | None:
        known = schema.names("categorical", "multi_categorical", table="items")
        if not known:
            return "it needs categories of the items: declare them in data.items.categorical."
        strangers = [name for name in self.columns if name not in known]
        return f"{strangers[0]!r} is no categorical column of the items. {closest(strangers[0], known)}" if strangers else None

    def per_user(self, judged: Judged, k: int) -> Floats:
        columns = judged.past.columns
        distance = sum(_distance(judged, k, columns[name]) for name in self.columns or columns)
        return np.where(judged.n_listed(k) > 0, distance, np.nan)


@dataclass(frozen=True, kw_only=True)
class Intersection(UserMetric):
    """Share of the listed items that are among the first `ref_k` (k unless said) of the list of another `model`. Of users with a list.

    "reference" is whom everybody is compared with. Undefined where a model of this name made no lists.
    """

    model: str = "reference"
    ref_k: int | None = None

    @property
    def more_is_better(self) -> bool:
        return False

    def places(self, k: int, n_relevant: int) -> int:
        return max(k, self.ref_k or k)

    def check_others(self, contenders: Collection[str]) -> None:
        if self.model not in contenders:
            raise ConfigError(f"Intersection: there is no model {self.model!r}. {closest(self.model, contenders)}")

    def per_user(self, judged: Judged, k: int) -> Floats:
        self.check_others(judged.others)
        other = judged.others[self.model]
        if other is None:
            return np.full(len(judged.items), np.nan)
        items = judged.items[:, :k]
        shared = np.zeros(items.shape, dtype=bool)
        for place in other[judged.rows, : self.ref_k or k].T:
            shared |= items == place[:, None]
        return judged.mean_of_listed(shared.astype(np.float64), k)


def _distance(judged: Judged, k: int, column: Array) -> Floats:
    """Mean distance (U,) of the pairs of a list in one column of the items.

    Of n items, c have a category: so it makes a difference in c (n − c) of the pairs, and no pair has to be looked at.
    """
    user, place = np.nonzero(judged.listed[:, :k])
    items = judged.items[user, place]
    n_listed = judged.n_listed(k)
    if isinstance(column, Ragged):
        lists = column.take(items)
        user, category = np.repeat(user, np.diff(lists.offsets)), lists.values + 1
    else:
        category = column[items] + 1  # the code of null is −1
    n_categories = int(category.max(initial=0)) + 1
    pairs, c = np.unique(user * n_categories + category, return_counts=True)
    owner = pairs // n_categories
    differing = np.bincount(owner, weights=c * (n_listed[owner] - c), minlength=len(n_listed))
    per_pair = 1.0 if isinstance(column, Ragged) else 0.5  # two items of one category each differ in two of them
    return per_pair * differing / np.maximum(n_listed * (n_listed - 1) / 2, 1)
