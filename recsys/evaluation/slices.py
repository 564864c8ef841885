"""Parts of the test users and of their relevant items that are looked at on their own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys import cohorts
from recsys.arrays import Array, Ints, Ragged
from recsys.dictionary import Dictionary
from recsys.errors import ConfigError
from recsys.evaluation.ground import Ground
from recsys.histories import Histories
from recsys.ranking.exclusions import flat
from recsys.schema import Column, Role, Schema, Table
from recsys.validation import closest
from recsys.windows import Cut, microseconds

Marks = NDArray[np.bool_]

ROLES: tuple[Role, ...] = ("categorical", "multi_categorical", "numeric")
MAX_VALUES = 20  # of a column that get a slice of their own: the most frequent


@dataclass(frozen=True)
class Slice:
    """Some test users, rows of the ground, each with a relevant item that counts; `counted` (R,) None: all of theirs do."""

    name: str
    users: Ints
    counted: Marks | None = None


def check_columns(schema: Schema, columns: Sequence[str]) -> None:
    """ConfigError where results cannot be sliced by one of the columns."""
    known = [c.name for c in _sliceable(schema)]
    for name in set(columns) - set(known):
        raise ConfigError(
            f"evaluation.slices: {name!r} is no category and no number of the users or items. {closest(name, dict.fromkeys(known))}"
        )


def user_columns(schema: Schema, columns: Sequence[str]) -> set[str]:
    """Those of the columns that histories have to be loaded with."""
    return {c.name for c in _sliceable(schema, "users") if c.name in columns}


def slices(ground: Ground, histories: Histories, dictionary: Dictionary, cut: Cut, columns: Sequence[str] = ()) -> list[Slice]:
    """All users; users by the events before the cut and by the time since the first; relevant items by their age; then by columns.

    A column of users divides users, one of items what is relevant to them. Categories are one slice each, numbers are cut at
    the quartiles. Parts without anybody are left out.
    """
    everybody = Slice("all", np.arange(len(ground.users)))
    users = _within(cohorts.USERS_WITH, ground.n_history, cohorts.EVENTS)
    items: dict[str, Marks] = {}
    if cut.at is not None and histories.event_at is not None and dictionary.first_event_at is not None:
        now = microseconds(cut.at)
        first = np.append(histories.event_at, now)[np.where(ground.n_history > 0, histories.offsets[ground.users], -1)]
        users |= _within(cohorts.USERS_KNOWN, now - first, cohorts.AGE)
        items |= _within(cohorts.ITEMS_KNOWN, now - dictionary.first_event_at[ground.relevant], cohorts.AGE)
    for column in _sliceable(histories.schema):
        if column.name in columns and column.table == "users":
            users |= _by_value(column, histories.user_columns[column.name], ground.users, dictionary)
        elif column.name in columns:
            items |= _by_value(column, dictionary.columns[column.name], ground.relevant, dictionary)
    found = [Slice(name, np.flatnonzero(marked)) for name, marked in users.items()]
    found += [Slice(name, _with_any(ground, marked), marked) for name, marked in items.items()]
    return [everybody, *(part for part in found if len(part.users))]


def _sliceable(schema: Schema, *tables: Table) -> tuple[Column, ...]:
    return tuple(c for table in tables or ("users", "items") for c in schema.select(*ROLES, table=table))


def _with_any(ground: Ground, counted: Marks) -> Ints:
    """Test users with at least one relevant item that counts."""
    before = np.concatenate([[0], np.cumsum(counted)])
    return np.flatnonzero(before[ground.offsets[1:]] > before[ground.offsets[:-1]])


def _within(what: str, values: NDArray[np.number], bounds: cohorts.Bounds) -> dict[str, Marks]:
    return {f"{what} {name}": (values >= low) & (values < high) for name, (low, high) in bounds.items()}


def _by_value(column: Column, values: Array, rows: Ints, dictionary: Dictionary) -> dict[str, Marks]:
    """Which of the rows of the column, of users or of items, have each value."""
    what = f"{column.table} with {column.name}"
    if column.role == "numeric":
        assert isinstance(values, np.ndarray)
        return _within(what, values[rows], _quartiles(values[rows])) | {f"{what} null": np.isnan(values[rows])}
    names = ["'null'" if name == "null" else name for name in dictionary.values(column.name).to_pylist()]  # null is that there is none
    return {f"{what} {'null' if code < 0 else names[code]}": marked for code, marked in _by_code(values, rows)}


def _quartiles(values: NDArray[np.floating]) -> dict[str, tuple[float, float]]:
    """Bounds of up to four parts of about the same size, by name."""
    known = values[~np.isnan(values)]
    if not len(known):
        return {}
    cuts = np.unique(np.quantile(known, [0.25, 0.5, 0.75]))
    edges = [-np.inf, *cuts[cuts > known.min()], np.inf]
    if len(edges) == 2:
        return {f"{known.min():g} and more": (-np.inf, np.inf)}
    told = _apart(edges[1:-1])
    inner = {f"{told[i]} to below {told[i + 1]}": (edges[i + 1], edges[i + 2]) for i in range(len(told) - 1)}
    return {f"below {told[0]}": (-np.inf, edges[1]), **inner, f"{told[-1]} and more": (edges[-2], np.inf)}


def _apart(numbers: Sequence[float]) -> list[str]:
    """Different numbers in as few digits as tell them apart, six at least.

    >>> _apart([0.5, 1.25]), _apart([1234561.0, 1234564.0])
    (['0.5', '1.25'], ['1234561', '1234564'])
    """
    told = ([f"{number:.{digits}g}" for number in numbers] for digits in range(6, 18))
    return next(one for one in told if len(set(one)) == len(one))


def _by_code(values: Array, rows: Ints) -> Iterator[tuple[int, Marks]]:
    """The most frequent codes among the rows, and which rows (n,) have each."""
    if isinstance(values, Ragged):
        row, positions = flat(values.offsets, rows)
        codes = values.values[positions]
    else:
        row, codes = np.arange(len(rows)), values[rows]
    found, counts = np.unique(codes, return_counts=True)
    for code in found[np.argsort(-counts, kind="stable")[:MAX_VALUES]]:
        marked = np.zeros(len(rows), dtype=bool)
        marked[row[codes == code]] = True
        yield int(code), marked
