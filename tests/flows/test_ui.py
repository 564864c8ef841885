"""What a run shows in the UI, as the server has it: never more than the server takes, and never less without a word."""

import json
import re
from base64 import b64decode
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prefect import flow
from prefect.artifacts import Artifact
from prefect.settings import get_current_settings

from flows import ui
from recsys import published, store
from recsys.config import Promotion
from recsys.contenders import CONTENDERS
from recsys.windows import label, parse_as_of

pytestmark = pytest.mark.usefixtures("prefect_server")

LIMIT = get_current_settings().server.events.maximum_size_bytes


@flow(validate_parameters=False)
def report(comparison: store.Artifact) -> None:
    ui.show_report(comparison)


@flow(validate_parameters=False)
def record(shop: store.Store, policy: Promotion) -> None:
    ui.show_record(shop, policy)


def shown(key: str) -> tuple[Any, str]:
    """An artifact's data and its description, once it is known that the server can tell of it."""
    found = Artifact.get(key)
    assert found is not None and len(json.dumps(found.data)) < LIMIT
    return found.data, found.description or ""


def evaluation(folder: Path, rows: list[dict[str, Any]], report: str) -> store.Artifact:
    def build(draft: store.Draft) -> None:
        pq.write_table(pa.Table.from_pylist(rows), draft.path / "metrics.parquet")
        pq.write_table(pa.table({"baseline": ["popular"], "difference": [0.25]}), draft.path / "lifts.parquet")
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
    assert json.loads(shown("many-lifts")[0]) == [{"baseline": "popular", "difference": 0.25}]


def test_large_rows_and_a_long_report_stay_below_what_the_server_takes(tmp_path: Path) -> None:
    rows = [{"slice": "all", "names": '"ä"' * 2000} for _ in range(200)]
    report(evaluation(tmp_path / "large", rows, '| "ä" | 0.5 |\n' * 200_000))
    data, says = shown("large-metrics")
    n = len(json.loads(data))
    assert 10 < n < 200 and says.endswith(f". The first {n} of 200 rows")
    *lines, _, last = shown("large-report")[0].splitlines()
    assert set(lines) == {'| "ä" | 0.5 |'} and last.startswith(f"… and {200_000 - len(lines):,} lines more, in {tmp_path}")


def night(shop: store.Store, as_of: str, source: str, values: dict[str, float], action: str = "publish") -> None:
    """A night on record whose evaluation came to these values of NDCG@10."""

    def build(draft: store.Draft) -> None:
        draft.metrics = {contender: {"NDCG@10": value, "HitRate@10": 0.9} for contender, value in values.items()}

    moment = parse_as_of(as_of)
    made = shop.ensure("evaluation", moment, values, {}, build, code="recsys.windows")
    promotion = published.promotion(moment, "", source, {"evaluation": made}, ("Because.",))
    published.publish(shop, promotion) if action == "publish" else published.set_aside(shop, promotion, "hold")


def test_the_metric_that_decides_stands_night_by_night_under_one_key(tmp_path: Path) -> None:
    shop = store.Store(tmp_path / "shop")
    night(shop, "2026-02-27", "popular", {"candidate": 0.11, "popular": 0.125})
    night(shop, "2026-02-28", "popular", {"candidate": 0.1, "popular": 0.12})
    night(shop, "2026-02-28", "candidate", {"candidate": 0.25, "popular": 0.12})  # once more, otherwise
    night(shop, "2026-03-01", "candidate", {"candidate": 0.3, "current": 0.28, "popular": 0.12}, "hold")
    shop.remove(shop.find("evaluation", parse_as_of("2026-02-27")))  # as pruning does
    record(shop, Promotion())
    told, drawing, table = shown("shop-nights")[0].strip().split("\n\n")
    assert told == "NDCG@10 of the newest nights, each on its own holdout."
    assert table.splitlines() == [
        "| night | lists of | the candidate | the current model | popular overall |",
        "|---|---|---|---|---|",
        "| 2026-03-01 | the candidate (held) | 0.3000 | 0.2800 | 0.1200 |",
        "| 2026-02-28 | the candidate | 0.2500 |  | 0.1200 |",
    ]
    svg = b64decode(drawing.removeprefix("![NDCG@10 by night](data:image/svg+xml;base64,").removesuffix(")")).decode()
    assert svg.startswith("<svg") and {"2026-02-28", "2026-03-01", "the current model"} <= set(re.findall(r">([^<>]+)</text>", svg))


def test_the_drawing_of_many_nights_is_small(tmp_path: Path) -> None:
    shop = store.Store(tmp_path / "old")
    for day in range(1, 41):
        night(shop, label(parse_as_of("2026-01-01") + timedelta(days=day)), "candidate", dict.fromkeys(CONTENDERS, 0.1))
    record(shop, Promotion(metric="HitRate"))
    text, _ = shown("old-nights")
    assert text.startswith("HitRate@10") and text.count("\n| 2026-") == 30 and len(text) < 100_000
