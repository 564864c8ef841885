"""The refit against its twin: the same, another one, one that knows newer items."""

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recsys.config import Model, Scoring
from recsys.dictionary import Dictionary
from recsys.histories import Histories
from recsys.model import saving
from recsys.model.blocks import build
from recsys.model.network import Network
from recsys.model.vocabulary import Vocabulary
from recsys.promotion.refit import check_refit, mean_overlap
from recsys.recipes import resolve
from recsys.schema import Column, Schema
from recsys.store import Artifact, Draft, Store
from recsys.windows import Cut, microseconds

NIGHT = datetime(2025, 3, 10, tzinfo=timezone.utc)
HOLDOUT = NIGHT - timedelta(days=1)
N_USERS, N_ITEMS, N_NEW = 40, 300, 20  # the new items had their first event in the holdout
MODEL = resolve(Model(recipe="sasrec", width=16, max_events=5, encoder="PreLN(n_blocks=1, n_heads=1)"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.fixture
def sequences(store: Store) -> Artifact:
    """Ten events of each user: eight before the holdout, then two of new items."""
    draw = np.random.default_rng(0)
    old = draw.permutation(np.resize(np.arange(N_ITEMS), N_USERS * 8)).reshape(N_USERS, 8)
    new = N_ITEMS + np.resize(np.arange(N_NEW), N_USERS * 2).reshape(N_USERS, 2)
    hours = np.concatenate([np.arange(-100, -92), [-4, -2]])
    event_at = microseconds(NIGHT) + np.tile(hours, N_USERS) * 3_600_000_000

    def write(draft: Draft) -> None:
        for table in ("users", "histories", "seen", "blocked"):
            (draft.path / table).mkdir()
        n_items = N_ITEMS + N_NEW
        items = {"item_id": np.arange(n_items), "eligible": np.ones(n_items, bool), "first_event_at": np.zeros(n_items, np.int64)}
        pq.write_table(pa.table({**items, "n_events": np.ones(n_items, np.int64)}), draft.path / "items.parquet")
        counts = {"n_events": np.full(N_USERS, 10), "n_seen": np.zeros(N_USERS, np.int64), "n_blocked": np.zeros(N_USERS, np.int64)}
        pq.write_table(pa.table({"user_id": np.arange(N_USERS), **counts}), draft.path / "users" / "part-000.parquet")
        codes = np.concatenate([old, new], axis=1).ravel().astype(np.int32)
        events = {"item_code": codes, "event_at": event_at, "weight": np.ones(len(codes), np.float32)}
        pq.write_table(pa.table(events), draft.path / "histories" / "part-000.parquet")
        nothing = {"item_code": pa.array([], pa.int32()), "first_event_at": pa.array([], pa.int64())}
        pq.write_table(pa.table(nothing), draft.path / "seen" / "part-000.parquet")
        pq.write_table(pa.table({"item_code": nothing["item_code"]}), draft.path / "blocked" / "part-000.parquet")
        roles = (("user_id", "user"), ("item_id", "item"), ("event_at", "time"))
        Schema(tuple(Column(name, "events", role, "BIGINT") for name, role in roles)).save(draft.path)

    return store.ensure("sequences", NIGHT, {"key": "user"}, {}, write, code="recsys.windows")


Train = Callable[..., Artifact]


@pytest.fixture
def train(store: Store, sequences: Artifact) -> Train:
    """A training artifact up to a moment, of a network that was only initialised; `change` alters it before it is saved."""
    histories, dictionary = Histories.load(sequences.path), Dictionary.load(sequences.path)

    def trained(until: datetime, seed: int, change: Callable[[Network], None] = lambda network: None) -> Artifact:
        def write(draft: Draft) -> None:
            vocabulary = Vocabulary.fit(histories, dictionary, histories.cut(Cut(at=until)))
            torch.manual_seed(seed)
            network = build(MODEL, vocabulary)
            change(network)
            saving.save(draft.path, network, MODEL, vocabulary)

        return store.ensure("training", NIGHT, {"until": str(until), "seed": seed}, {}, write, code="recsys.windows")

    return trained


def test_a_refit_that_is_its_twin_shares_everything(train: Train, sequences: Artifact) -> None:
    twin = train(HOLDOUT, seed=1)
    found = check_refit(twin, twin, sequences, Cut(at=HOLDOUT), Scoring(), min_overlap=1.0, seed=1)
    assert found.passed and found.overlap == 1.0
    assert found.reason == (
        "The refit on everything before 2025-03-10 shares 100.0% of its top 10 with its twin, which was trained before the holdout."
    )


def test_a_refit_that_is_another_model_is_given_up(train: Train, sequences: Artifact) -> None:
    found = check_refit(train(HOLDOUT, seed=2), train(HOLDOUT, seed=1), sequences, Cut(at=HOLDOUT), Scoring(), min_overlap=0.5, seed=1)
    assert found.overlap is not None and found.overlap < 0.2  # by chance it is 10 of 300
    assert not found.passed
    assert found.reason.startswith("The refit is given up for its twin: it shares ")
    assert found.reason.endswith(" of its top 10 with its twin, which was trained before the holdout, and 50.0% are asked for.")


def test_items_that_only_the_refit_knows_are_not_held_against_it(train: Train, sequences: Artifact) -> None:
    twin = train(HOLDOUT, seed=1)
    known, _ = saving.load(twin.path)

    def as_twin_and_fond_of_new_items(network: Network) -> None:
        weights = known.state_dict()
        for name, tensor in network.state_dict().items():
            if tensor.shape != weights[name].shape:  # one row per item, the new ones last
                tensor[:N_ITEMS], tensor[N_ITEMS:] = weights[name], 100.0
            else:
                tensor.copy_(weights[name])

    refit = train(NIGHT, seed=3, change=as_twin_and_fond_of_new_items)
    assert saving.load(refit.path)[1].n_items == N_ITEMS + N_NEW
    assert saving.load(twin.path)[1].n_items == N_ITEMS
    found = check_refit(refit, twin, sequences, Cut(at=HOLDOUT), Scoring(), min_overlap=0.5, seed=1)
    assert found.overlap == 1.0


def test_overlap_by_hand() -> None:
    one = np.array([[1, 2, 3], [4, 5, -1], [-1, -1, -1], [7, 8, 9]])
    other = np.array([[3, 2, 9], [5, 6, 7], [1, 2, 3], [-1, -1, -1]])
    assert mean_overlap(one, other) == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert mean_overlap(one[:0], other[:0]) == 1.0
