from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys.model.batching import FixedEdges
from recsys.model.bucket import Bucket, Ragged, group_by_length

lengths_of_batches = st.lists(st.integers(1, 30), min_size=1, max_size=40)


@given(lengths_of_batches)
def test_groups_hold_every_row_once_by_length(lengths: list[int]) -> None:
    groups = group_by_length(np.array(lengths))
    assert sorted(np.concatenate(groups)) == list(range(len(lengths)))
    ordered = [np.array(lengths)[g] for g in groups]
    assert all(a.max() < b.min() for a, b in zip(ordered, ordered[1:], strict=False))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.sampled_from([0.01, 0.1, 0.3]))
def test_groups_cost_least(lengths: list[int], group_cost: float) -> None:
    """Against every way to cut the sorted distinct lengths."""
    distinct, overhead = sorted(set(lengths)), group_cost * sum(lengths)

    def cost(cuts: tuple[int, ...]) -> float:
        edges = [0, *cuts, len(distinct)]
        parts = [distinct[a:b] for a, b in zip(edges, edges[1:], strict=False)]
        return sum(sum(n in part for n in lengths) * part[-1] + overhead for part in parts)

    best = min(cost(cuts) for n in range(len(distinct)) for cuts in combinations(range(1, len(distinct)), n))
    groups = group_by_length(np.array(lengths), group_cost)
    ours = sum(len(g) * np.array(lengths)[g].max() + overhead for g in groups)
    assert ours == pytest.approx(best)


# Lengths as in real data: log-normal fits to the published mean and median, and the quantiles of a news portal.
KINDS = {
    "films rated at length": lambda random, n: np.clip(random.lognormal(4.55, 1.0, n), 20, 101).astype(int),
    "a shop with many who came once": lambda random, n: np.clip(random.lognormal(0.9, 1.1, n), 2, 101).astype(int),
    "a news portal": lambda random, n: np.clip(random.lognormal(1.4, 1.25, n), 2, 51).astype(int),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [64, 128, 1024])
def test_at_least_85_percent_of_the_places_hold_an_event(kind: str, batch: int) -> None:
    random = np.random.default_rng(0)
    real, places, alone = 0, 0, 0
    for _ in range(20):
        lengths = KINDS[kind](random, batch)
        groups = group_by_length(lengths)
        real += (lengths - 1).sum()  # the newest event is a target only
        places += sum(len(g) * (lengths[g].max() - 1) for g in groups)
        alone += len(lengths) * (lengths.max() - 1)
        assert len(groups) <= 16
    assert real / places >= 0.85
    assert real / places > 1.2 * real / alone, "without groups it would be much less"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [128, 1024])
def test_at_least_75_percent_do_in_buckets_of_fixed_edges(kind: str, batch: int) -> None:
    random = np.random.default_rng(0)
    real, places, edges = 0, 0, FixedEdges()
    for _ in range(20):
        lengths = KINDS[kind](random, batch)
        groups = edges.groups(lengths)
        widths = [min(edges.places(lengths[g].max()), lengths.max()) for g in groups]
        real += (lengths - 1).sum()
        places += sum(len(g) * (width - 1) for g, width in zip(groups, widths, strict=True))
        assert len(groups) <= 8
    assert real / places >= 0.75


def test_ragged_rows_are_taken_in_any_order_and_shape() -> None:
    lists = [[1, 2, 3], [], [4], [5, 6]]
    ragged = Ragged(torch.tensor(sum(lists, [])), torch.tensor([0, 3, 3, 4, 6]))
    rows = torch.tensor([[3, 1], [-1, 0], [0, 2]])
    taken = ragged.take(rows)
    expected = [[] if row < 0 else lists[row] for row in rows.flatten().tolist()]
    bounds = taken.offsets.tolist()
    assert [taken.values[a:b].tolist() for a, b in zip(bounds, bounds[1:], strict=False)] == expected
    assert len(taken) == 6


def test_a_bucket_without_its_last_events() -> None:
    offsets = torch.tensor([0, 1, 3, 3, 4, 4, 4])  # of 2 × 3 events
    bucket = Bucket(
        rows=torch.tensor([4, 9]),
        lengths=torch.tensor([3, 1]),
        item_index=torch.tensor([[7, 8, 9], [5, 0, 0]]),
        weight=torch.tensor([[1.0, 1.0, 2.0], [1.0, 0.0, 0.0]]),
        event_columns={"plain": torch.tensor([[1, 2, 3], [4, 0, 0]]), "lists": Ragged(torch.tensor([1, 2, 3, 4]), offsets)},
        user_columns={"country": torch.tensor([1, 2])},
        event_at=torch.tensor([[10, 20, 30], [40, 40, 40]]),
        next_at=torch.tensor([[20, 30, 99], [99, 40, 40]]),
    )
    assert bucket.real.tolist() == [[True, True, True], [True, False, False]]
    read = bucket.without_last()
    assert read.lengths.tolist() == [2, 0] and read.real.tolist() == [[True, True], [False, False]]
    assert read.item_index[0].tolist() == [7, 8] and read.next_at[0].tolist() == [20, 30]
    assert read.event_columns["plain"].shape == (2, 2)
    assert read.event_columns["lists"].offsets.tolist() == [0, 1, 3, 4, 4]
    assert read.user_columns is bucket.user_columns and read.rows is bucket.rows


def test_a_bucket_moves_as_a_whole() -> None:
    bucket = Bucket(
        rows=torch.tensor([0]),
        lengths=torch.tensor([1]),
        item_index=torch.tensor([[1]]),
        weight=torch.ones(1, 1),
        event_columns={"lists": Ragged(torch.tensor([1]), torch.tensor([0, 1]))},
    ).to("meta")
    assert bucket.item_index.is_meta and bucket.event_columns["lists"].values.is_meta and bucket.event_at is None
