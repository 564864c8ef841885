"""The prior of recent activity by hand."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from recsys.dictionary import ItemActivity
from recsys.errors import ConfigError
from recsys.model.priors.activity import REACH, Activity
from recsys.model.sample import sample
from recsys.model.vocabulary import Vocabulary
from recsys.windows import HOUR

DAY = 24 * HOUR
MIDNIGHT = 20_000 * DAY


@pytest.fixture
def prior() -> Activity:
    """Items 0 and 2 had events before midnight, item 1 is an hour too young, item 3 is old and quiet."""
    histories, dictionary = sample(n_items=4)
    vocabulary = Vocabulary.fit(histories, dictionary, histories.offsets[1:])
    assert vocabulary.n_items == 3  # the last item has no event: the model does not know it
    hour_at, codes = np.array([MIDNIGHT - HOUR, MIDNIGHT, MIDNIGHT]), np.array([0, 0, 2], dtype=np.int32)
    counts = {"10m": [7, 1, 0], "1h": [7, 2, 0], "6h": [7, 9, 0], "1d": [7, 9, 5], "7d": [7, 9, 5]}
    events = {window: np.array(n, dtype=np.int32) for window, n in counts.items()}
    first = np.array([MIDNIGHT - 3 * HOUR, MIDNIGHT, MIDNIGHT - 2 * DAY, MIDNIGHT - 9 * DAY])
    made = Activity()
    made.enter(replace(dictionary, activity=ItemActivity(hour_at, codes, events, 4), first_event_at=first), vocabulary)
    return made


def test_it_weighs_logs_of_events_of_their_rate_and_of_age(prior: Activity) -> None:
    with torch.no_grad():
        prior.moved.copy_(torch.linspace(-1, 1, 7))
    w = prior.weight.detach()
    found = prior(torch.tensor([MIDNIGHT]))[0].tolist()
    item_0 = w[0] * math.log(2) + w[1] * math.log(3) + w[2:5].sum() * math.log(10) + w[5] * math.log(1 + 9 / 3) + w[6] * math.log(4)
    item_2 = (w[3] + w[4]) * math.log(6) + w[5] * math.log(1 + 5 / 48) + w[6] * math.log(49)
    assert found == pytest.approx([float(item_0), -math.inf, float(item_2)], rel=1e-5)


def test_a_life_of_less_than_an_hour_or_more_than_a_week_is_counted_as_one(prior: Activity) -> None:
    """No article is thought to be a hundred times as strong since it is a minute old, or weak since it is a year old."""
    night = prior._night
    assert night is not None
    with torch.no_grad():
        prior.moved[5] = 0.1
    w = prior.weight[5].item()
    for age, lived in ((HOUR // 60, 1), (HOUR, 1), (7 * DAY, 168), (365 * DAY, 168)):
        prior._night = replace(night, first_event_at=torch.full_like(night.first_event_at, MIDNIGHT - age))
        assert prior(torch.tensor([MIDNIGHT]))[0, 0].item() == pytest.approx(math.log(2) + w * math.log(1 + 9 / lived), rel=1e-5)


def test_its_weights_stay_near_where_they_start() -> None:
    prior = Activity()
    start = prior.weight.tolist()
    assert start == [1, 0, 0, 0, 0, 0, 0]
    with torch.no_grad():
        prior.moved.copy_(torch.tensor([-9, -0.01, 0, 0.01, 9, 9, 9]))
    assert prior.weight.tolist() == pytest.approx([1 - REACH, -0.01, 0, 0.01, REACH, REACH, REACH], abs=1e-4)


def test_it_begins_with_what_was_popular_in_the_last_ten_minutes(prior: Activity) -> None:
    found = prior(torch.tensor([MIDNIGHT, MIDNIGHT - HOUR])).tolist()
    assert found[0] == pytest.approx([math.log(2), -math.inf, 0.0])
    assert found[1] == pytest.approx([math.log(8), -math.inf, 0.0])


def test_predictions_of_a_day_are_weighed_by_what_was_known_at_midnight(prior: Activity) -> None:
    at = torch.tensor([MIDNIGHT + 10 * HOUR, MIDNIGHT - 1, MIDNIGHT, MIDNIGHT + DAY - 1])
    assert ((prior.moments(at) - MIDNIGHT) / DAY).tolist() == [0, -1, 0, 0]
    rows, row = prior.rows(at)
    assert rows.shape == (2, 3) and row.tolist() == [1, 0, 1, 1]
    assert torch.equal(rows[1], prior(torch.tensor([MIDNIGHT]))[0])


def test_it_counts_whole_hours() -> None:
    with pytest.raises(ConfigError, match="every='90m' has to be whole hours"):
        Activity(every="90m")


def test_before_a_night_is_known_it_says_so_and_copies_share_the_night(prior: Activity) -> None:
    with pytest.raises(ValueError, match="Activity knows of no events yet"):
        Activity()(torch.tensor([MIDNIGHT]))
    assert copy.deepcopy(prior)._night is prior._night
