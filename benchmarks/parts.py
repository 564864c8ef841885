"""What a training step costs, by recipe and by loss: median seconds of forward, backward and optimiser step, as markdown.

    python benchmarks/parts.py --events ml-1m/events.parquet          every recipe, at one size
    python benchmarks/parts.py --losses                               every loss against a catalogue of 100,000 items

`--events` is any table with user_id, item_id and a column of order. It prints aggregates only.
"""

import argparse
import itertools
import platform
import statistics
import time
from collections.abc import Callable

import duckdb
import torch

from recsys import recipes
from recsys.config import Features, Model, Sequences
from recsys.dictionary import Dictionary
from recsys.frames import read
from recsys.histories import Histories
from recsys.model.blocks import build
from recsys.model.catalogue import Catalogue
from recsys.model.losses import Loss
from recsys.model.network import Network
from recsys.model.vocabulary import Vocabulary
from recsys.slots import choices
from recsys.training.buckets import Batches

N, D, V = 4096, 128, 100_000  # predictions, width and items of the losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", help="a parquet file")
    parser.add_argument("--order", default="position", help="its column of order, within a user")
    parser.add_argument("--losses", action="store_true")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--max-events", type=int, default=100)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print(f"{platform.machine()}, {given.threads} thread(s), torch {torch.__version__}\n")
    if given.losses:
        losses(given.steps)
    if given.events:
        all_recipes(given.events, given.order, given.width, given.max_events, given.steps)


def losses(n_steps: int) -> None:
    print("| loss | ms |\n|---|---|")
    hidden, vectors = torch.randn(N, D, requires_grad=True), torch.randn(V, D, requires_grad=True)
    catalogue, target, weight = Catalogue(vectors, counts=torch.rand(V) + 0.1), torch.randint(V, (N,)), torch.ones(N)
    for name, cls in choices(Loss).items():
        if name != "WeightedSum":
            loss = cls()
            seconds = median(lambda loss=loss: loss(hidden, target, catalogue, weight).backward(), n_steps)
            print(f"| {name} | {1000 * seconds:.0f} |", flush=True)


def all_recipes(events: str, order: str, width: int, max_events: int, n_steps: int) -> None:
    table = duckdb.sql(f"select user_id, item_id, {order} from read_parquet('{events}')").to_arrow_table()
    past = read({"events": table}, {"events": {"order": order}}, Sequences(), features=Features(min_day_volume=0))
    histories, dictionary = Histories.load(past.sequences.path), Dictionary.load(past.sequences.path)
    ends = histories.offsets[1:]
    vocabulary = Vocabulary.fit(histories, dictionary, ends)
    print(f"{len(histories.item_code):,} events, {vocabulary.n_items:,} items, {histories.n_users:,} users, D={width}, L={max_events}\n")
    print("| recipe | parameters | s per step of 128 users | s per epoch |\n|---|---|---|---|")
    for recipe in recipes.names():
        torch.manual_seed(1)
        network = build(recipes.resolve(Model(recipe=recipe, width=width, max_events=max_events)), vocabulary).train()
        if network.objective.reads_times or network.encoder.reads_times:
            print(f"| {recipe} | {network.n_parameters:,} | reads times, which these data do not have | |")
            continue
        reader = network.reader(histories, dictionary, vocabulary)
        spans = reader.spans(*histories.sequences(ends, "user")).newest(network.objective.n_trained(max_events))
        seconds = median(Steps(network, Batches(reader, spans, 128, 1, network.batching)), n_steps)
        print(f"| {recipe} | {network.n_parameters:,} | {seconds:.2f} | {seconds * -(-len(spans) // 128):.0f} |", flush=True)


class Steps:
    """Training steps, one a call, over the batches again and again."""

    def __init__(self, network: Network, batches: Batches) -> None:
        self.network, self.batches = network, itertools.chain.from_iterable(itertools.repeat(batches))
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)

    def __call__(self) -> None:
        self.optimizer.zero_grad()
        self.network.loss(next(self.batches)).backward()
        self.optimizer.step()


def median(step: Callable[[], None], n: int) -> float:
    """Seconds of a step, after one that warms up."""
    times = []
    for _ in range(n + 1):
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


if __name__ == "__main__":
    main()
