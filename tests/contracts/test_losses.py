"""Every loss against its formula in float64, gradients included, and without a score for every prediction and item at once."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from recsys.errors import ConfigError, ContractError
from recsys.model import contracts
from recsys.model.catalogue import Catalogue
from recsys.model.losses import Loss, softmax
from recsys.model.losses.softmax import CrossEntropy
from recsys.parts import choices

MEMBERS = choices(Loss)
N, V, D, T = 300, 37, 8, 3


def scores_of(hidden: Tensor, catalogue: Catalogue) -> Tensor:
    """(N, V), all at once."""
    scores = hidden @ catalogue.vectors.T
    scores = scores if catalogue.bias is None else scores + catalogue.bias
    return scores if catalogue.prior is None else scores + catalogue.prior[0 if catalogue.prior_row is None else catalogue.prior_row]


def cross_entropy(loss: CrossEntropy, scores: Tensor, target: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(scores / loss.temperature, target, label_smoothing=loss.label_smoothing, reduction="none")


FORMULAS: dict[str, Callable[..., Tensor]] = {"CrossEntropy": cross_entropy}  # (N,) from scores (N, V) and targets
SETTINGS: dict[str, list[dict[str, float]]] = {
    "CrossEntropy": [{}, {"label_smoothing": 0.3}, {"temperature": 0.2}, {"label_smoothing": 0.9, "temperature": 3.0}]
}
CASES = [(name, settings) for name in MEMBERS for settings in SETTINGS.get(name, [{}])]


def world(bias: bool = False, prior: bool = False, hours: bool = False) -> tuple[Tensor, Tensor, Catalogue, Tensor]:
    return (
        torch.randn(N, D),
        torch.randint(V, (N,)),
        Catalogue(
            torch.randn(V, D),
            torch.randn(V) if bias else None,
            torch.randn(T if hours else 1, V) if prior else None,
            torch.randint(T, (N,)) if hours else None,
        ),
        torch.rand(N) * (torch.rand(N) > 0.2),
    )


def leaves(catalogue: Catalogue, hidden: Tensor, kind: torch.dtype) -> tuple[Catalogue, list[Tensor]]:
    """The same numbers as float64 or float32 leaves of a graph, in one order."""
    made = [
        None if x is None else x.to(kind).clone().requires_grad_() for x in (hidden, catalogue.vectors, catalogue.bias, catalogue.prior)
    ]
    return Catalogue(made[1], made[2], made[3], catalogue.prior_row), [x for x in made if x is not None]


def test_every_loss_has_a_formula() -> None:
    assert FORMULAS.keys() == MEMBERS.keys(), "a new loss is compared with a float64 formula of its own"


@pytest.mark.parametrize("kind", [{}, {"bias": True}, {"bias": True, "prior": True}, {"prior": True, "hours": True}], ids=str)
@pytest.mark.parametrize(("name", "settings"), CASES)
def test_it_equals_its_formula(name: str, settings: dict[str, float], kind: dict[str, bool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(softmax, "TILE_ROWS", {"cpu": 7, "cuda": 7})  # many tiles, the last one shorter
    monkeypatch.setattr(softmax, "MIN_TILE_ROWS", 1)
    loss = MEMBERS[name](**settings)
    hidden, target, catalogue, weight = world(**kind)
    exact, exact_leaves = leaves(catalogue, hidden, torch.float64)
    expected = (FORMULAS[name](loss, scores_of(exact_leaves[0], exact), target) * weight).sum() / weight.double().sum()
    ours, our_leaves = leaves(catalogue, hidden, torch.float32)
    value = loss(our_leaves[0], target, ours, weight)
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=0)
    (3 * value).backward()
    (3 * expected).backward()
    for leaf, exact_leaf in zip(our_leaves, exact_leaves, strict=True):
        torch.testing.assert_close(leaf.grad.double(), exact_leaf.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_scores_of_any_size(name: str, settings: dict[str, float]) -> None:
    """Scores in the thousands neither overflow nor lose the loss."""
    loss = MEMBERS[name](**settings)
    hidden, target, catalogue, weight = world()
    hidden = 3000 * hidden
    exact, (exact_hidden, _) = leaves(catalogue, hidden, torch.float64)
    expected = (FORMULAS[name](loss, scores_of(exact_hidden, exact), target) * weight).sum() / weight.double().sum()
    torch.testing.assert_close(loss(hidden, target, catalogue, weight).double(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_it_is_a_mean_over_weights(name: str, settings: dict[str, float]) -> None:
    contracts.is_mean_over_weights(MEMBERS[name](**settings), *world(bias=True)[:3])


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_it_rewards_the_target(name: str, settings: dict[str, float]) -> None:
    contracts.rewards_the_target(MEMBERS[name](**settings), *world()[:3])


@pytest.mark.parametrize("name", MEMBERS)
def test_no_tensor_has_a_score_for_every_prediction_and_item(name: str) -> None:
    n_predictions, n_items = 4096, 2048
    hidden, vectors = torch.randn(n_predictions, D, requires_grad=True), torch.randn(n_items, D, requires_grad=True)
    with _Largest() as largest:
        loss = MEMBERS[name]()(hidden, torch.randint(n_items, (n_predictions,)), Catalogue(vectors), torch.ones(n_predictions))
        loss.backward()
    assert n_items < largest.numel < n_predictions * n_items / 4


class _Largest(TorchDispatchMode):
    """Elements of the largest tensor that any operation makes, backward too."""

    numel = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        self.numel = max([self.numel, *(x.numel() for x in tree_leaves(made) if isinstance(x, Tensor))])
        return made


def test_the_guard_sees_whole_score_matrices() -> None:
    with _Largest() as largest:
        (torch.randn(50, D, requires_grad=True) @ torch.randn(D, 60)).logsumexp(1).sum().backward()
    assert largest.numel == 50 * 60


class _Sum(Loss):
    def forward(self, hidden: Tensor, target: Tensor, catalogue: Catalogue, weight: Tensor) -> Tensor:
        return (hidden * catalogue.vectors[target]).sum(1).mul(weight).sum()


def test_broken_losses_are_found_out() -> None:
    with pytest.raises(ContractError, match="_Sum: weights"):
        contracts.is_mean_over_weights(_Sum(), *world()[:3])
    with pytest.raises(ContractError, match="_Sum: .*no lower loss"):
        contracts.rewards_the_target(_Sum(), *world()[:3])


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match="label_smoothing=1.0"):
        CrossEntropy(label_smoothing=1.0)
    with pytest.raises(ConfigError, match="temperature=0"):
        CrossEntropy(temperature=0.0)
