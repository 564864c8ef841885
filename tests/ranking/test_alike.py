import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.ranking import alike as module
from recsys.ranking.alike import alike


@st.composite
def problems(draw):
    """Few values and short lists, so that many users are alike; some have more than is compared."""
    n_users, n_parts = draw(st.integers(1, 12)), draw(st.integers(1, 3))
    lists = st.lists(st.integers(-2, 1), max_size=draw(st.sampled_from([1, 2, module.FEW + 2])))
    return [[draw(lists) for _ in range(n_users)] for _ in range(n_parts)]


@given(problems())
@settings(max_examples=200, deadline=None)
def test_users_of_one_kind_have_the_same_in_every_part(problem):
    n_users = len(problem[0])
    parts = [(np.repeat(np.arange(n_users), [len(own) for own in part]), np.array(sum(part, []), dtype=int)) for part in problem]
    first, kind = alike(n_users, parts)
    own = [[part[user] for part in problem] for user in range(n_users)]
    assert first.tolist() == sorted(first.tolist())
    for user in range(n_users):
        same = [other for other in range(n_users) if own[other] == own[user]]
        compared = all(len(part) <= module.FEW for part in own[user])
        assert first[kind[user]] == (same[0] if compared else user)
