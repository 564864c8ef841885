"""Negatives: how often each item is drawn is what log Q takes it for."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from recsys.errors import ConfigError, ContractError
from recsys.model import contracts
from recsys.model.catalogue import Catalogue
from recsys.model.heads.next_item import NextItem
from recsys.model.negatives import Negatives
from recsys.model.negatives.in_batch import InBatch
from recsys.model.negatives.mixed import Mixed
from recsys.model.negatives.popularity import Popularity
from recsys.model.negatives.uniform import Uniform
from recsys.parts import parse
from recsys.slots import choices

V = 30
CASES = [
    *(f"{name}()" for name in choices(Negatives)),
    "Popularity(exponent=0.0)",
    "Popularity(exponent=2.0)",
    "Mixed(negatives=[InBatch(), Popularity(), Uniform()], shares=[3, 1, 0.001])",  # the last makes no draw of 50
]


def catalogue() -> Catalogue:
    return Catalogue(torch.randn(V, 4), counts=torch.randint(1, 100, (V,)))


def built(text: str) -> Negatives:
    return parse(text, Negatives).build()


def drawn(negatives: Negatives, n: int, *, target: list[int], weight: list[float] | None = None) -> list[int]:
    weights = [1.0] * len(target) if weight is None else weight
    return negatives.draw(1, n, catalogue(), torch.tensor(target, dtype=torch.long), torch.tensor(weights))[0].tolist()


@pytest.mark.parametrize("text", CASES)
def test_items_are_drawn_as_often_as_log_q_says(text: str) -> None:
    contracts.draws_as_often_as_it_says(built(text), catalogue())


@pytest.mark.parametrize("text", CASES)
def test_a_seed_gives_one_set(text: str) -> None:
    items, sets = catalogue(), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        sets.append(built(text).draw(3, 200, items, torch.arange(V), torch.ones(V)))
    assert torch.equal(sets[0], sets[1]) and not torch.equal(sets[0], sets[2])


@pytest.mark.parametrize("text", CASES)
def test_there_may_be_more_draws_than_items_and_no_target_at_all(text: str) -> None:
    items = drawn(built(text), 5 * V, target=[])
    assert len(items) == 5 * V and set(items) <= set(range(V))
    assert len(drawn(built(text), 7, target=[3, 4], weight=[0.0, 0.0])) == 7


class NoSumsOfFloats(TorchDispatchMode):
    """Refuses what `training.deterministic` refuses on a GPU."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func is not torch.ops.aten.cumsum.default or not args[0].is_floating_point(), "a GPU adds floats up in any order"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("text", CASES)
def test_what_is_drawn_is_the_same_twice_on_a_gpu_too(text: str) -> None:
    with NoSumsOfFloats():
        assert len(drawn(built(text), 50, target=[3, 4, 4])) == 50


def test_as_many_uniform_draws_as_items_are_every_item_once() -> None:
    assert drawn(Uniform(), V, target=[0]) == list(range(V))


def test_the_sets_of_a_step_together_have_every_item_equally_often() -> None:
    sets = Uniform().draw(6, V // 3, catalogue(), torch.zeros(1), torch.ones(1))
    assert torch.bincount(sets.flatten(), minlength=V).tolist() == [2] * V
    assert not torch.equal(sets[0], sets[1])


def test_popularity_by_hand() -> None:
    """16, 1 and 0 events: with exponent 0.5 the weights are 4, 1 and 0, and of 10 strata 8 belong to the first item."""
    items = Catalogue(torch.randn(3, 1), counts=torch.tensor([16, 1, 0]))
    sampler = Popularity(exponent=0.5)
    assert torch.bincount(sampler.draw(1, 10, items, torch.zeros(1), torch.ones(1))[0], minlength=3).tolist() == [8, 2, 0]
    torch.testing.assert_close(sampler.log_expected(torch.arange(3), 10, items).exp(), torch.tensor([8.0, 2.0, 0.0]))


def test_in_batch_by_hand() -> None:
    """Each target of the step as often as it is there; those with weight 0 are no targets."""
    assert sorted(drawn(InBatch(), 4, target=[7, 7, 2, 9])) == [2, 7, 7, 9]
    assert sorted(drawn(InBatch(), 4, target=[7, 7, 2, 9], weight=[1.0, 0.0, 5.0, 0.0])) == [2, 2, 7, 7]


def test_mixed_by_hand() -> None:
    items = drawn(Mixed(negatives=[InBatch(), Uniform()], shares=[0.6, 0.4]), 10, target=[V - 1])
    assert items[:6] == [V - 1] * 6 and items[6] < V / 4 and len(items) == 10


class _Mistaken(Popularity):
    """Draws by popularity and says that it does not."""

    def log_expected(self, items: Tensor, n: int, catalogue: Catalogue) -> Tensor:
        return Uniform().log_expected(items, n, catalogue)


class _Beyond(Uniform):
    """Begins to count at 1, as where item 0 is padding."""

    def draw(self, n_sets: int, n: int, catalogue: Catalogue, target: Tensor, weight: Tensor) -> Tensor:
        return super().draw(n_sets, n, catalogue, target, weight) + 1


def test_broken_samplers_are_found_out() -> None:
    with pytest.raises(ContractError, match="_Mistaken: item .* is drawn"):
        contracts.draws_as_often_as_it_says(_Mistaken(), catalogue())
    with pytest.raises(ContractError, match="_Beyond: draws"):
        contracts.draws_as_often_as_it_says(_Beyond(), catalogue())


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("Popularity(exponent=-1.0)", "exponent=-1.0 has to be 0"),
        ("Mixed(negatives=[Uniform()], shares=[0.5, 0.5])", "2 shares for 1 sampler;"),
        ("Mixed(shares=[1.0, 0.0])", "have to be above 0"),
        ("Mixed(negatives=[Popular()])", "Did you mean Popularity"),
    ],
)
def test_settings_that_make_no_sense_are_refused(text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        built(text)


def test_popularity_without_counts_says_so() -> None:
    nothing_counted = Catalogue(torch.randn(V, 4))
    with pytest.raises(ConfigError, match="Popularity needs the events of each item, and this catalogue has no counts"):
        Popularity().draw(1, 3, nothing_counted, torch.zeros(1), torch.ones(1))
    with pytest.raises(ConfigError, match="InBatch with log_q needs the events"):
        InBatch().log_expected(torch.arange(3), 3, nothing_counted)


# In a network


@pytest.mark.parametrize(
    "loss",
    [
        "GBCE(n_negatives=256, t=0.75, negatives=Popularity(exponent=0.5))",
        "SampledSoftmax(n_negatives=16, log_q=true, negatives=Mixed(negatives=[InBatch(), Popularity()], shares=[0.6, 0.4]))",
        "WeightedSum(losses=[CrossEntropy(label_smoothing=0.2), BPRMax(negatives=InBatch())], weights=[1.0, 0.1])",
    ],
)
@pytest.mark.parametrize("similarity", ["Dot()", "Cosine()"])
def test_a_network_supplies_what_its_loss_draws_by(world: Any, loss: str, similarity: str) -> None:
    network, reader, spans = world.network(heads=(f"NextItem(loss={loss}, similarity={similarity}, bias=true)",))
    counts = network.catalogue().counts
    assert counts.tolist() == world.vocabulary.n_events.tolist()
    assert not any("counts" in name for name in network.state_dict()), "the vocabulary has them already"
    contracts.gradients_reach(network, lambda: network.loss(list(reader.buckets(spans.newest(9)))))


def test_counts_are_in_the_order_of_the_items(world: Any) -> None:
    codes = world.vocabulary.item_map(world.dictionary)[world.histories.item_code]
    head = NextItem(world.vocabulary.n_items, 4, world.vocabulary, tied=False)
    assert torch.equal(head.counts, torch.bincount(torch.from_numpy(codes).long(), minlength=world.vocabulary.n_items))
