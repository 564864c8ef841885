from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.model.catalogue import Catalogue
from recsys.ranking.lists import make_lists
from recsys.ranking.topk import top_k


@dataclass
class Scored:
    """A source that is a matrix of scores (users, items); −inf where it has nothing to say."""

    name: str
    scores: np.ndarray

    def rank(self, users, k, rows, item_code):
        vectors = torch.eye(self.scores.shape[1])
        rows, item_code = torch.from_numpy(rows), torch.from_numpy(item_code)
        silent = torch.from_numpy(np.argwhere(self.scores[users] == -np.inf))
        rows, items = torch.cat([rows, silent[:, 0]]), torch.cat([item_code, silent[:, 1]])
        hidden = torch.from_numpy(np.where(self.scores[users] == -np.inf, 0, self.scores[users])).float()
        scores, index = top_k(hidden, Catalogue(vectors), k, rows, items)
        return scores.numpy(), index.numpy()


def csr(pairs, n_users):
    pairs = sorted(pairs)
    offsets = np.cumsum([0] + [sum(u == user for u, _ in pairs) for user in range(n_users)])
    return offsets, np.array([i for _, i in pairs], dtype=np.int32)


def by_loop(sources, user, k, excluded):
    """The oracle: source after source, item after item."""
    found = []
    for number, source in enumerate(sources):
        for item in sorted(range(source.scores.shape[1]), key=lambda i: (-source.scores[user, i], i)):
            if (
                len(found) < k
                and source.scores[user, item] > -np.inf
                and (user, item) not in excluded
                and item not in [i for i, _ in found]
            ):
                found.append((item, number))
    return found


@st.composite
def problems(draw):
    n_users, n_items, n_sources = draw(st.integers(1, 6)), draw(st.integers(1, 9)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    silence = draw(st.sampled_from([0.0, 0.5, 1.0]))
    scores = rng.integers(0, 4, (n_sources, n_users, n_items)).astype(float)
    scores[:-1][rng.random(scores[:-1].shape) < silence] = -np.inf
    excluded = {(int(u), int(i)) for u, i in np.argwhere(rng.random((n_users, n_items)) < draw(st.sampled_from([0.0, 0.4, 1.0])))}
    return [Scored(str(n), s) for n, s in enumerate(scores)], n_users, draw(st.integers(1, 7)), excluded, draw(st.integers(1, 7))


@given(problems())
@settings(max_examples=100, deadline=None)
def test_sources_continue_each_other_without_what_is_listed_or_excluded(problem):
    sources, n_users, k, excluded, tile = problem
    users = np.arange(n_users)[::-1]
    lists = make_lists(sources, users, k, [csr(excluded, n_users)], near=np.arange(n_users) % 3, users_per_tile=tile)
    for row, user in enumerate(users):
        expected = by_loop(sources, user, k, excluded)
        n = len(expected)
        assert list(zip(lists.item_code[row, :n].tolist(), lists.source[row, :n].tolist(), strict=True)) == expected
        assert lists.score[row, :n].tolist() == [sources[s].scores[user, i] for i, s in expected]
        assert (lists.item_code[row, n:] == -1).all() and (lists.source[row, n:] == -1).all() and (lists.score[row, n:] == -np.inf).all()


def test_progress_hears_of_every_user():
    heard = []
    make_lists([Scored("one", np.zeros((5, 3)))], np.arange(5), 2, [], np.zeros(5), users_per_tile=2, progress=heard.append)
    assert heard == [2, 2, 1]
