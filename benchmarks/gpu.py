"""This project on a GPU, in one run of under ten minutes on generated events: what the GPU can do, what share of it training steps,
scoring and a large softmax get, what makes the CPU wait for it, and RecTools on the same GPU.

    python -m benchmarks.gpu results/                    writes results/gpu.json and results/gpu.md
    RECTOOLS_PYTHON=… python -m benchmarks.gpu results/  RecTools too, in its own environment
    python -m benchmarks.gpu results/ --minutes 30       with more time for what stands side by side, which has what is left of 9
    python -m benchmarks.gpu results/ --device cpu --small       the same code on a small scale, as its test runs it
"""

import argparse
import itertools
import json
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.devices import facts, limits, peak_memory, seconds, waits
from benchmarks.inputs import INPUTS, write
from benchmarks.measuring import Task
from benchmarks.rows import ROWS
from benchmarks.sides import tried
from recsys.config import Model, Sequences, Training
from recsys.dictionary import Dictionary
from recsys.errors import ConfigError
from recsys.frames import Past, read
from recsys.histories import Histories
from recsys.model.blocks import build
from recsys.model.catalogue import Catalogue
from recsys.model.device import device_of
from recsys.model.losses.softmax import CrossEntropy
from recsys.model.vocabulary import Vocabulary
from recsys.ranking.topk import top_k
from recsys.recipes import resolve
from recsys.training.buckets import Batches, trainable

RECIPES = ("sasrec", "esasrec", "hstu", "bert4rec", "gsasrec")


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    inputs: tuple[str, ...] = ("ml-1m", "kion-x10")  # of benchmarks.inputs
    sizes: tuple[dict[str, int], ...] = ({"users_per_batch": 128}, {"events_per_batch": 2**16})
    width: int | None = None  # as the recipes have it
    max_events: int | None = None
    seconds: float = 2.0  # of each measurement, about
    product: int = 8192  # rows and columns of the matrices
    copied: int = 2**30  # bytes
    users: int = 100_000  # for whom k of `items` are chosen
    items: int = 1_000_000
    predictions: int = 8192  # of one softmax over the items
    rows: tuple[str, ...] = (  # side by side, as far as the time goes
        "train-ml1m",
        "train-kion",
        "sampled-ml1m",
        "sampled-kion",
        "recommend-ml1m",
        "recommend-kion",
        "flat-ml1m",
        "flat-kion",
        "train-kion-15k",
        "whole-globo",
    )
    table: str | None = None  # of their events; each has its own


SMALL = Scale(
    inputs=("tiny",),
    sizes=({"users_per_batch": 16}, {"events_per_batch": 256}),
    width=16,
    max_events=8,
    seconds=0.01,
    product=64,
    copied=2**16,
    users=64,
    items=500,
    predictions=32,
    rows=("sampled-ml1m", "recommend-ml1m"),
    table="tiny",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where gpu.json and gpu.md are written")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--small", action="store_true", help="seconds instead of minutes")
    given = parser.parse_args()
    if given.device == "cuda":
        try:
            device_of("gpu")
        except ConfigError as error:
            raise SystemExit(f"{error} For a try without a GPU: --device cpu --small.") from error
    given.folder.mkdir(parents=True, exist_ok=True)
    found = everything(torch.device(given.device), SMALL if given.small else Scale(), time.monotonic() + 60 * given.minutes)
    (given.folder / "gpu.json").write_text(json.dumps(found, indent=1))
    (given.folder / "gpu.md").write_text(text := markdown(found))
    print(text)


def everything(device: torch.device, scale: Scale, until: float) -> dict[str, Any]:
    """All measurements; those in processes of their own end at `until`, a time of the monotonic clock, and say so."""
    torch.manual_seed(1)
    found: dict[str, Any] = {"device": facts(device), "limits": limits(device, scale.product, scale.copied, scale.seconds)}
    found["steps"] = []
    for name in scale.inputs:
        past = read({"events": INPUTS[name].generate()}, {}, Sequences())
        for recipe, size in itertools.product(RECIPES, scale.sizes):
            step = Step(recipe, past, size, device, scale)
            found["steps"].append({"input": name, "recipe": recipe, **size, **step.measured(scale.seconds, found["limits"]["bf16"])})
            if (recipe, name, size) == (RECIPES[0], scale.inputs[0], scale.sizes[0]):
                found["profile"] = step.profiled()
    found["scoring"] = scoring(device, scale)
    found["softmax"] = softmax(device, scale)
    found["side_by_side"] = side_by_side(device, scale, until)
    return found


def model_of(recipe: str, scale: Scale) -> Model:
    return resolve(Model(recipe=recipe, width=scale.width, max_events=scale.max_events))


class Step:
    """A training step of a recipe, one a call: the loss in half precision on a GPU, its gradients, and the optimiser."""

    def __init__(self, recipe: str, past: Past, size: dict[str, int], device: torch.device, scale: Scale) -> None:
        histories, dictionary = Histories.load(past.sequences.path), Dictionary.load(past.sequences.path)
        ends = histories.offsets[1:]
        vocabulary = Vocabulary.fit(histories, dictionary, ends)
        self.device = device
        self.network = network = build(model_of(recipe, scale), vocabulary).to(device).train()
        reader = network.reader(histories, dictionary, vocabulary)
        spans = trainable(reader.spans(*histories.sequences(ends, "user")), reader, network.objective, network.max_events, Training())
        n_unread = network.objective.n_trained(network.max_events) - network.objective.n_places(network.max_events)
        both = {"users_per_batch": None, **size}
        self.batches = Batches(reader.to(device), spans, **both, seed=1, batching=network.batching, n_unread=n_unread, device=device)
        self._coming = itertools.chain.from_iterable(itertools.repeat(self.batches))
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
        self.n_steps = 0

    def __call__(self) -> None:
        self.n_steps += 1
        self.optimizer.zero_grad()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            loss = self.network.loss(next(self._coming))
        loss.backward()
        self.optimizer.step()

    def measured(self, at_least: float, tflops: float) -> dict[str, Any]:
        with FlopCounterMode(display=False) as counted:
            self()
        flops = counted.get_total_flops() / int(self.batches.n_real)  # an event that is read
        with waits(self.device) as waited:
            self()
        with peak_memory(self.device) as memory:
            took = seconds(self, self.device, at_least)
        events = int(self.batches.n_real) / self.n_steps
        return {
            "ms": 1000 * took,
            "events_per_second": events / took,
            "real_share": self.batches.real_share,
            "rate_share": flops * events / took / (tflops * 1e12),
            "waits": sum("called a synchronizing" in str(warning.message) for warning in waited) if self.device.type == "cuda" else None,
            "peak_gib": memory[0],
        }

    def profiled(self) -> str:
        """Where the time of five steps goes, by kernel."""
        kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self.device.type == "cuda" else [])]
        with profile(activities=kinds) as profiler:
            for _ in range(5):
                self()
        return profiler.key_averages().table(sort_by=f"self_{self.device.type}_time_total", row_limit=20, max_name_column_width=60)


def scoring(device: torch.device, scale: Scale) -> dict[str, Any]:
    """Top-10 of all items for all users, 20 of each left out, in tiles of users as a night scores."""
    hidden = torch.randn(scale.users, 64, device=device)
    catalogue = Catalogue(torch.randn(scale.items, 64, device=device))
    tile = min(scale.users, 4096)
    rows = torch.arange(tile, device=device).repeat_interleave(20, output_size=20 * tile)
    seen = torch.randint(scale.items, (len(rows),), device=device)

    def one() -> None:
        top_k(hidden[:tile], catalogue, 10, rows, seen)

    with peak_memory(device) as memory:
        took = seconds(one, device, scale.seconds) * scale.users / tile
    products = 2 * scale.users * scale.items * 64 / 1e12
    return {"users": scale.users, "items": scale.items, "seconds": took, "tflops": products / took, "peak_gib": memory[0]}


def softmax(device: torch.device, scale: Scale) -> dict[str, Any]:
    """Exact cross-entropy over all items, with gradients, and the memory that all scores at once would take."""
    hidden = torch.randn(scale.predictions, 64, device=device, requires_grad=True)
    vectors = torch.randn(scale.items, 64, device=device, requires_grad=True)
    target, weight = torch.randint(scale.items, (scale.predictions,), device=device), torch.ones(scale.predictions, device=device)

    def one() -> None:
        hidden.grad = vectors.grad = None
        CrossEntropy()(hidden, target, Catalogue(vectors), weight).backward()

    with peak_memory(device) as memory:
        took = seconds(one, device, scale.seconds)
    all_scores = 4 * scale.predictions * scale.items / 2**30
    sizes = {"predictions": scale.predictions, "items": scale.items}
    return {**sizes, "ms": 1000 * took, "peak_gib": memory[0], "all_scores_gib": all_scores}


def side_by_side(device: torch.device, scale: Scale, until: float) -> list[dict[str, Any]]:
    """Rows of `benchmarks.speed`, ours and RecTools' where RECTOOLS_PYTHON says whose python has it."""
    sides = ["ours", *(["RecTools"] if "RECTOOLS_PYTHON" in os.environ else [])]
    rows = []
    with TemporaryDirectory(prefix="benchmark-") as folder:
        for name in scale.rows:
            row = ROWS[name]
            events, described = write(scale.table or row.input, Path(folder), None)
            for side in (side for side in row.sides if side.process in sides):
                task = Task(side.work, events, accelerator="gpu" if device.type == "cuda" else "cpu", **row.settings, **side.settings)
                task = replace(task, lists=events.with_suffix(".lists.parquet") if side.work == "whole" else None)
                if scale.width and scale.max_events:
                    task = replace(task, width=scale.width, max_events=scale.max_events)
                rows.append(
                    {"work": row.title, "side": side.label, **tried(side.process, task, until - time.monotonic()), "events": described}
                )
    return rows


def markdown(found: dict[str, Any]) -> str:
    parts = [f"# On a GPU\n\n{', '.join(f'{name} {value}' for name, value in found['device'].items())}"]
    parts += [f"## {name.replace('_', ' ').capitalize()}\n\n{table(found[name])}" for name in ("limits", "steps", "scoring", "softmax")]
    parts += [f"## Side by side\n\n{table(found['side_by_side'])}", f"## Profile\n\n```\n{found['profile']}```"]
    return "\n\n".join(parts) + "\n"


def table(rows: dict[str, Any] | list[dict[str, Any]]) -> str:
    """Measurements as markdown, a column for each name that any of them has."""
    rows = rows if isinstance(rows, list) else [rows]
    names = list(dict.fromkeys(name for row in rows for name in row if not isinstance(row[name], dict)))

    def cell(value: Any) -> str:
        return "" if value is None else f"{value:,.3g}" if isinstance(value, float) else str(value).replace("\n", " ")

    lines = [names, ["---"] * len(names), *([cell(row.get(name)) for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
