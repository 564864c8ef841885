"""The gate, on hand-made results: what is published, and in which words."""

from dataclasses import replace
from math import nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.config import Promotion
from recsys.promotion.policy import judge
from recsys.promotion.results import Measured
from tests.promotion.evenings import FEW, NEW, USERS, better_on_average, evening, measured

# ---------------------------------------------------------------- every outcome, word for word


def test_a_better_candidate_is_published() -> None:
    decision = judge(evening(0.12, current=0.11), Promotion())
    assert decision.published == "candidate"
    assert decision.reasons == (
        "The candidate is published: on 1,234 test users its NDCG@10 of 0.1200 is 20.0% above popular-lately's 0.1000"
        " (difference +0.0200, 95% interval +0.0160 to +0.0240)"
        " and 9.1% above the current model's 0.1100 (difference +0.0100, 95% interval +0.0060 to +0.0140).",
        "The current model makes way for the candidate: NDCG@10 of 0.1100.",
        "Popular-lately is the better baseline, which a model has to beat: NDCG@10 of 0.1000.",
        "Popular overall is the other baseline: NDCG@10 of 0.0500.",
    )


def test_a_better_candidate_is_held_where_a_person_has_the_last_word() -> None:
    decision = judge(evening(0.12, current=0.11), Promotion(mode="held"))
    assert (decision.published, decision.held) == ("candidate", True)
    assert decision.reasons[0].startswith("The candidate is held for a person to `recsys promote` it: on 1,234 test users its NDCG@10 of")
    assert decision.verdicts["current"] == "The current model stays until the candidate is promoted: NDCG@10 of 0.1100."


@pytest.mark.parametrize("contenders", [evening(0.05, current=0.12), evening(0.05), {**evening(0.12), "popular_lately": FEW}])
def test_only_a_candidate_is_held(contenders: dict[str, Measured]) -> None:
    automatic, asked = judge(contenders, Promotion()), judge(contenders, Promotion(mode="held"))
    assert automatic.published != "candidate" and asked == automatic and not asked.held


def test_an_equal_candidate_is_published_for_it_knows_a_newer_day() -> None:
    decision = judge(evening(0.11, current=0.11), Promotion())
    assert decision.published == "candidate"
    assert "and equal to the current model's 0.1100 (difference +0.0000," in decision.reasons[0]
    assert decision.verdicts["current"] == "The current model makes way for the candidate: NDCG@10 of 0.1100."


def test_a_candidate_that_is_worse_within_the_tolerance_is_published() -> None:
    decision = judge(evening(0.1095, current=0.11), Promotion(tolerance=0.05))  # from −4.1 % to +3.2 % by its interval
    assert decision.published == "candidate"
    assert decision.verdicts["current"] == (
        "The current model makes way for the candidate, which loses no more than the 5.0% that are tolerated: NDCG@10 of 0.1100."
    )


def test_a_candidate_that_may_lose_more_than_is_tolerated_is_rejected_however_good_it_looks() -> None:
    decision = judge(evening(0.1095, current=0.11), Promotion(tolerance=0.04))
    assert decision.published == "current"
    assert (
        "(difference -0.0005, 95% interval -0.0045 to +0.0035): it may lose 4.1%, and 4.0% are tolerated" in decision.verdicts["candidate"]
    )


def test_a_worse_candidate_is_rejected_and_the_current_model_published_again() -> None:
    decision = judge(evening(0.105, current=0.11), Promotion(tolerance=0.02))
    assert decision.published == "current"
    assert decision.reasons == (
        "The current model is published again: on 1,234 test users its NDCG@10 of 0.1100 is 10.0% above popular-lately's 0.1000"
        " (difference +0.0100, 95% interval +0.0060 to +0.0140).",
        "The candidate is rejected: NDCG@10 of 0.1050 is 4.5% below the current model's 0.1100"
        " (difference -0.0050, 95% interval -0.0090 to -0.0010): it may lose 8.2%, and 2.0% are tolerated.",
        "Popular-lately is the better baseline, which a model has to beat: NDCG@10 of 0.1000.",
        "Popular overall is the other baseline: NDCG@10 of 0.0500.",
    )


def test_on_the_first_night_a_candidate_has_to_beat_the_better_baseline_only() -> None:
    decision = judge(evening(0.12, current=None), Promotion())
    assert decision.published == "candidate"
    assert decision.reasons[0] == (
        "The candidate is published: on 1,234 test users its NDCG@10 of 0.1200 is 20.0% above popular-lately's 0.1000"
        " (difference +0.0200, 95% interval +0.0160 to +0.0240); there is no current model to compare it with."
    )


def test_on_the_first_night_a_weak_candidate_gives_way_to_the_better_baseline() -> None:
    decision = judge(evening(0.08, current=None, lately=0.05, overall=0.1), Promotion())
    assert decision.published == "popular"
    assert decision.reasons == (
        "Popular overall is published, since no model is within the limits: NDCG@10 of 0.1000.",
        "The candidate is rejected: NDCG@10 of 0.0800 is 20.0% below popular overall's 0.1000"
        " (difference -0.0200, 95% interval -0.0240 to -0.0160), which it has to beat.",
        "Popular-lately is the other baseline: NDCG@10 of 0.0500.",
    )


def test_with_nothing_good_enough_a_baseline_is_published() -> None:
    decision = judge(evening(0.08, current=0.09), Promotion())
    assert decision.published == "popular_lately"
    assert decision.reasons == (
        "Popular-lately is published, since no model is within the limits: NDCG@10 of 0.1000.",
        "The candidate is rejected: NDCG@10 of 0.0800 is 20.0% below popular-lately's 0.1000"
        " (difference -0.0200, 95% interval -0.0240 to -0.0160), which it has to beat.",
        "The current model is rejected: NDCG@10 of 0.0900 is 10.0% below popular-lately's 0.1000"
        " (difference -0.0100, 95% interval -0.0140 to -0.0060), which it has to beat.",
        "Popular overall is the other baseline: NDCG@10 of 0.0500.",
    )


def test_with_too_few_users_the_current_model_stays() -> None:
    contenders = {name: Measured(0.1, 0.4, 12) for name in ("candidate", "current", "popular_lately", "popular")}
    decision = judge(contenders, Promotion(min_users=50))
    assert decision.published == "current"
    assert decision.reasons == ("Nothing is concluded from 12 test users, for promotion.min_users is 50: the current model stays.",)
    assert decision.verdicts["candidate"] == "The candidate is not judged."


@pytest.mark.parametrize(
    ("missing", "published", "name"), [((), "popular_lately", "popular-lately"), (("popular_lately",), "popular", "popular overall")]
)
def test_with_too_few_users_and_no_current_model_a_baseline_is_published(missing: tuple[str, ...], published: str, name: str) -> None:
    contenders = {c: Measured(0.9, 0.4, 12) for c in ("candidate", "popular_lately", "popular") if c not in missing}
    decision = judge(contenders, Promotion(min_users=50))
    assert decision.published == published
    assert decision.reasons == (
        "Nothing is concluded from 12 test users, for promotion.min_users is 50:"
        f" {name} is published, since there is no current model to compare it with.",
    )


def test_with_too_few_users_a_current_model_that_is_not_compared_with_stays_too() -> None:
    contenders = {c: Measured(0.9, 0.4, 12) for c in ("candidate", "popular_lately", "popular")}
    decision = judge(contenders, Promotion(min_users=50), alone="it has seen the holdout", stays=True)
    assert decision.published == "current"
    assert decision.reasons == ("Nothing is concluded from 12 test users, for promotion.min_users is 50: the current model stays.",)
    assert set(decision.verdicts) == {"current", *contenders}
    assert judge(evening(0.12), Promotion(), stays=True).published == "candidate", "with enough users the others are judged"


# ---------------------------------------------------------------- limits, one by one


def test_a_model_has_to_beat_the_baseline_not_to_equal_it() -> None:
    decision = judge(evening(0.1, current=0.12), Promotion(tolerance=0.5))
    assert decision.published == "current"
    assert decision.verdicts["candidate"] == (
        "The candidate is rejected: NDCG@10 of 0.1000 is equal to popular-lately's 0.1000"
        " (difference +0.0000, 95% interval -0.0040 to +0.0040), which it has to beat."
    )


@pytest.mark.parametrize(("value", "published"), [(0.11, "candidate"), (0.1099, "popular_lately")])
def test_a_lift_over_the_baseline_may_be_asked_for(value: float, published: str) -> None:
    decision = judge(evening(value), Promotion(min_lift=0.1))
    assert decision.published == published
    if published != "candidate":
        assert "is 9.9% above popular-lately's 0.1000" in decision.verdicts["candidate"]
        assert decision.verdicts["candidate"].endswith("which it has to beat by 10.0%.")


def test_a_lift_may_be_asked_for_over_each_baseline() -> None:
    asked = Promotion(min_lift={"popular": 1.5, "popular_lately": 0.05})
    decision = judge(evening(0.11, lately=0.1, overall=0.05), asked)
    assert decision.published == "popular_lately"
    assert decision.verdicts["candidate"] == (
        "The candidate is rejected: NDCG@10 of 0.1100 is 2.2 times popular overall's 0.0500"
        " (difference +0.0600, 95% interval +0.0560 to +0.0640), which it has to beat by 150.0%."
    )
    assert decision.verdicts["popular"] == "Popular overall is the other baseline, which a model has to beat by 150.0%: NDCG@10 of 0.0500."
    assert judge(evening(0.13, lately=0.1, overall=0.05), asked).published == "candidate"
    unnamed = judge(evening(0.1, lately=0.1, overall=0.05), Promotion(min_lift={"popular": 0.3}))
    assert unnamed.verdicts["candidate"].endswith("+0.0040), which it has to beat."), "by nothing, but beat"


def test_a_baseline_is_beaten_by_the_value_and_that_chance_may_explain_it_is_said() -> None:
    """A baseline is what is left: no proof is asked for against it, and a lift that was not shown is told."""
    decision = judge(evening(0.103, current=0.101, lately=0.1, overall=0.05), Promotion(min_lift=0.03))
    assert decision.published == "candidate"
    assert "3.0% above popular-lately's 0.1000 (difference +0.0030, 95% interval -0.0010 to +0.0070)" in decision.reasons[0]
    assert decision.reasons[0].endswith("; chance may explain that it is above popular-lately.")
    both = judge(evening(0.103, lately=0.1, overall=0.102), Promotion(min_lift={"popular": 0.0}))
    assert "; chance may explain that it is above popular-lately and popular overall;" in both.reasons[0]
    assert "chance" not in judge(evening(0.105), Promotion()).reasons[0]
    assert "chance" not in judge(evening(0.099), Promotion(min_lift=-0.5)).reasons[0], "it is below, as is allowed"


def test_without_an_interval_nothing_is_said_of_chance() -> None:
    few = {name: replace(one, lifts={}, low=None, high=None) for name, one in evening(0.101).items()}
    assert judge(few, Promotion()).reasons[0].endswith("1.0% above popular-lately's 0.1000; there is no current model to compare it with.")


def test_why_no_current_model_was_compared_with_is_part_of_the_decision() -> None:
    why = "the current model is not compared with, since it has seen events of the holdout, and so has any twin"
    assert judge(evening(0.12), Promotion(), alone=why).reasons[0].endswith(f"+0.0240); {why}.")
    few = {name: replace(one, n_users=3) for name, one in evening(0.12).items()}
    assert judge(few, Promotion(), alone=why).reasons[0].endswith(f"popular-lately is published, since {why}.")


def test_what_is_more_than_twice_as_good_is_said_in_times() -> None:
    reason = judge(evening(0.58, current=0.4), Promotion()).reasons[0]
    assert "its NDCG@10 of 0.5800 is 5.8 times popular-lately's 0.1000 (" in reason and "45.0% above the current model's 0.4000 (" in reason


def test_a_baseline_that_finds_nothing_is_beaten_by_a_model_that_finds_something() -> None:
    decision = judge(evening(0.12, lately=0.0, overall=0.0), Promotion())
    assert decision.published == "candidate"
    assert "its NDCG@10 of 0.1200 is above popular-lately's 0.0000" in decision.reasons[0]
    assert judge(evening(0.0, lately=0.0, overall=0.0), Promotion()).published == "popular_lately"


def test_lists_have_to_show_enough_of_the_catalogue() -> None:
    decision = judge(evening(0.12, current=0.11, coverage=0.01), Promotion(min_coverage=0.05))
    assert decision.published == "current"
    assert decision.verdicts["candidate"] == "The candidate is rejected: its lists show 1.0% of the eligible items, and 5.0% are asked for."
    assert judge(evening(0.12, coverage=0.05), Promotion(min_coverage=0.05)).published == "candidate"


def test_every_broken_limit_is_named() -> None:
    verdict = judge(evening(0.08, current=0.11, coverage=0.01), Promotion(min_coverage=0.05)).verdicts["candidate"]
    assert "below the current model's" in verdict and "below popular-lately's" in verdict and "of the eligible items" in verdict


def test_a_candidate_need_not_match_a_current_model_that_is_outside_the_limits() -> None:
    contenders = {**evening(0.105, current=0.11), "current": measured(0.11, coverage=0.01)}
    decision = judge(contenders, Promotion(min_coverage=0.05))
    assert decision.published == "candidate"
    assert (
        decision.verdicts["current"] == "The current model is rejected: its lists show 1.0% of the eligible items, and 5.0% are asked for."
    )


def test_a_candidate_at_exactly_the_tolerance_is_within_it() -> None:
    for current in (0.1, 0.11, 0.13, 0.3, 0.7):
        contenders = evening(current, current=current, lately=0.01, overall=0.0)
        contenders["candidate"] = Measured(current * 0.95, 0.4, USERS, current * -0.05, current * -0.1, 0.0)
        assert judge(contenders, Promotion(tolerance=0.1)).published == "candidate"


def test_too_few_users_for_an_interval_are_judged_by_their_difference() -> None:
    few = {name: Measured(one.value, one.coverage, 9) for name, one in evening(0.1, current=0.11, lately=0.05).items()}
    assert judge(few, Promotion(tolerance=0.1, min_users=5)).published == "candidate"
    assert judge(few, Promotion(tolerance=0.09, min_users=5)).verdicts["candidate"].endswith("0.1100: 9.0% are tolerated.")


# ---------------------------------------------------------------- slices of users and items


def test_better_on_average_and_worse_for_new_users_is_rejected_where_a_limit_says_so() -> None:
    decision = judge(better_on_average(0.06), Promotion(slice_tolerance={"users known for": 0.1}))
    assert decision.published == "current"
    assert decision.verdicts["candidate"] == (
        "The candidate is rejected: NDCG@10 on 210 users of the slice 'users known for less than a day' is 25.0% below the current"
        " model's 0.0800 (95% interval -0.0300 to -0.0100), and 10.0% are tolerated there."
    )
    assert judge(better_on_average(0.06), Promotion()).published == "candidate"


def test_a_slice_has_to_be_shown_worse_for_among_many_some_look_bad_by_chance() -> None:
    assert judge(better_on_average(0.06, half_interval=0.013), Promotion(slice_tolerance={"users": 0.1})).published == "candidate"


@pytest.mark.parametrize("order", [1, -1])
def test_of_several_limits_that_a_slice_begins_with_the_longest_counts(order: int) -> None:
    def published(of_new: float, of_known: float) -> str:
        asked = dict([(NEW, of_new), ("users known for", of_known)][::order])
        return judge(better_on_average(0.06), Promotion(slice_tolerance=asked)).published

    assert (published(0.2, 0.1), published(0.1, 0.2)) == ("candidate", "current")


def test_a_slice_of_too_few_users_limits_nothing_and_says_so() -> None:
    contenders = better_on_average(0.06)
    few = replace(contenders["candidate"].slices[NEW], low=None, high=None, n_users=7)
    contenders["candidate"] = replace(contenders["candidate"], slices={NEW: few})
    decision = judge(contenders, Promotion(slice_tolerance={"users known": 0.0}))
    assert decision.published == "candidate"
    assert decision.reasons[0].endswith("+0.0140); not judged on 'users known for less than a day' (no interval of 7 users).")
    rejected = judge({**contenders, "candidate": replace(contenders["candidate"], low=-0.1)}, Promotion(slice_tolerance={"users": 0.0}))
    assert rejected.verdicts["candidate"].endswith("tolerated; not judged on 'users known for less than a day' (no interval of 7 users).")


def test_limited_slices_that_there_are_not_tonight_are_told() -> None:
    limits = {f"users with age {age}": 0.1 for age in (1, 2, 3, 4, 5)} | {"users known for": 0.1}
    reason = judge(better_on_average(0.09), Promotion(slice_tolerance=limits)).reasons[0]
    assert reason.endswith(
        "; not judged on 'users with age 1' (no such slice tonight), 'users with age 2' (no such slice tonight),"
        " 'users with age 3' (no such slice tonight) and 2 more."
    )
    assert "not judged" not in judge(evening(0.12), Promotion(slice_tolerance=limits)).reasons[0], "limits are beside a current model"


def test_a_model_without_a_finite_result_is_never_published() -> None:
    assert judge({**evening(nan), "candidate": Measured(nan, 0.4, USERS)}, Promotion()).published == "popular_lately"
    assert judge({**evening(nan, current=0.11), "candidate": Measured(nan, nan, USERS)}, Promotion()).published == "current"


values = st.floats(0, 1)


@given(
    values, st.none() | values, values, values, st.floats(0, 0.5), st.none() | values, st.none() | values, st.floats(-0.5, 2), values,
    st.integers(0, 100),
)  # fmt: skip
def test_whatever_the_results_something_is_published_with_a_verdict_on_everybody(
    candidate: float,
    current: float | None,
    lately: float,
    overall: float,
    tolerance: float,
    interval: float | None,
    of_new: float | None,
    lift: float,
    coverage: float,
    n_users: int,
) -> None:
    """`interval` is half of that of the candidate's difference, None with too few users; `of_new` is what it loses with new users."""
    contenders = {name: Measured(c.value, coverage, n_users) for name, c in evening(candidate, current, lately, overall).items()}
    difference = candidate - (max(lately, overall) if current is None else current)
    ends = (None, None) if interval is None else (difference - interval, difference + interval)
    slices = {} if of_new is None else {NEW: Measured(0.5, nan, n_users, -of_new, -of_new, -of_new)}
    contenders["candidate"] = Measured(candidate, coverage, n_users, difference, *ends, slices)
    asked = Promotion(tolerance=tolerance, slice_tolerance={NEW: 0.5}, min_lift=lift, min_coverage=0.5, min_users=50)
    decision = judge(contenders, asked)
    assert decision.published in contenders
    assert set(decision.verdicts) == set(contenders)
    assert decision.reasons[0] == decision.verdicts[decision.published]
    if n_users < 50 or decision.published not in ("candidate", "current"):
        return
    assert coverage >= 0.5 and (lift < 0 or contenders[decision.published].value > max(lately, overall))
    rival = judge({name: c for name, c in contenders.items() if name != "candidate"} | {"candidate": FEW}, asked)
    if decision.published == "candidate" and current is not None and rival.published == "current":
        assert (candidate if interval is None else current + ends[0]) >= current * (1 - tolerance) - 1e-6  # type: ignore[operator]
        assert of_new is None or -of_new >= -0.5 * (0.5 + of_new) - 1e-6
