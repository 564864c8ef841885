"""Some test users: what they had, what two contenders list for them, and what they took."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.arrays import Ints
from recsys.dictionary import Dictionary
from recsys.evaluation.comparison import Comparison
from recsys.evaluation.report.document import Cell, Section, Table, Text
from recsys.histories import Histories
from recsys.wording import counted

N_USERS = 6
N_EVENTS = 10  # of a history, the newest
MAX_TITLE = 70  # letters
MAX_TAKEN = 5  # items that are named


@dataclass(frozen=True)
class Listed:
    """An item of a history or a list; `taken` where it is relevant to the user."""

    item: str
    taken: bool = False


@dataclass(frozen=True)
class User:
    """One user: newest events first, what was taken in the end, the lists of the two contenders, and how much better the first one's is."""

    user_id: str
    n_history: int
    taken: Sequence[str]
    difference: float | None
    history: Sequence[Listed]
    lists: Sequence[Sequence[Listed]]


@dataclass(frozen=True)
class Users:
    """Users from the one who loses most by the first contender, compared with the second, to the one who gains most."""

    contenders: Sequence[str]
    metric: str
    chosen: Sequence[User]

    @classmethod
    def of(cls, comparison: Comparison, histories: Histories, dictionary: Dictionary, contenders: Sequence[str], k: int) -> "Users":
        """Of a comparison, whose lists are in item codes of the dictionary; the same users whenever it is asked."""
        user_id = histories.user_id.take(pa.array(comparison.ground.users))
        metric, difference = _differences(comparison.users(user_id), contenders)
        order = np.argsort(difference, kind="stable")
        rows = order[np.unique(np.linspace(0, len(order) - 1, min(N_USERS, len(order))).round().astype(int))]
        shown = _Shown(comparison, histories, dictionary)
        return cls(contenders, metric, [shown.user(int(row), user_id, difference[row], contenders, k) for row in rows])

    def section(self, names: Sequence[str]) -> Section:
        """`names` are those of the contenders for people."""
        gained = f" They go from who loses most {self.metric} by {names[0]} to who gains most." if self.metric and len(names) > 1 else ""
        opening = Text(f"A ✓ is what the user took in the end. Histories have the newest event first.{gained}")
        return Section("Some users", (opening, *(_table(user, self.metric, names) for user in self.chosen)))


@dataclass(frozen=True)
class _Shown:
    comparison: Comparison
    histories: Histories
    dictionary: Dictionary

    def user(self, row: int, user_id: pa.Array, difference: float, contenders: Sequence[str], k: int) -> User:
        ground, histories = self.comparison.ground, self.histories
        person, end = ground.users[row], ground.ends[ground.users[row]]
        newest = np.arange(max(histories.offsets[person], end - N_EVENTS), end)[::-1]
        relevant = ground.relevant[ground.offsets[row] : ground.offsets[row + 1]]
        had = zip(self._moments(newest), self._items(histories.item_code[newest]), strict=True)
        return User(
            user_id=str(user_id[row].as_py()),
            n_history=int(ground.n_history[row]),
            taken=self._items(relevant),
            difference=None if np.isnan(difference) else float(difference),
            history=[Listed(f"{moment}{item}") for moment, item in had],
            lists=[self._list(self.comparison.lists[name].item_code[row, :k], relevant) for name in contenders],
        )

    def _list(self, codes: Ints, relevant: Ints) -> list[Listed]:
        return [Listed(item, taken) for item, taken in zip(self._items(codes), np.isin(codes, relevant).tolist(), strict=True)]

    def _moments(self, events: Ints) -> list[str]:
        if self.histories.event_at is None:
            return [""] * len(events)
        at = pa.array(self.histories.event_at[events], pa.timestamp("us"))
        return [f"{moment} " for moment in pc.strftime(at, "%m-%d %H:%M").to_pylist()]

    def _items(self, codes: NDArray[np.integer]) -> list[str]:
        """Titles, where there are any, and ids."""
        there = pa.array(codes, mask=codes < 0)
        ids = self.dictionary.item_id.take(there).to_pylist()
        texts = [column.take(there).to_pylist() for column in self.dictionary.texts.values()]
        titles = [", ".join(_short(text) for text in row if text) for row in zip(*texts, strict=True)] if texts else [""] * len(ids)
        return ["" if one is None else f"{title} ({one})" if title else str(one) for one, title in zip(ids, titles, strict=True)]


def _differences(users: pa.Table, contenders: Sequence[str]) -> tuple[str, np.ndarray]:
    """The first metric of users, and how much more of it each has (U,) with the first contender than with the second."""
    metric = next((name for name in users.column_names if "@" in name), "")
    values = [users.filter(pc.equal(users["contender"], name)) for name in contenders]
    if not metric or len(values) < 2:
        return metric, np.full(len(values[0]), np.nan)
    return metric, values[0][metric].to_numpy() - values[1][metric].to_numpy()


def _table(user: User, metric: str, names: Sequence[str]) -> Table:
    more = f" and {counted(len(user.taken) - MAX_TAKEN, 'more item')}" if len(user.taken) > MAX_TAKEN else ""
    caption = f"User {user.user_id}: {counted(user.n_history, 'event')} before. Took {'; '.join(user.taken[:MAX_TAKEN])}{more}."
    if user.difference is not None:
        caption += f" Difference of {metric}: {user.difference:+.4f}."
    columns = ["rank", "had before", *(f"gets from {name}" for name in names)]
    n_rows = max(map(len, (user.history, *user.lists)))
    sides = [[_cell(one) for one in side] + [Cell("")] * (n_rows - len(side)) for side in (user.history, *user.lists)]
    return Table(columns, [[Cell(str(place)), *row] for place, row in enumerate(zip(*sides, strict=True), start=1)], len(columns), caption)


def _cell(one: Listed) -> Cell:
    return Cell(f"✓ {one.item}", strong=True) if one.taken else Cell(one.item)


def _short(text: str) -> str:
    return text if len(text) <= MAX_TITLE else text[: MAX_TITLE - 1] + "…"
