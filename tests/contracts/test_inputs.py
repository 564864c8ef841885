"""Every way to make inputs, and every aggregation: one vector per event, of that event and its user alone."""

from typing import Any

import pytest
import torch

from recsys.errors import ContractError
from recsys.model import contracts
from recsys.model.aggregation import Aggregation
from recsys.model.bucket import Bucket
from recsys.model.embeddings import FeatureEmbedding
from recsys.model.inputs import InputBlock
from recsys.model.items.ids import IdEmbedding
from recsys.model.reader import Reader, Spans
from recsys.model.vocabulary import Vocabulary
from recsys.parts import parse
from recsys.slots import choices

FEATURES = ["[]", '"all"', '["device", "age"]', '["shelves", "genres", "hobbies"]', '["gap_seconds", "price"]', '["picture", "text"]']
EMBEDDINGS = [  # an embedding in each of its settings, with numbers of widths that have to be projected
    'Category(columns=["device", "country"], shared=true, std=0.1)',
    'Category(columns=["brand", "genres", "hobbies"], shared=true, combiner="sum")',
    'Category(columns=["shelves"], combiner="max")',
    'Category(columns=["genres", "hobbies"], combiner="min")',
    'Scalar(columns=["price", "age"])',
    'Number(columns=["gap_seconds", "price"])',
    'JointMLP(columns=["gap_seconds", "price", "age"], sizes=[8, 8], width=5)',
    'SoftOneHot(columns=["gap_seconds", "age"], n_values=4, width=3)',
    'Vector(columns=["picture", "text"])',
    'Vector(columns=["text"], trained=true)',
    "UserId()",
]
CASES = [
    f"{block}(features={features}, aggregation={aggregation}(), layer_norm={norm})"
    for block in choices(InputBlock)
    for aggregation in choices(Aggregation)
    for features in FEATURES
    for norm in ("false", "true")
]
CASES += [
    f'Inputs(features=["device"], embeddings=[{embedding}], aggregation={aggregation}(), layer_norm={norm})'
    for embedding in EMBEDDINGS
    for aggregation, norm in (("Concat", "true"), ("SumTimesItem", "false"))
    if '"device"' not in embedding
]
CASES += [
    f"Inputs(embeddings=[{EMBEDDINGS[0]}, UserId(width=5)], projection=MLP(sizes=[20, 10]))",
    'Inputs(features="all", feature_width=6, projection=MLP())',
]


def test_every_embedding_is_covered() -> None:
    for name in choices(FeatureEmbedding):
        assert any(name in text for text in CASES), f"{name} needs its settings here"


def build(world: Any, text: str, width: int = 16) -> tuple[InputBlock, Reader, Spans]:
    """The inputs, a reader with their columns, and everybody's whole history."""
    vocabulary = Vocabulary.fit(world.histories, world.dictionary, world.histories.offsets[1:], users=True)
    supplied = {**world.supplied(), "vocabulary": vocabulary, "width": width}
    inputs = parse(text, InputBlock).build(items=IdEmbedding(world.vocabulary.n_items, 16), **supplied)
    columns = {"event_columns": inputs.event_columns, "user_columns": inputs.user_columns}
    reader = Reader(world.histories, world.dictionary, vocabulary, **columns)
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


@pytest.mark.parametrize("text", CASES)
def test_weights_are_all_there_is_to_save(world: Any, text: str) -> None:
    """Features of items are in the vocabulary: with its weights, another one built from the text gives the same vectors."""
    inputs, reader, spans = build(world, text)
    again, _, _ = build(world, text)
    bucket = reader.bucket(spans)
    assert not torch.equal(again.eval()(bucket), inputs.eval()(bucket))
    again.load_state_dict({name: tensor.clone() for name, tensor in inputs.state_dict().items()})
    assert torch.equal(again(bucket), inputs(bucket))
    assert parse(str(parse(text, InputBlock)), InputBlock) == parse(text, InputBlock)


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
