"""How batches are made changes what is computed at once, and nothing of what comes out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from recsys.arrays import Ints
from recsys.errors import ConfigError, ContractError
from recsys.model.batching import Batching, ByLength, FixedEdges, Padded
from recsys.model.inference import encode
from recsys.slots import choices

members = pytest.mark.parametrize("batching", choices(Batching).values(), ids=choices(Batching))


@members
def test_every_sequence_is_in_one_bucket(batching: type[Batching]) -> None:
    for lengths in ([], [3], [5, 1, 5, 2, 9, 9], list(range(1, 60))):
        groups = batching().checked_groups(np.array(lengths, dtype=np.int64))
        assert sorted(int(row) for group in groups for row in group) == list(range(len(lengths)))


@members
def test_no_prediction_depends_on_it(world: Any, batching: type[Batching]) -> None:
    network, reader, spans = world.network()
    usual = encode(network, reader, spans)
    network.batching = batching()
    torch.testing.assert_close(encode(network, reader, spans), usual)


@members
def test_recommending_keeps_to_its_places(world: Any, batching: type[Batching]) -> None:
    _, reader, spans = world.network()
    for bucket in batching().reading(reader, spans.newest(8), n_places=64):
        assert bucket.item_index.numel() <= 64


def test_padded_is_one_tensor_a_step(world: Any) -> None:
    _, reader, spans = world.network()
    (bucket,) = Padded().training(reader, spans.newest(8), torch.Generator())
    assert bucket.item_index.shape == (int((spans.lengths > 0).sum()), 8)


def test_fixed_edges_make_few_widths(world: Any) -> None:
    _, reader, spans = world.network()
    widths = {b.item_index.shape[1] for b in FixedEdges(edges=[2, 6, 15]).training(reader, spans, torch.Generator())}
    assert widths == {2, 6, 15, int(spans.lengths.max())}
    (pair,) = FixedEdges(edges=[64]).training(reader, spans[torch.nonzero(spans.lengths == 3)[:2, 0]], torch.Generator())
    assert pair.item_index.shape == (2, 3), "never wider than the longest of the batch"
    for edges in ([], [0, 3], [4, 4], [8, 4]):
        with pytest.raises(ConfigError, match="have to be lengths above 0 that ascend"):
            FixedEdges(edges=edges)


def test_unless_said_a_batch_is_made_as_the_device_likes_it(world: Any) -> None:
    network, _, _ = world.network()
    assert isinstance(network.batching, ByLength)
    assert isinstance(network.to("meta").batching, FixedEdges)
    network, _, _ = world.network(batching="Padded()")
    assert isinstance(network.to("meta").batching, Padded)


class Forgetful(Batching):
    def groups(self, lengths: Ints) -> Sequence[Ints]:
        return [np.arange(len(lengths) - 1)]


class Repeating(Batching):
    def groups(self, lengths: Ints) -> Sequence[Ints]:
        return [np.arange(len(lengths)), np.array([0])]


@pytest.mark.parametrize("wrong", [Forgetful, Repeating])
def test_a_sequence_that_is_left_out_or_read_twice_is_found(world: Any, wrong: type[Batching]) -> None:
    network, reader, spans = world.network()
    network.batching = wrong()
    with pytest.raises(ContractError, match=f"{wrong.__name__}.groups divides"):
        encode(network, reader, spans)
