"""What the documents say: links lead somewhere, configurations are valid, commands exist, and own tables become lists."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import yaml
from prefect.cli._app import _app as prefect
from typer.testing import CliRunner

from flows import deployments
from flows.cli import app
from flows.contenders import contenders
from recsys.config import Backtest, Model
from recsys.model.blocks import Blocks
from recsys.recipes import resolve

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
RECSYS = Path(sys.executable).with_name("recsys")


def blocks(document: Path, language: str) -> list[str]:
    """The fenced blocks of a language, also those of a list's items."""
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", document.read_text(), flags=re.MULTILINE | re.DOTALL)


def commands(document: Path, program: str = "recsys") -> list[list[str]]:
    """Every `recsys …` line of the shell blocks, as arguments; `NAME=value` may stand before it."""
    lines = "\n".join(blocks(document, "sh")).replace("\\\n", " ").splitlines()
    words = [shlex.split(re.sub(r"^(\w+=\S* )+", "", line), comments=True) for line in lines]
    return [arguments for command, *arguments in filter(None, words) if Path(command).name == program]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", document.read_text()) if not link.startswith("http")]
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_configurations_are_valid(document: Path) -> None:
    for text in blocks(document, "yaml"):
        parameters = yaml.safe_load(text)
        for deployment in parameters.pop("deployments", ()):  # of prefect.yaml: one of nightly
            parameters = {name: group for name, group in deployment["parameters"].items() if name not in deployments.OF_THE_SCHEDULE}
        parameters.pop("store", None)
        if "backtest" in parameters:
            contenders(Backtest(**parameters["backtest"]), deployments.unpublished(parameters))
        elif "data" in parameters:
            deployments.night(parameters)
        else:
            Blocks.of(resolve(Model(**parameters["model"])))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_exist_with_their_options(document: Path) -> None:
    for arguments in commands(document):
        answer = CliRunner().invoke(app, [*arguments, "--help"])
        assert answer.exit_code == 0, f"recsys {' '.join(arguments)}: {answer.output}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_of_prefect_exist_with_their_options(document: Path) -> None:
    for arguments in commands(document, "prefect"):
        prefect.parse_args(arguments, exit_on_error=False, print_error=False)
        if arguments[:2] == ["deployment", "run"]:
            assert arguments[2] in deployments.schedules()


def test_the_runbook_lists_the_last_runs_and_not_those_that_are_planned() -> None:
    """Of all states, Prefect lists the farthest in the future first."""
    listed = [arguments for arguments in commands(ROOT / "docs" / "operate.md", "prefect") if arguments[:2] == ["flow-run", "ls"]]
    assert listed
    for arguments in listed:
        states = {state for option, state in pairwise(arguments) if option == "--state-type"}
        assert {"RUNNING", "PENDING"} <= states and "SCHEDULED" not in states


def test_extras_that_are_asked_for_are_installed_with_the_pinned_rest(tmp_path: Path) -> None:
    """Also where all else is installed; and they come along from then on."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)

    def installs(*given: str) -> str:
        plain = {name: value for name, value in os.environ.items() if name != "EXTRAS"}
        command = ["make", "-n", ".venv/installed", *given]
        done = subprocess.run(command, cwd=tmp_path, env=plain, capture_output=True, text=True, check=True)
        return next((line.partition("--constraint ")[2] for line in done.stdout.splitlines() if " install " in line), "nothing")

    assert installs() == 'constraints.txt --editable "."'
    assert installs("EXTRAS=postgres,s3") == 'constraints.txt --editable ".[postgres,s3]"'
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "extra-s3").touch()
    (tmp_path / ".venv" / "installed").touch()
    assert installs() == installs("EXTRAS=s3") == "nothing"
    assert installs("EXTRAS=postgres") == 'constraints.txt --editable ".[postgres,s3]"'
    os.utime(tmp_path / ".venv" / "installed", (0, 0))  # as where a newer version was pulled
    assert installs() == 'constraints.txt --editable ".[s3]"'


def test_the_readme_has_what_is_tested_here() -> None:
    assert len(commands(ROOT / "README.md")) >= 5 and len(blocks(ROOT / "README.md", "yaml")) == 2


def shop(folder: Path) -> None:
    """Tables with the columns of the README's example: customers who go round a ring of articles."""
    draw = np.random.default_rng(1)
    n_customers, n_articles, n_events = 150, 30, 12
    customer = np.repeat([f"c{n}" for n in range(n_customers)], n_events)
    steps = draw.integers(n_articles, size=(n_customers, 1)) + np.arange(n_events)
    hours = np.sort(draw.integers(1, 58 * 24, size=(n_customers, n_events)), axis=1).ravel()
    events = {
        "customer_id": customer,
        "article_id": steps.ravel() % n_articles + 1,
        "bought_at": [datetime(2026, 3, 1) - timedelta(hours=int(h)) for h in hours[::-1]],
        "device": draw.choice(["phone", "desk"], size=len(customer)),
    }
    (folder / "events").mkdir()
    pq.write_table(pa.table(events), folder / "events" / "all.parquet")
    articles = np.arange(1, n_articles + 1)
    items = {"article_id": articles, "category": articles % 3, "price": articles * 1.5, "title": [f"Article {n}" for n in articles]}
    pa.csv.write_csv(pa.table(items), folder / "articles.csv")


def test_own_tables_become_lists(tmp_path: Path) -> None:
    """The README's example, its paths and its night's date as they stand there but for the folder, and a short training."""
    shop(tmp_path)
    text, _ = blocks(ROOT / "README.md", "yaml")
    (tmp_path / "shop.yaml").write_text(text.replace("/data/shop", str(tmp_path)))
    nightly, show, show_user, path, *_ = commands(ROOT / "README.md")

    def run(*arguments: str) -> str:
        done = subprocess.run([str(RECSYS), *arguments], cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"})
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    short = ["training.max_epochs=1", "model.width=16", "features.min_day_volume=0", "promotion.min_users=1"]
    published = run(*nightly, *(word for setting in short for word in ("--set", setting)))
    assert "Published for 2026-03-01" in published
    copy = duckdb.sql(
        f"select count(distinct user_id), min(rank), max(rank), any_value(item_id) from '{tmp_path}/recommendations/*.parquet'"
    )
    users, first, last, item = copy.fetchall()[0]
    assert (users, first, last) == (150, 1, 10) and isinstance(item, int)
    assert "2026-03-01" in run(*show)
    assert "Article" in run(*show_user[:-1], "c42")
    assert list(Path(run(*path).strip()).glob("recommendations/*.parquet"))
