"""Every prior in a network: it is learned, saved and ranked with, and knows nothing of what came after its moment."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from recsys.dictionary import Dictionary
from recsys.errors import ContractError
from recsys.model import contracts, network_contracts, saving
from recsys.model.bucket import Bucket
from recsys.model.network import Network
from recsys.model.priors import Prior
from recsys.model.priors.activity import Activity
from recsys.model.sample import EARLY, until
from recsys.model.vocabulary import Vocabulary
from recsys.ranking.ranker import Ranker
from recsys.slots import choices
from recsys.windows import HOUR

CASES = {"Activity": "Activity(every='1h')"}
over_all = pytest.mark.parametrize("text", CASES.values())


def made(world: Any, text: str, **fields: Any) -> tuple[Network, Any, Any]:
    network, reader, spans = world.network(heads=(f"NextItem(prior={text})",), **fields)
    return network, reader, spans


def test_every_prior_has_a_case() -> None:
    assert CASES.keys() == choices(Prior).keys()


@over_all
@pytest.mark.parametrize("recipe", ["sasrec", "bert4rec", "next_action", "xlnet_plm", "gsasrec"])
def test_it_is_learned_with_the_network(world: Any, text: str, recipe: str) -> None:
    loss = {"gsasrec": ", loss=GBCE(n_negatives=20)"}.get(recipe, "")
    network, reader, spans = world.network(recipe=recipe, heads=(f"NextItem(prior={text}{loss})",))
    buckets = list(reader.buckets(spans.newest(network.objective.n_trained(network.max_events))))
    contracts.gradients_reach(network, lambda: network.loss(buckets))


@over_all
def test_evaluation_equals_inference_and_batch_mates_change_nothing(world: Any, text: str) -> None:
    network_contracts.evaluates_as_it_recommends(*made(world, text))
    network_contracts.ignores_batch_mates(*made(world, text))


@over_all
def test_what_a_prediction_is_weighed_by_was_known_at_its_moment(world: Any, text: str) -> None:
    """Events from the moment on are taken away from the night: the prior of the moment stays."""
    network, *_ = made(world, text)
    prior = network.next_item.prior
    assert prior is not None
    for weight in prior.parameters():
        torch.nn.init.uniform_(weight)  # all that it reads has a say
    for moment in (EARLY, int(np.median(world.histories.event_at)) // HOUR * HOUR):
        contracts.knows_the_past_only(prior, world.dictionary, until(world.dictionary, moment), world.vocabulary, moment)
        assert len(prior(torch.tensor([moment])).unique()) > 3


class Later(Activity):
    """Two hours that nobody knows yet."""

    def moments(self, at: Tensor) -> Tensor:
        return super().moments(at) + 2 * HOUR


class Total(Prior):
    """How often an item is seen in the whole night, whenever the prediction is made."""

    def enter(self, dictionary: Dictionary, vocabulary: Vocabulary) -> None:
        self.events = torch.from_numpy(dictionary.n_events[: vocabulary.n_items])  # nobody had the last item

    def moments(self, at: Tensor) -> Tensor:
        return at

    def forward(self, moments: Tensor) -> Tensor:
        return self.events.log1p().expand(len(moments), -1)


class Announced(Total):
    """How long it takes until an item appears."""

    def enter(self, dictionary: Dictionary, vocabulary: Vocabulary) -> None:
        assert dictionary.first_event_at is not None
        self.events = torch.from_numpy(dictionary.first_event_at[: vocabulary.n_items]) // HOUR


class Nothing(Activity):
    def forward(self, moments: Tensor) -> Tensor:
        return super().forward(moments) * torch.nan


AHEAD = "happened after it"


@pytest.mark.parametrize(
    ("prior", "says"), [(Later(every="1h"), AHEAD), (Total(), AHEAD), (Announced(), AHEAD), (Nothing(every="1h"), "says no number")]
)
def test_a_prior_that_looks_ahead_or_says_nothing_is_found(world: Any, prior: Prior, says: str) -> None:
    with pytest.raises(ContractError, match=says):
        contracts.knows_the_past_only(prior, world.dictionary, until(world.dictionary, EARLY), world.vocabulary, EARLY)


@over_all
def test_it_is_saved_and_ranks(world: Any, text: str, tmp_path: Path) -> None:
    network, *_ = made(world, text)
    model = world.model(heads=(f"NextItem(prior={text})",))
    saving.save(tmp_path, network, model, world.vocabulary)
    again, vocabulary = saving.load(tmp_path)
    histories, dictionary, now = world.histories, world.dictionary, int(world.histories.event_at.max()) + 1
    users, none = np.arange(histories.n_users), np.zeros(0, dtype=np.int64)
    lists = []
    for one in (network, again):
        ranker = Ranker("model", one, vocabulary, dictionary)
        reading = ranker.reading(histories, histories.offsets[1:], now)
        assert reading.catalogue.prior is not None and ranker.catalogue.prior is None
        lists.append(reading.rank(users, 5, none, none))
        hidden = reading.hidden(users)[1]
        prior = one.next_item.prior(torch.tensor([now]))[:, world.vocabulary.item_map(dictionary)[ranker.item_code]]
        scores = hidden @ ranker.catalogue.vectors.T + prior
        best = ranker.item_code[scores.argmax(1).numpy()]
        read = np.diff(histories.offsets) > 0
        assert (lists[-1][1][read, 0] == best).mean() > 0.95  # all but ties, which the ranker breaks
    assert np.array_equal(lists[0][1], lists[1][1])


def test_targets_that_no_list_could_have_had_are_not_learned(world: Any) -> None:
    """An item whose first event is the target's own was not there when the list was made."""
    network, reader, spans = made(world, "Activity(every='1h')")
    bucket: Bucket = reader.bucket(spans[torch.nonzero(spans.lengths >= 4)[:1, 0]].newest(4))
    target = int(bucket.item_index[0, -1])
    bucket = replace(bucket, weight=torch.tensor([[0.0, 0.0, 0.0, 1.0]]))
    prior = network.next_item.prior
    assert prior is not None and network.loss([bucket]) > 0
    first = np.zeros(world.dictionary.n_items, dtype=np.int64)
    first[world.vocabulary.item_map(world.dictionary) == target] = bucket.event_at[0, -1]
    prior.enter(replace(world.dictionary, first_event_at=first), world.vocabulary)
    assert network.loss([bucket]).item() == 0


@over_all
def test_without_one_moment_for_all_everybody_is_weighed_at_their_own(world: Any, text: str) -> None:
    """The newest event of each user held out, say: the prior is of the time at which it happened, as in validation."""
    network, *_ = made(world, text)
    prior = network.next_item.prior
    assert prior is not None
    histories, none = world.histories, np.zeros(0, dtype=np.int64)
    users = np.flatnonzero(np.diff(histories.offsets) > 3)
    ends = np.maximum(histories.offsets[1:] - 1, histories.offsets[:-1])
    ranker = Ranker("model", network, world.vocabulary, world.dictionary)
    reading = ranker.reading(histories, ends, None)
    _, codes = reading.rank(users, 3, none, none)
    for user, listed in list(zip(users, codes, strict=True))[:5]:
        alone = ranker.reading(histories, ends, int(histories.event_at[histories.offsets[user + 1] - 1]) // HOUR * HOUR)
        assert alone.rank(np.array([user]), 3, none, none)[1].tolist() == [listed.tolist()]


def test_smoothing_is_over_what_could_be_listed(world: Any) -> None:
    """Items that were not there would add thousands to the loss, and nothing to learn."""
    network, reader, spans = world.network(heads=("NextItem(prior=Activity(every='1h'), loss=CrossEntropy(label_smoothing=0.2))",))
    prior = network.next_item.prior
    assert isinstance(prior, Prior)
    prior._first_event_at = torch.where(torch.arange(world.vocabulary.n_items) % 2 == 0, 0, torch.iinfo(torch.int64).max)
    assert 0 < network.loss(list(reader.buckets(spans.newest(9)))).item() < 20
