"""Every way to make inputs, and every aggregation: one vector per event, of that event and its user alone."""

from typing import Any

import pytest
import torch

from recsys.errors import ContractError
from recsys.model import contracts
from recsys.model.aggregation import Aggregation
from recsys.model.bucket import Bucket
from recsys.model.inputs import InputBlock
from recsys.model.items.ids import IdEmbedding
from recsys.model.reader import Reader, Spans
from recsys.parts import choices, parse

FEATURES = ["[]", '"all"', '["device", "age"]', '["shelves", "genres", "hobbies"]', '["gap_seconds", "price"]', '["picture", "text"]']
CASES = [
    f"{block}(features={features}, aggregation={aggregation}(), layer_norm={norm})"
    for block in choices(InputBlock)
    for aggregation in choices(Aggregation)
    for features in FEATURES
    for norm in ("false", "true")
]


def build(world: Any, text: str, width: int = 16) -> tuple[InputBlock, Reader, Spans]:
    """The inputs, a reader with their columns, and everybody's whole history."""
    supplied = {**world.supplied(), "width": width}
    inputs = parse(text, InputBlock).build(items=IdEmbedding(world.vocabulary.n_items, 16), **supplied)
    columns = {"event_columns": inputs.event_columns, "user_columns": inputs.user_columns}
    reader = Reader(world.histories, world.dictionary, world.vocabulary, **columns)
    return inputs, reader, reader.spans(*world.histories.sequences(world.histories.offsets[1:], "user"))


@pytest.mark.parametrize("width", [16, 24])
@pytest.mark.parametrize("text", CASES)
def test_each_event_is_embedded_alone(world: Any, text: str, width: int) -> None:
    inputs, reader, spans = build(world, text, width)
    contracts.embeds_each_event_alone(inputs, reader.bucket(spans), width)


@pytest.mark.parametrize("text", CASES)
def test_gradients_reach_every_parameter(world: Any, text: str) -> None:
    inputs, reader, spans = build(world, text)
    bucket = reader.bucket(spans)
    weight = torch.randn(*bucket.item_index.shape, 16)
    contracts.gradients_reach(inputs, lambda: (inputs(bucket) * weight).sum())


@pytest.mark.parametrize("text", CASES)
def test_permuting_the_batch_permutes_the_output(world: Any, text: str) -> None:
    inputs, reader, spans = build(world, text)
    order = torch.randperm(len(spans))
    bucket, permuted = reader.bucket(spans), reader.bucket(spans[order])
    torch.testing.assert_close(inputs.eval()(bucket)[order][permuted.real], inputs(permuted)[permuted.real])


class _ReadsNeighbours(InputBlock):
    def __init__(self, items: IdEmbedding) -> None:
        super().__init__()
        self.items = items

    def forward(self, bucket: Bucket) -> torch.Tensor:
        x = self.items.rows(bucket.item_index)
        return x + x.mean(1, keepdim=True)


def test_broken_inputs_are_found_out(world: Any) -> None:
    _, reader, spans = build(world, "Inputs()")
    broken = _ReadsNeighbours(IdEmbedding(world.vocabulary.n_items, 16))
    with pytest.raises(ContractError, match="_ReadsNeighbours: .*events after it"):
        contracts.embeds_each_event_alone(broken, reader.bucket(spans), 16)
    with pytest.raises(ContractError, match="_ReadsNeighbours: gives"):
        contracts.embeds_each_event_alone(broken, reader.bucket(spans), 8)
