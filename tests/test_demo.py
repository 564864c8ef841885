"""The synthetic shop: one world whichever night looks at it, and a best score that nobody beats."""

from datetime import timedelta
from pathlib import Path

import duckdb
import numpy as np
import pytest

from recsys.config import Data, Shop
from recsys.demo import best_lists, prepare
from recsys.demo.shop import CUSTOMER_DAYS, DAY, OPENING, SUCCESSORS, VISIT, Day, World, simulate
from recsys.demo.tables import BOUGHT, CATEGORIES
from recsys.errors import ConfigError, SourceError
from recsys.windows import parse_as_of

SMALL = Shop(n_users=150, n_items=60)
K = 10


def events_of(data: Data) -> duckdb.DuckDBPyRelation:
    assert data.events is not None
    return duckdb.read_parquet(data.events.path, hive_partitioning=True)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def test_a_night_has_the_complete_days_of_its_longest_window(tmp_path: Path) -> None:
    data = prepare(Data(demo=SMALL, history="5d", seen="8d"), parse_as_of("2025-03-01T06:00"), tmp_path)
    first, last, n = events_of(data).aggregate("min(event_at), max(event_at), count(*)").fetchall()[0]
    assert str(first.date()) == "2025-02-21" and str(last.date()) == "2025-02-28"  # 8 days before 6 o'clock, until midnight
    assert 150 * 8 * 0.4 < n < 150 * 8
    assert events_of(data).filter("cast(event_at as date) <> date").fetchall() == []
    assert [f for f in files_of(tmp_path) if Path(f).name.startswith(".")] == []


def test_the_group_reads_the_shop_and_names_existing_columns(tmp_path: Path) -> None:
    data = prepare(Data(demo=SMALL), parse_as_of("2025-02-01"), tmp_path)
    assert data.demo is None
    for table in (data.events, data.items, data.users):
        assert table is not None
        there = set(duckdb.read_parquet(table.path).columns)
        named = {*table.categorical, *table.multi_categorical, *table.numeric, *table.log_numeric, *table.text}
        assert named and named <= there
    rows = events_of(data).query(
        "events",
        f"""select count(*), count(i.item_id), count(u.user_id), count(distinct (e.user_id, e.item_id))
        from events as e left join '{data.items.path}' as i using (item_id) left join '{data.users.path}' as u using (user_id)""",
    )
    n, with_item, with_user, distinct = rows.fetchall()[0]
    assert n == with_item == with_user == distinct  # everything is declared, and nobody takes an article twice


def test_the_version_does_not_know_where_the_shop_lies(tmp_path: Path) -> None:
    one, other = (prepare(Data(demo=SMALL, history="2d", seen="2d"), parse_as_of("2025-02-01"), tmp_path / name) for name in "ab")
    assert one.versioned() == other.versioned() and one.events != other.events
    assert Data.model_validate(one.model_dump()) == one


def test_tomorrow_finds_the_files_of_today_unchanged(tmp_path: Path) -> None:
    data = Data(demo=SMALL, history="7d", seen="10d")
    prepare(data, parse_as_of("2025-06-01"), tmp_path / "kept")
    today = files_of(tmp_path / "kept")
    prepare(data, parse_as_of("2025-06-02"), tmp_path / "kept")
    both = files_of(tmp_path / "kept")
    assert len(both) == len(today) + 3 and both | today == both  # one more day, and items and users of the second night
    prepare(data, parse_as_of("2025-06-02"), tmp_path / "anew")
    assert files_of(tmp_path / "anew").items() <= both.items()


def test_nothing_there_is_written_twice(tmp_path: Path) -> None:
    data = prepare(Data(demo=SMALL, history="2d", seen="2d"), parse_as_of("2025-02-01"), tmp_path)
    lost = next(tmp_path.rglob("date=2025-01-31/events.parquet"))
    kept = next(tmp_path.rglob("date=2025-01-30/events.parquet"))
    bytes_of_lost, written = lost.read_bytes(), kept.stat().st_mtime_ns
    lost.unlink()
    assert prepare(Data(demo=SMALL, history="2d", seen="2d"), parse_as_of("2025-02-01"), tmp_path) == data
    assert lost.read_bytes() == bytes_of_lost and kept.stat().st_mtime_ns == written


def test_two_shops_share_a_folder(tmp_path: Path) -> None:
    nights = [
        prepare(Data(demo=SMALL.model_copy(update={"seed": s}), history="2d", seen="2d"), parse_as_of("2025-02-01"), tmp_path)
        for s in (1, 2)
    ]
    assert events_of(nights[0]).fetchall() != events_of(nights[1]).fetchall()


def test_string_ids_tell_the_same_story(tmp_path: Path) -> None:
    group = {"history": "3d", "seen": "3d"}
    numbers = prepare(Data(demo=SMALL, **group), parse_as_of("2025-02-01"), tmp_path)
    strings = prepare(Data(demo=SMALL.model_copy(update={"ids": "string"}), **group), parse_as_of("2025-02-01"), tmp_path)
    columns = "event_at, cast(regexp_extract(user_id::varchar, '[0-9]+') as int), cast(regexp_extract(item_id::varchar, '[0-9]+') as int)"
    assert events_of(strings).project("user_id, item_id").fetchall()[0][0].startswith("customer-")
    assert events_of(numbers).project(columns).order("all").fetchall() == events_of(strings).project(columns).order("all").fetchall()


def test_before_the_opening_there_is_no_data(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="2025-01-01"):
        prepare(Data(demo=SMALL), OPENING, tmp_path)
    assert not list(tmp_path.iterdir())
    assert prepare(Data(demo=SMALL), OPENING + DAY, tmp_path).events  # its first day


def test_customers_of_the_smallest_shop_run_out_of_articles(tmp_path: Path) -> None:
    data = prepare(Data(demo=Shop(n_users=20, n_items=20), history="60d"), parse_as_of("2025-04-01"), tmp_path)
    most = events_of(data).aggregate("user_id, count(*) as n, count(distinct item_id) as items", "user_id").max("items").fetchall()[0][0]
    assert most >= 20


@pytest.mark.parametrize("first", [1, CUSTOMER_DAYS, CUSTOMER_DAYS + 1, 400])
def test_a_day_is_the_same_from_whichever_day_it_is_looked_at(first: int) -> None:
    world = World(SMALL)
    (near,) = simulate(world, first + 9, first + 10)
    *_, far = simulate(world, first, first + 10)
    for name in ("last", "had", "customer", "step", "article"):
        np.testing.assert_array_equal(getattr(near, name), getattr(far, name), err_msg=name)


def test_steps_and_visits_follow_the_chain() -> None:
    world = World(Shop(n_users=2000, n_items=200))
    days = list(simulate(world, 0, 20))
    length = np.concatenate([np.bincount(np.bincount(d.customer), minlength=5)[1:] for d in days]).reshape(20, 4).sum(axis=0)
    np.testing.assert_allclose(length / length.sum(), VISIT, atol=0.01)
    first = np.concatenate([d.step == 0 for d in days])
    after = np.concatenate([d.last[d.customer] for d in days])[first]
    article = np.concatenate([d.article for d in days])[first]
    best = world.chain[:-1].argmax(axis=1)
    had = np.concatenate([d.had[d.customer, best[d.last[d.customer]]] for d in days])[first]
    share = (article == best[after])[(after >= 0) & ~had].mean()
    assert SUCCESSORS[0] < share < SUCCESSORS[0] + 0.06  # a little more: what they had is left out of the choice
    np.testing.assert_allclose(world.chain.sum(axis=1), 1)


def test_every_night_knows_new_articles_and_customers() -> None:
    world = World(Shop())
    for kind in (world.articles, world.customers):
        known = [set(kind.ids(day).tolist()) for day in range(60)]
        assert all(len(today) == len(kind.number) for today in known)
        new = [len(today - before) for before, today in zip(known, known[1:], strict=False)]
        assert 0.5 < np.mean(new) / (len(kind.number) / kind.days) < 1.5
        ever = set.union(*known)
        assert len(ever) == len(known[0]) + sum(new)  # an id does not come back


# The oracle


def test_the_known_best_is_reached_and_not_beaten() -> None:
    """On the same users: best ≥ ranking by the chain's next step ≥ counted bigrams ≥ 2 × popularity, and in the order of theory."""
    shop, number = Shop(), 45
    world = World(shop)
    *before, today = simulate(world, number - 30, number + 1)
    who = np.unique(today.customer)
    best = best_lists(shop, world.customers.ids(number)[who], OPENING + number * DAY, k=K)

    ids = world.articles.ids(number)
    order = np.argsort(ids)
    places = order[np.searchsorted(ids, best.item_id, sorter=order)]
    counts = bigrams(before, shop.n_items)
    popular = counts.sum(axis=0)
    scores = {"next step": world.chain[today.last[who]], "bigrams": counts[today.last[who]] + popular / popular.sum(), "popular": popular}
    reached = {"best": ndcg(world, today, who, places)}
    reached |= {name: ndcg(world, today, who, top(world, today, who, score)) for name, score in scores.items()}
    mean = {name: value.mean() for name, value in reached.items()}

    assert mean["best"] > mean["next step"] > mean["bigrams"] > 2 * mean["popular"], mean
    assert mean["bigrams"] > 0.94 * mean["best"], mean  # what a model can learn from 30 days
    assert mean["popular"] < 0.2 * mean["best"], mean
    counted = relevant(world, today, who).any(axis=1)
    error = reached["best"].std() / len(reached["best"]) ** 0.5
    assert abs(mean["best"] - best.ndcg[counted].mean()) < 3 * error, "the expected value is not what happens"


def test_best_lists_leave_out_what_the_customer_had_and_what_is_new() -> None:
    world, number = World(SMALL), 80
    (today,) = simulate(world, number, number + 1)
    best = best_lists(SMALL, world.customers.ids(number), OPENING + number * DAY, k=60)
    assert best.item_id.shape == (150, 60) and (np.diff(best.gain, axis=1) <= 0).all()
    had = today.had | world.articles.changes(number)
    np.testing.assert_array_equal((best.gain > 0).sum(axis=1), (~had).sum(axis=1))
    for place, ids, gain in zip(range(150), best.item_id, best.gain, strict=True):
        assert not set(world.articles.ids(number)[had[place]]) & set(ids[gain > 0])


def test_gain_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """A visit of one article has the ideal DCG 1, a visit of two 1 + 1 / log2(3); the first step counts in both."""
    monkeypatch.setattr("recsys.demo.shop.VISIT", np.array([0.6, 0.4]))
    shop, number = Shop(n_users=20, n_items=30), 20
    world = World(shop)
    (today,) = simulate(world, number, number + 1)
    place = 3
    chance = world.chain * ~today.had[place]
    chance /= chance.sum(axis=1, keepdims=True)
    n = shop.n_items
    first = [chance[today.last[place], i] for i in range(n)]
    second = [sum(first[j] * chance[j, i] for j in range(n)) for i in range(n)]
    ideal = 1 + 1 / np.log2(3)
    gain = np.array([first[i] * (0.6 + 0.4 / ideal) + second[i] * 0.4 / ideal for i in range(n)])
    gain[world.articles.changes(number)] = 0

    best = best_lists(shop, world.customers.ids(number)[[place]], OPENING + number * DAY, k=5)
    np.testing.assert_allclose(best.gain[0], np.sort(gain)[::-1][:5])
    assert best.item_id[0].tolist() == world.articles.ids(number)[np.argsort(-gain)[:5]].tolist()
    assert best.ndcg[0] == pytest.approx(sum(g / np.log2(1 + rank) for rank, g in enumerate(best.gain[0], start=1)))


def test_questions_without_an_answer() -> None:
    day = OPENING + 30 * DAY
    with pytest.raises(SourceError, match="1 of 2 users are no customers of the shop on 2025-01-31, as 999999"):
        best_lists(SMALL, np.array([World(SMALL).customers.ids(30)[0], 999_999]), day)
    with pytest.raises(ConfigError, match="whole days"):
        best_lists(SMALL, np.array([1]), day + timedelta(hours=6))


def bigrams(days: list[Day], n_items: int) -> np.ndarray:
    """Steps counted from each article's place to the next: (n + 1, n), the last row from nothing."""
    counts = np.zeros((n_items + 1, n_items))
    for day in days:
        last = day.last.copy()
        for step in range(len(VISIT)):
            who, article = day.customer[day.step == step], day.article[day.step == step]
            np.add.at(counts, (last[who], article), 1)
            last[who] = article
    return counts


def relevant(world: World, day: Day, who: np.ndarray) -> np.ndarray:
    visited = np.zeros(day.had.shape, dtype=bool)
    visited[day.customer, day.article] = True
    return visited[who] & ~world.articles.changes(day.number)


def top(world: World, day: Day, who: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The K best places by score, without what the customers had or could not know."""
    return np.argsort(np.where(day.had[who] | world.articles.changes(day.number), np.inf, -scores), axis=1, kind="stable")[:, :K]


def ndcg(world: World, day: Day, who: np.ndarray, places: np.ndarray) -> np.ndarray:
    """NDCG@K of each customer with a relevant article."""
    hits = relevant(world, day, who)
    hits, places = hits[hits.any(axis=1)], places[hits.any(axis=1)]
    discount = 1 / np.log2(np.arange(2, 2 + K))
    return np.take_along_axis(hits, places, axis=1) @ discount / np.cumsum(discount)[np.minimum(hits.sum(axis=1), K) - 1]


# Labels


def test_what_is_bought_depends_on_its_kind_and_nothing_else_on_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Purchases can be foretold from what is visited, and who visits what is the same whatever is bought."""
    shop = Data(demo=Shop(n_users=600, n_items=100), history="20d", seen="20d")
    data = prepare(shop, parse_as_of("2025-03-01"), tmp_path / "a")
    assert data.events is not None and data.items is not None
    assert data.events.label == ("purchased", "hours_until_return")
    query = f"""select category, avg((event_type = 'purchase')::int) as share, count(*) as n
        from events join '{data.items.path}' using (item_id) group by category"""
    found = {category: (share, n) for category, share, n in events_of(data).query("events", query).fetchall()}
    for category, chance in zip(CATEGORIES, BOUGHT, strict=True):
        share, n = found[category]
        assert abs(share - chance) < 4 * (chance * (1 - chance) / n) ** 0.5, category
    monkeypatch.setattr("recsys.demo.tables.BOUGHT", np.zeros(len(BOUGHT)))
    other = prepare(shop, parse_as_of("2025-03-01"), tmp_path / "b")
    visits = "user_id, item_id, event_at, session_id, dwell_seconds"
    assert events_of(data).project(visits).order("all").fetchall() == events_of(other).project(visits).order("all").fetchall()
    assert events_of(other).filter("event_type = 'purchase'").fetchall() == []
