"""Every cut in time, by example and by property."""

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from recsys.errors import ConfigError
from recsys.windows import (
    Cut,
    Drawn,
    Duration,
    Holdout,
    Split,
    duration,
    ended_by,
    everything,
    folds,
    holdout,
    label,
    microseconds,
    midnight,
    naive,
    nights,
    parse_as_of,
    spelt,
)

UTC = timezone.utc
NIGHT = datetime(2017, 10, 17, tzinfo=UTC)

moments = st.datetimes(min_value=datetime(1970, 1, 1))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90m", timedelta(minutes=90)),
        ("6h", timedelta(hours=6)),
        ("30d", timedelta(days=30)),
        ("2w", timedelta(days=14)),
    ],
)
def test_durations_read_as_written(text: str, expected: timedelta) -> None:
    assert duration(text) == expected


@pytest.mark.parametrize(
    "text", ["", "d", "0d", "00h", "-1d", "1.5h", "1 d", "1D", "1s", "1mo", "1d ", " 1d", "1d1h", "one day", "9" * 20 + "d"]
)
def test_what_is_no_duration_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigError, match="is no duration"):
        duration(text)


@given(st.text(max_size=12))
def test_any_text_is_a_duration_or_a_config_error(text: str) -> None:
    try:
        assert duration(text) > timedelta(0)
    except ConfigError as error:
        assert repr(text) in str(error)


@given(st.integers(1, 99_999), st.sampled_from("mhdw"))
def test_every_duration_can_be_taken_from_every_night(number: int, unit: str) -> None:
    first = parse_as_of("1970-01-01")
    assert first - duration(f"{number}{unit}") < first


@given(st.integers(1, 99_999), st.sampled_from("mhdw"))
def test_a_duration_is_spelt_as_it_reads(number: int, unit: str) -> None:
    length = duration(f"{number}{unit}")
    assert duration(spelt(length)) == length


def test_a_field_with_a_bad_duration_is_a_validation_error() -> None:
    assert TypeAdapter(Duration).validate_python("6h") == "6h"
    with pytest.raises(ValidationError, match="'6 hours' is no duration"):
        TypeAdapter(Duration).validate_python("6 hours")


@pytest.mark.parametrize("text", ["1d", "6h", "last-1", "last-12"])
def test_holdouts_are_durations_or_last_events(text: str) -> None:
    assert TypeAdapter(Holdout).validate_python(text) == text


@pytest.mark.parametrize("text", ["last-0", "last-", "last-01", "last--1", "last", "", "1", "0d", "last-1d"])
def test_what_is_no_holdout_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="is no holdout"):
        TypeAdapter(Holdout).validate_python(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2017-10-17", NIGHT),
        ("2017-10-17T06:00", NIGHT + timedelta(hours=6)),
        ("2017-10-17 06:00:30", NIGHT + timedelta(hours=6, seconds=30)),
        ("2017-10-17T02:00+02:00", NIGHT),
        ("2017-10-17T00:00Z", NIGHT),
        (datetime(2017, 10, 17), NIGHT),
        (datetime(2017, 10, 16, 19, tzinfo=timezone(timedelta(hours=-5))), NIGHT),
    ],
)
def test_as_of_is_utc(text: str | datetime, expected: datetime) -> None:
    read = parse_as_of(text)
    assert read == expected
    assert read.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2017-13-01", "17.10.2017", "2017-10-17T25:00", "0001-01-01T00:00+14:00", "9999-12-31T23:59-12:00"]
)
def test_what_is_no_date_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigError, match="is no date or time"):
        parse_as_of(text)


def test_a_night_before_1970_is_refused() -> None:
    with pytest.raises(ConfigError, match="before 1970"):
        parse_as_of("1969-12-31")


@given(st.text(max_size=30))
def test_any_text_is_a_moment_or_a_config_error(text: str) -> None:
    try:
        assert parse_as_of(text).tzinfo is not None
    except ConfigError:
        pass


@given(moments)
def test_as_of_reads_back_what_it_wrote(moment: datetime) -> None:
    assert parse_as_of(parse_as_of(moment).isoformat()) == moment.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (NIGHT, "2017-10-17"),
        (NIGHT + timedelta(hours=6), "2017-10-17T0600"),
        (NIGHT + timedelta(hours=6, seconds=5), "2017-10-17T060005"),
        (NIGHT + timedelta(minutes=1), "2017-10-17T0001"),
        (NIGHT + timedelta(microseconds=500), "2017-10-17T000000.000500"),
    ],
)
def test_labels(moment: datetime, expected: str) -> None:
    assert label(moment) == expected


@given(moments, moments)
def test_labels_sort_as_their_moments_do(one: datetime, other: datetime) -> None:
    one, other = (m.replace(tzinfo=UTC) for m in (one, other))
    assert (label(one) < label(other)) == (one < other)
    assert (label(one) == label(other)) == (one == other)


@given(moments)
def test_microseconds_are_exact(moment: datetime) -> None:
    moment = moment.replace(tzinfo=UTC)
    assert datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds(moment)) == moment


def test_duckdb_gets_utc_without_a_zone() -> None:
    assert naive(datetime(2017, 10, 17, 2, tzinfo=timezone(timedelta(hours=2)))) == datetime(2017, 10, 17)


def test_the_holdout_starts_that_long_before_as_of() -> None:
    assert holdout(NIGHT, "1d") == Cut(at=NIGHT - timedelta(days=1))
    assert holdout(NIGHT, "6h") == Cut(at=NIGHT - timedelta(hours=6))
    assert holdout(NIGHT, "last-2") == Cut(last=2)


def test_nothing_is_held_out_of_everything() -> None:
    assert everything(NIGHT, has_times=True) == Cut(at=NIGHT)
    assert everything(NIGHT, has_times=False) == Cut(last=0)


def test_cuts_are_told_apart_in_text() -> None:
    assert str(Cut(last=1)) == "last-1"
    assert str(Cut(at=NIGHT)) == "2017-10-17T00:00:00+00:00"


@pytest.mark.parametrize("text", ["7d", "6h", "last-1", "last-3", "random-10%", "random-1%"])
def test_splits_are_durations_last_events_or_a_random_share(text: str) -> None:
    assert TypeAdapter(Split).validate_python(text) == text


@pytest.mark.parametrize("text", ["random", "random-0%", "random-100%", "random-10", "random-1.5%", "last-0", "0d", "weekly", ""])
def test_what_is_no_split_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="is no split"):
        TypeAdapter(Split).validate_python(text)


def days(number: float) -> datetime:
    return NIGHT - timedelta(days=number)


def test_windows_of_time_follow_each_other_and_end_at_as_of() -> None:
    first, second = folds(NIGHT, "1d", 2)
    assert (first.name, second.name) == ("2017-10-15", "2017-10-16")
    assert (first.start, first.stop) == (Cut(at=days(2)), Cut(at=days(1)))
    assert (second.start, second.stop) == (Cut(at=days(1)), Cut(at=NIGHT))
    assert (second.learn, second.read) == (Cut(at=days(1)), Cut(at=days(1)))


def test_the_last_window_is_the_holdout_of_the_night() -> None:
    (fold,) = folds(NIGHT, "6h")
    assert fold.learn == fold.read == fold.start == holdout(NIGHT, "6h")


def test_in_a_gap_nothing_is_learnt_read_or_asked_for() -> None:
    (fold,) = folds(NIGHT, "1d", gap="12h")
    assert fold.learn == fold.read == Cut(at=days(1.5))
    assert (fold.start, fold.stop) == (Cut(at=days(1)), Cut(at=NIGHT))


def test_a_sliding_window_ends_where_learning_ends() -> None:
    (fold,) = folds(NIGHT, "1d", gap="1d", train_window="3d")
    assert fold.learn == Cut(at=days(2), since=days(5))
    assert fold.read == Cut(at=days(2)), "what is read reaches back as far as it likes"


def test_of_the_last_event_in_a_window_all_before_it_is_read() -> None:
    (fold,) = folds(NIGHT, "1h", train_window="1h", last_only=True)
    hour = timedelta(hours=1)
    assert fold.learn == Cut(at=NIGHT - hour, since=NIGHT - 2 * hour)
    assert fold.read == Cut(at=NIGHT, last=1)


def test_newest_events_slide_backwards() -> None:
    older, newer = folds(NIGHT, "last-2", 2)
    assert (older.name, older.learn, older.stop) == ("last-4", Cut(last=4), Cut(last=2))
    assert (newer.name, newer.learn, newer.stop) == ("last-2", Cut(last=2), Cut(last=0))
    assert newer.read == newer.start == newer.learn


def test_random_folds_share_no_event() -> None:
    found = [fold.learn.drawn for fold in folds(NIGHT, "random-20%", 3, seed=5)]
    assert found == [Drawn(0, 0.2, 5), Drawn(0.2, 0.4, 5), Drawn(0.4, pytest.approx(0.6), 5)]
    with pytest.raises(ConfigError, match="6 folds of random-20% are more than all events"):
        folds(NIGHT, "random-20%", 6)


@pytest.mark.parametrize("split", ["last-1", "random-10%"])
@pytest.mark.parametrize("asked", [{"gap": "1d"}, {"train_window": "7d"}, {"last_only": True}])
def test_what_is_of_time_is_refused_elsewhere(split: str, asked: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(asked))} are of a split in time, and it is '{split}'"):
        folds(NIGHT, split, **asked)


@given(st.integers(1, 40), st.sampled_from(["1h", "1d", "last-1", "last-3", "random-2%"]))
def test_folds_have_names_and_cuts_of_their_own(n: int, split: str) -> None:
    made = folds(NIGHT, split, n)
    assert len({fold.name for fold in made}) == len({str(fold.learn) for fold in made}) == n
    assert [fold.name for fold in made] == [fold.name for fold in folds(NIGHT, split, n)]


def test_cuts_say_what_they_leave_out() -> None:
    assert str(Cut(at=NIGHT, last=1)) == "2017-10-17T00:00:00+00:00 last-1"
    assert str(Cut(at=NIGHT, since=days(1))) == "2017-10-17T00:00:00+00:00 since 2017-10-16T00:00:00+00:00"
    assert str(Cut(drawn=Drawn(0.1, 0.2, 7))) == "last-0 drawn 0.10-0.20 by 7"


def test_nights_from_one_to_another() -> None:
    first, last = parse_as_of("2017-02-27T06:00"), parse_as_of("2017-03-01T06:00")
    assert [label(night) for night in nights(first, last)] == ["2017-02-27T0600", "2017-02-28T0600", "2017-03-01T0600"]
    assert nights(first, first) == [first]
    with pytest.raises(ConfigError, match="2017-02-27T0600 is before the first, 2017-03-01T0600"):
        nights(last, first)


def test_the_midnight_before_a_moment_is_that_of_utc() -> None:
    assert label(midnight(datetime.fromisoformat("2017-03-01T01:30:00+02:00"))) == "2017-02-28"
    assert label(midnight(datetime.fromisoformat("2017-03-01T04:15:00+00:00"))) == "2017-03-01"


DAY = Cut(at=NIGHT - timedelta(days=1))


@pytest.mark.parametrize(
    ("trained", "holdout", "unseen"),
    [
        (DAY, DAY, True),
        (Cut(at=DAY.at, since=NIGHT - timedelta(days=3)), DAY, True),
        (Cut(at=NIGHT, last=1), DAY, False),
        (Cut(at=NIGHT), DAY, False),
        (Cut(at=NIGHT, since=DAY.at), DAY, False),
        (Cut(last=1), DAY, False),  # nobody knows when that was
        (Cut(last=1), Cut(last=1), True),
        (Cut(last=3), Cut(last=1), True),
        (Cut(last=1), Cut(last=2), False),
        (Cut(last=0), Cut(last=1), False),
        (Cut(drawn=Drawn(0.0, 0.1, 1)), Cut(last=1), False),
        (DAY, Cut(last=1), False),
    ],
    ids=str,
)
def test_a_model_has_seen_nothing_of_what_is_held_out_where_it_ended_before(trained: Cut, holdout: Cut, unseen: bool) -> None:
    assert ended_by(str(trained), holdout) == unseen
