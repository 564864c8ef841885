import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from recsys.errors import RecsysError
from recsys.model.catalogue import Catalogue
from recsys.ranking import topk
from recsys.ranking.topk import restrict, top_k


def full_sort(hidden, catalogue, k, excluded=(), eligible=None):
    """The oracle: every score in float64, one stable sort by (score descending, index ascending) per user."""
    scores = hidden.double() @ catalogue.vectors.double().T
    if catalogue.bias is not None:
        scores = scores + catalogue.bias.double()
    if catalogue.prior is not None:
        scores = scores + catalogue.prior.double()[catalogue.prior_row]
    scores = scores.float()
    if eligible is not None:
        out = torch.ones(scores.shape[1], dtype=torch.bool)
        out[eligible] = False
        scores[:, out] = -torch.inf
    for row, item in excluded:
        scores[row, item] = -torch.inf
    order = scores.argsort(dim=1, descending=True, stable=True)[:, :k]
    best = scores.gather(1, order)
    order = torch.where(best == -torch.inf, -1, order)
    missing = k - order.shape[1]
    pad = torch.nn.functional.pad
    return pad(best, (0, missing), value=-torch.inf), pad(order, (0, missing), value=-1)


def small_numbers(shape, seed, values=4):
    """Few distinct values, so that ties are everywhere and products are exact in any order."""
    return torch.randint(-values, values + 1, shape, generator=torch.Generator().manual_seed(seed)).float()


def as_pairs(excluded):
    return torch.tensor([r for r, _ in excluded], dtype=torch.long), torch.tensor([i for _, i in excluded], dtype=torch.long)


def ranked(hidden, catalogue, k, excluded, eligible):
    """Lists of the eligible items as they are made: of a restricted catalogue, and then in the items' own numbers again."""
    place = torch.full((catalogue.n_items,), -1).index_copy(0, eligible, torch.arange(len(eligible)))
    kept = [(row, int(place[item])) for row, item in excluded if place[item] >= 0]
    scores, index = top_k(hidden, restrict(catalogue, eligible), k, *as_pairs(kept))
    return scores, torch.cat([eligible, torch.tensor([-1])])[index]


@st.composite
def problems(draw):
    n_users, n_items, k = draw(st.integers(1, 7)), draw(st.integers(1, 300)), draw(st.integers(1, 40))
    share = draw(st.sampled_from([0.0, 0.1, 0.9, 1.0]))  # of the pairs that are excluded: up to users who have seen everything
    seed = draw(st.integers(0, 10_000))
    generator = torch.Generator().manual_seed(seed)
    excluded = (torch.rand(n_users, n_items, generator=generator) < share).nonzero().tolist()
    eligible = (torch.rand(n_items, generator=generator) < draw(st.sampled_from([0.2, 0.7, 1.0]))).nonzero()[:, 0]
    catalogue = Catalogue(
        vectors=small_numbers((n_items, 3), seed),
        bias=small_numbers((n_items,), seed + 1) if draw(st.booleans()) else None,
        prior=small_numbers((3, n_items), seed + 3) if (hours := draw(st.booleans())) else None,
        prior_row=torch.randint(3, (n_users,), generator=generator) if hours else None,
    )
    return small_numbers((n_users, 3), seed + 2), catalogue, k, excluded, eligible


@given(problems(), st.sampled_from([64, 128]), st.sampled_from([1, 500, 10**6]))
@settings(max_examples=150, deadline=None)
def test_equals_a_full_sort_ties_included(problem, tile_items, tile_scores):
    hidden, catalogue, k, excluded, eligible = problem
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(topk.TILE_ITEMS, "cpu", tile_items)
        patch.setitem(topk.TILE_SCORES, "cpu", tile_scores)
        scores, index = ranked(hidden, catalogue, k, excluded, eligible)
    expected_scores, expected_index = full_sort(hidden, catalogue, k, excluded, eligible)
    assert torch.equal(index, expected_index)
    assert torch.equal(scores, expected_scores)


class Made(TorchDispatchMode):
    """Counts the operations of torch and the numbers of the largest tensor that one of them made."""

    def __init__(self):
        super().__init__()
        self.calls, self.largest = 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        self.calls += 1
        self.largest = max(
            [self.largest, *(x.numel() for x in (made if isinstance(made, tuple | list) else [made]) if isinstance(x, torch.Tensor))]
        )
        return made


def test_a_tile_of_scores_is_the_largest_thing(monkeypatch):
    """Of 400 users and 3,000 items, that is 1.2 million pairs, 10 users and 128 items at a time."""
    monkeypatch.setitem(topk.TILE_ITEMS, "cpu", 128)
    monkeypatch.setitem(topk.TILE_SCORES, "cpu", 10 * 18 * 8)  # 18 candidates of width 8 are more than a tile has items
    with Made() as made:
        top_k(torch.randn(400, 8), Catalogue(torch.randn(3000, 8)), 10)
    assert made.largest <= 3000 * 8


def test_users_of_a_tile_are_ranked_at_once():
    """As many operations for a hundred as for ten: no loop over users."""
    catalogue, calls = Catalogue(torch.randn(3000, 8)), []
    for n_users in (10, 100):
        seen = torch.arange(n_users).repeat_interleave(3), torch.arange(3 * n_users) % 3000
        with Made() as made:
            top_k(torch.randn(n_users, 8), catalogue, 10, *seen)
        calls.append(made.calls)
    assert calls[0] == calls[1]


def test_a_list_by_hand():
    catalogue = Catalogue(vectors=torch.tensor([[1.0], [3.0], [2.0], [3.0]]))
    scores, index = top_k(torch.tensor([[1.0], [-1.0]]), catalogue, 3, torch.tensor([0, 1]), torch.tensor([1, 0]))
    assert index.tolist() == [[3, 2, 0], [2, 1, 3]]  # equal scores of items 1 and 3: the lower index first
    assert scores.tolist() == [[3.0, 2.0, 1.0], [-2.0, -3.0, -3.0]]


def test_fewer_items_than_asked_for_end_in_nothing():
    catalogue = Catalogue(vectors=torch.tensor([[1.0], [3.0]]))
    scores, index = top_k(torch.ones(2, 1), catalogue, 3, torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]))
    assert index.tolist() == [[-1, -1, -1], [0, -1, -1]]
    assert scores.tolist() == [[-np.inf] * 3, [1.0, -np.inf, -np.inf]]


def test_nobody_to_rank_for():
    scores, index = top_k(torch.empty(0, 1), Catalogue(vectors=torch.ones(5, 1)), 3)
    assert scores.shape == index.shape == (0, 3)


def test_no_item_left_in_the_catalogue():
    scores, index = top_k(torch.ones(2, 1), restrict(Catalogue(vectors=torch.ones(5, 1)), torch.empty(0, dtype=torch.long)), 3)
    assert (index == -1).all() and (scores == -torch.inf).all()


def test_ties_across_many_tiles_keep_vocabulary_order():
    n_items = 3 * topk.TILE_ITEMS["cpu"] + 17
    catalogue = Catalogue(vectors=torch.ones(n_items, 1))
    seen = torch.arange(5)
    _, index = top_k(torch.ones(1, 1), catalogue, 4, torch.zeros(5, dtype=torch.long), seen)
    assert index.tolist() == [[5, 6, 7, 8]]


@pytest.mark.parametrize(("n_items", "width", "k"), [(20_000, 64, 10), (40_000, 16, 100), (500, 128, 400)])
def test_tiles_and_threads_change_no_list_of_real_numbers(monkeypatch, n_items, width, k):
    generator = torch.Generator().manual_seed(3)
    hidden, vectors = torch.randn(300, width, generator=generator), torch.randn(n_items, width, generator=generator)
    catalogue = Catalogue(vectors=vectors, bias=torch.randn(n_items, generator=generator))
    expected_scores, expected_index = full_sort(hidden, catalogue, k)
    threads = torch.get_num_threads()
    try:
        for tile_items, tile_scores, n_threads in [(64 * 50, 2**16, 1), (16_384, 2**22, 2), (2**20, 2**24, 1)]:
            torch.set_num_threads(n_threads)
            monkeypatch.setitem(topk.TILE_ITEMS, "cpu", tile_items)
            monkeypatch.setitem(topk.TILE_SCORES, "cpu", tile_scores)
            scores, index = top_k(hidden, catalogue, k)
            assert torch.equal(index, expected_index)
            torch.testing.assert_close(scores, expected_scores, rtol=1e-6, atol=0)
    finally:
        torch.set_num_threads(threads)


def test_a_prior_belongs_to_its_row():
    catalogue = Catalogue(
        vectors=torch.zeros(3, 2), bias=None, prior=torch.tensor([[0.0, 1.0, 2.0], [5.0, 4.0, 3.0]]), prior_row=torch.tensor([1, 0, 1])
    )
    scores, index = top_k(torch.ones(3, 2), catalogue, 2)
    assert index.tolist() == [[0, 1], [2, 1], [0, 1]]
    assert scores.tolist() == [[5.0, 4.0], [2.0, 1.0], [5.0, 4.0]]


def test_a_prior_of_one_row_is_everybodys():
    catalogue = Catalogue(vectors=torch.zeros(3, 2), prior=torch.tensor([[0.0, 2.0, 1.0]]))
    assert top_k(torch.ones(2, 2), catalogue, 2)[1].tolist() == [[1, 2], [1, 2]]


def test_a_restricted_catalogue_has_the_scores_of_its_items():
    hidden, vectors = small_numbers((4, 3), 1), small_numbers((50, 3), 2)
    catalogue = Catalogue(vectors=vectors, bias=small_numbers((50,), 3), prior=small_numbers((1, 50), 4))
    eligible = torch.arange(0, 50, 3)
    assert torch.equal(restrict(catalogue, eligible).scores(hidden, slice(0, 4)), catalogue.scores(hidden, slice(0, 4))[:, eligible])


def test_a_diverged_model_is_an_answer():
    hidden = torch.tensor([[1.0], [float("nan")], [float("inf")]])
    with pytest.raises(RecsysError, match="2 of 3 users' vectors are not finite"):
        top_k(hidden, Catalogue(vectors=torch.ones(5, 1)), 2)
    vectors = torch.ones(5, 1)
    vectors[3] = float("nan")
    with pytest.raises(RecsysError, match="1 of 5 items' vectors are not finite"):
        top_k(torch.ones(2, 1), Catalogue(vectors=vectors), 2)
    broken = torch.tensor([0.0, 1.0, float("nan"), 0.0, -torch.inf])
    with pytest.raises(RecsysError, match="2 of 5 items' biases are not finite"):
        top_k(torch.ones(2, 1), Catalogue(vectors=torch.ones(5, 1), bias=broken), 2)
    with pytest.raises(RecsysError, match="1 of 5 items' priors are not finite"):
        top_k(torch.ones(2, 1), Catalogue(vectors=torch.ones(5, 1), prior=broken[None]), 2)
    with pytest.raises(RecsysError, match="Scores are too large"):
        top_k(torch.full((2, 1), 1e30), Catalogue(vectors=torch.full((5, 1), 1e30)), 2)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("item", [0, 70, 199])
def test_a_vector_that_is_no_number_is_found_in_any_tile(monkeypatch, sign, item):
    monkeypatch.setitem(topk.TILE_ITEMS, "cpu", 64)
    vectors = torch.arange(200.0, 0.0, -1.0)[:, None]  # nothing in a later tile is above the best of the first
    vectors[item] = torch.tensor(float("nan")).copysign(torch.tensor(sign))
    with pytest.raises(RecsysError, match="1 of 200 items' vectors are not finite"):
        top_k(torch.ones(2, 1), Catalogue(vectors=vectors), 2)
