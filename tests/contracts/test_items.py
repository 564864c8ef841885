"""Every item table, alone and around others: a row is the item's vector, wherever it is read."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from recsys.model import contracts, saving
from recsys.model.inference import encode
from recsys.model.items import ItemTable
from recsys.parts import parse
from recsys.slots import choices

SETTINGS = {
    "IdEmbedding": ["IdEmbedding()", "IdEmbedding(std=0.5)"],
    "Features": [
        "Features()",
        'Features(features=["brand"])',
        "Features(aggregation=Concat(), layer_norm=true)",
        'Features(features=[], embeddings=[SoftOneHot(columns=["price"], width=3), Vector(columns=["text"], trained=true)])',
    ],
    "GivenVectors": ["GivenVectors()", 'GivenVectors(column="text", trained=true)'],
    "Combined": [
        'Combined(blocks=[IdEmbedding(), Features(features=["brand"]), GivenVectors()])',
        "Combined(blocks=[IdEmbedding(), Features()], aggregation=Concat())",
        "Combined(blocks=[IdEmbedding(), Factorised(inner=Features(), inner_width=5)], aggregation=SumTimesItem())",
    ],
    "IdPlusFeatures": ["IdPlusFeatures()", 'IdPlusFeatures(features=["genres", "price"], aggregation=SumTimesItem(), layer_norm=true)'],
    "Factorised": [
        "Factorised(inner_width=5)",
        "Factorised(inner=IdPlusFeatures(), inner_width=5)",
        "Factorised(inner=Combined(blocks=[IdEmbedding(), Features()], aggregation=Concat()), inner_width=5)",
    ],
}
CASES = [text for texts in SETTINGS.values() for text in texts]
over_all = pytest.mark.parametrize("text", CASES)


def build(world: Any, text: str, seed: int = 0) -> ItemTable:
    torch.manual_seed(seed)
    return parse(text, ItemTable).build(**world.supplied())


def test_every_table_is_covered() -> None:
    assert set(SETTINGS) == set(choices(ItemTable)), "a new item table needs its settings here"


@over_all
def test_a_row_of_the_table_is_the_vector_of_the_item(world: Any, text: str) -> None:
    """Item 0 is an item as any other: no row is kept for padding, and none is scored for it (transformers4rec.md 0, item 6)."""
    table, V = build(world, text), world.vocabulary.n_items
    index = torch.tensor([[3, 0], [V - 1, 3]])
    assert table.vectors().shape == (V, table.width) and table.width == 16
    torch.testing.assert_close(table.rows(index), table.vectors()[index])
    assert table.vectors()[0].any()


@over_all
def test_gradients_reach_every_parameter(world: Any, text: str) -> None:
    table, V = build(world, text), world.vocabulary.n_items
    weight = torch.randn(V, table.width)
    contracts.gradients_reach(table, lambda: (table.rows(torch.arange(V)) * weight).sum())
    contracts.gradients_reach(table, lambda: (table.vectors() * weight).sum())


class _Sizes(TorchDispatchMode):
    """The largest number of rows of floats that any operation gives."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        rows = [x.shape[0] for x in tree_leaves(out) if isinstance(x, torch.Tensor) and x.is_floating_point() and x.ndim > 1]
        self.largest = max([self.largest, *rows])
        return out


@over_all
def test_reading_some_rows_costs_some_rows(world: Any, text: str) -> None:
    table, V = build(world, text), world.vocabulary.n_items
    assert V > 32, "else a row of a weight could be taken for an item"
    with torch.no_grad(), _Sizes() as few:
        table.rows(torch.tensor([1, 5]))
    assert 0 < few.largest < V
    if not text.startswith("IdEmbedding"):  # which has them all already
        with torch.no_grad(), _Sizes() as all_of_them:
            table.vectors()
        assert all_of_them.largest >= V


@over_all
def test_one_seed_gives_one_table(world: Any, text: str) -> None:
    first, again, other = (build(world, text, seed).vectors() for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


@over_all
def test_a_network_trains_all_of_it_and_loads_it_again(world: Any, text: str, tmp_path: Path) -> None:
    """Tied: what events are read with is what they are compared with."""
    network, reader, spans = world.network(items=text)
    buckets = list(reader.buckets(spans.newest(9)))
    contracts.gradients_reach(network, lambda: network.loss(buckets))
    torch.testing.assert_close(network.catalogue().vectors, network.items.vectors())
    saving.save(tmp_path, network, world.model(items=text), world.vocabulary)
    again, vocabulary = saving.load(tmp_path)
    hidden = encode(again, again.reader(world.histories, world.dictionary, vocabulary), spans)
    assert torch.equal(hidden, encode(network, reader, spans))
    assert torch.equal(again.catalogue().vectors, network.eval().catalogue().vectors)


@over_all
def test_its_text_reads_back(text: str) -> None:
    spec = parse(text, ItemTable)
    assert parse(str(spec), ItemTable) == spec
