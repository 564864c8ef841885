"""Every fusion: user features after the encoder, each user by themselves."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from recsys.errors import ConfigError
from recsys.model import contracts, network_contracts, saving
from recsys.model.blocks import Blocks
from recsys.model.fusion import Fusion
from recsys.model.fusion.user_features import UserFeatures
from recsys.model.inference import encode
from recsys.model.vocabulary import Vocabulary
from recsys.slots import choices

SETTINGS = {
    "UserFeatures": [
        'UserFeatures(features="all")',
        'UserFeatures(features=["age", "country"], how="sum", layer_norm=true)',
        'UserFeatures(embeddings=[SoftOneHot(columns=["age"], n_values=5)], how="multiply")',
    ]
}
CASES = [text for texts in SETTINGS.values() for text in texts]
over_all = pytest.mark.parametrize("text", CASES)


def test_every_fusion_is_covered() -> None:
    assert set(SETTINGS) == set(choices(Fusion)), "a new fusion needs its settings here"


@over_all
def test_predictions_keep_what_every_network_promises(world: Any, text: str) -> None:
    for contract in (network_contracts.sees_no_future, network_contracts.evaluates_as_it_recommends, network_contracts.ignores_batch_mates):
        contract(*world.network(fusion=text))


@over_all
def test_gradients_reach_every_parameter(world: Any, text: str) -> None:
    network, reader, spans = world.network(fusion=text)
    assert network.user_columns and not network.inputs.user_columns
    buckets = list(reader.buckets(spans.newest(9)))
    contracts.gradients_reach(network, lambda: network.loss(buckets))


@over_all
def test_save_and_load_give_equal_predictions(world: Any, text: str, tmp_path: Path) -> None:
    network, reader, spans = world.network(fusion=text)
    saving.save(tmp_path, network, world.model(fusion=text), world.vocabulary)
    again, vocabulary = saving.load(tmp_path)
    assert torch.equal(encode(again, again.reader(world.histories, world.dictionary, vocabulary), spans), encode(network, reader, spans))


@over_all
def test_users_with_one_history_differ_by_their_features(world: Any, text: str) -> None:
    network, reader, spans = world.network(fusion=text)
    plain, _, _ = world.network()
    long = spans[torch.nonzero(spans.lengths >= 5)[:, 0]]
    users = long.user[:10]
    same = replace(long, user=users, start=long.start[:1].expand(10), end=long.end[:1].expand(10))
    assert len(torch.unique(encode(plain, reader, same), dim=0)) == 1
    assert len(torch.unique(encode(network, reader, same), dim=0)) > 5


@pytest.mark.parametrize("how", ["concat", "sum", "multiply"])
def test_the_three_ways_are_their_formulas(world: Any, how: Any) -> None:
    _, reader, spans = world.network(fusion='UserFeatures(features=["country"])')
    fusion = UserFeatures(world.vocabulary.schema, world.vocabulary, 16, features=["country"], how=how)
    bucket = reader.bucket(spans)
    h = torch.randn(*bucket.item_index.shape, 16)
    c = fusion.features.embeddings.of_country.tables.of_country.weight[bucket.user_columns["country"].long()]
    W, b = fusion.projection.weight.T, fusion.projection.bias
    formulas = {
        "concat": lambda x, c: torch.cat([x, c]) @ W + b,
        "sum": lambda x, c: x + c @ W + b,
        "multiply": lambda x, c: x * (1 + c @ W + b),
    }
    found = fusion(h, bucket)
    for row, place in ((0, 0), (0, 2), (7, 1)):
        torch.testing.assert_close(found[row, place], formulas[how](h[row, place], c[row]), rtol=1e-4, atol=1e-5)


def test_user_ids_are_kept_only_for_models_that_ask(world: Any, tmp_path: Path) -> None:
    """From the text of a configuration to a model that knows its users, and takes a stranger for an unknown one."""
    fusion = "UserFeatures(embeddings=[UserId(width=6)])"
    assert Blocks.of(world.model(fusion=fusion)).reads_users
    assert Blocks.of(world.model(inputs="Inputs(embeddings=[UserId()])")).reads_users
    assert not Blocks.of(world.model(inputs='Inputs(features="all")')).reads_users
    with pytest.raises(ConfigError, match="keeps no user ids"):
        world.network(fusion=fusion)
    knowing = replace(world, vocabulary=Vocabulary.fit(world.histories, world.dictionary, world.histories.offsets[1:], users=True))
    network, reader, spans = knowing.network(fusion=fusion)
    saving.save(tmp_path, network, world.model(fusion=fusion), knowing.vocabulary)
    again, vocabulary = saving.load(tmp_path)
    assert vocabulary.user_id == knowing.vocabulary.user_id
    hidden = encode(network, reader, spans)
    assert torch.equal(encode(again, again.reader(world.histories, world.dictionary, vocabulary), spans), hidden)
    strangers = replace(world.histories, user_id=pa.array([-1 - user for user in range(world.histories.n_users)]))
    unknown = encode(again, again.reader(strangers, world.dictionary, vocabulary), spans)
    assert (unknown - hidden).abs().amax(1).min() > 1e-4, "every user has a vector of their own"


def test_a_fusion_of_nothing_is_an_error(world: Any) -> None:
    with pytest.raises(ConfigError, match="names no feature of the users.*country, hobbies, age"):
        world.network(fusion="UserFeatures()")
    with pytest.raises(ConfigError, match="there is no feature 'price'"):
        world.network(fusion='UserFeatures(features=["price"])')
