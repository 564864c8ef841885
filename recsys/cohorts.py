"""Parts of the test users, and of what is relevant to them, that every evaluation looks at: known to the configuration, which limits them.

A bound is half-open: from the first number on, and below the second.
"""

from collections.abc import Mapping, Sequence
from math import inf

Bounds = Mapping[str, tuple[float, float]]

DAY = 86_400 * 10**6  # µs
EVENTS: Bounds = {  # before the holdout
    "no event": (0, 1),
    "1 event": (1, 2),
    "2-4 events": (2, 5),
    "5-9 events": (5, 10),
    "10-19 events": (10, 20),
    "20 events and more": (20, inf),
}
AGE: Bounds = {"less than a day": (-inf, DAY), "1 to 7 days": (DAY, 7 * DAY), "7 days and more": (7 * DAY, inf)}  # since the first event

USERS_WITH, USERS_KNOWN, ITEMS_KNOWN = "users with", "users known for", "items known for"  # and a name from above
COLD = "users with no event"  # whom backtests may ask for: a night's test users have an event before the holdout


def names(has_times: bool) -> list[str]:
    """All that a night may have; nobody has an age where events have an order only.

    >>> names(has_times=False)[:2]
    ['users with 1 event', 'users with 2-4 events']
    """
    aged = (USERS_KNOWN, ITEMS_KNOWN) if has_times else ()
    found = [f"{USERS_WITH} {name}" for name in EVENTS] + [f"{what} {name}" for what in aged for name in AGE]
    return [name for name in found if name != COLD]


def of_columns(columns: Sequence[str]) -> list[str]:
    """How the names of the parts by columns of users or items begin: a value follows.

    >>> of_columns(["country"])
    ['users with country ', 'items with country ']
    """
    return [f"{table} with {column} " for column in columns for table in ("users", "items")]
