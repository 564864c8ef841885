"""The shop's customers and articles as a process: places, their holders, the chain, and the best lists there can be.

Every random number is a hash of what it is for: `world.draw("visits", customer, day)`. So a day comes out the same
whichever night asks for it, and every date is equally fast: only the lives of its own customers are simulated.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cached_property

import numpy as np

from recsys.config import Shop
from recsys.errors import ConfigError, SourceError

OPENING = datetime(2025, 1, 1, tzinfo=timezone.utc)
DAY = timedelta(days=1)

ARTICLE_DAYS = 728  # an article's time in the shop
CUSTOMER_DAYS = 84  # a customer's; shorter than the usual `seen` window, so that all they ever had is known
SUCCESSORS = np.array([0.40, 0.20, 0.12, 0.08, 0.06, 0.04])  # chance of each; the rest of the steps go by popularity
VISIT = np.array([0.84, 0.12, 0.03, 0.01])  # chance of 1, 2, 3, 4 articles in a visit; a customer visits at most once a day
WEEKDAY = np.array([0.90, 0.90, 0.95, 1.00, 1.10, 1.15, 1.00])  # how busy it is, Monday first


@dataclass(frozen=True)
class Places:
    """Places in the shop, of articles or of customers, and who holds them. Days count from the opening."""

    phase: np.ndarray  # int64 (n,): days that the first holder was in place at the opening
    number: np.ndarray  # int64 (n,): a permutation, so that ids tell nothing of the ring
    days: int  # that a holder stays
    prefix: str  # of string ids; empty for integers

    def holder(self, day: int) -> np.ndarray:
        """How often each place has changed hands: int64 (n,)."""
        return (day + self.phase) // self.days

    def changes(self, day: int) -> np.ndarray:
        """Places with a new holder from this day on: bool (n,)."""
        return (day + self.phase) % self.days == 0

    def ids(self, day: int) -> np.ndarray:
        """Ids of who holds the places on the day, (n,)."""
        number = 1 + self.number + len(self.number) * self.holder(day)
        return np.char.mod(f"{self.prefix}%06d", number) if self.prefix else number


class World:
    """What a shop's seed decides once and for all."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.articles = self._places("article", shop.n_items, ARTICLE_DAYS)
        self.customers = self._places("customer", shop.n_users, CUSTOMER_DAYS)

    def _places(self, kind: str, n: int, days: int) -> Places:
        phase = (self.draw(f"{kind} phase", np.arange(n)) * days).astype(np.int64)
        prefix = f"{kind}-" if self.shop.ids == "string" else ""
        return Places(phase, np.argsort(self.draw(f"{kind} number", np.arange(n))), days, prefix)

    @cached_property
    def chain(self) -> np.ndarray:
        """Chance of the next article after each, float64 (n + 1, n); the last row is a customer's first step."""
        n = self.shop.n_items
        popularity = 1 / (10 + np.argsort(self.draw("popularity", np.arange(n))))
        popularity /= popularity.sum()
        ahead = (np.arange(n)[:, None] + np.arange(1, 1 + max(len(SUCCESSORS), min(40, n // 3)))) % n
        wait = -np.log1p(-self.draw("successors", np.arange(n)[:, None], ahead)) / popularity[ahead]  # popular ones come first
        successors = np.take_along_axis(ahead, np.argsort(wait, axis=1)[:, : len(SUCCESSORS)], axis=1)
        chain = np.tile((1 - SUCCESSORS.sum()) * popularity, (n + 1, 1))
        chain[np.arange(n)[:, None], successors] += SUCCESSORS
        chain[n] = popularity
        return chain

    def draw(self, purpose: str, *keys: int | np.ndarray) -> np.ndarray:
        """Random numbers in [0, 1), one per element of the broadcast keys: a hash of seed, purpose and keys (splitmix64)."""
        state = np.full(1, (self.shop.seed * 0x9E3779B97F4A7C15 + zlib.crc32(purpose.encode())) % 2**64, dtype=np.uint64)
        for key in (*keys, 0):
            state = state + np.uint64(0x9E3779B97F4A7C15) + np.asarray(key).astype(np.uint64)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = state ^ (state >> np.uint64(31))
        return (state >> np.uint64(11)) * 2.0**-53

    def choose(self, values: tuple[str, ...], purpose: str, *keys: int | np.ndarray) -> np.ndarray:
        """One of the values for each element of the keys."""
        return np.array(values)[(self.draw(purpose, *keys) * len(values)).astype(np.int64)]


@dataclass(frozen=True)
class Day:
    """What happens on one day, and how matters stand before it."""

    number: int  # since the opening
    last: np.ndarray  # int64 (customers,): article had last, −1 for none yet
    had: np.ndarray  # bool (customers, articles)
    customer: np.ndarray  # int64 (events,): places
    step: np.ndarray  # int64 (events,): 0, 1 … within the visit
    article: np.ndarray  # int64 (events,): places


def simulate(world: World, first: int, end: int) -> Iterator[Day]:
    """The days [first, end). Begins a customer's life earlier and lets those take part whose whole life it sees."""
    n_users, start = world.shop.n_users, max(0, first - CUSTOMER_DAYS)
    everybody = np.arange(n_users)
    here, last = np.full(n_users, start == 0), np.full(n_users, -1)
    had = np.zeros((n_users, world.shop.n_items), dtype=bool)
    for day in range(start, end):
        new = world.customers.changes(day)
        here, last[new], had[new] = here | new, -1, False
        had[:, world.articles.changes(day)] = False
        before = last.copy(), had.copy()
        busy = 0.35 + 0.6 * world.draw("activity", everybody, world.customers.holder(day))
        visits = here & (world.draw("visits", everybody, day) < busy * WEEKDAY[(OPENING + day * DAY).weekday()])
        length = visits * (1 + np.searchsorted(np.cumsum(VISIT)[:-1], world.draw("length", everybody, day), side="right"))
        events = []
        for t in range(len(VISIT)):
            who = np.flatnonzero(length > t)
            reach = np.cumsum(world.chain[last[who]] * ~had[who], axis=1)
            article = (reach <= (world.draw("article", who, day, t) * reach[:, -1])[:, None]).sum(axis=1)
            left = article < world.shop.n_items  # else they have had everything
            who, article = who[left], article[left]
            last[who], had[who, article] = article, True
            events.append((who, np.full(len(who), t), article))
        if day >= first:
            yield Day(day, *before, *(np.concatenate(column) for column in zip(*events, strict=True)))


@dataclass(frozen=True)
class Best:
    """The best lists there can be for some customers and one day. Expected NDCG@k is Σ gain / log2(1 + rank)."""

    user_id: np.ndarray  # (U,)
    item_id: np.ndarray  # (U, k), best first
    gain: np.ndarray  # float64 (U, k): E[1(item is relevant) / ideal DCG]; 0 where the customer has had all that is left

    @property
    def ndcg(self) -> np.ndarray:
        """Expected NDCG@k of each list, given that the customer visits: float64 (U,)."""
        return self.gain @ _discount(self.gain.shape[1])


def best_lists(shop: Shop, user_id: np.ndarray, day: datetime, k: int = 10) -> Best:
    """The known best: the lists of somebody who knows the chain, and all that happened before `day`, and nothing else.

    What is known best. Relevant are the articles R of the customer's visit on `day` (the 24 hours from that midnight)
    that were on sale before; NDCG@k = Σ_{i in R} 1 / log2(1 + rank i) / ideal(|R|). Its expectation is highest for the
    order of E[1(i in R) / ideal(|R|)], which is computed from the chance that the visit's step t is at article i,
    summed over t and the lengths of a visit. Not the next article alone counts, so even the chain's own next-step
    chances, ranked, reach 98 % of it. Articles had before are left out, as the customer leaves them out.
    Neglected are returns to an article within one visit, and articles on their first day: a few thousandths together.

    Raises: SourceError for a user who is no customer on the day, ConfigError where `day` is no midnight since the opening.
    """
    world, (number, rest) = World(shop), divmod(day - OPENING, DAY)
    if rest or number < 1:
        raise ConfigError(f"The best lists are known for whole days after {OPENING:%Y-%m-%d}, not from {day:%Y-%m-%d %H:%M}.")
    today = next(simulate(world, number, number + 1))
    who = _places_of(np.asarray(user_id), world.customers.ids(number), day)
    free = ~today.had[who]
    ideal = np.cumsum(_discount(len(VISIT)))[np.minimum(np.arange(len(VISIT)), k - 1)]
    allowed = free @ world.chain.T  # (U, n + 1): chance that a step from an article leads to one not had before
    at, gain = np.eye(shop.n_items + 1)[today.last[who]], np.zeros(free.shape)
    for t in range(len(VISIT)):
        at = (np.divide(at, allowed, out=np.zeros_like(at), where=allowed > 0) @ world.chain) * free
        gain += at * (VISIT / ideal)[t:].sum()
        at = np.pad(at, ((0, 0), (0, 1)))
    gain[:, world.articles.changes(number)] = 0
    order = np.argsort(-gain, axis=1, kind="stable")[:, :k]
    return Best(np.asarray(user_id), world.articles.ids(number)[order], np.take_along_axis(gain, order, axis=1))


def _places_of(user_id: np.ndarray, ids: np.ndarray, day: datetime) -> np.ndarray:
    order = np.argsort(ids)
    place = order[np.searchsorted(ids, user_id, sorter=order).clip(max=len(ids) - 1)]
    strangers = user_id[ids[place] != user_id]
    if len(strangers):
        raise SourceError(f"{len(strangers)} of {len(user_id)} users are no customers of the shop on {day:%Y-%m-%d}, as {strangers[0]}.")
    return place


def _discount(n: int) -> np.ndarray:
    return 1 / np.log2(np.arange(2, 2 + n))
