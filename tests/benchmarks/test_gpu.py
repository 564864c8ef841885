"""The run on a GPU, as it goes on a CPU at a small scale."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import devices, gpu


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    os.environ.pop("RECTOOLS_PYTHON", None)  # its side is measured where this says so
    return gpu.everything(torch.device("cpu"), gpu.SMALL, until=time.monotonic() + 3600)


def test_every_recipe_is_measured_at_every_size(found: dict[str, Any]) -> None:
    steps = found["steps"]
    assert [step["recipe"] for step in steps] == [recipe for recipe in gpu.RECIPES for _ in gpu.SMALL.sizes]
    for step in steps:
        assert step["ms"] > 0 and 0.5 < step["real_share"] <= 1 and step["waits"] is None
        assert step["events_per_second"] > 0 and step["rate_share"] > 0
    assert found["limits"].keys() == {"copy", "f32", "tf32", "bf16"} and all(rate > 0 for rate in found["limits"].values())
    assert found["scoring"]["seconds"] > 0 and found["softmax"]["ms"] > 0
    assert found["profile"].count("aten::") >= 10, "the kernels that took longest"


def test_our_side_trains_and_recommends_in_processes_of_its_own(found: dict[str, Any]) -> None:
    trained, recommended = found["side_by_side"]
    assert trained["side"] == recommended["side"] == "ours" and trained["seconds"] > 0 and recommended["seconds"] > 0
    assert trained["items"] == 60 and recommended["rows"] > 0


def test_what_there_is_no_time_for_says_so() -> None:
    trained, recommended = gpu.side_by_side(torch.device("cpu"), gpu.SMALL, until=time.monotonic() + 0.5)
    assert trained["error"].endswith("there were 0 seconds left for it") and "seconds" not in trained
    assert recommended["error"].endswith("there were 0 seconds left for it")


def test_results_are_json_and_markdown(found: dict[str, Any]) -> None:
    assert json.loads(json.dumps(found)) == found
    text = gpu.markdown(found)
    assert text.count("\n## ") == 6 and "| tiny | hstu | 16 |" in text
    assert gpu.table([{"a": 1, "b": 0.12345}, {"a": 2, "c": None}]).splitlines()[2:] == ["| 1 | 0.123 |  |", "| 2 |  |  |"]


def test_a_call_is_timed_over_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes 0.25 s by this clock: one that warms up, one alone, then 1.1 times as many as fill 2 s, rounded down."""
    calls: list[int] = []
    monkeypatch.setattr(devices.time, "perf_counter", lambda: 0.25 * len(calls))
    assert devices.seconds(lambda: calls.append(1), torch.device("cpu"), at_least=2.0) == 0.25
    assert len(calls) == 1 + 1 + 8


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is a GPU")
def test_without_a_gpu_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match="none that torch can use.*--device cpu --small"):
        gpu.main()
    assert not (tmp_path / "out").exists()
