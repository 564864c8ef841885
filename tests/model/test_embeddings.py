"""Every embedding of features against its formula written out."""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor

from recsys.errors import ConfigError
from recsys.model.bucket import Ragged
from recsys.model.embeddings import Feature
from recsys.model.embeddings.category import Category, combined, inferred_width
from recsys.model.embeddings.numbers import JointMLP, Number, Scalar, SoftOneHot
from recsys.model.embeddings.user import UserId
from recsys.model.embeddings.vector import Vector
from recsys.model.initialisation import Normal
from recsys.model.sample import sample
from recsys.model.vocabulary import UNKNOWN, Numeric, Vocabulary

HISTORIES, DICTIONARY = sample()
VOCABULARY = Vocabulary.fit(HISTORIES, DICTIONARY, HISTORIES.offsets[1:], users=True)
NULL = float("nan")


def vocabulary_of(**values: list[Any]) -> Vocabulary:
    """A vocabulary of these categories, and of the numbers x and y."""
    numeric = {"x": Numeric("log", mean=2.0, std=4.0), "y": Numeric("standard", mean=10.0, std=5.0)}
    return replace(VOCABULARY, values={name: pa.array(known) for name, known in values.items()}, numeric=numeric)


def places(*values: Any) -> Feature:
    return Feature(torch.tensor(values), (len(values),))


def shaken(module: Any) -> Any:
    """With parameters that are not zero anywhere."""
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    return module


# Categories


def test_default_widths() -> None:
    """Transformers4Rec's rule ⌈2 · cardinality^¼⌉; null and unknown values are one of the cardinality."""
    assert [inferred_width(n) for n in (1, 16, 17, 10_000)] == [2, 4, 5, 20]
    vocabulary = vocabulary_of(few=list(range(15)), many=list(range(16)))
    assert Category(vocabulary, columns=["few", "many"]).widths == {"few": 4, "many": 5}
    assert Category(vocabulary, 32, columns=["few", "many"]).widths == {"few": 32, "many": 32}
    assert Category(vocabulary, 32, columns=["few"], width=7).widths == {"few": 7}


def test_a_category_has_a_vector_per_value() -> None:
    embedding = Category(vocabulary_of(color=["blue", "red"], size=[1, 2, 3]), columns=["color", "size"], width=3)
    color, size = (table.weight for table in embedding.tables.values())
    assert color.shape == (3, 3) and size.shape == (4, 3)
    found = embedding([places(UNKNOWN, 2, 2), places(3, 0, 1)])
    assert torch.equal(found[0], color[[0, 2, 2]]) and torch.equal(found[1], size[[3, 0, 1]])


def test_a_table_begins_as_it_is_told() -> None:
    weights = [Category(vocabulary_of(n=list(range(2000))), columns=["n"], width=16, std=std).tables.of_n.weight for std in (0.02, 0.5)]
    assert [float(w.detach().std()) for w in weights] == pytest.approx([0.02, 0.5], rel=0.05)


def test_a_list_is_the_mean_of_its_values() -> None:
    """Also inside a sequence, where Transformers4Rec has no lists."""
    embedding = Category(vocabulary_of(tags=list("abcde")), columns=["tags"], width=4)
    ragged = Ragged(torch.tensor([1, 2, 2, 5]), torch.tensor([0, 3, 3, 4, 4]))
    vectors = embedding([Feature(ragged, (2, 2))])[0]
    weight = embedding.tables.of_tags.weight
    torch.testing.assert_close(vectors[0, 0], weight[[1, 2, 2]].mean(0))
    torch.testing.assert_close(vectors[1, 0], weight[5])
    assert not vectors[0, 1].any() and not vectors[1, 1].any(), "a list of nothing is nothing"


@pytest.mark.parametrize("combiner", ["mean", "sum", "max", "min"])
def test_combiners(combiner: Any) -> None:
    """Transformers4Rec's max and min hand on a pair of values and places (transformers4rec.md 1.3)."""
    vectors = torch.randn(6, 4, requires_grad=True)
    offsets = torch.tensor([0, 2, 2, 5, 6])
    found = combined(vectors, offsets, combiner)
    expected = [getattr(vectors[a:b], f"a{combiner}" if combiner in ("max", "min") else combiner)(0) for a, b in ((0, 2), (2, 5), (5, 6))]
    torch.testing.assert_close(found[[0, 2, 3]], torch.stack(expected))
    assert not found[1].any()
    weight = torch.randn(3, 4)
    ours = torch.autograd.grad((found[[0, 2, 3]] * weight).sum(), vectors)
    torch.testing.assert_close(ours, torch.autograd.grad((torch.stack(expected) * weight).sum(), vectors))


def test_shared_tables_are_shared() -> None:
    """One vector per value in all columns; Transformers4Rec promises it and builds a table per feature (1.3)."""
    vocabulary = vocabulary_of(brand=["acme", "mega"], favourites=["acme", "zoo"])
    embedding = Category(vocabulary, columns=["brand", "favourites"], width=2, shared=True)
    (table,) = embedding.tables.values()
    assert table.weight.shape == (4, 2), "acme, mega, zoo, and what is unknown"
    assert table.row_of == {"weight": ("brand", "favourites")}
    of_brand, of_favourites = embedding([places(0, 1, 2), Feature(Ragged(torch.tensor([1, 2, 0]), torch.tensor([0, 1, 2, 3])), (3,))])
    assert torch.equal(of_brand, table.weight[[0, 1, 2]])
    torch.testing.assert_close(of_favourites, table.weight[[1, 3, 0]])


def test_only_values_of_one_type_share_a_table() -> None:
    with pytest.raises(ConfigError, match=r"brand \(string\), year \(int64\) are of several types"):
        Category(vocabulary_of(brand=["acme"], year=[1999]), columns=["brand", "year"], shared=True)


def test_a_null_trains_the_row_of_nulls() -> None:
    """There is no row of padding that stays random for good (transformers4rec.md 0, item 7): each row is some value's."""
    embedding = Category(vocabulary_of(color=["blue"]), columns=["color"], width=2)
    embedding([places(UNKNOWN, 1)])[0].sum().backward()
    assert embedding.tables.of_color.weight.grad.all()


# Numbers

X, Y = torch.tensor([0.0, 100.0, NULL, -5.0]), torch.tensor([10.0, NULL, 25.0, 0.0])
NORMAL_X = (torch.tensor([0.0, float(np.log1p(100)), NULL, 0.0]) - 2) / 4  # below 0 there is no logarithm
NORMAL_Y = torch.tensor([0.0, NULL, 3.0, -2.0])
BOTH = [Feature(X, (4,)), Feature(Y, (4,))]


def test_a_scalar_is_the_normalised_number() -> None:
    embedding = shaken(Scalar(vocabulary_of(), columns=["x", "y"]))
    assert embedding.widths == {"x": 1, "y": 1}
    x, y = embedding(BOTH)
    torch.testing.assert_close(x[:, 0], torch.where(NORMAL_X.isnan(), embedding.null[0], NORMAL_X))
    torch.testing.assert_close(y[:, 0], torch.where(NORMAL_Y.isnan(), embedding.null[1], NORMAL_Y))


def test_each_number_has_its_own_projection() -> None:
    embedding = shaken(Number(vocabulary_of(), columns=["x", "y"], width=3))
    for i, (found, normal) in enumerate(zip(embedding(BOTH), (NORMAL_X, NORMAL_Y), strict=True)):
        for place, value in enumerate(normal):
            expected = embedding.null[i] if value.isnan() else value * embedding.slope[i] + embedding.intercept[i]
            torch.testing.assert_close(found[place], expected)


def test_soft_one_hot_is_the_weighted_mean_of_its_vectors() -> None:
    """The broadcast formula of Transformers4Rec, which needs memory for each number, value and dimension at once (1.4)."""
    embedding = shaken(SoftOneHot(vocabulary_of(), columns=["x", "y"], n_values=5, width=3))
    for i, (found, normal) in enumerate(zip(embedding(BOTH), (NORMAL_X, NORMAL_Y), strict=True)):
        share = torch.softmax(normal[:, None] * embedding.slope[i] + embedding.intercept[i], dim=-1)
        broadcast = (share[..., None] * embedding.values[i]).sum(-2)
        torch.testing.assert_close(found, torch.where(normal.isnan()[:, None], embedding.null[i], broadcast))


def test_soft_one_hot_begins_by_telling_numbers_apart() -> None:
    embedding = SoftOneHot(vocabulary_of(), columns=["y"], width=8)
    near, far = embedding([places(10.0, 20.0)])[0].detach()
    assert (near - far).norm() > 0.1 * near.norm()


def test_a_joint_mlp_sees_all_numbers_at_once() -> None:
    embedding = shaken(JointMLP(vocabulary_of(), columns=["x", "y"], sizes=[7], width=3))
    assert embedding.widths == {"x, y": 3}
    together = torch.stack([NORMAL_X, NORMAL_Y], dim=1)
    together = torch.where(together.isnan(), embedding.null, together)
    first, _, second = embedding.mlp.layers
    torch.testing.assert_close(embedding(BOTH)[0], second(first(together).relu()))


def test_a_joint_mlp_of_events_and_their_users() -> None:
    embedding = JointMLP(vocabulary_of(), columns=["x", "y"], width=3)
    events, users = torch.rand(2, 4), torch.rand(2, 1)
    found = embedding([Feature(events, (2, 4)), Feature(users, (2, 1))])[0]
    spread = embedding([Feature(events, (2, 4)), Feature(users.expand(2, 4), (2, 4))])[0]
    assert torch.equal(found, spread) and found.shape == (2, 4, 3)


@pytest.mark.parametrize("cls", [Scalar, Number, SoftOneHot, JointMLP])
def test_nulls_leave_gradients_finite(cls: Any) -> None:
    embedding = shaken(cls(vocabulary_of(), columns=["x", "y"]))
    torch.stack([vector.pow(2).sum() for vector in embedding(BOTH)]).sum().backward()
    for name, parameter in embedding.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.any(), name


# Vectors

SCHEMA = VOCABULARY.schema
TEXT = torch.from_numpy(VOCABULARY.item_columns["text"])


def test_a_vector_goes_through_its_adapter() -> None:
    embedding = Vector(SCHEMA, VOCABULARY, columns=["picture"])
    picture, adapter = torch.randn(2, 5, 3), embedding.adapters[0]
    assert embedding.widths == {"picture": 3} and len(list(embedding.parameters())) == 2
    torch.testing.assert_close(embedding([Feature(picture, (2, 5))])[0], picture @ adapter.weight.T + adapter.bias)


def test_a_trained_vector_begins_as_the_given_one() -> None:
    frozen, trained = (Vector(SCHEMA, VOCABULARY, columns=["text"], width=6, trained=t) for t in (False, True))
    trained.adapters.load_state_dict(frozen.adapters.state_dict())
    index = torch.tensor([[3, 0], [7, 3]])
    feature = Feature(TEXT, (2, 2), index)
    assert torch.equal(frozen([feature])[0], trained([feature])[0])
    trained([feature])[0].sum().backward()
    assert trained.tables[0].weight.grad[[0, 3, 7]].any(1).all() and not trained.tables[0].weight.grad[[1, 2]].any()
    assert torch.equal(TEXT, torch.from_numpy(VOCABULARY.item_columns["text"])), "the vocabulary's own stays as it is"


def test_only_items_have_vectors_to_train() -> None:
    with pytest.raises(ConfigError, match="picture is no column of the items"):
        Vector(SCHEMA, VOCABULARY, columns=["picture"], trained=True)


# Users


def test_unknown_users_share_one_row() -> None:
    embedding = UserId(VOCABULARY, width=4)
    assert embedding.weight.shape == (len(VOCABULARY.user_id) + 1, 4)
    found: Tensor = embedding([Feature(torch.tensor([[0], [2], [0]]), (3, 1))])[0]
    assert not found[[0, 2]].any() and torch.equal(found[1, 0], embedding.weight[2])
    with torch.no_grad():
        Normal()(embedding)
    assert not embedding([Feature(torch.tensor([[0]]), (1, 1))])[0].any(), "other first weights say nothing of strangers either"


def test_user_ids_are_kept_on_request_only() -> None:
    without = Vocabulary.fit(HISTORIES, DICTIONARY, HISTORIES.offsets[1:])
    assert without.user_id is None
    with pytest.raises(ConfigError, match="keeps no user ids"):
        UserId(without)
