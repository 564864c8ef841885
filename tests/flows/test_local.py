"""Runs here and now: what is said where the server that they would report to does not answer."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

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
