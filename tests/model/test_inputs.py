"""Inputs: chosen features, aggregated and projected, against their formulas written out."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from torch import nn

from recsys.errors import ConfigError
from recsys.histories import Histories
from recsys.model.aggregation import Concat, Sum, SumTimesItem
from recsys.model.bucket import Bucket
from recsys.model.embeddings import Feature
from recsys.model.embeddings.category import Category
from recsys.model.embeddings.numbers import JointMLP, Number, Scalar, SoftOneHot
from recsys.model.embeddings.user import UserId
from recsys.model.embeddings.vector import Vector
from recsys.model.inputs.features import Inputs
from recsys.model.items.ids import IdEmbedding
from recsys.model.noise.swap import SwapNoise
from recsys.model.projection import MLP
from recsys.model.reader import Reader
from recsys.model.sample import sample
from recsys.model.vocabulary import USER, Numeric, Vocabulary
from recsys.parts import part
from recsys.schema import Column, Schema

HISTORIES, DICTIONARY = sample()
VOCABULARY = Vocabulary.fit(HISTORIES, DICTIONARY, HISTORIES.offsets[1:], users=True)
SCHEMA = VOCABULARY.schema


def from_schema(**options: Any) -> Inputs:
    return Inputs.from_schema(SCHEMA, VOCABULARY, **{"width": 8, **options})


def bucket_for(inputs: Inputs, histories: Histories = HISTORIES) -> Bucket:
    reader = Reader(histories, DICTIONARY, VOCABULARY, event_columns=inputs.event_columns, user_columns=inputs.user_columns)
    return reader.bucket(reader.spans(*histories.sequences(histories.offsets[1:], "user")))


def test_aggregations() -> None:
    """SumTimesItem is the paper's e ⊙ (1 + Σ f); Transformers4Rec's code forgets the 1 (transformers4rec.md 0)."""
    item, a, b = torch.randn(3, 2, 4, 5).unbind()
    assert torch.equal(Concat()(item, [a, b]), torch.cat([item, a, b], dim=-1))
    assert torch.equal(Sum()(item, [a, b]), item + a + b)
    torch.testing.assert_close(SumTimesItem()(item, [a, b]), item * (1 + a + b))
    for aggregation in (Concat(), Sum(), SumTimesItem()):
        assert torch.equal(aggregation(item, []), item), "an item without features is its embedding"


def test_from_schema_takes_every_feature_in_one_call() -> None:
    """The first example of Transformers4Rec's guide: one width for all categories, one for what comes out."""
    inputs = from_schema(width=32, feature_width=12)
    assert list(inputs.features.widths) == [c.name for table in ("events", "items", "users") for c in SCHEMA.features(table)]
    assert set(inputs.features.widths.values()) == {12}
    assert inputs(bucket_for(inputs)).shape[-1] == 32


def test_widths_are_inferred_or_said() -> None:
    inputs = from_schema(embeddings=[part(Category, columns=["brand"], width=7)])
    assert inputs.features.widths == {
        "brand": 7, "device": 4, "shelves": 4, "gap_seconds": 8, "picture": 3, "genres": 4, "price": 8, "text": 4,
        "country": 4, "hobbies": 4, "age": 8,
    }  # fmt: skip
    assert set(from_schema(width=32, aggregation=Sum()).features.widths.values()) == {32}


def test_numbers_as_they_are_told() -> None:
    together = part(JointMLP, columns=["price", "age"], sizes=[16], width=6)
    inputs = from_schema(features=(), embeddings=[together, part(Scalar, columns=["gap_seconds"])], layer_norm=True)
    assert inputs.features.widths == {"price, age": 6, "gap_seconds": 1}
    norms = [finish[1] for finish in inputs.features.finish.values()]
    assert [isinstance(norm, nn.LayerNorm) for norm in norms] == [True, False], "one number alone has no norm"
    assert inputs(bucket_for(inputs)).shape[-1] == 8


def test_each_feature_has_its_own_norm() -> None:
    """Layer norm per feature before aggregation, which the paper calls essential with numbers (transformers4rec.md 1.5)."""
    inputs = from_schema(features=["device", "price"], layer_norm=True)
    bucket = bucket_for(inputs)
    plain = from_schema(features=["device", "price"])
    plain.load_state_dict({name: x for name, x in inputs.state_dict().items() if name in plain.state_dict()})
    unnormed = plain.features(lambda column: plain._read(column, bucket))
    for x, normed in zip(unnormed, inputs.features(lambda column: inputs._read(column, bucket)), strict=True):
        torch.testing.assert_close(normed, nn.functional.layer_norm(x, x.shape[-1:]))
    item = inputs.item_norm(inputs.items.rows(bucket.item_index))
    torch.testing.assert_close(item.mean(-1), torch.zeros(bucket.item_index.shape), atol=1e-5, rtol=0)


def test_numbers_are_projected_to_be_added_up() -> None:
    told = [part(SoftOneHot, columns=["price"], width=5), part(Scalar, columns=["age"])]
    inputs = from_schema(features=["device"], embeddings=told, aggregation=Sum())
    assert inputs.features.widths == {"price": 8, "age": 8, "device": 8}
    of = inputs.features
    bucket = bucket_for(inputs)
    (age,) = of.embeddings.of_age([Feature.of_users(bucket, "age")])
    projected = age @ of.finish.of_age[0].weight.T + of.finish.of_age[0].bias
    torch.testing.assert_close(of(lambda column: inputs._read(column, bucket))[1], projected)


def test_other_widths_cannot_be_added_up() -> None:
    told = [part(Category, columns=["device", "brand"], width=5), part(Vector, columns=["text"], width=3)]
    with pytest.raises(ConfigError, match=r"one width, here 8, and device \(5\), brand \(5\), text \(3\) have others.*Concat"):
        from_schema(embeddings=told, aggregation=Sum())


def test_item_features_are_looked_up_by_item() -> None:
    inputs = from_schema(features=["brand", "genres", "price", "text"], aggregation=Sum())
    bucket = bucket_for(inputs)
    ours = inputs(bucket)
    of = inputs.features.embeddings
    for b, j in ((0, 0), (3, 1)):
        index = int(bucket.item_index[b, j])
        genres, price = VOCABULARY.item_columns["genres"], VOCABULARY.numeric["price"]
        bag = genres.values[genres.offsets[index] : genres.offsets[index + 1]]
        number = (torch.tensor(float(VOCABULARY.item_columns["price"][index])) - price.mean) / price.std
        expected = [
            inputs.items.weight[index],
            of.of_brand.tables.of_brand.weight[int(VOCABULARY.item_columns["brand"][index])],
            of.of_genres.tables.of_genres.weight[bag.tolist()].mean(0) if len(bag) else torch.zeros(8),
            of.of_price.null[0] if number.isnan() else number * of.of_price.slope[0] + of.of_price.intercept[0],
            of.of_text.adapters[0](torch.from_numpy(VOCABULARY.item_columns["text"][index])),
        ]
        torch.testing.assert_close(ours[b, j], torch.stack(expected).sum(0), rtol=1e-4, atol=1e-5)


def test_item_features_are_not_among_the_weights() -> None:
    inputs = from_schema()
    assert set(inputs.state_dict()) == {name for name, _ in inputs.named_parameters()}
    assert len(list(inputs.item_columns.buffers())) == 5, "values of four columns, offsets of one"


def test_user_features_are_spread_over_the_events() -> None:
    inputs = from_schema(features=["country", "age"], embeddings=[part(UserId)], aggregation=Sum())
    bucket = bucket_for(inputs)
    added = inputs(bucket) - inputs.items.rows(bucket.item_index)
    torch.testing.assert_close(added, added[:, :1].expand_as(added), rtol=1e-4, atol=1e-5)
    assert len(torch.unique(added[:, 0], dim=0)) > 5


def test_users_are_told_apart_and_unknown_ones_are_not() -> None:
    inputs = from_schema(features=(), embeddings=[part(UserId, width=4)])
    known, active = VOCABULARY.user_id.to_pylist(), HISTORIES.offsets[1:] > HISTORIES.offsets[:-1]
    assert bucket_for(inputs).user_columns[USER].tolist() == [known.index(u) + 1 for u in HISTORIES.user_id.filter(active).to_pylist()]
    strangers = replace(HISTORIES, user_id=pa.array([-1 - user for user in range(HISTORIES.n_users)]))
    assert not bucket_for(inputs, strangers).user_columns[USER].any()


def test_a_projection_may_have_hidden_layers() -> None:
    inputs = from_schema(width=6, features=["device"], items=IdEmbedding(VOCABULARY.n_items, 8), projection=part(MLP, sizes=[64, 10]))
    assert [tuple(layer.weight.shape) for layer in inputs.projection.layers[::2]] == [(64, 12), (10, 64), (6, 10)]
    bucket = bucket_for(inputs)
    x = torch.cat([inputs.items.rows(bucket.item_index), inputs.features(lambda column: inputs._read(column, bucket))[0]], dim=-1)
    for i in (0, 2, 4):
        x = x @ inputs.projection.layers[i].weight.T + inputs.projection.layers[i].bias
        x = x.relu() if i < 4 else x
    torch.testing.assert_close(inputs(bucket), x)


def test_inputs_compose_with_modules_of_torch() -> None:
    """As in Transformers4Rec's guide: inputs, an MLP and a recurrent encoder in an nn.Sequential, trained by hand."""

    class Last(nn.Module):
        def forward(self, states: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
            return states[0][:, -1]

    inputs = from_schema(width=16, features=["device", "price"], noise=SwapNoise(p=0.2))
    body = nn.Sequential(inputs, nn.Linear(16, 12), nn.ReLU(), nn.GRU(12, 8, batch_first=True), Last(), nn.Linear(8, 1))
    bucket = bucket_for(inputs)
    optimiser = torch.optim.Adam(body.parameters(), 0.01)
    wanted = bucket.lengths[:, None] / 20
    losses = []
    for _ in range(30):
        loss = nn.functional.mse_loss(body(bucket), wanted)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    assert all(p.grad is not None for p in body.parameters())


@pytest.mark.parametrize(("features", "message"), [(["devise"], "Did you mean device"), (["zzz"], "There are: device, shelves")])
def test_an_unknown_feature_names_the_closest(features: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_schema(features=features)
    with pytest.raises(ConfigError, match=message):
        from_schema(embeddings=[part(Category, columns=features)])


def test_embeddings_that_do_not_fit_their_columns() -> None:
    """A typo is an error too, not an argument that is silently swallowed (transformers4rec.md 1.1)."""
    with pytest.raises(ConfigError, match="Category embeds categorical and multi_categorical columns, and price is numeric. Use Number"):
        from_schema(embeddings=[part(Category, columns=["device", "price"])])
    with pytest.raises(ConfigError, match="two embeddings name price"):
        from_schema(embeddings=[part(Number, columns=["price"]), part(Scalar, columns=["price", "age"])])
    with pytest.raises(ConfigError, match="no argument 'widht'. Did you mean width"):
        part(Category, columns=["device"], widht=3)
    with pytest.raises(ConfigError, match=r"Number\(columns=\[\]\) names no feature"):
        from_schema(embeddings=[part(Number, columns=[])])
    with pytest.raises(TypeError, match="embedding_dims"):
        from_schema(embedding_dims={"device": 3})


def test_names_that_torch_and_files_do_not_take(tmp_path: Path) -> None:
    """Names with dots, pluses and slashes, those that nn.ModuleDict has as methods, and one that is given twice."""
    names = ["a.b", "a_b", "a·b", "a%2Eb", "keys", "a+b", "a / b"]
    schema = Schema((*(Column(name, "users", "numeric") for name in names), Column("c/d", "users", "categorical", "BIGINT")))
    values = {"c/d": pa.array([3, 4])}
    vocabulary = Vocabulary(schema, VOCABULARY.item_id, VOCABULARY.n_events, values, {name: Numeric("standard") for name in names})
    inputs = Inputs.from_schema(schema, vocabulary, width=8, features=[*names, "c/d", "a.b"])
    assert len(inputs.features.embeddings) == len(inputs.user_columns) == len(names) + 1
    vocabulary.save(tmp_path)
    assert Vocabulary.load(tmp_path, schema).values == values
