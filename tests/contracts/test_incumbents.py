"""What goes wrong in the libraries this kit follows, each as a test over every recipe that it could go wrong in.

T4R is Transformers4Rec (v23.12 and its main branch), numbers are of its GitHub issues; RecTools is version 0.19.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from recsys import recipes
from recsys.dictionary import Dictionary
from recsys.errors import ConfigError
from recsys.histories import Histories
from recsys.model import network_contracts, saving
from recsys.model.blocks import build
from recsys.model.inference import encode
from recsys.model.items import ItemTable
from recsys.model.network import Network
from recsys.model.vocabulary import Vocabulary
from recsys.parts import parse
from recsys.ranking.topk import top_k

over_recipes = pytest.mark.parametrize("recipe", recipes.names())


def predicted(network: Network, reader: Any, spans: Any) -> torch.Tensor:
    return encode(network, reader, spans[torch.nonzero(spans.lengths)[:, 0]])


@over_recipes
def test_causal_training_leaks_no_label(world: Any, recipe: str) -> None:
    """T4R 746, 761: its README's XLNet with CLM reads both sides, so position i sees its label at i + 1."""
    network, reader, spans = world.network(recipe=recipe)
    network_contracts.hides_what_it_predicts(network, reader, spans)


@over_recipes
def test_padding_and_batch_mates_change_no_prediction(world: Any, recipe: str) -> None:
    """T4R passes no attention mask: a prediction depends on the longest sequence of its batch."""
    network_contracts.ignores_batch_mates(*world.network(recipe=recipe))


@over_recipes
def test_evaluating_a_history_is_recommending_from_it_without_its_last_event(world: Any, recipe: str) -> None:
    """T4R 525, 551, 719, 723: evaluate() and predict() disagree, for permutations to this day."""
    network, reader, spans = world.network(recipe=recipe)
    network.eval()
    spans = spans[torch.nonzero(spans.lengths > 1)[:, 0]].newest(network.max_events + 1)
    bucket = reader.bucket(spans)
    shorter = network.encode(bucket.without_last())
    other = replace(bucket, item_index=bucket.item_index.scatter(1, bucket.lengths[:, None] - 1, 0))
    torch.testing.assert_close(shorter, network.encode(other.without_last()), msg="the last event is still seen")
    torch.testing.assert_close(shorter, encode(network, reader, type(spans)(spans.user, spans.start, spans.end - 1)), rtol=1e-4, atol=1e-5)


@over_recipes
def test_the_newest_events_survive_truncation(world: Any, recipe: str) -> None:
    """T4R keeps the first max_sequence_length events and drops the newest."""
    network, reader, spans = world.network(recipe=recipe)
    long = spans[torch.nonzero(spans.lengths > network.max_events)[:, 0]]
    newest = type(long)(long.user, long.end - network.max_events, long.end)
    assert torch.equal(encode(network, reader, long), encode(network, reader, newest))


@pytest.mark.parametrize("noise", ["StochasticSharedEmbeddings(p=0.9)", "SwapNoise(p=0.9)"])
def test_noise_never_touches_labels(world: Any, noise: str) -> None:
    """T4R applies its swap noise before it takes the labels from the same tensor."""
    network, reader, spans = world.network(inputs=f'Inputs(features="all", noise={noise})')
    bucket = reader.bucket(spans[torch.nonzero(spans.lengths > 1)[:, 0]].newest(9))
    items = bucket.item_index.clone()
    plan = network.train().objective.plan(bucket)
    first, again = network.hidden(plan), network.hidden(plan)
    assert not torch.equal(first, again), "there is noise"
    assert torch.equal(bucket.item_index, items) and torch.equal(plan.target, network.objective.plan(bucket).target)


@over_recipes
def test_nothing_but_items_is_scored(world: Any, recipe: str) -> None:
    """T4R scores and recommends its padding id 0; RecTools has PAD and MASK in the softmax's denominator."""
    network, reader, spans = world.network(recipe=recipe)
    hidden, catalogue = predicted(network, reader, spans), network.catalogue()
    assert catalogue.n_items == world.vocabulary.n_items
    scores, index = top_k(hidden, catalogue, catalogue.n_items + 3)
    assert (index[:, : catalogue.n_items].sort(1).values == torch.arange(catalogue.n_items)).all() and (
        index[:, catalogue.n_items :] == -1
    ).all()


@pytest.mark.parametrize("text", ["IdEmbedding()", "IdPlusFeatures()", "Factorised()"])
def test_every_row_of_an_item_table_belongs_to_an_item(world: Any, text: str) -> None:
    """The padding row of T4R and RecTools is zeroed, then overwritten with random numbers that never train."""
    table = parse(text, ItemTable).build(**world.supplied())
    assert len(table.vectors()) == world.vocabulary.n_items
    table.vectors().pow(2).sum().backward()
    for module in table.modules():
        for parameter, column in getattr(module, "row_of", {}).items():
            assert column != "item_id" or len(getattr(module, parameter)) == world.vocabulary.n_items


@pytest.mark.parametrize("encoder", ["GRU()", "LSTM()"])
def test_recurrence_runs_over_events_and_not_over_sequences(world: Any, encoder: str) -> None:
    """T4R builds its GRU without batch_first, in the tutorial, the tests and the paper."""
    network, reader, spans = world.network(encoder=encoder, positions="NoPositions()")
    network_contracts.sees_no_future(network, reader, spans)
    network_contracts.ignores_batch_mates(network, reader, spans)


@over_recipes
def test_predicting_has_no_dropout_and_no_graph(world: Any, recipe: str) -> None:
    """T4R's Model.evaluate calls neither eval() nor no_grad()."""
    network, reader, spans = world.network(recipe=recipe)
    network.train()
    first, again = predicted(network, reader, spans), predicted(network, reader, spans)
    assert torch.equal(first, again) and not first.requires_grad and network.training, "and training goes on as it was"


@over_recipes
def test_a_saved_model_scores_as_it_did(world: Any, recipe: str, tmp_path: Path) -> None:
    """T4R's Model.load always ends in a TypeError."""
    network, reader, spans = world.network(recipe=recipe)
    saving.save(tmp_path, network, world.model(recipe=recipe), world.vocabulary)
    assert torch.equal(predicted(saving.load(tmp_path)[0], reader, spans), predicted(network, reader, spans))


@over_recipes
def test_a_batch_without_a_target_is_no_nan(world: Any, recipe: str) -> None:
    """RecTools' BERT4Rec divides by the number of masked items, which can be none."""
    network, reader, spans = world.network(recipe=recipe)
    bucket = reader.bucket(spans[torch.nonzero(spans.lengths > 1)[:, 0]].newest(9))
    loss = network.loss([replace(bucket, weight=torch.zeros_like(bucket.weight))])
    loss.backward()
    assert loss.isfinite() and all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


def test_items_of_the_older_past_stay_in_the_catalogue(world: Any) -> None:
    """RecTools knows only items of somebody's newest session_max_len events."""
    network, _, spans = world.network(max_events=2)
    recent = set()
    for user, end in zip(range(len(spans)), spans.end.tolist(), strict=True):
        start = max(int(spans.start[user]), end - 2)
        recent |= set(world.histories.item_code[start:end].tolist())
    assert network.catalogue().n_items == len(set(world.histories.item_code.tolist())) > len(recent)


def test_an_item_may_be_called_pad_or_mask(world: Any) -> None:
    """RecTools keeps its padding and mask among the item ids, where an item of that name collides with them."""
    names = pa.array(sorted(["PAD", "MASK", "[PAD]", *(f"item-{i}" for i in range(37))]))
    dictionary: Dictionary = replace(world.dictionary, item_id=names)
    histories: Histories = world.histories
    vocabulary = Vocabulary.fit(histories, dictionary, histories.offsets[1:])
    network = build(world.model(recipe="bert4rec"), vocabulary)
    n_items = len(np.unique(histories.item_code))
    assert network.catalogue().n_items == vocabulary.n_items == n_items and {"PAD", "MASK"} <= set(vocabulary.item_id.to_pylist())


@pytest.mark.parametrize(
    "text",
    [
        "Albert(n_hiden_groups=2)",
        'HuggingFace(name="gpt2", n_layer=3)',
        "LiGR(ff_factor=2)",
        'HuggingFace(name="bert", options={"hiden": 3})',
    ],
)
def test_a_misspelt_argument_is_refused(world: Any, text: str) -> None:
    """RecTools and T4R swallow unknown keyword arguments."""
    with pytest.raises(ConfigError, match="hid|layer|factor"):
        world.network(encoder=text)


@pytest.mark.parametrize(
    ("objective", "encoder", "remedy"),
    [
        ("MaskedLM()", "LSTM()", "LSTM reads left to right; MaskedLM needs both sides. Use .*CausalLM"),
        ("PermutationLM()", "PreLN()", "needs an encoder with two streams.*XLNet"),
        ("CausalLM()", "PreLN(causal=false)", "PreLN reads both sides; CausalLM needs left to right"),
        ("MaskedLM()", 'HuggingFace(name="gpt2")', "left to right; MaskedLM needs both sides"),
        ("CausalLM()", 'HuggingFace(name="electra", causal=false)', "both sides; CausalLM needs left to right"),
    ],
)
def test_an_impossible_combination_is_refused_with_what_would_work(world: Any, objective: str, encoder: str, remedy: str) -> None:
    """T4R promises it and names no remedy; ALBERT, ELECTRA and recurrent networks pass its check with anything."""
    with pytest.raises(ConfigError, match=remedy):
        world.network(objective=objective, encoder=encoder)
