"""The commands of who is on call, on a store of hand-made nights: what they print, and how they end."""

import csv
import json
import os
import re
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from flows import deployments
from flows.cli import app, options
from recsys import demo, published
from recsys.status import STEPS
from recsys.store import Draft, Store
from tests.flows.conftest import recorded_at

DAYS = [datetime(2017, 10, 15, tzinfo=timezone.utc) + timedelta(days=n) for n in range(4)]


def recsys(store: Path, *arguments: object, columns: int = 200) -> Result:
    words = [*map(str, arguments), "--store", str(store)]
    return CliRunner().invoke(app, words, env={"COLUMNS": str(columns)})


def night(store: Store, as_of: datetime) -> published.Promotion:
    def tables(draft: Draft) -> None:
        column = {"table": "events", "column": "user_id", "type": "BIGINT", "rows": as_of.day, "nulls": 0, "distinct": 9, "mean": None}
        pq.write_table(pa.Table.from_pylist([column]), draft.path / "profile.parquet")

    def lists(draft: Draft) -> None:
        (draft.path / "recommendations").mkdir()
        rows = [{"user_id": 1, "rank": rank, "item_id": as_of.day + rank, "score": 0.5, "source": "model"} for rank in (1, 2, 3, 4)]
        pq.write_table(pa.Table.from_pylist(rows), draft.path / "recommendations" / "part-000.parquet")

    features = store.ensure("features", as_of, {}, {}, tables, code="recsys.windows")
    scoring = store.ensure("scoring", as_of, {}, {"features": features}, lists, code="recsys.windows")
    return published.promotion(as_of, "c", "candidate", {"scoring": scoring}, ("It is better.",))


def copied(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "recommendations.csv").open()))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Four nights, published when they were due."""
    store = Store(tmp_path / "store")
    for day in DAYS:
        with recorded_at(day + timedelta(hours=5)):
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


def test_a_narrow_terminal_cuts_no_version_of_the_grid_and_no_mark(store: Store) -> None:
    """Names of steps give way, where they are longer than what is below them."""

    def hundred_kilobytes(draft: Draft) -> None:
        (draft.path / "table.txt").write_bytes(bytes(100_000))

    made = {step: store.ensure(step, DAYS[3], {"x": 1}, {}, hundred_kilobytes, code="recsys.windows") for step in STEPS}
    published.publish(store, published.promotion(DAYS[3], "whole", "candidate", made, ("It is better.",)))
    for columns in (120, 80):
        shown = recsys(store.root, "status", columns=columns).stdout.splitlines()
        marked = next(line for line in shown if line.startswith("current"))
        assert marked.split() == ["current", *(f"{artifact.version[:7]}*" for artifact in made.values())]
        sizes = shown[shown.index(marked) + 2].replace(" kB", "kB").split()
        assert len(sizes) == len(STEPS) and all(re.fullmatch(r"10\d\.\dkB", size) for size in sizes)
        assert max(map(len, shown[1 : shown.index(marked) + 3])) <= columns
        assert ["night", *STEPS] in map(str.split, shown), "every name is whole"


def test_names_of_steps_wrap_where_a_narrow_terminal_has_no_place_for_them(store: Store) -> None:
    """As beside a moment of a day, and a version that came to other bytes later."""
    evening = store.ensure("evaluation", DAYS[3] + timedelta(hours=18), {}, {}, lambda draft: None, code="recsys.windows")
    shown = recsys(store.root, "status", columns=80).stdout.splitlines()
    row = next(number for number, line in enumerate(shown) if line.startswith("2017-10-18T1800"))
    assert evening.version[:7] in shown[row + 1] and max(map(len, shown[row - 2 : row + 4])) <= 80
    parts = " ".join(shown[row - 2 : row]).split()
    assert "evaluation" not in parts
    assert all(any(step in (part, part + rest) for part in parts for rest in parts) for step in STEPS), "and none is cut"


def test_status_says_what_failed_and_what_is_held(store: Store) -> None:
    def fail(draft: Draft) -> None:
        raise ValueError("no [such] column")

    with pytest.raises(ValueError, match="column"):
        store.ensure("training", DAYS[3], {}, {}, fail, code="recsys.windows")
    held = published.set_aside(store, published.promotion(DAYS[3], "other", "candidate", {}, ("better",)), "hold")
    shown = recsys(store.root, "status").stdout
    assert "2017-10-18 training" in shown and re.search(r"failed \d+ s ago: ValueError: no \[such\] column", shown)
    assert f"2017-10-18 {held.id} is held for a person" in shown


def test_status_has_a_row_for_nights_of_the_schedule_of_which_there_is_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for active in (True, False):
        on_schedule(store, tmp_path, monkeypatch, active=active)
        shown = recsys(store.root, "status")
        assert shown.exit_code == 0, shown.output
        lines = shown.stdout.splitlines()
        first = lines[next(number for number, line in enumerate(lines) if line.startswith("night ")) + 1].split()
        assert first == (["2017-10-19", *["missing"] * 7] if active else ["2017-10-18", "done", *["missing"] * 4, "done", "missing"])
        assert ("Nights that came due since, by the schedule as it is now, and of which there is nothing: " in shown.stdout) == active
        assert bool(re.search(r"`recsys backfill --from 2017-10-19 --to 20\d\d-\d\d-\d\d --publish --store ", shown.stdout)) == active


def test_a_trial_of_an_old_night_makes_none_missing_that_were_due_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "store")
    published.publish(store, night(store, DAYS[0]))
    on_schedule(store, tmp_path, monkeypatch)
    shown = recsys(store.root, "status")
    assert shown.exit_code == 0, shown.output
    assert "2017-10-15 done" in " ".join(shown.stdout.split()) and "2017-10-16" not in shown.stdout and "came due" not in shown.stdout


def on_schedule(store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch, *, active: bool = True) -> None:
    """A deployment whose store it is, for every midnight."""
    nightly = {"name": "mine", "entrypoint": "flows/nightly.py:nightly", "parameters": {"store": str(store.root), "data": {"demo": {}}}}
    schedules = [{"slug": "nightly", "cron": "0 0 * * *", "timezone": "UTC", "active": active}]
    (folder / "prefect.yaml").write_text(yaml.safe_dump({"deployments": [{**nightly, "schedules": schedules}]}))
    monkeypatch.setattr(deployments, "FILE", folder / "prefect.yaml")


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
    assert back.exit_code == 0 and [row["item_id"] for row in copied(tmp_path / "out")] == ["18", "19", "20", "21"]
    (tmp_path / "out" / "recommendations.csv").unlink()
    (tmp_path / "out" / "recommendations.csv").mkdir()
    failed = recsys(store.root, "rollback", "--why", "bad lists", "--config", path)
    assert failed.exit_code == 1 and "recommendations.csv: [Errno 21] Is a directory" in failed.output
    assert published.current(store) == published.history(store)[1], "the pointer has moved all the same"


@pytest.fixture
def deployed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`demo`, `mine` with the store of these tests, and `ours` and `theirs` that share one; the folder with a copy of each."""
    stores = {"demo": tmp_path / "demo", "mine": "${SHOPS}/store", "unknown": "${NOT_SET}/store", "ours": "shared", "theirs": "shared"}
    nights = [
        {
            "name": name,
            "entrypoint": "flows/nightly.py:nightly",
            "parameters": {
                "store": str(store),
                "data": {"demo": {}},
                "publishing": {"exports": [{"format": "csv", "path": f"{tmp_path}/copies/{name}"}]},
            },
        }
        for name, store in stores.items()
    ]
    (tmp_path / "prefect.yaml").write_text(yaml.safe_dump({"deployments": nights}))
    monkeypatch.setattr(deployments, "FILE", tmp_path / "prefect.yaml")
    monkeypatch.setenv("SHOPS", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "copies"


def test_the_copies_are_those_of_the_deployment_whose_store_it_is(store: Store, deployed: Path) -> None:
    back = recsys(Path("store"), "rollback", "--why", "bad lists")
    assert back.exit_code == 0 and f"Copied to {deployed}/mine/recommendations.csv" in back.stdout
    assert [row["item_id"] for row in copied(deployed / "mine")] == ["18", "19", "20", "21"]
    recsys(store.root, "promote", "2017-10-18", "--why", "they were fine")
    assert [row["item_id"] for row in copied(deployed / "mine")] == ["19", "20", "21", "22"]
    assert "Copies that show 2017-10-18 already: 1 of 1." in recsys(store.root, "export", "lists").stdout
    assert [path.name for path in deployed.iterdir()] == ["mine"]
    assert recsys(store.root, "export", "lists", "--deployment", "demo").exit_code == 0, "who names a deployment means it"
    assert copied(deployed / "demo") == copied(deployed / "mine")


@pytest.mark.parametrize(("folder", "of"), [("elsewhere", "no deployment"), ("shared", "ours and theirs")])
def test_no_copy_is_touched_where_nobody_knows_whose_they_are(store: Store, deployed: Path, folder: str, of: str) -> None:
    store.root.rename(folder)
    back = recsys(Path(folder), "rollback", "--why", "bad lists")
    assert back.exit_code == 0 and "Published now: 2017-10-17" in back.stdout
    assert f"No copy was touched: {folder} is the store of {of}. Say with --deployment or --config" in back.stdout
    refused = recsys(Path(folder), "export", "lists")
    assert refused.exit_code == 1 and f"{folder} is the store of {of}. Say with" in refused.stderr
    assert not deployed.exists()


@pytest.mark.parametrize("words", [("nightly",), ("score", "--publish"), ("experiment",), ("plan",), ("backtest",)], ids=" ".join)
def test_nothing_is_run_with_the_demo_shop_into_a_store_of_other_tables(store: Store, deployed: Path, words: tuple[str, ...]) -> None:
    store.root.rename("elsewhere")
    before = sorted(Path("elsewhere").rglob("*"))
    refused = recsys(Path("elsewhere"), *words)
    assert refused.exit_code == 1 and "elsewhere is the store of no deployment. Say with --deployment or --config" in refused.stderr
    assert sorted(Path("elsewhere").rglob("*")) == before


def test_a_store_that_the_demo_shop_was_run_into_takes_its_next_night_by_its_folder_alone(store: Store, deployed: Path) -> None:
    """Its tables name no sources: the shop that lies in it says whose it is."""
    store.root.rename("elsewhere")
    demo.folder_in(Path("elsewhere")).mkdir()
    for folder in ("elsewhere", "${SHOPS}/elsewhere"):
        planned = recsys(Path(folder), "plan")
        assert planned.exit_code == 0 and "training" in planned.stdout


def test_who_names_other_tables_does_not_run_the_demo_shop(store: Store, deployed: Path) -> None:
    own = ["data.demo=null", "data.events={path: events.parquet, time: at}"]
    parameters = options.chosen(None, None, store.root.rename("elsewhere"), own)
    assert parameters["data"] == {"demo": None, "events": {"path": "events.parquet", "time": "at"}}


def test_prune_shows_first_and_removes_when_told(store: Store) -> None:
    shown = recsys(store.root, "prune", "--nights", 1, "--promotions", 2)
    assert shown.exit_code == 0, shown.output
    assert "Would go: 4 artifacts and 0 leftovers" in shown.stdout and "Nothing was removed" in shown.stdout
    assert len(store.artifacts()) == 8
    done = recsys(store.root, "prune", "--nights", 1, "--promotions", 2, "--yes")
    assert "Removed: 4 artifacts" in done.stdout and len(store.artifacts()) == 4
    assert "Would go: 0 artifacts" in recsys(store.root, "prune", "--nights", 1, "--promotions", 2).stdout


@pytest.mark.parametrize(
    ("nights", "says"), [(1, "compared with 1 of the last 3 nights only"), (2, "with 2 of the last 3"), (3, ""), (9, "")]
)
def test_prune_says_where_it_leaves_too_little_to_compare_with(store: Store, nights: int, says: str) -> None:
    store.ensure(
        "drift", DAYS[3], {"drift": {"nights": 3}}, {"features": store.find("features")}, lambda draft: None, code="recsys.windows"
    )
    for words in ((), ("--yes",)):
        shown = recsys(store.root, "prune", "--nights", nights, "--promotions", 1, *words)
        assert shown.exit_code == 0, shown.output
        assert says in shown.stdout and ("features.drift.nights" in shown.stdout) == bool(says)


def test_prune_names_what_has_no_column(store: Store) -> None:
    features = store.find("features", DAYS[0])
    store.ensure("drift", DAYS[0], {}, {"features": features}, lambda draft: None, code="recsys.windows")
    assert "Removed: drift of 2017-10-15\n" in recsys(store.root, "prune", "--nights", 1, "--promotions", 1, "--yes").stdout


def test_verify_ends_with_one_where_something_is_damaged(store: Store) -> None:
    whole = recsys(store.root, "verify")
    assert whole.exit_code == 0 and "All as written: 8 artifacts" in whole.stdout
    path = store.find("scoring").path / "recommendations" / "part-000.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    broken = recsys(store.root, "verify")
    assert broken.exit_code == 1
    assert f"{path} is not what was written" in broken.stdout and "1 problem in 8 artifacts" in broken.stdout
    assert f"Remove the folder {path.parents[1]} and run the night again" in broken.stdout


def test_diff_is_of_the_last_two_promotions_unless_nights_are_named(store: Store) -> None:
    last = recsys(store.root, "diff")
    assert last.exit_code == 0, last.output
    assert "2017-10-17 2017-10-18" in " ".join(last.stdout.split())
    assert "Of a list, 75.0% is in the other night's; 0.0% begin with the same item." in last.stdout
    assert "Only one of the two nights has evaluation, or none" in last.stdout
    named = " ".join(recsys(store.root, "diff", "2017-10-15", "2017-10-17").stdout.split())
    assert "events rows 15 17" in named and "Of a list, 50.0%" in named


def test_diff_of_fewer_than_two_nights_says_what_there_is_and_what_to_do(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.root.mkdir()
    none = recsys(store.root, "diff")
    assert none.exit_code == 1 and f"StoreError: Nothing is published in {store.root} to compare with: run `recsys nightly`" in none.stderr
    published.publish(store, night(store, DAYS[0]))
    one = recsys(store.root, "diff")
    assert one.exit_code == 1 and f"2017-10-15 is the only night that is published in {store.root}: there is none before it" in one.stderr
    itself = recsys(store.root, "diff", "2017-10-15")
    assert itself.exit_code == 1 and "2017-10-15 and what is published now are the same: name another night." in itself.stderr
    night(store, DAYS[1])
    named = recsys(store.root, "diff", "2017-10-16")
    assert named.exit_code == 0 and "2017-10-16 2017-10-15" in " ".join(named.stdout.split()), "one that was made and not published"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["diff", "2017-10-16", "2017-10-16"], 1, "2017-10-16 and 2017-10-16 are the same: name another night."),
        (["diff", "2017-10-18"], 1, "2017-10-18 and what is published now are the same"),
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


def test_the_pointer_moves_without_torch_or_prefect(store: Store) -> None:
    script = f"""
import sys
from flows.cli import app
for words in (["rollback", "--why", "x"], ["status"], ["verify"], ["prune"], ["show", "history"]):
    app([*words, "--store", {str(store.root)!r}], standalone_mode=False)
assert not {{"prefect", "torch", "duckdb", "pyarrow"}} & set(sys.modules), sorted(sys.modules)
app(["diff", "2017-10-15", "2017-10-16", "--store", {str(store.root)!r}], standalone_mode=False)
assert not {{"prefect", "torch"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env={**os.environ, "COLUMNS": "120"})
    assert done.returncode == 0, done.stderr
    assert published.current(store) == published.history(store)[2]


@pytest.mark.parametrize("command", [["rollback", "--why", "x"], ["promote", "--why", "x"], ["prune", "--yes"]], ids=" ".join)
def test_a_place_that_cannot_be_written_is_an_answer(command: list[str]) -> None:
    ended = recsys(Path("/proc/self"), *command)
    assert ended.exit_code == 1 and "the store /proc/self cannot be written" in ended.stderr.replace("\n", " ")
