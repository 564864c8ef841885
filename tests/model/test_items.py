"""Item tables against their formulas, from Python, with own blocks and an own aggregation."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from recsys.errors import ConfigError
from recsys.model.aggregation import Aggregation, Concat, Sum
from recsys.model.embeddings.category import Category
from recsys.model.embeddings.vector import Vector
from recsys.model.initialisation import Initialisation, Normal, XavierNormal
from recsys.model.items import ItemTable
from recsys.model.items.combined import Combined, IdPlusFeatures
from recsys.model.items.features import Features
from recsys.model.items.given import GivenVectors
from recsys.model.items.ids import IdEmbedding
from recsys.model.sample import sample
from recsys.model.vocabulary import Vocabulary
from recsys.parts import parse, part
from recsys.schema import Schema

HISTORIES, DICTIONARY = sample()
VOCABULARY = Vocabulary.fit(HISTORIES, DICTIONARY, HISTORIES.offsets[1:])
SCHEMA, V = VOCABULARY.schema, VOCABULARY.n_items
TEXT = torch.from_numpy(VOCABULARY.item_columns["text"])


def n_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def build(text: str, width: int = 32) -> ItemTable:
    return parse(text, ItemTable).build(n_items=V, width=width, schema=SCHEMA, vocabulary=VOCABULARY)


def test_ids_plus_features_add_up() -> None:
    table = IdPlusFeatures(V, 8, SCHEMA, VOCABULARY, features=["brand", "genres"])
    ids, features = table.blocks
    brand, genres = (features.features.embeddings[name].tables[name].weight for name in ("of_brand", "of_genres"))
    bags = VOCABULARY.item_columns["genres"]
    for index in (0, 7, V - 1):
        bag = bags.values[bags.offsets[index] : bags.offsets[index + 1]].tolist()
        expected = ids.weight[index] + brand[int(VOCABULARY.item_columns["brand"][index])]
        expected = expected + genres[bag].mean(0) if bag else expected
        torch.testing.assert_close(table.vectors()[index], expected)


@pytest.mark.parametrize(("E", "D"), [(4, 32), (16, 8)])
def test_factorised_has_as_many_parameters_as_the_formula(E: int, D: int) -> None:
    """ALBERT, section 3.1: V·E + E·D instead of V·D; plus the bias of the linear layer."""
    assert n_parameters(build(f"Factorised(inner_width={E})", D)) == V * E + E * D + D
    inner = n_parameters(IdPlusFeatures(V, E, SCHEMA, VOCABULARY))
    assert n_parameters(build(f"Factorised(inner=IdPlusFeatures(), inner_width={E})", D)) == inner + E * D + D


def test_blocks_of_a_factorised_table_work_in_the_lower_space() -> None:
    table = build("Factorised(inner=Combined(blocks=[IdEmbedding(), Features()]), inner_width=4)")
    assert [block.width for block in table.inner.blocks] == [4, 4] and table.vectors().shape == (V, 32)
    lifted = table.inner.vectors() @ table.lift.weight.T + table.lift.bias
    torch.testing.assert_close(table.vectors(), lifted)


def test_given_vectors_frozen_and_trained() -> None:
    frozen, trained = (GivenVectors(SCHEMA, VOCABULARY, 8, trained=trained) for trained in (False, True))
    assert [n_parameters(frozen), n_parameters(trained)] == [4 * 8 + 8, 4 * 8 + 8 + V * 4]
    adapter = frozen.features.embeddings.of_text.adapters[0]
    torch.testing.assert_close(frozen.vectors(), TEXT @ adapter.weight.T + adapter.bias)


@pytest.mark.parametrize("start", [XavierNormal(), Normal()])
def test_given_vectors_are_where_training_starts_whatever_the_other_weights_are(start: Initialisation) -> None:
    trained = GivenVectors(SCHEMA, VOCABULARY, 8, trained=True)
    embedding = trained.features.embeddings.of_text
    adapter = embedding.adapters[0].weight.detach().clone()
    with torch.no_grad():
        start(trained)
    assert torch.equal(embedding.tables[0].weight, TEXT) and not torch.equal(embedding.adapters[0].weight, adapter)


def test_which_vectors_are_given_has_to_be_clear() -> None:
    without = Schema(tuple(c for c in SCHEMA.columns if c.name != "text"))
    with pytest.raises(ConfigError, match=r"set column=….*There are: none"):
        GivenVectors(without, VOCABULARY, 8)
    with pytest.raises(ConfigError, match="Vector embeds vector columns, and brand is categorical"):
        GivenVectors(SCHEMA, VOCABULARY, 8, column="brand")


class Normed(ItemTable):
    """Somebody's block: around another one, and with a setting."""

    def __init__(self, n_items: int, width: int, *, scale: float = 1.0) -> None:
        super().__init__()
        self.width, self.scale = width, scale
        self.ids = nn.Embedding(n_items, width)

    def rows(self, item_index: Tensor) -> Tensor:
        return self.scale * nn.functional.normalize(self.ids(item_index), dim=-1)

    def vectors(self) -> Tensor:
        return self.scale * nn.functional.normalize(self.ids.weight, dim=-1)


class Gated(Aggregation):
    """Somebody's aggregation: weights of the blocks are learned."""

    one_width = True

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.tensor(0.5))

    def forward(self, item: Tensor, others: Sequence[Tensor]) -> Tensor:
        return item + self.gate * sum(others)


def test_own_blocks_and_an_own_aggregation() -> None:
    """What the RecTools guide does with an item net constructor of its own."""
    own = f"{__name__}.Normed(scale=2.0)"
    table = build(f"Factorised(inner=Combined(blocks=[IdEmbedding(), {own}], aggregation={__name__}.Gated()), inner_width=4)")
    ids, normed = table.inner.blocks
    torch.testing.assert_close(normed.vectors().norm(dim=-1), torch.full((V,), 2.0))
    torch.testing.assert_close(table.inner.vectors(), ids.weight + 0.5 * normed.vectors())
    by_hand = Combined(4, blocks=[IdEmbedding(V, 4), Normed(V, 4)], aggregation=Gated())
    assert by_hand.rows(torch.tensor([2])).shape == (1, 4)


def test_blocks_of_several_widths() -> None:
    blocks = [IdEmbedding(V, 4), Features(SCHEMA, VOCABULARY, 6, features=["brand"])]
    table = Combined(8, blocks=blocks, aggregation=Concat())
    torch.testing.assert_close(table.vectors(), table.projection(torch.cat([block.vectors() for block in blocks], dim=-1)))
    with pytest.raises(ConfigError, match=r"here 8, and there are IdEmbedding \(4\), Features \(6\).*Concat"):
        Combined(8, blocks=blocks, aggregation=Sum())
    with pytest.raises(ConfigError, match="name at least one item table"):
        Combined(8, blocks=[])


def test_features_of_items_only() -> None:
    with pytest.raises(ConfigError, match="there is no feature 'age'"):
        Features(SCHEMA, VOCABULARY, 8, features=["age"])
    with pytest.raises(ConfigError, match="names no feature of the items; there are: brand"):
        Features(SCHEMA, VOCABULARY, 8, features=[])
    with pytest.raises(ConfigError, match=r"one width, here 8, and brand \(3\) has another"):
        Features(SCHEMA, VOCABULARY, 8, features=[], embeddings=[part(Category, columns=["brand"], width=3)])


def test_given_vectors_of_a_new_vocabulary_are_its_own() -> None:
    """A trained table starts from the vectors of the night it is built for."""
    doubled = replace(VOCABULARY, item_columns={**VOCABULARY.item_columns, "text": 2 * VOCABULARY.item_columns["text"]})
    tables: list[Any] = [Vector(SCHEMA, v, columns=["text"], trained=True).tables[0].weight for v in (VOCABULARY, doubled)]
    assert torch.equal(2 * tables[0], tables[1])
