"""What the losses are to each other, and the mistakes of other libraries that they do not make."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from recsys.errors import ConfigError
from recsys.model.catalogue import Catalogue
from recsys.model.losses import Loss, softmax
from recsys.model.losses.bce import BCE, GBCE
from recsys.model.losses.pairwise import BPRMax
from recsys.model.losses.sampled import Sampled
from recsys.model.losses.sampled_softmax import SampledSoftmax
from recsys.model.losses.softmax import CrossEntropy
from recsys.model.negatives import Negatives
from recsys.parts import parse
from recsys.slots import choices

N, V, D = 300, 37, 8
SAMPLED = [cls for cls in choices(Loss).values() if issubclass(cls, Sampled)]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def built(text: str) -> Loss:
    return parse(text, Loss).build()


def step(bias: bool = False, hours: bool = False) -> tuple[Tensor, Tensor, Catalogue, Tensor]:
    """Hidden states, targets, a catalogue and weights."""
    catalogue = Catalogue(
        torch.randn(V, D),
        torch.randn(V) if bias else None,
        torch.randn(3, V) if hours else None,
        torch.randint(3, (N,)) if hours else None,
        counts=torch.randint(1, 50, (V,)),
    )
    return torch.randn(N, D), torch.randint(V, (N,)), catalogue, torch.rand(N)


def value_and_grads(text: str, hidden: Tensor, target: Tensor, catalogue: Catalogue, weight: Tensor) -> list[Tensor]:
    """The loss and its gradients of hidden states and item vectors."""
    h, vectors = hidden.clone().requires_grad_(), catalogue.vectors.clone().requires_grad_()
    torch.manual_seed(1)
    value = built(text)(h, target, replace(catalogue, vectors=vectors), weight)
    return [value.detach(), *torch.autograd.grad(value, [h, vectors])]


class _Fixed(Negatives):
    """Always the same items."""

    def __init__(self, items: list[int]) -> None:
        super().__init__()
        self.items = torch.tensor(items)

    def draw(self, n_sets: int, n: int, catalogue: Catalogue, target: Tensor, weight: Tensor) -> Tensor:
        return self.items.expand(n_sets, n)

    def log_expected(self, items: Tensor, n: int, catalogue: Catalogue) -> Tensor:
        return torch.zeros(items.shape)


# Precision


@pytest.mark.parametrize("n_items", [1, 300])
def test_products_in_bfloat16_keep_the_loss_and_the_direction_of_its_gradients(n_items: int) -> None:
    """Two digits of each product are left, and thousands of them are summed up in float32: a step goes the same way."""
    hidden, target, weight = torch.randn(500, 16), torch.randint(n_items, (500,)), torch.rand(500)
    catalogue = Catalogue(torch.randn(n_items, 16), torch.randn(n_items), torch.randn(3, n_items), torch.randint(3, (500,)))
    given = hidden, target, catalogue, weight
    exact, rough = (value_and_grads(f'CrossEntropy(products="{products}")', *given) for products in ("float32", "bfloat16"))
    torch.testing.assert_close(rough[0], exact[0], rtol=1e-3, atol=1e-6)
    for mine, expected in zip(rough[1:], exact[1:], strict=True):
        assert mine.dtype == torch.float32
        assert (mine - expected).norm() <= 0.01 * expected.norm()


def test_products_are_made_in_bfloat16_where_that_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = torch.zeros(100, 64), torch.zeros(4096, 64)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": True, "avx512_bf16": True})
    assert built("CrossEntropy()")._dtype(large) == torch.bfloat16  # type: ignore[operator]
    assert built("CrossEntropy()")._dtype(small) == torch.float32  # type: ignore[operator]
    assert built('CrossEntropy(products="float32")')._dtype(large) == torch.float32  # type: ignore[operator]
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": True})
    assert built("CrossEntropy()")._dtype(large) == torch.float32  # type: ignore[operator]
    with pytest.raises(ConfigError, match='products=\'half\' has to be "auto", "float32" or "bfloat16"'):
        CrossEntropy(products="half")  # type: ignore[arg-type]


@pytest.mark.parametrize("products", ["float32", "bfloat16"])
def test_tiles_and_threads_change_no_loss(products: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large enough for torch to use all threads: losses within 1e-5, and gradients as near as sums in another order are."""
    n_items, catalogue = 3000, Catalogue(torch.randn(3000, 64) / 8)
    given = torch.randn(1000, 64), torch.randint(n_items, (1000,)), catalogue, torch.rand(1000)
    before, found = torch.get_num_threads(), []
    try:
        for n_threads, n_rows in itertools.product((1, 2, 4), (1, 7, 128, 1000)):
            torch.set_num_threads(n_threads)
            monkeypatch.setattr(softmax, "_tile_rows", lambda device, n_items, n=n_rows: n)
            found.append(value_and_grads(f'CrossEntropy(products="{products}")', *given))
    finally:
        torch.set_num_threads(before)
    for value, *grads in found[1:]:
        torch.testing.assert_close(value, found[0][0], rtol=0, atol=1e-5)
        for mine, expected in zip(grads, found[0][1:], strict=True):
            assert (mine - expected).norm() <= (1e-5 if products == "float32" else 2e-3) * expected.norm()


# To each other


@pytest.mark.parametrize("settings", [f"n_negatives={V}", f"n_negatives={V}, log_q=true", f"n_negatives={3 * V}, log_q=true"])
def test_with_every_item_drawn_the_sampled_softmax_is_the_full_one(settings: str) -> None:
    given = step(bias=True, hours=True)
    sampled, full = (value_and_grads(text, *given) for text in (f"SampledSoftmax({settings})", "CrossEntropy()"))
    torch.testing.assert_close(sampled, full, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("negatives", ["Uniform()", "Popularity(exponent=1.0)", "Mixed(negatives=[Popularity(), Uniform()])", "InBatch()"])
def test_with_log_q_the_sampled_softmax_goes_to_the_full_one(negatives: str) -> None:
    """Whatever the sampler: the error falls as the negatives grow in number, and without log Q it stays."""
    catalogue = step()[2]
    assert catalogue.counts is not None
    target = torch.arange(V).repeat_interleave(catalogue.counts)
    given = torch.randn(len(target), D), target, catalogue, torch.ones(len(target))
    full = built("CrossEntropy()")(*given)
    few, many, uncorrected = (
        abs(built(f"SampledSoftmax(n_negatives={n}, log_q={log_q}, negatives={negatives})")(*given) - full)
        for n, log_q in ((2, "true"), (20_000, "true"), (20_000, "false"))
    )
    assert many < 0.005 and few > 10 * many and uncorrected > 10 * many


def test_the_estimate_of_the_sum_over_all_items_is_unbiased() -> None:
    """With log Q the mean over draws of Σ_j≠y exp(s_j) is the full sum, few as the negatives are."""
    hidden, target, catalogue, _ = step()
    hidden, target, weight = hidden[:1] / 2, target[:1], torch.ones(1)
    scores = (hidden @ catalogue.vectors.T)[0]
    loss = built("SampledSoftmax(n_negatives=3, log_q=true, negatives=Popularity())")
    others = torch.stack([(loss(hidden, target, catalogue, weight) + scores[target[0]]).exp() for _ in range(4000)]) - scores[target].exp()
    expected = scores.exp().sum() - scores[target[0]].exp()
    assert abs(others.mean() - expected) < 4 * others.std() / 4000**0.5 < 0.1 * expected


def test_gbce_without_calibration_is_bce() -> None:
    given = step(bias=True)
    for gbce, bce in (
        ("GBCE(n_negatives=9, t=0.0)", "BCE(n_negatives=9)"),
        (f"GBCE(n_negatives={V - 1}, t=1.0)", f"BCE(n_negatives={V - 1})"),  # nothing is left out that one would have to correct for
        (f"GBCE(n_negatives={5 * V}, t=1.0)", f"BCE(n_negatives={5 * V})"),
    ):
        pairs = zip(value_and_grads(gbce, *given), value_and_grads(bce, *given), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs), gbce


def test_gbce_by_hand() -> None:
    """One prediction with score 2, two negatives with scores 0 and 1, 11 items: α = 0.2, β = 1 − 0.75 · 0.8 = 0.4."""
    vectors = torch.full((11, 1), 7.0)
    vectors[:3, 0] = torch.tensor([2.0, 0.0, 1.0])
    loss = GBCE(n_negatives=2, t=0.75, negatives=_Fixed([1, 2]))
    value = loss(torch.ones(1, 1), torch.tensor([0]), Catalogue(vectors), torch.ones(1))
    p = torch.tensor([2.0, 0.0, 1.0]).sigmoid()
    torch.testing.assert_close(value, -(0.4 * p[0].log() + (1 - p[1]).log() + (1 - p[2]).log()) / 3)


def test_gbce_has_gradients_where_probabilities_are_0_or_1() -> None:
    """RecTools clamps σ(s) to [1e-10, 1 − 1e-10] and has none beyond. The gradient of −β log σ(s) is −β (1 − σ(s))."""
    for score in (-60.0, 15.0):
        s = torch.tensor([[score]], requires_grad=True)
        vectors = torch.tensor([[1.0], [0.0], [0.0]])
        GBCE(n_negatives=1, t=1.0, negatives=_Fixed([1]))(s, torch.tensor([0]), Catalogue(vectors), torch.ones(1)).backward()
        torch.testing.assert_close(s.grad.item(), -0.5 * torch.sigmoid(-torch.tensor(score).double()).item() / 2, rtol=1e-5, atol=0)


def test_smoothing_over_the_others_by_hand() -> None:
    """Four items, ε = 0.3: the target is to have 0.7 and each other 0.1, or 0.775 and 0.075 when it is spread over all."""
    scores = torch.tensor([[1.0, -1.0, 0.5, 2.0]])
    catalogue, log_p = Catalogue(scores.T), scores[0].log_softmax(0)
    for over, wanted in (("others", [0.1, 0.7, 0.1, 0.1]), ("all", [0.075, 0.775, 0.075, 0.075])):
        loss = built(f'CrossEntropy(label_smoothing=0.3, smoothed_over="{over}")')
        torch.testing.assert_close(loss(torch.ones(1, 1), torch.tensor([1]), catalogue, torch.ones(1)), -torch.tensor(wanted) @ log_p)
    with pytest.raises(ConfigError, match="smoothed_over='some'"):
        CrossEntropy(smoothed_over="some")


def test_a_weighted_sum_adds_up() -> None:
    losses, given = ["CrossEntropy()", "CrossEntropy(temperature=2.0)"], step()
    one, other = (built(text)(*given) for text in losses)
    torch.testing.assert_close(built(f"WeightedSum(losses=[{', '.join(losses)}], weights=[3, 0.5])")(*given), 3 * one + 0.5 * other)
    torch.testing.assert_close(built(f"WeightedSum(losses=[{', '.join(losses)}])")(*given), one + other)


# Mistakes of other libraries


@pytest.mark.parametrize("cls", SAMPLED)
@pytest.mark.parametrize("bias", [0.0, -5000.0], ids=["", "far below any constant that could stand for a masked score"])
def test_accidental_hits_never_count(cls: type[Sampled], bias: float) -> None:
    """Transformers4Rec's pairwise losses count equal items of the batch as negatives, and its sampled softmax gives hits a score
    of −655; RecTools counts a target that was drawn against itself."""
    hidden, _, catalogue, weight = step()
    given = hidden, torch.full((N,), 5), replace(catalogue, bias=torch.full((V,), bias)), weight
    calibration = {"t": 0.0} if cls is GBCE else {}  # t changes with the number of draws, by design
    with_hits = cls(n_negatives=6, negatives=_Fixed([5, 1, 5, 2, 5, 3]), **calibration)
    without = cls(n_negatives=3, negatives=_Fixed([1, 2, 3]), **calibration)
    torch.testing.assert_close(with_hits(*given), without(*given))


@pytest.mark.parametrize("cls", SAMPLED)
def test_a_step_with_one_distinct_target_has_no_nan(cls: type[Sampled]) -> None:
    """All in-batch negatives are hits then: nothing is left but the target's own part, which the binary losses have."""
    hidden, target, catalogue, weight = step()
    value, *grads = value_and_grads(f"{cls.__name__}(negatives=InBatch())", hidden, torch.full_like(target, 5), catalogue, weight)
    target_alone = -logsigmoid(hidden @ catalogue.vectors[5]) @ weight / weight.sum()  # 256 draws of 37 items: β is 1
    torch.testing.assert_close(value, target_alone if issubclass(cls, BCE) else torch.tensor(0.0))
    assert all(grad.isfinite().all() for grad in grads)


def test_bpr_max_is_finite_where_every_negative_wins() -> None:
    """Transformers4Rec's BPR-max is disabled, as it takes the log of what is not positive; Σ s σ(r_y − r_j) itself is 0 here."""
    vectors = torch.tensor([[-500.0], [500.0], [400.0]], requires_grad=True)
    loss = BPRMax(n_negatives=2, regularisation=0.0, negatives=_Fixed([1, 2]))
    value = loss(torch.ones(1, 1), torch.tensor([0]), Catalogue(vectors), torch.ones(1))
    value.backward()
    torch.testing.assert_close(value, 1000 - torch.tensor(2.0).log())  # e^0 · e^−1000 + e^−100 · e^−900
    assert vectors.grad.isfinite().all() and vectors.grad[0] < 0


@pytest.mark.parametrize("cls", [BPRMax, *(cls for cls in SAMPLED if cls.__name__ == "TOP1Max")])
def test_weights_of_the_negatives_sum_to_one_without_the_target(cls: type[Sampled]) -> None:
    """With the target in the softmax, as in Transformers4Rec, a target that wins would take all weight from the negatives."""
    vectors = torch.tensor([[30.0], [1.0], [1.0]])
    loss = cls(n_negatives=2, negatives=_Fixed([1, 2]))
    value = loss(torch.ones(1, 1), torch.tensor([0]), Catalogue(vectors), torch.ones(1))
    torch.testing.assert_close(value, torch.tensor(1.0) if cls is BPRMax else torch.tensor(1.0).sigmoid())


@pytest.mark.parametrize("name", sorted(choices(Loss).keys() - {"WeightedSum"}))
def test_a_step_without_targets_costs_nothing_and_teaches_nothing(name: str) -> None:
    """RecTools' BERT4Rec divides by the number of targets: a batch in which none is hidden gives NaN gradients."""
    hidden, target, catalogue, _ = step()
    for n, weight in ((0, torch.ones(0)), (N, torch.zeros(N))):
        value, *grads = value_and_grads(f"{name}()", hidden[:n], target[:n], catalogue, weight)
        assert value == 0 and not any(grad.any() for grad in grads), n


@pytest.mark.parametrize("text", ["CrossEntropy()", f"SampledSoftmax(n_negatives={V})"])
def test_nothing_but_items_is_in_the_denominator(text: str) -> None:
    """Both libraries hold targets against padding, and RecTools against MASK too. With equal scores the loss is log V, of V items."""
    hidden, target, catalogue, weight = step()
    torch.testing.assert_close(built(text)(0 * hidden, target, catalogue, weight), torch.tensor(float(V)).log())


def test_how_items_are_numbered_means_nothing() -> None:
    """Transformers4Rec's log-uniform sampler takes item 1 for the most popular, whatever the data say."""
    hidden, target, catalogue, weight = step()
    assert catalogue.counts is not None
    order = torch.randperm(V)
    place, shuffled = order.argsort(), replace(catalogue, vectors=catalogue.vectors[order], counts=catalogue.counts[order])
    for log_q in (False, True):
        loss = SampledSoftmax(n_negatives=20_000, log_q=log_q, negatives=parse("Popularity()", Negatives).build())
        numbered_anew = loss(hidden, place[target], shuffled, weight)
        torch.testing.assert_close(loss(hidden, target, catalogue, weight), numbered_anew, rtol=1e-3, atol=0)
