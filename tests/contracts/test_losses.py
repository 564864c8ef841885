"""Every loss against its formula in float64, gradients included, and without a score for every prediction and item at once."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from recsys.errors import ConfigError, ContractError
from recsys.model import contracts
from recsys.model.catalogue import Catalogue
from recsys.model.losses import Loss, softmax
from recsys.model.losses.bce import GBCE
from recsys.model.losses.pairwise import BPR, TOP1, BPRMax, TOP1Max
from recsys.model.losses.sampled import Sampled
from recsys.model.losses.sampled_softmax import SampledSoftmax
from recsys.model.losses.softmax import CrossEntropy
from recsys.model.losses.weighted_sum import WeightedSum
from recsys.model.negatives import Negatives
from recsys.model.negatives.in_batch import InBatch
from recsys.model.negatives.mixed import Mixed
from recsys.model.negatives.uniform import Uniform
from recsys.parts import parse
from recsys.slots import choices

MEMBERS = choices(Loss)
N, V, D, T = 300, 37, 8, 3
Step = tuple[Tensor, Catalogue, Tensor]  # targets (N,), the catalogue, weights (N,)


def scores_of(hidden: Tensor, catalogue: Catalogue) -> Tensor:
    """(N, V), all at once."""
    scores = hidden @ catalogue.vectors.T
    scores = scores if catalogue.bias is None else scores + catalogue.bias
    return scores if catalogue.prior is None else scores + catalogue.prior[0 if catalogue.prior_row is None else catalogue.prior_row]


# Formulas: the loss (N,) of each prediction from scores (N, V) in float64. Started from one seed, they draw the same negatives.
def cross_entropy(loss: CrossEntropy, scores: Tensor, target: Tensor, catalogue: Catalogue, weight: Tensor) -> Tensor:
    epsilon, over_all = loss.label_smoothing, loss.smoothed_over == "all"
    wanted = torch.full_like(scores, epsilon / (V if over_all else V - 1))
    wanted[torch.arange(len(target)), target] = 1 - epsilon + (epsilon / V if over_all else 0)
    return -(wanted * (scores / loss.temperature).log_softmax(1)).sum(1)


def sampled(each: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A formula from one over a prediction's own negatives: score of the target, scores (n,) and items (n,) of the negatives."""

    def formula(loss: Sampled, scores: Tensor, target: Tensor, catalogue: Catalogue, weight: Tensor) -> Tensor:
        n_sets, scores = -(-N // loss.shared_by), scores / loss.temperature
        sets = loss.negatives.draw(n_sets, loss.n_negatives, catalogue, target, weight)
        own = [sets[row % n_sets] for row in range(N)]  # a set takes every n_sets-th prediction
        own = [items[items != y] for items, y in zip(own, target, strict=True)]
        return torch.stack([each(loss, row[y], row[j], j, catalogue) for row, y, j in zip(scores, target, own, strict=True)])

    return formula


def probability(negatives: Negatives, catalogue: Catalogue) -> Tensor:
    """(V,) float64: of each item in one draw."""
    assert catalogue.counts is not None
    if isinstance(negatives, Mixed):
        each = [probability(sampler, catalogue) for sampler in negatives.negatives]
        return sum(share * q for share, q in zip(negatives.shares, each, strict=True)) / sum(negatives.shares)
    exponent = {Uniform: 0.0, InBatch: 1.0}.get(type(negatives), getattr(negatives, "exponent", None))
    return catalogue.counts.double() ** exponent / (catalogue.counts.double() ** exponent).sum()


@sampled
def sampled_softmax(loss: SampledSoftmax, target: Tensor, negative: Tensor, items: Tensor, catalogue: Catalogue) -> Tensor:
    if loss.log_q:
        negative = negative - (loss.n_negatives * probability(loss.negatives, catalogue)[items]).log()
    return torch.cat([target[None], negative]).logsumexp(0) - target


@sampled
def gbce(loss: GBCE, target: Tensor, negative: Tensor, items: Tensor, catalogue: Catalogue) -> Tensor:
    alpha, t = loss.n_negatives / (V - 1), getattr(loss, "t", 0.0)
    beta = alpha * (t * (1 - 1 / alpha) + 1 / alpha)
    return -(beta * logsigmoid(target) + logsigmoid(-negative).sum()) / (1 + len(items))


@sampled
def bpr(loss: BPR, target: Tensor, negative: Tensor, *_: Any) -> Tensor:
    return -logsigmoid(target - negative).mean()


@sampled
def top1(loss: TOP1, target: Tensor, negative: Tensor, *_: Any) -> Tensor:
    return (torch.sigmoid(negative - target) + torch.sigmoid(negative**2)).mean()


@sampled
def top1_max(loss: TOP1Max, target: Tensor, negative: Tensor, *_: Any) -> Tensor:
    return negative.softmax(0) @ (torch.sigmoid(negative - target) + torch.sigmoid(negative**2))


@sampled
def bpr_max(loss: BPRMax, target: Tensor, negative: Tensor, *_: Any) -> Tensor:
    wins = (negative.log_softmax(0) + logsigmoid(target - negative)).logsumexp(0)
    return -wins + loss.regularisation * (negative.softmax(0) @ negative**2)


def weighted_sum(loss: WeightedSum, *step: Any) -> Tensor:
    parts = [FORMULAS[type(part).__name__](part, *step) for part in loss.losses]
    return sum(weight * part for weight, part in zip(loss.weights, parts, strict=True))


FORMULAS: dict[str, Callable[..., Tensor]] = {
    "BCE": gbce,
    "BPR": bpr,
    "BPRMax": bpr_max,
    "CrossEntropy": cross_entropy,
    "GBCE": gbce,
    "SampledSoftmax": sampled_softmax,
    "TOP1": top1,
    "TOP1Max": top1_max,
    "WeightedSum": weighted_sum,
}
CASES = [  # with fewer negatives than items, so that the formulas of the papers hold as they stand
    "CrossEntropy()",
    "CrossEntropy(label_smoothing=0.3)",
    "CrossEntropy(temperature=0.2)",
    'CrossEntropy(products="float32")',
    "CrossEntropy(label_smoothing=0.9, temperature=3.0)",
    'CrossEntropy(label_smoothing=0.3, smoothed_over="others")',
    'CrossEntropy(label_smoothing=0.6, smoothed_over="others", temperature=0.5)',
    *(
        f"SampledSoftmax(n_negatives=20, log_q={log_q}, negatives={negatives})"
        for log_q in ("false", "true")
        for negatives in ("Uniform()", "Popularity(exponent=0.5)", "InBatch()", "Mixed(shares=[0.6, 0.4])")
    ),
    "SampledSoftmax(n_negatives=20, temperature=0.1)",
    *(f"SampledSoftmax(n_negatives=20, shared_by={n})" for n in (1, 7, N, 2 * N)),
    *(f"{name}(n_negatives=20)" for name in ("BCE", "GBCE", "BPR", "TOP1", "TOP1Max", "BPRMax")),
    "BCE(n_negatives=20, temperature=0.5, negatives=InBatch())",
    "GBCE(n_negatives=9, t=1.0, negatives=Popularity())",
    "BPRMax(n_negatives=20, regularisation=0.0, negatives=InBatch(), temperature=2.0)",
    "WeightedSum(losses=[CrossEntropy(), BPR(n_negatives=20), GBCE(n_negatives=20)], weights=[1, 0.5, 2.0])",
]
over_all = pytest.mark.parametrize("text", CASES)


def world(bias: bool = False, prior: bool = False, hours: bool = False) -> tuple[Tensor, Tensor, Catalogue, Tensor]:
    return (
        torch.randn(N, D),
        torch.randint(V, (N,)),
        Catalogue(
            torch.randn(V, D),
            torch.randn(V) if bias else None,
            torch.randn(T if hours else 1, V) if prior else None,
            torch.randint(T, (N,)) if hours else None,
            counts=torch.randint(1, 50, (V,)),
        ),
        torch.rand(N) * (torch.rand(N) > 0.2),
    )


def leaves(catalogue: Catalogue, hidden: Tensor, kind: torch.dtype) -> tuple[Catalogue, list[Tensor]]:
    """The same numbers as float64 or float32 leaves of a graph, in one order."""
    made = [
        None if x is None else x.to(kind).clone().requires_grad_() for x in (hidden, catalogue.vectors, catalogue.bias, catalogue.prior)
    ]
    return Catalogue(made[1], made[2], made[3], catalogue.prior_row, catalogue.counts), [x for x in made if x is not None]


def built(text: str) -> Loss:
    return parse(text, Loss).build()


def by_formula(loss: Loss, hidden: Tensor, target: Tensor, catalogue: Catalogue, weight: Tensor) -> Tensor:
    """The loss of a step in float64, on the negatives of seed 1."""
    torch.manual_seed(1)
    each = FORMULAS[type(loss).__name__](loss, scores_of(hidden, catalogue), target, catalogue, weight)
    return (each * weight).sum() / weight.double().sum()


def test_every_loss_has_a_formula_and_a_case() -> None:
    assert FORMULAS.keys() == MEMBERS.keys(), "a new loss is compared with a float64 formula of its own"
    assert {text.partition("(")[0] for text in CASES} == MEMBERS.keys()
    assert all(negatives in " ".join(CASES) for negatives in choices(Negatives))


@pytest.mark.parametrize("kind", [{}, {"bias": True}, {"bias": True, "prior": True}, {"prior": True, "hours": True}], ids=str)
@over_all
def test_it_equals_its_formula(text: str, kind: dict[str, bool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(softmax, "TILE_SCORES", {"cpu": 7 * V})  # many tiles, the last one shorter
    monkeypatch.setattr(softmax, "MIN_TILE_ROWS", 1)
    loss = built(text)
    hidden, target, catalogue, weight = world(**kind)
    exact, exact_leaves = leaves(catalogue, hidden, torch.float64)
    expected = by_formula(loss, exact_leaves[0], target, exact, weight)
    ours, our_leaves = leaves(catalogue, hidden, torch.float32)
    torch.manual_seed(1)
    value = loss(our_leaves[0], target, ours, weight)
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=0)
    (3 * value).backward()
    (3 * expected).backward()
    for leaf, exact_leaf in zip(our_leaves, exact_leaves, strict=True):
        torch.testing.assert_close(leaf.grad.double(), exact_leaf.grad, rtol=1e-4, atol=1e-6)


@over_all
def test_scores_of_any_size(text: str) -> None:
    """Scores in the ten thousands neither overflow nor lose the loss, and gradients stay finite."""
    loss = built(text)
    hidden, target, catalogue, weight = world()
    exact, (exact_hidden, _) = leaves(catalogue, 3000 * hidden, torch.float64)
    ours, our_leaves = leaves(catalogue, 3000 * hidden, torch.float32)
    torch.manual_seed(1)
    value = loss(our_leaves[0], target, ours, weight)
    torch.testing.assert_close(value.double(), by_formula(loss, exact_hidden, target, exact, weight), rtol=1e-5, atol=0)
    value.backward()
    assert all(leaf.grad.isfinite().all() for leaf in our_leaves)


@over_all
def test_it_is_a_mean_over_weights(text: str) -> None:
    contracts.is_mean_over_weights(built(text), *world(bias=True)[:3])


@over_all
def test_it_rewards_the_target(text: str) -> None:
    contracts.rewards_the_target(built(text), *world()[:3])


@over_all
def test_half_precision_is_left_outside(text: str) -> None:
    """Under autocast the loss has the digits that it has without."""
    hidden, target, catalogue, weight = world(bias=True)
    hidden = hidden.bfloat16()
    torch.manual_seed(1)
    expected = built(text)(hidden.float(), target, catalogue, weight)
    torch.manual_seed(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = built(text)(hidden, target, catalogue, weight)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("text", [*(f"{name}()" for name in sorted(MEMBERS.keys() - {"WeightedSum"})), CASES[-1]])
def test_no_tensor_has_a_score_for_every_prediction_and_item(text: str) -> None:
    n_predictions, n_items = 4096, 8192  # eight tiles on a CPU
    hidden, vectors = torch.randn(n_predictions, D, requires_grad=True), torch.randn(n_items, D, requires_grad=True)
    with _Largest() as largest:
        loss = built(text)(hidden, torch.randint(n_items, (n_predictions,)), Catalogue(vectors), torch.ones(n_predictions))
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


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("CrossEntropy(label_smoothing=1.0)", "label_smoothing=1.0 is outside"),
        ("CrossEntropy(temperature=0)", "temperature=0 has to be above 0"),
        ('CrossEntropy(smoothed_over="some")', "'all' or 'others'"),
        ("SampledSoftmax(n_negatives=0)", "SampledSoftmax: n_negatives=0 has to be 1 or more"),
        ("BCE(shared_by=0)", "BCE: shared_by=0 has to be 1 or more"),
        ("TOP1(temperature=-1.0)", "TOP1: temperature=-1.0 has to be above 0"),
        ("BPR(negatives=Unifrom())", "Did you mean Uniform"),
        ("GBCE(t=1.5)", "GBCE: t=1.5 is outside"),
        ("BPRMax(regularisation=-0.1)", "regularisation=-0.1 has to be 0 or above"),
        ("WeightedSum()", "WeightedSum needs losses"),
        ("WeightedSum(losses=[])", "losses is empty"),
        ("WeightedSum(losses=[BPR()], weights=[1.0, 2.0])", "2 weights for 1 loss;"),
        ("WeightedSum(losses=[BPR()], weights=[0])", "have to be above 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        built(text)
