"""The rows of the portal's ablation: each is a contender of a night that can run; what is told of them; and a night of a small portal."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import news
from benchmarks.news import ROWS, Row
from flows import deployments
from flows.contenders import contenders
from recsys.config import Backtest
from recsys.model.blocks import Blocks
from recsys.recipes import resolve


def test_every_row_is_a_contender_of_the_portals_backtest() -> None:
    settings = [f"{name}={value}" for name, value in news.SETTINGS.items()]
    parameters = deployments.override(deployments.deployed("globo", "backtest"), settings)
    models = tuple(f"{name}={row.text}" for name, row in ROWS.items())
    asked = Backtest(**{**parameters["backtest"], "models": models})
    found = contenders(asked, deployments.unpublished(parameters))
    assert [one.name for one in found] == list(ROWS) and news.REFERENCE in ROWS
    assert all((one.night is None) == row.text.startswith("popular_lately") for one, row in zip(found, ROWS.values(), strict=True))
    trained = [resolve(one.night.model) for one in found if one.night is not None]
    for model in trained:
        Blocks.of(model).check()
    assert "news" in [model.recipe for model in trained]
    once = [row.text for row in ROWS.values() if row.newest is None]
    assert len(set(once)) == len(once) and set(news.OF_A_WEEK) <= set(ROWS)


def found(row: str, day: str, **values: Any) -> dict[str, Any]:
    about = {"cpu": "a CPU", "cores": 2, "threads": 1, "measured_on": "2026-01-02", "commit": "c" * 40, "n_days": 1, "versions": "Python 3"}
    costs = {"n_users": 1234, "hit_rate_at_10": 0.25, "training_seconds": 12.4}
    return {"row": row, "day": day, "ndcg_at_10": 0.1, "difference": 0.02, "low": 0.01, "high": 0.03, **about, **costs, **values}


def test_a_table_has_a_row_per_contender_and_all_nights_beside_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(news, "ROWS", {"lately_1h": Row('popular_lately(window="1h")', "the last hour"), "ours": Row("sasrec()", "+ ids")})
    none = {"difference": None, "low": None, "high": None, "training_seconds": None}
    days = ("2017-10-15", "2017-10-16")
    rows = [row for day in days for row in (found("lately_1h", day, **none), found("ours", day, ndcg_at_10=0.2))]
    text = news.section(rows).splitlines()
    assert "Test users: 1,234 on 2017-10-15, 1,234 on 2017-10-16." in text[0]
    assert text[3] == "a CPU, 2 cores; 2026-01-02; commit cccccccccc, threads: 1, shared with other work; Python 3;"
    table = [line for line in text if line.startswith("|")]
    assert table[0] == "| contender | 10-15: NDCG@10 | against 1 h | HR@10 | fit, s | 10-16: NDCG@10 | against 1 h | HR@10 | fit, s |"
    assert table[2] == "| the last hour | 0.1000 |  | 0.2500 |  | 0.1000 |  | 0.2500 |  |"
    ours = "0.2000 | +0.0200 (+0.0100 … +0.0300) | 0.2500 | 12"
    assert table[3] == f"| + ids | {ours} | {ours} |"
    assert text[-1] == "* + ids: `sasrec()`"


def test_a_week_has_a_row_per_day_and_means() -> None:
    none = {"difference": None, "low": None, "high": None, "training_seconds": None}
    days = {"2017-10-15": (0.1, 0.2), "2017-10-16": (0.3, 0.1)}
    rows = [
        row for day, (a, b) in days.items() for row in (found("lately_1h", day, ndcg_at_10=a, **none), found("news", day, ndcg_at_10=b))
    ]
    text = news.week_of(rows).splitlines()
    assert text[2] == f"| test day: NDCG@10, HR@10 | most clicked in the last hour | {ROWS['news'].adds} | `news` against 1 h |"
    assert text[4] == "| 2017-10-15 | 0.1000, 0.2500 | 0.2000, 0.2500 | +0.0200 (+0.0100 … +0.0300) |"
    assert text[6] == "| mean | 0.2000, 0.2500 | 0.1500, 0.2500 | -0.0500 |"


def test_new_rows_take_the_place_of_those_of_the_same_day_and_others_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(news, "RESULTS", tmp_path / "results")
    (tmp_path / "results.md").write_text("# Results\n")
    none = {"difference": None, "low": None, "high": None, "training_seconds": None}
    days, week = ("2017-10-15", "2017-10-16"), ("2017-10-14", "2017-10-15", "2017-10-16")
    news.write([row for day in days for row in (found("lately_1h", day, **none), found("news", day))])
    news.write([row for day in week for row in (found("lately_1h", day, **none, n_days=7), found("news", day, n_days=7))])
    news.write([found("lately_1h", day, **none) for day in days] + [found("context", day, ndcg_at_10=0.4) for day in days])
    kept = pq.read_table(tmp_path / "results" / "news.parquet").to_pylist()
    both = [(name, n_days, day) for name in ("lately_1h", "news") for n_days, of in ((1, days), (7, week)) for day in of]
    assert [(row["row"], row["n_days"], row["day"]) for row in kept] == [*both, *(("context", 1, day) for day in days)]
    text = (tmp_path / "results.md").read_text()
    assert "| + region, device and referrer of each click | 0.4000 |" in text
    assert "| 2017-10-14 | 0.1000, 0.2500 | 0.1000, 0.2500 |" in text and "10-14: NDCG@10" not in text


@pytest.fixture
def portal(tmp_path: Path) -> Path:
    """Ten days of clicks of a small portal in daily files: a few articles are new every day, and are clicked for a day."""
    random, n_days, n_users, per_day = np.random.default_rng(3), 10, 60, 8
    day = np.repeat(np.arange(n_days), n_users * 3)
    item = day * per_day + random.integers(0, 2 * per_day, len(day))
    at = (
        np.datetime64("2017-10-07", "ms")
        + day.astype("timedelta64[D]")
        + random.integers(0, 86_400_000, len(day)).astype("timedelta64[ms]")
    )
    user = random.integers(0, n_users, len(day))
    same = {name: np.full(len(day), "x") for name in ("environment", "device_group", "os", "country", "region", "referrer")}
    clicks = pa.table({"user_id": user, "item_id": item, "clicked_at": at, "session_id": user * n_days + day, **same})
    for number in range(n_days):
        folder = tmp_path / "data" / "globo" / "events" / f"click_date={np.datetime64('2017-10-07') + number}"
        folder.mkdir(parents=True)
        pq.write_table(clicks.filter(pa.array(day == number)), folder / "clicks.parquet")
    return tmp_path / "data"


@pytest.mark.slow
def test_a_night_of_a_small_portal(
    portal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = "news(width=8, max_events=5, min_item_events=1, limit_train_batches=1.0)"
    again = Row(small, "the same, going on with the newest day", newest="1d", goes_on=True)
    monkeypatch.setattr(news, "ROWS", {news.REFERENCE: ROWS[news.REFERENCE], "news": Row(small, "the recipe, small"), "again": again})
    for name, value in (
        ("OF_A_WEEK", (news.REFERENCE, "news")),
        ("WEEK", 2),
        ("NIGHTS", ("2017-10-17",)),
        ("RESULTS", tmp_path / "results"),
    ):
        monkeypatch.setattr(news, name, value)
    (tmp_path / "results.md").write_text("# Measured\n")
    monkeypatch.setattr(sys, "argv", ["news", "--data", str(portal), "--folder", str(tmp_path / "runs"), "--threads", "1"])
    news.main()
    first = capsys.readouterr().out
    assert "| the recipe, small | 0." in first and "on 2017-10-16" in first
    text = (tmp_path / "results.md").read_text()
    assert "The newest 2 days" in text and "| 2017-10-15 | 0." in text and "`backtest.train_window=1d`, `continuing=true`" in text
    rows = {
        (row["row"], row["n_days"], row["day"]): row["ndcg_at_10"]
        for row in pq.read_table(tmp_path / "results" / "news.parquet").to_pylist()
    }
    assert set(rows) == {(name, 1, "2017-10-16") for name in (news.REFERENCE, "news")} | {
        (name, 2, day) for name in (news.REFERENCE, "news", "again") for day in ("2017-10-15", "2017-10-16")
    }
    assert rows["news", 1, "2017-10-16"] == rows["news", 2, "2017-10-16"] != rows["again", 2, "2017-10-16"]
    news.main()
    assert capsys.readouterr().out == first and (tmp_path / "results.md").read_text() == text, "what was measured is told again"


def test_the_reference_has_to_be_there(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["news", "--data", "x", "--folder", str(tmp_path), "--rows", "newest_1d"])
    with pytest.raises(SystemExit):
        news.main()
    assert "--rows: lately_1h, which the others are compared with, has to be one of them" in capsys.readouterr().err
