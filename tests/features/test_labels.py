"""Labels: columns or SQL, what they say of an event, and since when."""

from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from pydantic import ValidationError

from recsys.config import Data, Events, Sequences
from recsys.errors import ConfigError, ContractError, RecsysError, SourceError
from recsys.histories import Histories
from recsys.sequences.build import build_sequences
from recsys.store import Artifact, Store
from recsys.windows import Cut, parse_as_of

AS_OF = parse_as_of("2024-03-11")
COLUMNS = "user_id bigint, item_id bigint, event_at timestamp, kind varchar, visit bigint, liked bigint, known timestamp"

# Two visits of user 1 and one of user 2. `liked` is told later for the second event, and after AS_OF for the third.
EVENTS = [
    (1, 10, "2024-03-09 10:00", "view", 1, 1, None),
    (1, 20, "2024-03-09 10:30", "purchase", 1, 0, "2024-03-10 09:00"),
    (1, 30, "2024-03-10 12:00", "view", 2, 1, "2024-03-11 00:00"),
    (2, 10, "2024-03-10 20:00", "view", 3, None, "2024-03-10 21:00"),
]
LATER = [(1, 40, "2024-03-11 08:00", "purchase", 4, 1, None), (2, 40, "2024-03-11 09:00", "purchase", 5, 1, None)]

Build = Callable[..., Artifact]


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2024-03-{text}")


@pytest.fixture
def night(build: Build, tmp_path: Path) -> Callable[..., Artifact]:
    """Features of the events with labels; `sql` are label files of an overlay."""

    def run(labels: tuple[str, ...], rows: list[Any] = EVENTS, sql: dict[str, str] | None = None, **fields: Any) -> Artifact:
        path = tmp_path / f"events-{len(rows)}.parquet"
        with duckdb.connect() as con:
            con.execute(f"create table events ({COLUMNS})")
            con.executemany("insert into events values (?, ?, ?, ?, ?, ?, ?)", rows)
            con.execute(f"copy events to '{path}'")
        overlay = None
        if sql is not None:
            overlay = tmp_path / "overlay"
            for name, text in sql.items():
                (overlay / name).parent.mkdir(parents=True, exist_ok=True)
                (overlay / name).write_text(text)
        events = Events(**{"path": str(path), "time": "event_at", "type": "kind", "session": "visit", "label": labels, **fields})
        return build(Data(events=events, sql_overlay=str(overlay) if overlay else None), AS_OF)

    return run


def test_the_two_labels_of_the_shop_by_hand(night: Any, rows: Any) -> None:
    tables = night(("purchased", "hours_until_return"))
    found = rows(tables, "events", "user_id", "event_order", "purchased", "purchased_known_at")
    assert sorted(found, key=str) == [
        (1, 0, 1, at("09 10:30")),
        (1, 1, 0, at("10 12:00")),
        (1, 2, None, None),
        (2, 0, None, None),
    ]
    found = rows(tables, "events", "user_id", "event_order", "hours_until_return", "hours_until_return_known_at")
    assert sorted(found, key=str) == [
        (1, 0, 26.0, at("10 12:00")),
        (1, 1, 25.5, at("10 12:00")),
        (1, 2, None, None),
        (2, 0, None, None),
    ]


def test_without_sessions_a_pause_of_half_an_hour_is_the_end_of_a_visit(night: Any, rows: Any) -> None:
    moved = [(*row[:2], when, *row[3:]) for row, when in zip(EVENTS, ["09 10:00", "09 10:29", "09 10:59", "10 20:00"], strict=True)]
    moved = [(*row[:2], f"2024-03-{row[2]}", *row[3:]) for row in moved]
    tables = night(("hours_until_return",), moved, session=None)
    assert sorted(rows(tables, "events", "user_id", "hours_until_return"), key=str) == [
        (1, 0.5),
        (1, pytest.approx(59 / 60)),
        (1, None),
        (2, None),
    ]


def test_a_column_of_the_source_is_known_at_its_event_or_when_it_says(night: Any, rows: Any) -> None:
    """What becomes known at as_of or later is null, and so is the moment of what is not known."""
    found = rows(night(("liked",), label_known_at="known"), "events", "user_id", "liked", "liked_known_at")
    assert sorted(found, key=str) == [(1, 0, at("10 09:00")), (1, 1, at("09 10:00")), (1, None, None), (2, None, None)]
    found = rows(night(("liked",)), "events", "user_id", "event_at", "liked", "liked_known_at")
    assert all(known == event_at if liked is not None else known is None for _, event_at, liked, known in found)
    assert [row[2] for row in sorted(found)] == [1, 0, 1, None]


def test_a_label_of_ones_own_sees_tables_and_variables(night: Any, rows: Any) -> None:
    """Whether the user comes back within a day: yes is known when they do, no a day later."""
    sql = """
        with returns as (
            select *, lead(event_at) over (partition by user_id order by event_order) as next_at from events
        )
        select
            user_id,
            event_order,
            coalesce(next_at < event_at + interval 1 day, false) as back_soon,
            if(back_soon, next_at, event_at + interval 1 day) as known_at,
        from returns
    """
    found = rows(night(("back_soon",), sql={"labels/back_soon.sql": sql}), "events", "user_id", "back_soon", "back_soon_known_at")
    assert sorted(found, key=str) == [(1, False, at("10 10:30")), (1, None, None), (1, True, at("09 10:30")), (2, None, None)]


@pytest.mark.parametrize(
    ("labels", "sql", "error", "message"),
    [
        (("sold",), None, SourceError, r"no column 'sold'.*labels/sold.sql"),
        (("a",), "select user_id, event_order, 1 as a from events", ContractError, "a.sql selects .*A label selects.*known_at TIMESTAMP"),
        (("a",), "select user_id, event_order, event_at as known_at from events", ContractError, "and a"),
        (
            ("a",),
            "select user_id, 0::bigint as event_order, 1 as a, event_at as known_at from events",
            ContractError,
            r"3 rows of one event, as \{user_id: 1, event_order: 0\}: it has one row",
        ),
        (("a",), "select nothing from events", RecsysError, r"a\.sql: .*nothing"),
        (("a",), "select user_id, event_order, [1] as a, event_at as known_at from events", ContractError, "label column 'a' INTEGER"),
        (("kind",), None, ConfigError, "two roles"),
    ],
)
def test_labels_that_cannot_be(night: Any, labels: Any, sql: str | None, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"(?s){message}"):
        night(labels, sql=None if sql is None else {f"labels/{labels[0]}.sql": sql})


def test_a_label_is_computed_in_one_place(night: Any) -> None:
    with pytest.raises(ConfigError, match="'liked' is a column of .* computes it, too"):
        night(("liked",), sql={"labels/liked.sql": "select 1"})
    with pytest.raises(ValidationError, match="label_known_at"):
        night((), label_known_at="known")
    with pytest.raises(ConfigError, match="have an order only"):
        night(("purchased",), time=None, order="event_at")


def test_a_label_of_an_overlays_events_says_since_when_it_is_known(night: Any, rows: Any) -> None:
    own = (Path(__file__).parents[2] / "sql/features/20_events.sql").read_text()
    without = own.replace("select * from events", "select *, 1 as sold from events")
    with pytest.raises(ContractError, match="has to select 'sold_known_at', too"):
        night(("sold",), sql={"features/20_events.sql": without})
    said = own.replace("select * from events", "select *, 1 as sold, event_at + interval 1 day as sold_known_at from events")
    found = rows(night(("sold",), sql={"features/20_events.sql": said}), "events", "user_id", "sold", "sold_known_at")
    assert sorted(found, key=str) == [(1, 1, at("10 10:00")), (1, 1, at("10 10:30")), (1, None, None), (2, None, None)]


def test_a_label_that_nobody_asks_for_changes_no_version(night: Any) -> None:
    first = night(("purchased",), sql={"labels/other.sql": "select 1"})
    assert night(("purchased",), sql={"labels/other.sql": "select 2"}).version == first.version
    assert night(("purchased", "hours_until_return")).version != first.version


def test_what_happens_after_the_cut_changes_no_label_before_it(night: Any, build: Build, tmp_path: Path) -> None:
    """Labels as training reads them, at the start of a holdout, are the same whatever the holdout has in it."""
    labels, sql = ("purchased", "hours_until_return", "liked"), None
    holdout = Cut(at=datetime(2024, 3, 10, 6, tzinfo=timezone.utc))
    in_holdout = [(1, 50, "2024-03-10 07:00", "purchase", 9, 1, None), (2, 50, "2024-03-10 21:30", "purchase", 9, 1, None)]
    read = []
    for rows in ([*EVENTS[:2], *in_holdout], EVENTS, [*EVENTS, *in_holdout, *LATER]):
        features = night(labels, rows, sql, label_known_at="known")
        sequences = build_sequences(Store(tmp_path / "store"), AS_OF, Sequences(), features)
        histories = Histories.load(sequences.path)
        known = histories.as_known(holdout)
        used = histories.before(histories.cut(holdout))
        read.append({name: known.columns[name][used] for name in labels})
        assert not np.array_equal(histories.columns["purchased"][used], known.columns["purchased"][used], equal_nan=True), "the cut matters"
    for name in labels:
        for other in read[1:]:
            np.testing.assert_array_equal(read[0][name], other[name])
    np.testing.assert_array_equal(read[0]["purchased"], np.array([1, np.nan], np.float32))
    np.testing.assert_array_equal(read[0]["liked"], np.array([1, np.nan], np.float32))
    assert np.isnan(read[0]["hours_until_return"]).all()
