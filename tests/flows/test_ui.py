"""What a run shows in the UI, as the server has it: never more than the server takes, and never less without a word."""

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prefect import flow
from prefect.artifacts import Artifact
from prefect.settings import get_current_settings

from flows import ui
from recsys import store

pytestmark = pytest.mark.usefixtures("prefect_server")

LIMIT = get_current_settings().server.events.maximum_size_bytes


@flow(validate_parameters=False)
def report(comparison: store.Artifact) -> None:
    ui.show_report(comparison)


def shown(key: str) -> tuple[Any, str]:
    """An artifact's data and its description, once it is known that the server can tell of it."""
    found = Artifact.get(key)
    assert found is not None and len(json.dumps(found.data)) < LIMIT
    return found.data, found.description or ""


def evaluation(folder: Path, rows: list[dict[str, Any]], report: str) -> store.Artifact:
    def build(draft: store.Draft) -> None:
        pq.write_table(pa.Table.from_pylist(rows), draft.path / "metrics.parquet")
        (draft.path / "report.md").write_text(report)

    return store.Store(folder).ensure("evaluation", datetime(2025, 6, 2, tzinfo=timezone.utc), {}, {}, build, code="recsys.windows")


def test_of_many_slices_the_metrics_of_everybody_are_shown_and_how_many_there_are(tmp_path: Path) -> None:
    rows = [{"contender": "candidate", "slice": f"country = {n}", "value": n / 7} for n in range(1500)]
    rows.insert(1200, {"contender": "candidate", "slice": "all", "value": float("nan")})
    report(evaluation(tmp_path / "many", rows, "# Short\n"))
    data, says = shown("many-metrics")
    table = json.loads(data)
    assert table[0] == {"contender": "candidate", "slice": "all", "value": None}
    assert len(table) == 1000 and says.endswith(". The first 1,000 of 1,501 rows")
    assert shown("many-report")[0] == "# Short\n"


def test_large_rows_and_a_long_report_stay_below_what_the_server_takes(tmp_path: Path) -> None:
    rows = [{"slice": "all", "names": '"ä"' * 2000} for _ in range(200)]
    report(evaluation(tmp_path / "large", rows, '| "ä" | 0.5 |\n' * 200_000))
    data, says = shown("large-metrics")
    n = len(json.loads(data))
    assert 10 < n < 200 and says.endswith(f". The first {n} of 200 rows")
    *lines, _, last = shown("large-report")[0].splitlines()
    assert set(lines) == {'| "ä" | 0.5 |'} and last.startswith(f"… and {200_000 - len(lines):,} lines more, in {tmp_path}")
