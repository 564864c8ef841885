"""A night by chance: sequences and a model with random weights, with every kind of user that scoring meets."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recsys.config import Model
from recsys.dictionary import Dictionary
from recsys.histories import Histories
from recsys.model import saving
from recsys.model.blocks import Blocks, build
from recsys.model.vocabulary import Vocabulary
from recsys.recipes import resolve
from recsys.schema import Column, Schema
from recsys.store import Artifact, Draft, Store
from recsys.windows import Cut, holdout, microseconds

AS_OF = datetime(2025, 3, 2, tzinfo=timezone.utc)
N_USERS, N_ITEMS = 150, 90
COUNTRIES, DEVICES = ("AT", "CH", "DE"), ("desktop", "phone")
MODEL = Model(
    recipe="sasrec_preln", width=16, max_events=8, inputs='Inputs(features="all")', encoder="PreLN(n_blocks=1, n_heads=2, dropout=0.0)"
)


@dataclass(frozen=True)
class World:
    """Events by user, in order, and what must not be shown. User 0 had nearly everything, user 1 nothing at all."""

    events: list[list[tuple[int, int]]]  # µs, item code
    device: list[list[int]]
    blocked: list[list[int]]
    country: list[int]
    eligible: np.ndarray
    as_id: Callable[[int], object]
    has_times: bool = True

    def seen(self, user: int) -> list[int]:
        return sorted({item for _, item in self.events[user]})

    def write(self, folder: Path, n_shards: int) -> None:
        """The sequences artifact, as docs/artifacts.md has it."""
        schema = Schema(
            (Column("country", "users", "categorical", "VARCHAR"), Column("device", "events", "categorical", "VARCHAR")), self.has_times
        )
        schema.save(folder)
        for name in ("values", "users", "histories", "seen", "blocked"):
            (folder / name).mkdir()
        pq.write_table(pa.table({"value": COUNTRIES}), folder / "values" / "country.parquet")
        pq.write_table(pa.table({"value": DEVICES}), folder / "values" / "device.parquet")
        flat = [event for own in self.events for event in own]
        first = [min([moment for moment, i in flat if i == item], default=None) for item in range(N_ITEMS)]
        counts = np.bincount([item for _, item in flat], minlength=N_ITEMS)
        ids = [self.as_id(1000 + item) for item in range(N_ITEMS)]
        known = {"eligible": self.eligible, "first_event_at": pa.array(first if self.has_times else [None] * N_ITEMS, pa.int64())}
        pq.write_table(pa.table({"item_id": ids, **known, "n_events": counts}), folder / "items.parquet")
        for shard in range(n_shards):
            self._write_shard(folder, f"part-{shard:03}.parquet", [u for u in range(N_USERS) if u % n_shards == shard])

    def _write_shard(self, folder: Path, name: str, users: list[int]) -> None:
        events = [event for u in users for event in self.events[u]]
        seen = [(u, item) for u in users for item in self.seen(u)]
        since = [min(moment for moment, i in self.events[u] if i == item) for u, item in seen]
        position = [next(n for n, (_, i) in enumerate(self.events[u]) if i == item) for u, item in seen]
        lengths = {"n_events": [len(self.events[u]) for u in users], "n_seen": [len(self.seen(u)) for u in users]}
        own = {"user_id": [self.as_id(u) for u in users], **lengths, "n_blocked": [len(self.blocked[u]) for u in users]}
        tables = {
            "users": own | {"country": pa.array([self.country[u] for u in users], pa.int32())},
            "histories": {
                "item_code": pa.array([item for _, item in events], pa.int32()),
                "event_at": pa.array([moment if self.has_times else None for moment, _ in events], pa.int64()),
                "weight": pa.array(np.ones(len(events)), pa.float32()),
                "device": pa.array([d for u in users for d in self.device[u]], pa.int32()),
            },
            "seen": {"item_code": pa.array([item for _, item in seen], pa.int32())}
            | ({"first_event_at": pa.array(since, pa.int64())} if self.has_times else {"first_position": pa.array(position, pa.int32())}),
            "blocked": {"item_code": pa.array([item for u in users for item in self.blocked[u]], pa.int32())},
        }
        for table, columns in tables.items():
            pq.write_table(pa.table(columns), folder / table / name)


def string_id(number: int) -> str:
    return f"id-{number:05}"


def world(as_id: Callable[[int], object] = int, has_times: bool = True) -> World:
    rng = np.random.default_rng(17)
    now = microseconds(AS_OF)
    popularity = 1 / np.arange(1, N_ITEMS)  # the last item is user 2's alone
    events: list[list[tuple[int, int]]] = []
    for user in range(N_USERS):
        n = {0: N_ITEMS - 4, 1: 0}.get(user, int(rng.integers(1, 20)))
        items = rng.permutation(N_ITEMS - 1)[:n] if user == 0 else rng.choice(N_ITEMS - 1, n, p=popularity / popularity.sum())
        moments = np.sort(now - rng.integers(1, 10 * 24 * 3600 * 10**6, n))
        events.append(list(zip(moments.tolist(), items.tolist(), strict=True)))
    events[2] = [(now - 3600 * 10**6, N_ITEMS - 1)]  # knows one item, which no model knows
    return World(
        events,
        device=[rng.integers(-1, 2, len(own)).tolist() for own in events],
        blocked=[sorted(rng.permutation(N_ITEMS)[: rng.integers(0, 4)].tolist()) for _ in range(N_USERS)],
        country=rng.integers(-1, 3, N_USERS).tolist(),
        eligible=rng.random(N_ITEMS) < 0.9,
        as_id=as_id,
        has_times=has_times,
    )


@dataclass(frozen=True)
class Night:
    """A store with sequences in some number of shards, and a model of what was before the last day."""

    store: Store
    world: World

    def sequences(self, n_shards: int = 3, key: str = "user") -> Artifact:
        def build(draft: Draft) -> None:
            self.world.write(draft.path, n_shards)

        return self.store.ensure("sequences", AS_OF, {"key": key, "n_shards": n_shards}, {}, build, code="recsys.windows")

    def model(self, cut: Cut | None = None, min_item_events: int = 3, seed: int = 1, heads: tuple[str, ...] = ()) -> Artifact:
        """Random weights, large enough that no two scores are nearly equal; items with few events are unknown to it.

        `heads` besides that of the next item may predict `bought`, a label that these histories are without.
        """
        sequences = self.sequences(1)
        ends_at = cut or (holdout(AS_OF, "1d") if self.world.has_times else Cut(last=1))

        def build(draft: Draft) -> None:
            histories, dictionary = Histories.load(sequences.path), Dictionary.load(sequences.path)
            vocabulary = Vocabulary.fit(histories, dictionary, histories.cut(ends_at), min_item_events)
            if heads:
                labelled = (*vocabulary.schema.columns, Column("bought", "events", "label", "BIGINT"))
                vocabulary = replace(vocabulary, schema=replace(vocabulary.schema, columns=labelled))
            resolved = resolve(MODEL.model_copy(update={"heads": ("NextItem()", *heads)} if heads else {}))
            resolved = Blocks.of(resolved).in_canonical_text()
            torch.manual_seed(seed)
            network = build_large(resolved, vocabulary)
            saving.save(draft.path, network, resolved, vocabulary)

        config = {"cut": str(ends_at), "min_item_events": min_item_events, "seed": seed, "heads": heads}
        return self.store.ensure("training", AS_OF, config, {"sequences": sequences}, build, code="recsys.windows")


def build_large(model: Model, vocabulary: Vocabulary) -> torch.nn.Module:
    network = build(model, vocabulary)
    for parameter in network.items.parameters():
        torch.nn.init.normal_(parameter)
    return network


@pytest.fixture(scope="session")
def night(tmp_path_factory) -> Night:
    return Night(Store(tmp_path_factory.mktemp("store")), world())


@pytest.fixture(scope="session")
def night_by_order(tmp_path_factory) -> Night:
    """Data with an order only, and string ids."""
    return Night(Store(tmp_path_factory.mktemp("store")), world(as_id=string_id, has_times=False))
