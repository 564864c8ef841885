"""Whom a night's candidate is compared with, and why with nobody."""

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from flows.run import Rival, Run, Winner, comparable, winner
from recsys import published
from recsys.config import Data, Evaluation, Model, Night, Promotion, Shop, Training
from recsys.demo import prepare
from recsys.promotion.policy import Decision
from recsys.store import Artifact, Store
from recsys.windows import Cut

NIGHT = datetime(2025, 6, 2, tzinfo=timezone.utc)
READS_DEVICES = Night(
    data=Data(demo=Shop(n_users=100, n_items=40)),
    model=Model(width=8, max_events=5, inputs='Inputs(features=["device"])'),
    training=Training(max_epochs=1, n_validation_users=20),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(Store(tmp_path_factory.mktemp("shop")), NIGHT, READS_DEVICES, datetime.now(timezone.utc))


@pytest.fixture(scope="module")
def histories(run: Run) -> Artifact:
    return run.sequences(run.features())


def known(**artifacts: Artifact) -> published.Promotion:
    return published.promotion(NIGHT, "c", "candidate", artifacts, ("It is better.",))


def test_the_model_as_published_or_its_twin_which_has_not_seen_the_holdout(run: Run, histories: Artifact) -> None:
    before, now = run.training(histories, run.holdout), run.training(histories, run.everything)
    assert comparable(run, known(training=before), histories) == Rival(before)
    assert comparable(run, known(training=now, twin=before), histories) == Rival(before)
    longer = replace(run, night=run.night.model_copy(update={"evaluation": Evaluation(holdout="2d")}))
    found = comparable(longer, known(training=now, twin=before), histories)
    why = "the current model is not compared with, since it has seen events of the holdout, and so has any twin"
    assert found == Rival(None, why, stays=True)


def test_a_quiet_night_keeps_a_current_model_that_is_not_compared_with(run: Run, histories: Artifact) -> None:
    """As after the holdout was made longer: what nothing is known of is not taken away by a night that concludes nothing."""
    current = known(training=run.training(histories, run.everything), twin=run.training(histories, run.holdout))
    longer = run.night.model_copy(update={"evaluation": Evaluation(holdout="2d"), "promotion": Promotion(min_users=1000)})
    tonight = replace(run, night=longer)
    rival, candidate = comparable(tonight, current, histories), tonight.training(histories, tonight.holdout)
    decision = Decision.load(tonight.promotion(tonight.evaluation(histories, candidate, rival.model), rival))
    assert (rival.model, decision.published) == (None, "current")
    assert decision.reasons[0].endswith("test users, for promotion.min_users is 1,000: the current model stays.")
    chosen = winner(tonight, histories, decision, candidate, current, refit=lambda: pytest.fail("nothing is trained"))
    assert chosen == Winner(current.artifact(run.store, "training"), current.artifact(run.store, "twin"))
    assert tonight.scoring(histories, chosen.model, decision).manifest["config"]["source"] == "current"


def test_a_model_of_one_window_of_time_only(run: Run, histories: Artifact) -> None:
    window = Cut(at=run.holdout.at, since=NIGHT - timedelta(days=20))
    assert comparable(run, known(training=run.training(histories, window)), histories).model is not None


def test_where_nothing_or_no_model_is_published_there_is_no_current_model(run: Run, histories: Artifact) -> None:
    assert comparable(run, None, histories) == comparable(run, known(), histories) == Rival()
    assert Rival().why == "there is no current model to compare it with"


def test_a_model_that_cannot_read_tonight(run: Run, histories: Artifact, tmp_path: Path) -> None:
    data = prepare(run.night.data, NIGHT, tmp_path)
    assert data.events is not None and "device" in data.events.categorical
    columns = tuple(name for name in data.events.categorical if name != "device")
    without = data.model_copy(update={"events": data.events.model_copy(update={"categorical": columns})})
    tonight = replace(run, night=run.night.model_copy(update={"data": without}))
    found = comparable(tonight, known(training=run.training(histories, run.holdout)), tonight.sequences(tonight.features()))
    assert (
        found.model is None
        and not found.stays
        and "since it cannot read tonight's histories: its column device (categorical, " in found.why
    )
    assert found.why.endswith("is not there any more")
