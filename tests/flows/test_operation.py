"""The commands of who is on call, on a store of hand-made nights: what they print, and how they end."""

import json
import os
import subprocess
import sys
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from typer.testing import CliRunner

from flows.cli import app
from recsys import published
from recsys.store import Draft, Store

DAYS = [datetime(2017, 10, 15, tzinfo=timezone.utc) + timedelta(days=n) for n in range(4)]


def recsys(store: Path, *arguments: object) -> Result:
    words = [*map(str, arguments), "--store", str(store)]
    return CliRunner().invoke(app, words, env={"COLUMNS": "200"})


def night(store: Store, as_of: datetime) -> published.Promotion:
    def tables(draft: Draft) -> None:
        column = {"table": "events", "column": "user_id", "type": "BIGINT", "rows": as_of.day, "nulls": 0, "distinct": 9, "mean": None}
        pq.write_table(pa.Table.from_pylist([column]), draft.path / "profile.parquet")

    def lists(draft: Draft) -> None:
        (draft.path / "recommendations").mkdir()
        rows = [{"user_id": 1, "rank": rank, "item_id": as_of.day + rank} for rank in (1, 2, 3, 4)]
        pq.write_table(pa.Table.from_pylist(rows), draft.path / "recommendations" / "part-000.parquet")

    features = store.ensure("features", as_of, {}, {}, tables, code="recsys.windows")
    scoring = store.ensure("scoring", as_of, {}, {"features": features}, lists, code="recsys.windows")
    return published.promotion(as_of, "c", "candidate", {"scoring": scoring}, ("It is better.",))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Four published nights."""
    store = Store(tmp_path / "store")
    for day in DAYS:
        published.publish(store, night(store, day))
    return store


def test_status_is_a_grid_of_nights_and_steps(store: Store) -> None:
    shown = recsys(store.root, "status")
    assert shown.exit_code == 0, shown.output
    lines = shown.stdout.splitlines()
    head = next(number for number, line in enumerate(lines) if line.startswith("night "))
    assert lines[head].split()[:3] == ["night", "features", "sequences"]
    assert lines[head + 1].split() == ["2017-10-18", "done", *["missing"] * 4, "done", "missing"]
    assert lines[head + 2].split() == ["current", store.find("features").version[:7], store.find("scoring").version[:7] + "*"]
    assert "2017-10-15" in shown.stdout and "2017-10-15" not in recsys(store.root, "status", "--nights", 3).stdout
    assert "are free on its disk" in shown.stdout


def test_status_says_what_failed_and_what_is_held(store: Store) -> None:
    def fail(draft: Draft) -> None:
        raise ValueError("no [such] column")

    with pytest.raises(ValueError, match="column"):
        store.ensure("training", DAYS[3], {}, {}, fail, code="recsys.windows")
    held = published.set_aside(store, published.promotion(DAYS[3], "other", "candidate", {}, ("better",)), "hold")
    shown = recsys(store.root, "status").stdout
    assert "2017-10-18 training" in shown and "failed 0 s ago: ValueError: no [such] column" in shown
    assert f"2017-10-18 {held.id} is held for a person" in shown


def test_status_says_which_run_is_at_work(store: Store) -> None:
    with store.at_work("nightly-2017-10-19"):
        assert "At work now: nightly-2017-10-19 (process " in recsys(store.root, "status").stdout
    assert "At work now" not in recsys(store.root, "status").stdout


def test_rollback_and_promote_move_the_pointer_and_go_on_record(store: Store) -> None:
    first, *_, last = published.history(store)
    back = recsys(store.root, "rollback", "2017-10-15", "--why", "three bad days")
    assert back.exit_code == 0, back.output
    assert f"Published now: 2017-10-15 {first.id}, the lists of the new model." in back.stdout
    assert json.loads((store.root / "current.json").read_text())["id"] == first.id
    again = recsys(store.root, "promote", last.id[:7], "--why", "they were fine")
    assert f"Published now: 2017-10-18 {last.id}" in again.stdout
    one_back = recsys(store.root, "rollback", "--why", "no")
    assert f"Published now: 2017-10-15 {first.id}" in one_back.stdout, "the nights between stay taken back"
    history = recsys(store.root, "show", "history").stdout
    assert history.count(" rollback ") == 4 and history.count(" promote ") == 1 and "three bad days" in history
    assert f"{first.id}*" in history


def test_copies_follow_a_rollback(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"data: {{demo: {{}}}}\npublishing: {{exports: [{{format: csv, path: {tmp_path}/out}}]}}\n")
    back = recsys(store.root, "rollback", "--why", "bad lists", "--config", path)
    assert back.exit_code == 1 and "recommendations.csv" in back.output, "lists without scores cannot be copied, which is said"
    assert published.current(store) == published.history(store)[2], "the pointer has moved all the same"


def test_prune_shows_first_and_removes_when_told(store: Store) -> None:
    shown = recsys(store.root, "prune", "--nights", 1, "--promotions", 2)
    assert shown.exit_code == 0, shown.output
    assert "Would go: 4 artifacts and 0 leftovers" in shown.stdout and "Nothing was removed" in shown.stdout
    assert len(store.artifacts()) == 8
    done = recsys(store.root, "prune", "--nights", 1, "--promotions", 2, "--yes")
    assert "Removed: 4 artifacts" in done.stdout and len(store.artifacts()) == 4
    assert "Would go: 0 artifacts" in recsys(store.root, "prune", "--nights", 1, "--promotions", 2).stdout


def test_verify_ends_with_one_where_something_is_damaged(store: Store) -> None:
    whole = recsys(store.root, "verify")
    assert whole.exit_code == 0 and "All as written: 8 artifacts" in whole.stdout
    path = store.find("scoring").path / "recommendations" / "part-000.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    broken = recsys(store.root, "verify")
    assert broken.exit_code == 1
    assert f"{path} is not what was written" in broken.stdout and "1 problems in 8 artifacts" in broken.stdout


def test_diff_is_of_the_last_two_promotions_unless_nights_are_named(store: Store) -> None:
    last = recsys(store.root, "diff")
    assert last.exit_code == 0, last.output
    assert "2017-10-17 2017-10-18" in " ".join(last.stdout.split())
    assert "Of a list, 75.0% is in the other night's; 0.0% begin with the same item." in last.stdout
    assert "Only one of the two nights has evaluation, or none" in last.stdout
    named = " ".join(recsys(store.root, "diff", "2017-10-15", "2017-10-17").stdout.split())
    assert "events rows 15 17" in named and "Of a list, 50.0%" in named


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["rollback"], 2, "Missing option '--why'"),
        (["rollback", "--why", " "], 2, "say why"),
        (["rollback", "2020-01-01", "--why", "x"], 1, "There is no such promotion '2020-01-01'"),
        (["promote", "--why", "x"], 1, "Nothing is held for a person"),
        (["promote", "2017-10-18", "--why", "x"], 1, "There is no such promotion '2017-10-18'"),
        (["prune", "--nights", "0"], 2, "should be greater than or equal to 1"),
        (["diff", "2020-01-01"], 1, "There is no such promotion '2020-01-01'"),
        (["status", "--nights", "no"], 2, "should be a valid integer"),
    ],
)
def test_mistakes_end_in_one_message(store: Store, arguments: list[str], code: int, says: str) -> None:
    before = (store.root / "promotions.jsonl").read_bytes()
    ended = recsys(store.root, *arguments)
    assert ended.exit_code == code, ended.output
    assert says in " ".join(ended.stderr.replace("│", " ").split()) and "Traceback" not in ended.output
    assert (store.root / "promotions.jsonl").read_bytes() == before


COMMANDS = (["status"], ["prune"], ["verify"], ["diff"], ["show", "history"], ["rollback", "--why", "x"], ["promote", "--why", "x"])


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_store_that_is_not_there_is_an_answer(tmp_path: Path, command: list[str]) -> None:
    ended = recsys(tmp_path / "nowhere", *command)
    assert ended.exit_code == 1 and "There is no store in" in ended.stderr
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_an_empty_store_is_an_answer(tmp_path: Path, command: list[str]) -> None:
    ended = recsys(tmp_path, *command)
    assert "Traceback" not in ended.output and not isinstance(ended.exception, (KeyError, IndexError, AttributeError)), ended.output


def test_the_pointer_moves_within_seconds_and_without_torch_or_prefect(store: Store) -> None:
    script = f"""
import sys
from flows.cli import app
for words in (["rollback", "--why", "x"], ["status"], ["verify"], ["prune"], ["show", "history"]):
    app([*words, "--store", {str(store.root)!r}], standalone_mode=False)
assert not {{"prefect", "torch", "duckdb", "pyarrow"}} & set(sys.modules), sorted(sys.modules)
app(["diff", "2017-10-15", "2017-10-16", "--store", {str(store.root)!r}], standalone_mode=False)
assert not {{"prefect", "torch"}} & set(sys.modules)
"""
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env={**os.environ, "COLUMNS": "120"})
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started < 30
    assert published.current(store) == published.history(store)[2]


@pytest.mark.parametrize("command", [["rollback", "--why", "x"], ["promote", "--why", "x"], ["prune", "--yes"]], ids=" ".join)
def test_a_place_that_cannot_be_written_is_an_answer(command: list[str]) -> None:
    ended = recsys(Path("/proc/self"), *command)
    assert ended.exit_code == 1 and "the store /proc/self cannot be written" in ended.stderr.replace("\n", " ")
