"""The protocol of Transformers4Rec: what counts of a session, neighbours by hand, and a whole run on a small portal."""

import argparse
import math
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import vsknn, windows
from flows import deployments
from flows.contenders import contenders
from recsys.config import Backtest
from recsys.store import Store
from recsys.windows import parse_as_of

BEGIN = datetime(2017, 10, 10)


def portal(data: Path, sessions: dict[int, tuple[float, list[int]]]) -> Path:
    """Clicks of sessions: by id the hour it starts at, and its articles, a minute apart."""
    rows = [
        (session, item, BEGIN + timedelta(hours=hour, minutes=minute), BEGIN + timedelta(hours=hour))
        for session, (hour, items) in sessions.items()
        for minute, item in enumerate(items)
    ]
    folder = data / "globo" / "events" / "click_date=2017-10-10"
    folder.mkdir(parents=True)
    values = ", ".join(f"({session}, {item}, timestamp '{at}', timestamp '{start}')" for session, item, at, start in rows)
    duckdb.sql(f"""
        select *, 'a' as region, 'b' as country, 'c' as environment, 'd' as device_group, 'e' as os
        from (values {values}) as clicks(session_id, item_id, clicked_at, session_started_at)
    """).write_parquet(f"{folder}/clicks.parquet")
    return data


def written(tmp_path: Path, sessions: dict[int, tuple[float, list[int]]]) -> Path:
    return windows.write_sessions(portal(tmp_path / "data", sessions), tmp_path / "sessions.parquet", BEGIN, BEGIN + timedelta(hours=9))


def test_what_counts_of_a_session(tmp_path: Path) -> None:
    file = written(tmp_path, {1: (0.99, [7, 8, 7, 9]), 2: (0, [7]), 3: (0, list(range(30))), 4: (9, [1, 2])})
    rows = duckdb.sql(f"select session_id, item_id, place from '{file}' where session_id = 1 order by place").fetchall()
    assert rows == [(1, 7, 1), (1, 8, 2), (1, 9, 3)], "a repeat does not count"
    counts = duckdb.sql(f"select session_id, count(*) from '{file}' group by all order by all").fetchall()
    assert counts == [(1, 3), (3, 20)], "neither one click nor what is beyond the time; of a long one the first 20"
    assert duckdb.sql(f"select max(clicked_at) < timestamp '2017-10-10 01:00' from '{file}'").fetchone() == (True,)


def test_neighbours_by_hand(tmp_path: Path) -> None:
    # Asked after 1, 2 (weights 1/2 and 1): session 1 has both, so 1.5; session 2 has the newer one, 1; session 3 the older, 0.5.
    file = written(tmp_path, {1: (0, [1, 2, 5]), 2: (0, [2, 6]), 3: (0, [1, 7]), 4: (1, [1, 2, 9])})
    found = vsknn.lists(file, f"{BEGIN + timedelta(hours=1)}", f"{BEGIN + timedelta(hours=2)}", 10).order("rank").fetchall()
    assert found == [(4, 5, 1), (4, 6, 2), (4, 7, 3)], "each of the three is in one of three sessions; the last click is not known"
    found = windows.neighbours(file, BEGIN + timedelta(hours=1), 1, tmp_path / "found.json")
    (window,) = found
    assert window["window"] == "2017-10-10 01:00:00" and window["versions"].startswith("Python")
    assert (window["ndcg_at_20"], window["hit_rate_at_20"], window["sessions"]) == (0, 0, 1)


def test_the_last_click_is_asked_for_and_what_was_measured_is_not_measured_again(tmp_path: Path) -> None:
    file = written(tmp_path, {1: (0, [1, 2, 5]), 2: (0, [2, 6]), 4: (1, [1, 2, 6]), 5: (1, [2, 5])})
    found = windows.neighbours(file, BEGIN + timedelta(hours=1), 1, tmp_path / "found.json")
    # 4 is like 1 by 1.5 and like 2 by 1: its 6 comes after the 5. 5 is like both alike: of the equal 1, 5 and 6 its 5 is the second.
    assert found[0]["ndcg_at_20"] == pytest.approx(1 / math.log2(3)) and found[0]["hit_rate_at_20"] == 1
    file.unlink()
    assert windows.neighbours(file, BEGIN + timedelta(hours=1), 1, tmp_path / "found.json") == found
    assert windows.neighbours(file, BEGIN + timedelta(hours=1), 0, tmp_path / "found.json") == [], "of more windows the first are told"


def test_the_protocol_is_a_backtest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSIONS", "sessions.parquet")
    parameters = windows.configuration(list(windows.MODELS), 24, 5)
    asked = Backtest(**parameters["backtest"])
    night = deployments.unpublished({**parameters, "store": "store"})
    assert [one.name for one in contenders(asked, night)] == list(windows.MODELS)
    folds = asked.folds(parse_as_of("2017-10-11"), night.evaluation.holdout, night.seed)
    assert len(folds) == 24 and not night.scoring.exclude_seen


def row(model: str, ndcg: float, **values: object) -> dict[str, object]:
    about = {"cpu": "a CPU", "cores": 2, "measured_on": "2026-01-02", "commit": "c" * 40, "versions": "Python 3"}
    protocol = {"first": "2017-10-10T00:00:00", "n_windows": 2, "n_asked": 2, "epochs": 5}
    return {**protocol, **about, "model": model, "window": "w", "ndcg_at_20": ndcg, "hit_rate_at_20": 0.5, "sessions": 1000, **values}


def test_a_table_keeps_other_models_of_the_same_windows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(windows, "RESULTS", tmp_path)
    earlier = [row("sasrec", 0.1), row("xlnet_rtd", 0.2), row("popular_6h", 0.3), row("xlnet_mlm", 0.3, epochs=1)]
    pq.write_table(pa.Table.from_pylist(earlier), tmp_path / "windows.parquet")
    found = windows.joined([row("vsknn", 0.4), row("sasrec", 0.5)])
    assert [(one["model"], one["ndcg_at_20"]) for one in found] == [
        ("popular_6h", 0.3),
        ("sasrec", 0.5),
        ("xlnet_rtd", 0.2),
        ("vsknn", 0.4),
    ]


def test_a_table_has_a_row_per_model_and_the_papers_means() -> None:
    rows = [row("xlnet_rtd", 0.1), row("xlnet_rtd", 0.2), row("vsknn", 0.4), row("vsknn", 0.4)]
    text = windows.section(rows)
    assert "--n-windows 2 --epochs 5`; a CPU, 2 cores; 2026-01-02; commit cccccccccc; Python 3; seed 1." in text
    assert "2017-10-10 00:00 to 2017-10-10 02:00, 2,000 sessions; means over them." in text and "**Not comparable" in text
    assert [line for line in text.splitlines() if line.startswith("|")][2:] == [
        "| xlnet_rtd | 0.1500 | 0.5000 | 0.3609, 0.6611 |",
        "| vsknn | 0.4000 | 0.5000 | 0.3511, 0.6601 |",
    ]
    everything = windows.section([row("vsknn", 0.4, first="2017-10-01T04:00:00", n_windows=380, n_asked=380)])
    assert "Not comparable" not in everything and "--first" not in everything and "--so-far" not in everything
    some = windows.section([row("vsknn", 0.4, first="2017-10-01T04:00:00", n_asked=380)])
    assert "--n-windows 380 --epochs 5 --so-far`" in some and "these are 2." in some and "--first" not in some


@pytest.mark.slow
def test_hour_by_hour(tmp_path: Path) -> None:
    """Articles come in rounds: what follows is known from the hour before, and no list is made of what was popular."""
    draw = np.random.default_rng(1)
    starts = draw.integers(0, 30, 900)
    sessions = {n: (-3 + 5 * n / 900, [(start + step) % 30 for step in range(4)]) for n, start in enumerate(starts.tolist())}
    data = portal(tmp_path / "data", sessions)
    given = argparse.Namespace(models=["popular_6h", "sasrec"], first=None, n_windows=2, epochs=20, threads=1, folder=tmp_path)
    end = BEGIN + timedelta(hours=2)
    file = windows.write_sessions(data, tmp_path / "sessions.parquet", BEGIN - windows.BEFORE, end)
    with pytest.raises(SystemExit, match="The first window is not finished by all of popular_6h, sasrec"):
        windows.so_far(file, given, end)
    found = windows.backtest(file, given, end)
    told = windows.so_far(file, given, end)
    for name in given.models:
        for one, so_far in zip(found[name], told[name], strict=True):
            assert so_far["ndcg_at_20"] == pytest.approx(one["ndcg_at_20"], abs=1e-6) and so_far["sessions"] == one["sessions"]
            assert so_far["window"] == one["window"]
    lists = windows.lists_of(windows.canonical(given, file), Store(tmp_path / "store"), end)
    lists["sasrec", BEGIN + timedelta(hours=1)].with_name("manifest.json").unlink()  # as if it had been stopped
    assert {name: len(windows.so_far(file, given, end)[name]) for name in given.models} == {"popular_6h": 1, "sasrec": 1}
    given.epochs = 1
    with pytest.raises(SystemExit, match="not finished by all"):  # what the store has is of other epochs
        windows.so_far(file, given, end)
    given.epochs = 20
    found["vsknn"] = windows.neighbours(file, BEGIN, 2, tmp_path / "vsknn.json")
    assert {name: [w["sessions"] for w in of_model] for name, of_model in found.items()} == dict.fromkeys(found, [180, 180])
    means = {name: sum(w["ndcg_at_20"] for w in of_model) / 2 for name, of_model in found.items()}
    assert means["popular_6h"] < 0.4 < min(means["sasrec"], means["vsknn"])
