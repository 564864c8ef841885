"""The harness on a tiny table, with our side only; what it computes, by hand. No timing is judged."""

import json
import os
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import ours, parity, report, sides, speed
from benchmarks.inputs import write
from benchmarks.measuring import Task, epoch_facts
from benchmarks.products import flops
from benchmarks.rows import ROWS
from benchmarks.sides import MODULES, ndcg_at_10


def test_a_row_from_the_command_line_to_parquet_and_markdown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--rows", "recommend-kion", "--input", "tiny", "--sides", "ours", "--repeats", "1", "--threads", "1"]
    monkeypatch.setattr(sys, "argv", ["speed", *arguments, "--results", str(tmp_path)])
    speed.main()
    text = capsys.readouterr().out
    table = pq.read_table(tmp_path / "speed.parquet")
    assert table.schema.equals(report.SCHEMA)
    (found,) = table.to_pylist()
    assert found["error"] is None and found["seconds"] > 0 and 0.1 < found["peak_gib"] < 3
    assert (found["side"], found["input"]) == ("ours", "generated: 1,303 events, 300 users, 60 items")
    assert json.loads(found["facts"])["rows"] == 300 * 10
    assert "| top-10 for all users, seen items removed, KION-like | 256, 100, 128 | ours | " in text


@pytest.mark.parametrize("work", ["sequences", "whole"])
def test_our_side_counts_every_user(work: str, tmp_path: Path) -> None:
    events, _ = write("tiny", tmp_path, data=None)
    facts = ours.WORKS[work](Task(work, events, width=8, max_events=5, threads=1))
    assert facts["users"] == 300 and facts["seconds"] > 0


def test_a_contender_is_trained_and_its_lists_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--input", "tiny", "--contenders", "ours", "--seeds", "1", "--width", "8", "--epochs", "1", "--threads", "1"]
    monkeypatch.setattr(sys, "argv", ["parity", *arguments, "--folder", str(tmp_path)])
    parity.main()
    text = capsys.readouterr().out
    (file,) = tmp_path.glob("*-ours.json")
    found = json.loads(file.read_text())
    assert 0 < found["ndcg_at_10"] < 0.5 and f"| ours | {found['ndcg_at_10']:.4f} |" in text
    assert text.startswith(f"`python -m benchmarks.parity {' '.join(arguments)} --folder FOLDER`; {found['cpu']}, {os.cpu_count()} cores; ")
    assert "\nours: recsys " in text
    lists = pq.read_table(tmp_path / f"{file.stem}.parquet")
    assert lists.num_rows == 10 * 300


def test_a_command_line_reads_back_as_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    task = Task("train", Path("events.parquet"), width=8, share=0.5, loss="sampled", lists=Path("lists.parquet"))
    monkeypatch.setattr(sys, "argv", ["ours", *task.arguments()])
    assert Task.read(["train"], None) == task


def test_the_first_step_of_an_epoch_is_left_out() -> None:
    assert epoch_facts([[10.0, 11.0, 13.0], [20.0, 23.0]], n_steps=100) == {"seconds": 200.0, "steps": 100, "measured_steps": 3}
    assert epoch_facts([[10.0]], n_steps=1) == {"steps": 1, "measured_steps": 0}


def test_operations_of_one_user() -> None:
    # Two places of width 4, one block: per place 8 · 16 + 4 · 16 for the layers and 2 · 5 · 4 for the scores of 5 items;
    # attention reads 1 and 2 places: 2 products (scores, sums) of 2 · 4 operations for each of 3 pairs.
    forward = 2 * (12 * 16 + 2 * 5 * 4) + 2 * (2 * 4) * 3
    assert flops(np.array([2]), width=4, n_items=5, n_blocks=1) == 3 * forward


def test_ndcg_of_leave_one_out(tmp_path: Path) -> None:
    pq.write_table(pa.table({"user_id": [1, 1, 2], "rank": [1, 3, 1], "item_id": [7, 8, 9]}), tmp_path / "lists.parquet")
    pq.write_table(pa.table({"user_id": [1, 2, 3], "item_id": [8, 8, 8]}), tmp_path / "last.parquet")
    assert ndcg_at_10(tmp_path / "lists.parquet", tmp_path / "last.parquet") == pytest.approx((1 / np.log2(4)) / 3)


def test_every_row_can_be_done() -> None:
    for row in ROWS.values():
        assert len(row.pairs) == len(row.reach) and {n for pair in row.pairs for n in pair} == set(range(len(row.sides)))
        assert all(side.process in MODULES for side in row.sides)


def measurement(row: str, side: str, repeat: int, **values: Any) -> dict[str, Any]:
    settings = json.dumps({"width": 256, "max_events": 100, "users_per_batch": 128})
    about = {"cpu": "a CPU", "cores": 2, "memory_gib": 8.0, "load": 0.1, "commit": "c" * 40, "command": "python -m benchmarks.speed"}
    run_at = datetime(2025, 1, 1, repeat >= 0, tzinfo=timezone.utc)
    facts = json.dumps({"versions": {"torch": "2"}})
    return {"run_at": run_at, "row": row, "side": side, "repeat": repeat, "settings": settings, "facts": facts, **about, **values}


def test_medians_and_ratios_of_the_last_run(tmp_path: Path) -> None:
    file = tmp_path / "speed.parquet"
    report.append(file, measurement("train-kion", "ours", -1, seconds=99.0, peak_gib=9.0))  # an earlier run
    for repeat, (mine, theirs) in enumerate([(1.0, 60.0), (2.0, 80.0), (5.0, 70.0)]):
        report.append(file, measurement("train-kion", "ours", repeat, seconds=mine, peak_gib=1.0))
        report.append(file, measurement("train-kion", "SASRecModel", repeat, seconds=theirs, peak_gib=3.0))
    (line,) = [line for line in report.section(file).splitlines() if "KION-like, 7,376" in line]
    assert line == (
        "| full softmax, KION-like, 7,376 items: an epoch | 256, 100, 128 | ours | 2.00 s (1.00 s … 5.00 s) "
        "| SASRecModel | 70.00 s (60.00 s … 80.00 s) | 35.00 | ≥ 50 | 1.00 / 3.00 |"
    )


def test_a_side_that_failed_has_no_ratio(tmp_path: Path) -> None:
    file = tmp_path / "speed.parquet"
    report.append(file, measurement("memory-million", "ours", 0, seconds=1.0, peak_gib=2.5))
    report.append(file, measurement("memory-million", "SASRecModel, 16 GiB at most", 0, peak_gib=1.7, error="no memory\nfor it"))
    (line,) = [line for line in report.section(file).splitlines() if "1 million" in line]
    assert "| SASRecModel, 16 GiB at most | fails: no memory | " in line and "|  | ≤ 3 GB |" in line


def test_the_differences_of_seeds() -> None:
    # variances 1 and 0 of two seeds each: standard error √(1/2)
    assert parity.compared("ours", [1.0, 3.0], [1.0, 1.0]) == "+1.0000 | 2.0000"
    assert parity.compared("ours", [1.0], [1.0]) == "|"


def test_a_comparison_says_where_and_with_which_versions_it_was_made() -> None:
    about = {"measured_on": "2026-01-01", "cpu": "a CPU", "cores": 2, "width": 8, "max_events": 4, "epochs": 1, "loss": "softmax"}
    sides = {"RecTools": {"RecTools": "0.19", "torch": "2"}, "ours": {"torch": "3"}}
    found = [
        {**about, "contender": side, "side": side, "seed": seed, "commit": side[0] * 40, "ndcg_at_10": 0.5, "facts": facts}
        for side, facts in ((side, json.dumps({"versions": versions})) for side, versions in sides.items())
        for seed in (1, 2)
    ]
    assert parity.section(found, "a table", "python -m it").splitlines()[:3] == [
        "`python -m it`; a CPU, 2 cores; 2026-01-01; commit RRRRRRRRRR, oooooooooo.",
        "a table; d=8, L=4, 1 epochs, full softmax; leave-one-out, all items ranked, seen ones left out.",
        "RecTools: RecTools 0.19, torch 2; ours: torch 3.",
    ]


def test_each_of_the_versions_is_told_once() -> None:
    rows: list[dict[str, Any]] = [{"versions": "torch 2"}, {"versions": None}, {}, {"versions": "torch 1"}, {"versions": "torch 2"}]
    assert report.versions(rows) == "torch 2; torch 1"
    assert report.versions([{}]) == ""


def test_a_machine_says_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    around = {"commit": None, "python": "3.11.7", "packages": {"torch": "2.13.0+cpu", "transformers": None, "numpy": "2.4.6"}}
    monkeypatch.setattr(sides, "surroundings", lambda: around)
    assert sides.machine()["versions"] == "Python 3.11.7, torch 2.13.0+cpu, numpy 2.4.6"


def test_a_section_takes_the_place_of_the_one_that_is_there(tmp_path: Path) -> None:
    document = tmp_path / "results.md"
    document.write_text("# Measured\n\nIntroduction.\n\n## First\n\nold\n\n## Second\n\nstays\n")
    report.put(document, "First", "new")
    report.put(document, "Third", "added")
    assert document.read_text() == "# Measured\n\nIntroduction.\n\n## First\n\nnew\n\n## Second\n\nstays\n\n## Third\n\nadded\n"
    report.put(document, "Third", "again")
    assert document.read_text().endswith("## Third\n\nagain\n")


def test_what_people_wrote_below_a_section_stays(tmp_path: Path) -> None:
    document = tmp_path / "results.md"
    document.write_text(
        "# Measured\n\n## First\n\nold\n\n### Why\n\nBecause.\n\n### And so\n\nEnd.\n\n## Second\n\nstays\n\n### Why\n\nHence.\n"
    )
    report.put(document, "First", "new")
    report.put(document, "Second", "newer")
    assert document.read_text() == (
        "# Measured\n\n## First\n\nnew\n\n### Why\n\nBecause.\n\n### And so\n\nEnd.\n\n## Second\n\nnewer\n\n### Why\n\nHence.\n"
    )


def test_a_part_of_an_epoch_is_called_one() -> None:
    told = [
        report.steps([{"facts": json.dumps(facts)}])
        for facts in ({"measured_steps": 11, "steps": 48}, {"measured_steps": 23, "steps": 24}, {})
    ]
    assert told == [", by 11 of 48 steps", "", ""]


def test_a_side_has_the_threads_settings_that_it_comes_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not ours, which `import recsys` put into the environment of this process."""
    assert set(sides.SET_BY_RECSYS) <= os.environ.keys()
    peer = tmp_path / "python"
    peer.write_text('#!/bin/sh\necho {\\"set\\": \\"$GOMP_SPINCOUNT$LRU_CACHE_CAPACITY\\", \\"threads\\": $OMP_NUM_THREADS}\n')
    peer.chmod(0o755)
    monkeypatch.setenv("RECTOOLS_PYTHON", str(peer))
    assert sides.measured("RecTools", Task("train", tmp_path / "events.parquet", threads=3)) == {"set": "", "threads": 3}
