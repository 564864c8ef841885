"""The shop's tables, as files: events by day, items and users as known on the day of a night."""

from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys import digest, disk
from recsys.config import Data, Events, Items, Users
from recsys.demo.shop import DAY, OPENING, VISIT, Day, Places, World, simulate
from recsys.errors import ConfigError
from recsys.windows import duration

DEVICES = ("phone", "desktop", "tablet")
CHANNELS = ("search", "home", "newsletter", "advert", "direct")
COUNTRIES = ("DE", "FR", "PL", "ES", "SE")
MEMBERSHIPS = ("guest", "member", "plus")
BRANDS = ("Alder", "Birke", "Corvo", "Dunmore", "Elsted", "Fjell", "Gable", "Harrow", "Isar", "Juniper")
TAGS = ("gift", "sale", "organic", "handmade", "recycled", "compact", "premium", "outdoor", "kids", "vegan")
STYLES = ("Linen", "Walnut", "Blue", "Copper", "Folding", "Classic", "Small", "Striped", "Grey", "Round", "Light", "Nordic", "Large", "Red")
GOODS = {
    "kitchen": ("Pan", "Kettle", "Bread Board", "Carafe", "Knife", "Bowl", "Mortar"),
    "living": ("Lamp", "Cushion", "Blanket", "Vase", "Candle Holder", "Clock", "Rug"),
    "garden": ("Watering Can", "Trowel", "Planter", "Bird House", "Rake", "Lantern", "Hose Reel"),
    "office": ("Notebook", "Fountain Pen", "Desk Tray", "Calendar", "Stapler", "Document Case", "Bookend"),
    "sports": ("Yoga Mat", "Skipping Rope", "Water Bottle", "Kettlebell", "Headband", "Ball", "Gym Bag"),
    "travel": ("Backpack", "Suitcase", "Toiletry Bag", "Neck Pillow", "Umbrella", "Travel Mug", "Passport Sleeve"),
    "clothing": ("Shirt", "Cardigan", "Scarf", "Socks", "Rain Coat", "Belt", "Cap"),
    "toys": ("Puzzle", "Building Blocks", "Kite", "Marble Run", "Teddy", "Card Game", "Spinning Top"),
    "bath": ("Towel", "Soap Dish", "Bath Mat", "Mirror", "Laundry Basket", "Brush", "Robe"),
    "music": ("Ukulele", "Metronome", "Music Stand", "Harmonica", "Tambourine", "Tuner", "Headphones"),
}
CATEGORIES = tuple(GOODS)
BOUGHT = np.array([0.55, 0.05, 0.30, 0.10, 0.45, 0.02, 0.40, 0.15, 0.25, 0.08])  # chance that a look is a purchase, by category


def folder_in(store: Path) -> Path:
    """Where the nights of the demo shop keep its tables, in their store: one that has this folder is the demo's."""
    return store / "demo"


def prepare(data: Data, as_of: datetime, folder: Path) -> Data:
    """Writes the shop's tables for one night under `folder` and returns the data group that reads them.

    Events: one file per complete day of the longest window before as_of; a day that is there already is left alone.
    Items and users: as known at as_of. Files appear whole or not at all, and equal shops and days give equal bytes. One process at a
    time prepares a folder: a run has its store to itself, and a plan of a night that has no features yet prepares nothing.
    The returned group names columns, and files only in its paths: its version is the same wherever the shop lies.

    Raises: ConfigError where the shop had not been open for a day.
    """
    if data.demo is None:
        raise ConfigError("data.demo is not set: there is no shop to prepare. Set it, or name your own tables in data.events.")
    world, end = World(data.demo), (as_of - OPENING) // DAY
    if end < 1:
        raise ConfigError(f"as_of {as_of:%Y-%m-%d %H:%M} is before any data: the first day of the demo shop is {OPENING:%Y-%m-%d}.")
    folder = folder / digest.of_value({"shop": data.demo.versioned(), "code": digest.of_code(__name__)})[:12]

    first = max(0, (as_of - max(duration(data.history), duration(data.seen)) - OPENING) // DAY)
    files = {day: folder / "events" / f"date={_date(day)}" / "events.parquet" for day in range(first, end)}
    missing = {day for day, file in files.items() if not file.exists()}
    if missing:
        for day in simulate(world, min(missing), max(missing) + 1):
            if day.number in missing:
                _write(_events(world, day), files[day.number])
    items, users = folder / "items" / f"{_date(end)}.parquet", folder / "users" / f"{_date(end)}.parquet"
    if not (items.exists() and users.exists()):
        _write(_items(world, end - 1), items)
        _write(_users(world, end - 1), users)

    tables = {
        "events": Events(
            path=str(folder / "events" / "date=*" / "*.parquet"),
            partition="date",
            time="event_at",
            type="event_type",
            session="session_id",
            categorical=("device", "channel"),
            log_numeric=("dwell_seconds",),
            label=data.demo.labels,
        ),
        "items": Items(
            path=str(items),
            categorical=("category", "brand"),
            multi_categorical=("tags",),
            log_numeric=("price",),
            text=("title",),
        ),
        "users": Users(
            path=str(users),
            categorical=data.demo.segments,
            multi_categorical=("interests",),
            numeric=("age",),
        ),
    }
    return data.model_copy(update={"demo": None, **tables})


def _events(world: World, day: Day) -> pa.Table:
    """One row per article of a visit: viewed, or bought, with a chance that depends on the kind of article."""
    visit = (day.customer, day.number)
    dwell = np.round(5 * 60 ** world.draw("dwell", np.arange(world.shop.n_users)[:, None], day.number, np.arange(len(VISIT))), 1)
    begins = 6 * 3600 + 8 * 3600 * (world.draw("begins", *visit) + world.draw("late", *visit))  # from 6 to 22 h, most at 14 h
    until = np.cumsum(np.ceil(dwell) + 3, axis=1)[day.customer, day.step]
    second = (begins + until).astype(np.int64) + int((OPENING + day.number * DAY).timestamp())
    own = world.choose(DEVICES, "own device", day.customer, world.customers.holder(day.number)[day.customer])
    table = pa.table(
        {
            "user_id": world.customers.ids(day.number)[day.customer],
            "item_id": world.articles.ids(day.number)[day.article],
            "event_at": pa.array(second * 1_000_000, pa.timestamp("us")),
            "event_type": np.where(world.draw("bought", *visit, day.step) < BOUGHT[_category(world, day.article)], "purchase", "view"),
            "session_id": day.number * world.shop.n_users + day.customer,
            "device": np.where(world.draw("borrowed", *visit) < 0.8, own, world.choose(DEVICES, "other device", *visit)),
            "channel": world.choose(CHANNELS, "channel", *visit),
            "dwell_seconds": dwell[day.customer, day.step],
        }
    )
    return table.sort_by([("event_at", "ascending"), ("user_id", "ascending"), ("item_id", "ascending")])


def _items(world: World, day: int) -> pa.Table:
    """One row per article on sale on the day, and per article that it took the place of."""
    place, holder, item_id = _holders(world.articles, day)
    about = (place, holder)
    category = _category(world, place)
    goods = np.array(list(GOODS.values()))[category, (world.draw("goods", *about) * 7).astype(np.int64)]
    title = np.char.add(np.char.add(world.choose(STYLES, "style", *about), " "), goods)
    table = pa.table(
        {
            "item_id": item_id,
            "title": title,
            "category": np.array(CATEGORIES)[category],
            "brand": world.choose(BRANDS, "brand", *about),
            "tags": _some(world, TAGS, "tags", *about),
            "price": np.round(4 * 80 ** world.draw("price", *about), 2),
        }
    )
    return table.sort_by("item_id")


def _category(world: World, place: np.ndarray) -> np.ndarray:
    """Number of the category of the articles at the places: neighbours in the ring are of one kind."""
    return place * len(CATEGORIES) // world.shop.n_items


def _users(world: World, day: int) -> pa.Table:
    """One row per customer of the day, and per customer whose place they took."""
    place, holder, user_id = _holders(world.customers, day)
    about = (place, holder)
    table = pa.table(
        {
            "user_id": user_id,
            "country": world.choose(COUNTRIES, "country", *about),
            "membership": world.choose(MEMBERSHIPS, "membership", *about),
            "interests": _some(world, CATEGORIES, "interests", *about),
            "age": (18 + 60 * world.draw("age", *about)).astype(np.int64),
        }
    )
    return table.sort_by("user_id")


def _holders(places: Places, day: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Place, holder and id of who holds a place on the day, and of who held it before since the opening."""
    then = np.flatnonzero(places.holder(day) > 0)
    here = np.arange(len(places.number))
    place = np.concatenate([here, then])
    holder = np.concatenate([places.holder(day), places.holder(day - places.days)[then]])
    return place, holder, np.concatenate([places.ids(day), places.ids(day - places.days)[then]])


def _some(world: World, values: tuple[str, ...], purpose: str, *keys: np.ndarray) -> pa.ListArray:
    """One to three different values for each element of the keys, as a list."""
    draws = np.stack([world.draw(f"{purpose} {value}", *keys) for value in values])
    order = np.argsort(draws, axis=0)[:3].T  # (n, 3)
    n = 1 + (world.draw(f"{purpose} n", *keys) * 3).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(n)])
    return pa.ListArray.from_arrays(offsets.astype(np.int32), np.array(values)[order[np.arange(3) < n[:, None]]])


def _date(day: int) -> str:
    return f"{OPENING + day * DAY:%Y-%m-%d}"


def _write(table: pa.Table, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    disk.replace(file, lambda new: pq.write_table(table, new, compression="zstd"))
