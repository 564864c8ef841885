"""Features as vectors, against their formulas written out."""

from typing import Any

import numpy as np
import pytest
import torch

from recsys.errors import ConfigError
from recsys.model.aggregation import Concat, Sum, SumTimesItem
from recsys.model.bucket import Bucket, Ragged
from recsys.model.embeddings import Category, Number, Vector, default_width
from recsys.model.inputs.features import Inputs
from recsys.model.items.ids import IdEmbedding
from recsys.model.reader import Reader
from recsys.model.sample import sample
from recsys.model.vocabulary import Numeric, Vocabulary
from recsys.schema import Column, Schema

HISTORIES, DICTIONARY = sample()
VOCABULARY = Vocabulary.fit(HISTORIES, DICTIONARY, HISTORIES.offsets[1:])


def bucket_for(inputs: Inputs) -> Bucket:
    reader = Reader(HISTORIES, DICTIONARY, VOCABULARY, event_columns=inputs.event_columns, user_columns=inputs.user_columns)
    return reader.bucket(reader.spans(*HISTORIES.sequences(HISTORIES.offsets[1:], "user")))


def test_aggregations() -> None:
    item, a, b = torch.randn(3, 2, 4, 5).unbind()
    assert torch.equal(Concat()(item, [a, b]), torch.cat([item, a, b], dim=-1))
    assert torch.equal(Sum()(item, [a, b]), item + a + b)
    torch.testing.assert_close(SumTimesItem()(item, [a, b]), item * (1 + a + b))
    for aggregation in (Concat(), Sum(), SumTimesItem()):
        assert torch.equal(aggregation(item, []), item), "an item without features is its embedding"


def test_a_list_is_the_mean_of_its_values() -> None:
    embedding = Category("tags", 6, 4)
    lists = [[1, 2, 2], [], [5]]
    ragged = Ragged(torch.tensor(sum(lists, [])), torch.tensor([0, 3, 3, 4]))
    vectors = embedding(ragged, (3, 1))[:, 0]
    torch.testing.assert_close(vectors[0], embedding.weight[[1, 2, 2]].mean(0))
    assert not vectors[1].any() and torch.equal(vectors[2], embedding.weight[5])


def test_numbers_are_normalised_and_nulls_have_a_vector() -> None:
    number = Number(Numeric("log", mean=2.0, std=4.0), 3)
    torch.nn.init.normal_(number.null)
    x = torch.tensor([[0.0, 100.0, float("nan"), -5.0]])
    vectors = number(x, (1, 4))[0]
    expected = [((np.log1p(max(v, 0)) - 2) / 4) * number.slope + number.intercept for v in (0, 100)]
    torch.testing.assert_close(vectors[:2], torch.stack(expected))
    assert torch.equal(vectors[2], number.null)
    assert torch.equal(vectors[3], vectors[0]), "below 0 there is no logarithm"
    vectors.sum().backward()
    assert all(p.grad.isfinite().all() for p in number.parameters())


def test_default_widths() -> None:
    """Transformers4Rec's rule ⌈2 · cardinality^¼⌉."""
    assert [default_width(n) for n in (1, 16, 17, 10_000)] == [2, 4, 5, 20]
    inputs = Inputs.from_schema(VOCABULARY.schema, VOCABULARY, width=32)
    assert inputs.embeddings["events_device"].width == default_width(6)
    summed = Inputs.from_schema(VOCABULARY.schema, VOCABULARY, width=32, aggregation=Sum())
    assert {embedding.width for embedding in summed.embeddings.values()} == {32}


def test_from_schema_takes_every_feature_in_one_call() -> None:
    inputs = Inputs.from_schema(VOCABULARY.schema, VOCABULARY, width=32)
    assert [c.name for c in inputs.chosen] == [c.name for table in ("events", "items", "users") for c in VOCABULARY.schema.features(table)]
    assert inputs(bucket_for(inputs)).shape[-1] == 32


def test_item_features_are_looked_up_by_item() -> None:
    inputs = Inputs.from_schema(VOCABULARY.schema, VOCABULARY, width=8, features=["brand", "genres", "price", "text"], aggregation=Sum())
    bucket = bucket_for(inputs)
    ours = inputs(bucket)
    for b, j in ((0, 0), (3, 1)):
        index = int(bucket.item_index[b, j])
        genres, price = VOCABULARY.item_columns["genres"], VOCABULARY.numeric["price"]
        bag = genres.values[genres.offsets[index] : genres.offsets[index + 1]]
        of = inputs.embeddings
        number = (torch.tensor(float(VOCABULARY.item_columns["price"][index])) - price.mean) / price.std
        expected = [
            inputs.items.weight[index],
            of["items_brand"].weight[int(VOCABULARY.item_columns["brand"][index])],
            of["items_genres"].weight[bag.tolist()].mean(0) if len(bag) else torch.zeros(8),
            of["items_price"].null if number.isnan() else number * of["items_price"].slope + of["items_price"].intercept,
            of["items_text"].adapter(torch.from_numpy(VOCABULARY.item_columns["text"][index])),
        ]
        torch.testing.assert_close(ours[b, j], torch.stack(expected).sum(0), rtol=1e-4, atol=1e-5)


def test_item_features_are_not_among_the_weights() -> None:
    inputs = Inputs.from_schema(VOCABULARY.schema, VOCABULARY, width=8)
    assert not [name for name in inputs.state_dict() if "values" in name or "offsets" in name]
    assert isinstance(inputs.embeddings["items_text"], Vector)


def test_user_features_are_spread_over_the_events() -> None:
    inputs = Inputs.from_schema(VOCABULARY.schema, VOCABULARY, width=8, features=["country", "age"], aggregation=Sum())
    bucket = bucket_for(inputs)
    added = inputs(bucket) - inputs.items.rows(bucket.item_index)
    torch.testing.assert_close(added, added[:, :1].expand_as(added), rtol=1e-4, atol=1e-5)
    assert len(torch.unique(added[:, 0], dim=0)) > 5


@pytest.mark.parametrize(("features", "message"), [(["devise"], "Did you mean device"), (["zzz"], "There are: device, shelves")])
def test_an_unknown_feature_names_the_closest(features: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Inputs(IdEmbedding(3, 8), VOCABULARY.schema, VOCABULARY, 8, features=features)


def test_names_with_dots_and_names_given_twice() -> None:
    schema = Schema((Column("a.b", "users", "numeric"), Column("a_b", "users", "numeric")))
    numeric = {name: Numeric("standard") for name in ("a.b", "a_b")}
    vocabulary = Vocabulary(schema, VOCABULARY.item_id, VOCABULARY.n_events, {}, numeric)
    inputs = Inputs.from_schema(schema, vocabulary, width=8, features=["a.b", "a_b", "a.b"])
    assert len(inputs.embeddings) == len(inputs.chosen) == 2
