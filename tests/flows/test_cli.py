"""The `recsys` command as a person uses it: what it prints, and how it ends."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from flows.cli import app
from recsys import load, published, recommend
from recsys.config import Data, Shop
from recsys.demo import prepare
from recsys.model.hyperparameters import from_flat
from recsys.store import Store
from tests.test_documents import ROOT, commands

AS_OF, BEFORE = "2025-06-02", "2025-06-01"
TINY = {
    "model": {"width": 16, "max_events": 10},
    "training": {"max_epochs": 2, "users_per_batch": 32, "n_validation_users": 50},
    "evaluation": {"n_bootstrap": 100},
    "promotion": {"min_users": 1, "min_lift": -1.0, "min_refit_overlap": 0.0},
}


def recsys(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration of somebody's own tables, with string ids, and a store beside it."""
    folder = tmp_path_factory.mktemp("shop")
    data = prepare(Data(demo=Shop(n_users=150, n_items=50, ids="string")), datetime(2025, 6, 2, tzinfo=timezone.utc), folder / "tables")
    written = {"store": str(folder / "store"), "data": data.model_dump(mode="json", exclude_defaults=True), **TINY}
    (folder / "mine.yaml").write_text(yaml.safe_dump(written))
    return folder / "mine.yaml"


@pytest.fixture(scope="module")
def first(prefect_server: None, config: Path) -> Result:
    """The first night of these tables."""
    return recsys("nightly", "--config", config, "--as-of", AS_OF)


@pytest.fixture
def store(first: Result, config: Path) -> Store:
    return Store(config.parent / "store")


@pytest.fixture
def user(store: Store) -> str:
    """A user with a list: a string id."""
    from flows.lists import Lists

    now = published.current(store)
    assert now is not None
    return str(Lists.open(store, store.open(now.artifacts["scoring"])).sample(1)[0])


def test_a_night_ends_with_what_was_published_and_why(first: Result) -> None:
    assert first.exit_code == 0, first.output
    assert f"Published for {AS_OF}: the lists of the new model" in first.stdout
    assert "The candidate is published: on " in first.stdout
    assert "The lists are in " in first.stdout
    assert first.stdout.count(" had, newest first") == 3
    assert "The run in the Prefect UI: http://127.0.0.1:" in first.stdout


def test_a_second_run_says_that_there_is_nothing_to_do(store: Store, config: Path) -> None:
    pointer, before = store.root / "current.json", (store.root / "current.json").read_bytes()
    pointer.unlink()  # as where the first was killed between the record and the pointer
    again = recsys("nightly", "--config", config, "--as-of", AS_OF)
    assert again.exit_code == 0 and pointer.read_bytes() == before
    assert f"{AS_OF} was published with this configuration: nothing to do (if rows changed since, --rebuild reads them)." in again.stdout
    assert len(published.history(store)) == 1


def test_show_says_what_is_published_with_its_metrics(store: Store, config: Path) -> None:
    shown = recsys("show", "--config", config)
    assert shown.exit_code == 0, shown.output
    assert f"Published for {AS_OF}" in shown.stdout
    assert "NDCG@10" in shown.stdout and "popular_lately" in shown.stdout


def test_status_shows_the_versions_of_what_is_published(store: Store, config: Path) -> None:
    shown = recsys("status", "--config", config)
    assert shown.exit_code == 0, shown.output
    now = published.current(store)
    assert now is not None
    assert all(reference["version"][:7] + "*" in shown.stdout for name, reference in now.artifacts.items() if name != "twin")
    assert "of 2" in shown.stdout, "of the training, with the twin"


def test_show_recommendations_puts_history_and_list_side_by_side(store: Store, config: Path, user: str) -> None:
    shown = recsys("show", "recommendations", "--user", user, "--config", config)
    assert shown.exit_code == 0, shown.output
    heading = next(line for line in shown.stdout.splitlines() if " had, newest first" in line)
    assert f"User {user} had" in heading and "gets, from the new model" in heading
    assert shown.stdout.count("title") == 2


def test_an_unknown_user_is_told_some_known_ones(store: Store, config: Path, user: str) -> None:
    shown = recsys("show", "recommendations", "--user", "nobody", "--config", config)
    assert shown.exit_code == 1
    assert "There is no list for user 'nobody'" in shown.stderr and user in shown.stderr


@pytest.mark.parametrize("step", ["features", "sequences", "training", "twin", "evaluation", "promotion", "scoring", "publishing"])
def test_path_prints_a_folder_and_nothing_else(store: Store, config: Path, step: str) -> None:
    found = Path(recsys("path", step, "--config", config).stdout.strip())
    assert (found / "manifest.json").is_file()
    assert found.parents[1].name == ("training" if step == "twin" else step)


def test_path_finds_other_versions(store: Store, config: Path) -> None:
    newest = store.find("scoring")
    assert recsys("path", "scoring", "--config", config, "--as-of", AS_OF).stdout.strip() == str(newest.path)
    assert recsys("path", "scoring", "--config", config, "--version", newest.version[:5]).stdout.strip() == str(newest.path)
    missing = recsys("path", "scoring", "--config", config, "--as-of", "2025-06-03")
    assert missing.exit_code == 1
    assert "There is no finished artifact" in missing.stderr and newest.version in missing.stderr


def test_path_says_where_there_is_no_model_or_no_twin(store: Store, config: Path, tmp_path: Path) -> None:
    settings = yaml.safe_load(config.read_text())

    def answers(name: str, **changes: object) -> list[str]:
        """Of `path training` and `path twin` after a night like the first that was published otherwise."""
        other = tmp_path / f"{name}.yaml"
        other.write_text(yaml.safe_dump({**settings, "store": str(tmp_path / name), **changes}))
        shutil.copytree(store.root, tmp_path / name)
        night = recsys("nightly", "--config", other, "--as-of", AS_OF)
        assert night.exit_code == 0, night.output
        return [recsys("path", step, "--config", other).output for step in ("training", "twin")]

    for said in answers("popular", promotion={**settings["promotion"], "min_lift": 1000.0}):
        assert f"No model was published for {AS_OF}, but the lists of popular" in said
        assert f"recsys path training --as-of {AS_OF}" in said
    model, twin = answers("candidate", training={**settings["training"], "refit": False})
    assert Path(model.strip()).is_dir() and "has no twin: it was itself trained before the holdout" in twin


def test_export_lists_writes_the_copies_that_are_due(store: Store, config: Path, tmp_path: Path) -> None:
    nothing = recsys("export", "lists", "--config", config)
    assert nothing.exit_code == 1 and "publishing.exports asks for no copies" in nothing.stderr
    mine = yaml.safe_load(config.read_text()) | {"publishing": {"exports": [{"format": "jsonl", "path": str(tmp_path / "lists")}]}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(mine))
    for again, says in (((), "Copied to"), ((), f"Copies that show {AS_OF} already: 1 of 1."), (("--rebuild",), "Copied to")):
        done = recsys("export", "lists", "--config", tmp_path / "mine.yaml", *again)
        assert done.exit_code == 0 and done.stdout.startswith(says), done.output
    rows = [json.loads(line) for line in (tmp_path / "lists" / "recommendations.jsonl").read_text().splitlines()]
    assert rows == pq.read_table(store.find("scoring").path / "recommendations").to_pylist()


def test_export_vectors_and_similar_items_of_what_is_published(store: Store, config: Path, tmp_path: Path) -> None:
    done = recsys("export", "vectors", "--config", config, "--to", tmp_path / "vectors")
    assert done.exit_code == 0, done.output
    items, users = (pq.read_table(tmp_path / "vectors" / part) for part in ("items.parquet", "users"))
    assert f"Vectors of {len(items)} items and {len(users)} users of {AS_OF}" in " ".join(done.stdout.split())
    done = recsys("export", "similar", "--config", config, "--to", tmp_path / "similar", "--k", 5, "--as-of", AS_OF)
    assert done.exit_code == 0, done.output
    similar = pq.read_table(tmp_path / "similar" / "similar_items.parquet")
    assert len(similar) == 5 * len(items) and set(similar["item_id"].to_pylist()) == set(items["item_id"].to_pylist())
    again = recsys("export", "vectors", "--config", config, "--to", tmp_path / "vectors")
    assert again.exit_code == 1 and "is there already" in again.stderr
    never = recsys("export", "similar", "--config", config, "--to", tmp_path / "never", "--as-of", "2024-01-01")
    assert never.exit_code == 1 and "Nothing was published for 2024-01-01" in never.stderr


def test_the_published_model_loads_in_a_notebook(store: Store, config: Path) -> None:
    model = load(recsys("path", "training", "--config", config).stdout.strip(), data={"events": {"time": "event_at"}})
    events = pq.read_table(store.find("features").path / "events.parquet")
    lists = recommend(model, k=3, events=events, as_of=AS_OF)
    assert set(lists["user_id"].to_pylist()) == set(events["user_id"].to_pylist())
    assert "model" in set(lists["source"].to_pylist())


def test_an_experiment_prints_paired_intervals_and_publishes_nothing(store: Store, config: Path) -> None:
    tried = recsys("experiment", "--config", config, "--set", "model.encoder=PreLN(n_blocks=1)")
    assert tried.exit_code == 0, tried.output
    assert "95 % interval" in tried.stdout and "current" in tried.stdout
    assert f"Nothing was published for {AS_OF}. It would be: " in tried.stdout
    page = re.search(r"a page for the browser, is\s+(\S+report\.html)", tried.stdout)
    assert page and "In a night this would be the decision" in Path(page[1]).read_text()
    assert len(published.history(store)) == 1


def test_show_model_names_every_block() -> None:
    shown = recsys("show", "model", "--set", "model.loss=CrossEntropy(temperature=0.5)")
    assert shown.exit_code == 0, shown.output
    assert "NextItem(loss=CrossEntropy(temperature=0.5))" in shown.stdout
    assert "SASRec(" in shown.stdout


def test_show_model_flat_is_read_back() -> None:
    shown = recsys("show", "model", "--flat", "--set", "model.loss=CrossEntropy(temperature=0.5)")
    assert shown.exit_code == 0, shown.output
    flat = json.loads(shown.stdout)
    assert flat["heads.0.loss.temperature"] == 0.5
    assert from_flat(flat).heads == ("NextItem(loss=CrossEntropy(temperature=0.5))",)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["nightly", "--set", "training.max_epoch=3"], 1, "training.max_epoch: there is no such setting. Did you mean max_epochs?"),
        (["nightly", "--deployment", "glob"], 1, "There is no deployment 'glob'"),
        (["nightly", "--config", "absent.yaml"], 1, "absent.yaml cannot be read"),
        (["nightly", "--as-of", "yesterday"], 1, "as_of 'yesterday' is no date or time"),
        (["show", "model", "--set", "model.loss=CrosEntropy()"], 1, "there is no Loss 'CrosEntropy'. Did you mean CrossEntropy"),
        (["show", "--store", "nowhere"], 1, "There is no store in"),
        (["experiment", "--store", "nowhere"], 1, "Nothing is published in"),
        (["experiment", "--set", "publishing.min_overlap=0.5"], 2, "publishes nothing"),
        (["nightly", "--deployment", "demo", "--config", "mine.yaml"], 2, "not both"),
        (["show", "--store", "here", "model"], 2, "options go behind"),
        (["nightly", "--asof", "2025-06-02"], 2, "No such option"),
        (["show", "recommendations"], 2, "Missing option"),
        (["backfill", "--from", "2025-06-02"], 2, "Missing option '--to'"),
        (["backfill", "--from", "2025-06-02", "--to", "2025-06-01"], 1, "The last night 2025-06-01 is before the first"),
        (["backfill", "--from", "then", "--to", "now"], 1, "is no date or time"),
        (["path", "scorin"], 2, "there is no step 'scorin'. Did you mean scoring"),
        (["path", "qwxyz"], 2, "There are: features, sequences, training, evaluation, promotion, scoring, publishing, twin."),
        (["path", "twin", "--as-of", "2025-06-02"], 2, "ask for training"),
    ],
)
def test_mistakes_end_in_one_message(arguments: list[str], code: int, says: str) -> None:
    ended = recsys(*arguments)
    assert ended.exit_code == code
    assert says in " ".join(ended.stderr.replace("│", " ").split())
    assert "Traceback" not in ended.output


def test_looking_things_up_loads_neither_prefect_nor_torch(store: Store, user: str) -> None:
    script = f"""
import sys
from flows.cli import app
for words in (["show"], ["show", "recommendations", "--user", {user!r}], ["path", "scoring"]):
    app([*words, "--store", {str(store.root)!r}], standalone_mode=False)
assert not {{"prefect", "torch"}} & set(sys.modules), "loaded"
"""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nightly", "--set", "model.loss=CrosEntropy()"], "there is no Loss 'CrosEntropy'. Did you mean CrossEntropy"),
        (["nightly", "--set", "model.width=15"], "width 15 cannot be divided"),
        (["nightly", "--set", 'model.heads=["NextItem()", "Binary(label=\'purchase\')"]'], "purchased"),
        (["nightly", "--set", "model.code=/nowhere"], "/nowhere"),
        (["nightly", "--set", "training.optimizer=Adm()"], "Adm"),
        (["nightly", "--set", "evaluation.metrics=[NDGC]", "--set", "promotion.metric=NDGC"], "NDGC"),
        (["nightly", "--set", "data.sql_overlay=/nowhere"], "there is no folder /nowhere"),
        (["nightly", "--set", "publishing.exports=[{format: csv, path: gs://bucket/lists}]"], "or s3://bucket/folder, not to gs://"),
        (["nightly", "--deployment", "globo"], "needs the environment variable RECSYS_DATA"),
        (["nightly", "--store", "${NO_STORES}/shop"], "needs the environment variable NO_STORES"),
        (["nightly", "--as-of", "tomorrow"], "no date or time"),
    ],
    ids=lambda value: " ".join(value[1:]) if isinstance(value, list) else "",
)
def test_a_mistake_in_the_configuration_ends_before_any_server_is_started(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows import local

    monkeypatch.delenv("RECSYS_DATA", raising=False)
    monkeypatch.setattr(local, "run", lambda *_: pytest.fail("a server would be started"))
    place = [] if "--store" in arguments else ["--store", tmp_path / "shop"]
    ended = recsys(*arguments, *place)
    assert ended.exit_code == 1, ended.output
    assert says in " ".join(ended.stderr.split()) and "Traceback" not in ended.output
    assert not (tmp_path / "shop").exists(), "nothing is written either"


def test_the_commands_of_the_runbook_that_only_look_run_as_they_stand_there(store: Store, user: str, tmp_path: Path) -> None:
    """On this store, with the lists of a night before, made without a gate: so that the last two can be compared."""
    shutil.copytree(store.root, tmp_path / "shop")
    copy = Store(tmp_path / "shop")
    now = published.current(copy)
    assert now is not None
    before = replace(now, as_of=f"{BEFORE}T00:00:00+00:00", id="0c4f4bc71c63", artifacts={"scoring": now.artifacts["scoring"]})
    published.publish(copy, before)
    night, looks = re.compile(r"20\d\d-\d\d-\d\d"), ("status", "show", "diff", "verify", "plan", "path")
    asked = [
        words for words in commands(ROOT / "docs" / "operate.md") if words[0] in looks or (words[0] == "prune" and "--yes" not in words)
    ]
    assert {words[0] for words in asked} >= {"status", "show", "diff", "verify", "prune"}
    for words in asked:
        given = [user if option == "--user" else night.sub(AS_OF, word) for option, word in zip(["", *words], words, strict=False)]
        if words[0] == "diff" and len(words) > 2:  # of two nights
            given[1] = BEFORE
        done = recsys(*given, "--store", copy.root)
        assert done.exit_code == 0, f"recsys {' '.join(words)}: {done.output}"
