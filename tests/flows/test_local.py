"""Runs here and now: what is said where the server that they would report to does not answer."""

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows import local
from flows.cli import app

AS_OF = "2025-06-02"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nightly"], "`env -u PREFECT_API_URL recsys nightly …` does without one"),
        (["backfill", "--from", AS_OF, "--to", AS_OF], "recsys backfill …` does without one"),
        (["experiment", "--as-of", AS_OF], "recsys experiment …` does without one"),
        (["plan", "--set", "publishing.exports=[{format: csv, path: '${block:lists}'}]"], "'lists' is a Secret block that it keeps"),
    ],
)
def test_a_server_that_does_not_answer_is_an_answer(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    ended = CliRunner().invoke(app, [*arguments, "--store", str(tmp_path / "shop")])
    said = " ".join(ended.stderr.split())
    assert ended.exit_code == 1 and "Traceback" not in ended.output
    assert said.startswith("ConfigError: No Prefect server answers at PREFECT_API_URL=http://127.0.0.1:9/api (") and says in said


@pytest.mark.parametrize(
    ("typed", "flow", "again"),
    [
        (["nightly", "--config", "my.yaml"], "nightly", "nightly --config my.yaml --as-of 2026-03-01"),
        (
            ["nightly", "--as-of", "2026-03-01T06:00", "--set", "seed=[1, 2]"],
            "nightly",
            "nightly --as-of 2026-03-01T06:00 --set 'seed=[1, 2]'",
        ),
        (["nightly", "--as-of=2026-03-01"], "nightly", "nightly --as-of=2026-03-01"),
        (["score", "--user", "u7", "--user=u8", "--as-of", "2026-03-01"], "score", "score --user '…' '--user=…' --as-of 2026-03-01"),
        (["watch"], "nightly", ""),
        ([], "nightly", ""),
    ],
)
def test_the_command_of_a_run_by_hand_can_be_given_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: list[str], flow: str, again: str
) -> None:
    """From any folder and on any later day; users' ids do not leave the machine."""
    (tmp_path / "two words").mkdir()
    monkeypatch.chdir(tmp_path / "two words")
    monkeypatch.setattr(sys, "argv", ["/opt/recsys/.venv/bin/recsys", *typed])
    assert local.once_more(flow, "2026-03-01") == (again and f"cd '{tmp_path}/two words' && /opt/recsys/.venv/bin/recsys {again}")


def test_a_notebook_is_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["ipykernel_launcher.py", "nightly"])
    assert local.once_more("nightly", "2026-03-01") == ""
