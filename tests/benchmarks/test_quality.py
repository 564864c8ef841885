"""The rows of the published results: each is a backtest that can run on data with an order only; and what is told of them."""

import json
import re
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import quality
from benchmarks.inputs import generated
from benchmarks.quality import ROWS, Published, Row
from flows import deployments
from flows.checks import check
from flows.contenders import checked
from recsys import windows
from recsys.config import Backtest, Features, Night
from recsys.dictionary import Dictionary
from recsys.errors import ConfigError
from recsys.features.tables import build_features
from recsys.histories import Histories
from recsys.model.blocks import Blocks, build
from recsys.model.vocabulary import Vocabulary
from recsys.recipes import resolve
from recsys.sequences.build import build_sequences
from recsys.store import Store
from recsys.windows import Cut

AS_OF = windows.parse_as_of(quality.AS_OF)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the one of the public data, with few people and few films."""
    folder = tmp_path_factory.mktemp("data")
    table = generated(200, 50)
    user = table["user_id"].to_numpy()
    place = np.arange(len(user)) - np.searchsorted(user, user)  # in its user's history
    (folder / "ml-1m").mkdir()
    pq.write_table(table.drop_columns("happened_at").append_column("position", pa.array(place)), folder / "ml-1m" / "events.parquet")
    return folder


@pytest.fixture(autouse=True)
def here(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_DATA", str(data))


def night_of(row: Row) -> tuple[Night, Backtest]:
    parameters = row.configuration(seed=1)
    return deployments.unpublished(parameters), Backtest(**parameters["backtest"])


@pytest.fixture(scope="module")
def vocabulary(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    """Of events with an order only."""
    store = Store(tmp_path_factory.mktemp("store"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECSYS_DATA", str(data))
        night, _ = night_of(ROWS["sasrec"])
        tables = build_features(store, AS_OF, night.data, Features(n_shards=1))
        sequences = build_sequences(store, AS_OF, night.sequences, tables)
    histories = Histories.load(sequences.path)
    return Vocabulary.fit(histories, Dictionary.load(sequences.path), histories.cut(Cut(last=1)))


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_every_row_is_a_backtest_whose_model_can_be_built(row: Row, vocabulary: Vocabulary, tmp_path: Path) -> None:
    night, asked = night_of(row)
    (contender,) = checked(asked, night, asked.folds(AS_OF, night.evaluation.holdout, night.seed), Store(tmp_path))
    assert contender.night is not None and contender.night.model == night.model
    network = build(Blocks.of(resolve(night.model)).in_canonical_text(), vocabulary)
    assert sum(weights.numel() for weights in network.parameters()) > 10_000


def test_a_row_that_reads_times_would_be_refused(tmp_path: Path) -> None:
    night, _ = night_of(replace(ROWS["hstu"], model={"encoder": "HSTU(n_blocks=2, n_heads=1)"}))
    with pytest.raises(ConfigError, match="time"):
        check(night, Store(tmp_path))


def found(row: str, seed: int, **values: Any) -> dict[str, Any]:
    about = {"cpu": "a CPU", "cores": 2, "measured_on": f"2026-01-0{seed}", "commit": "c" * 40}
    costs = {"n_epochs": 30, "best_epoch": 20, "epoch_seconds": 12.4, "threads": 2}
    return {"row": row, "seed": seed, "ndcg_at_10": 0.18, "hit_rate_at_10": 0.3, **about, **costs, **values}


def test_a_table_says_what_was_reached_and_how(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Row("sasrec", 0.18, Published(0.19, 0.32, "Somebody 2020"), {"width": 128}, {"patience": 20}, reach_hit_rate=0.3)
    monkeypatch.setattr(quality, "ROWS", {"a": known, "b": Row("gru4rec", 0.2)})
    rows = [found("a", 1), found("a", 2, ndcg_at_10=0.1799), found("a", 3, hit_rate_at_10=0.2999), found("b", 3)]
    text = quality.section(rows)
    others = "0.1900, 0.3200 (Somebody 2020) | 30 (20) | 12, 2 | recipe=sasrec, width=128, patience=20 |"
    assert "a CPU, 2 cores; 2026-01-01 to 2026-01-03; commit cccccccccc; `python -m" in text
    assert text.splitlines()[-4:] == [
        f"| a | 1 | 0.1800 | 0.3000 | 0.180, 0.300 ✓ | {others}",
        f"| a | 2 | 0.1799 | 0.3000 | 0.180, 0.300 | {others}",
        f"| a | 3 | 0.1800 | 0.2999 | 0.180, 0.300 | {others}",
        "| b | 3 | 0.1800 | 0.3000 | 0.200 |  | 30 (20) | 12, 2 | recipe=gru4rec |",
    ]


def test_what_was_measured_is_not_measured_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[Path] = []

    def measured(configuration: dict[str, Any], folder: Path, data: Path, threads: int) -> dict[str, Any]:
        calls.append(folder)
        return {"ndcg_at_10": 0.1, "width": configuration["model"].get("width")}

    monkeypatch.setattr(quality, "measured", measured)
    given = Namespace(folder=tmp_path, data=tmp_path, threads=1)
    assert quality.result("gru4rec", 1, given) == quality.result("gru4rec", 1, given) and len(calls) == 1
    monkeypatch.setitem(quality.ROWS, "gru4rec", replace(ROWS["gru4rec"], model={"width": 8}))
    assert quality.result("gru4rec", 1, given)["width"] == 8 and len(calls) == 2, "with other settings it is another run"


def test_a_table_keeps_what_was_measured_elsewhere_with_the_same_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(quality, "RESULTS", tmp_path)
    told = {name: json.dumps(ROWS[name].configuration(1)) for name in ("gsasrec", "hstu", "sasrec")}
    earlier = [found(name, 1, configuration=told[name]) for name in ("sasrec", "hstu")] + [found("gone", 1, configuration="{}")]
    earlier += [found("gru4rec", 1, configuration="{}")]  # its settings are others now
    pq.write_table(pa.Table.from_pylist(earlier), tmp_path / "quality.parquet")
    for name, ndcg in (("gsasrec", 0.17), ("hstu", 0.19)):
        (tmp_path / f"{name}.json").write_text(json.dumps(found(name, 1, ndcg_at_10=ndcg, configuration=told[name])))
    (tmp_path / "sasrec-older.json").write_text(json.dumps(found("sasrec", 1, ndcg_at_10=0.5, configuration="{}")))  # hides nothing
    rows = [(row["row"], row["ndcg_at_10"]) for row in quality.known(tmp_path)]
    assert rows == [("gsasrec", 0.17), ("hstu", 0.19), ("sasrec", 0.18)]


def test_the_list_says_what_a_row_has_to_reach() -> None:
    assert quality.line("sasrec", Row("sasrec", 0.18, reach_hit_rate=0.31)) == "sasrec          NDCG@10 ≥ 0.180, HR@10 ≥ 0.310, seeds 1"
    assert quality.line("whole_histories", Row("sasrec", 0.2, seeds=(1, 2))) == "whole_histories NDCG@10 ≥ 0.200, seeds 1, 2"


def test_versions_are_told_of_rows_that_have_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(quality, "RESULTS", tmp_path)
    told = {name: json.dumps(ROWS[name].configuration(1)) for name in ("gsasrec", "hstu", "sasrec")}
    pq.write_table(pa.Table.from_pylist([found("gsasrec", 1, configuration=told["gsasrec"])]), tmp_path / "quality.parquet")
    for name in ("hstu", "sasrec"):
        (tmp_path / f"{name}.json").write_text(json.dumps(found(name, 1, configuration=told[name], versions="Python 3, torch 2")))
    rows = quality.known(tmp_path)
    assert pa.Table.from_pylist(rows)["versions"].to_pylist() == [None, "Python 3, torch 2", "Python 3, torch 2"]
    assert "commit cccccccccc; Python 3, torch 2; `python -m" in quality.section(rows)


@pytest.mark.slow
def test_a_row_that_fails_does_not_stop_the_others(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = Row("sasrec", 0.0, None, {"width": 8, "max_events": 10}, {"max_epochs": 1})
    monkeypatch.setattr(quality, "ROWS", {"wrong": Row("sasrec", 0.1, None, {"encoder": "SASRec(n_block=1)"}), "small": small})
    monkeypatch.setattr(quality, "RESULTS", tmp_path / "benchmarks" / "results")
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "results.md").write_text("# Measured\n")
    monkeypatch.setattr(sys, "argv", ["quality", "--data", str(data), "--folder", str(tmp_path / "runs"), "--threads", "1"])
    with pytest.raises(SystemExit, match=re.escape("Not measured: wrong, seed 1.")):
        quality.main()
    (row,) = pq.read_table(tmp_path / "benchmarks" / "results" / "quality.parquet").to_pylist()
    assert (row["row"], row["n_epochs"]) == ("small", 1) and 0 < row["ndcg_at_10"] < row["hit_rate_at_10"] < 1
    assert json.loads(row["configuration"])["model"]["width"] == 8
    assert f"| small | 1 | {row['ndcg_at_10']:.4f} |" in (tmp_path / "benchmarks" / "results.md").read_text()
    said = capsys.readouterr().err
    assert "wrong, seed 1: " in said and "exit status 1" in said
