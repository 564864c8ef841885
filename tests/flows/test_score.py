"""Lists again from the published model: for some, by other rules, of a later moment; published or not."""

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey, FlowRunFilter, FlowRunFilterName
from prefect.states import State

from flows.nightly import nightly
from flows.prune import prune
from flows.score import score
from recsys import published
from recsys.config import Data, Evaluation, Export, Model, Promotion, Publishing, Scoring, Shop, Training
from recsys.errors import ConfigError, ContractError, StoreError
from recsys.store import Artifact, Store

pytestmark = pytest.mark.usefixtures("prefect_server")

AS_OF = datetime(2025, 6, 2, tzinfo=timezone.utc)
SHOP = {"data": Data(demo=Shop(n_users=150, n_items=50))}
TINY: dict[str, Any] = {
    **SHOP,
    "model": Model(width=16, max_events=10),
    "training": Training(max_epochs=1, users_per_batch=32, n_validation_users=50, refit=False),
    "evaluation": Evaluation(n_bootstrap=100),
    "promotion": Promotion(min_users=1, min_lift=-1.0, min_refit_overlap=0.0),
}


@pytest.fixture(scope="module")
def root(prefect_server: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one published night."""
    folder = tmp_path_factory.mktemp("score") / "shop"
    assert nightly(as_of=AS_OF, store=str(folder), return_state=True, **TINY).is_completed()  # type: ignore[call-overload]
    return folder


def again(root: Path, **given: Any) -> State[Artifact]:
    return score(store=str(root), return_state=True, **{**SHOP, **given})  # type: ignore[call-overload, no-any-return]


def lists(artifact: Artifact) -> dict[str, list[int]]:
    rows = pq.read_table(artifact.path / "recommendations").to_pylist()
    return {str(user): [row["item_id"] for row in rows if row["user_id"] == user] for user in {row["user_id"] for row in rows}}


def current(root: Path) -> published.Promotion:
    now = published.current(Store(root))
    assert now is not None
    return now


def of_night(root: Path) -> Artifact:
    return Store(root).open(next(p for p in published.history(Store(root)) if p.moment == AS_OF).artifacts["scoring"])


def test_the_same_rules_are_the_same_lists(root: Path) -> None:
    before = (root / "promotions.jsonl").read_bytes()
    state = again(root)
    assert state.result() == of_night(root) and state.result().reused
    assert state.message == (
        "Lists of 2025-06-02 for everybody are made again from the model that is published for 2025-06-02. Nothing was published."
    )
    assert (root / "promotions.jsonl").read_bytes() == before
    asked = FlowRunFilter(name=FlowRunFilterName(any_=["score-2025-06-02"]))
    with get_client(sync_client=True) as client:
        assert client.read_flow_runs(flow_run_filter=asked)


def test_some_users_by_other_rules(root: Path) -> None:
    users = tuple(sorted(lists(of_night(root)))[:3])
    state = again(root, users=users, scoring=Scoring(k=3, exclude_seen=False))
    assert set(lists(state.result())) == set(users) and all(len(one) == 3 for one in lists(state.result()).values())
    assert "for 3 users" in str(state.message) and current(root).artifacts["scoring"]["version"] == of_night(root).version


def test_published_for_some_everybody_else_keeps_theirs_and_the_night_stays_finished(root: Path, tmp_path: Path) -> None:
    before, users = lists(of_night(root)), tuple(sorted(lists(of_night(root)))[:3])
    with pytest.raises(ContractError, match=r"(?s)length.*made by other settings of scoring: make everybody's \(leave --user out\)"):
        again(root, users=users, scoring=Scoring(k=3), publish=True).result()
    made = again(root, users=users, publish=True, publishing=Publishing(exports=(Export(format="jsonl", path=str(tmp_path)),))).result()
    assert (tmp_path / "recommendations.jsonl").read_text().count("\n") == sum(map(len, lists(made).values()))
    now = current(root)
    assert now.artifacts["scoring"]["version"] == made.version != of_night(root).version and lists(made) == before
    assert now.artifacts["training"] == next(p for p in published.history(Store(root)) if p.moment == AS_OF).artifacts["training"]
    night = nightly(as_of=AS_OF, store=str(root), return_state=True, **TINY)  # type: ignore[call-overload]
    assert "nothing to do" in night.message and current(root) == now
    again(root, publish=True).result()
    assert sum("are made again" in why for why in current(root).reasons) == 1, "once, however often they are"


def test_published_for_some_of_a_later_moment_is_refused_since_everybody_else_has_newer_histories_too(root: Path) -> None:
    users, before = tuple(sorted(lists(of_night(root)))[:3]), current(root)
    noon = AS_OF + timedelta(hours=12)
    with pytest.raises(ConfigError, match=r"\(sequences 2025-06-02 .*\(sequences 2025-06-02T1200.*leave --user out"):
        again(root, as_of=noon, users=users, publish=True).result()
    assert current(root) == before
    assert set(lists(again(root, as_of=noon, users=users).result())) == set(users), "of them alone they are made, for whoever looks"


def test_a_later_moment_has_newer_histories_and_the_night_after_is_made_all_the_same(root: Path) -> None:
    noon = AS_OF + timedelta(hours=12)
    fresh = again(root, as_of=noon, publish=True).result()
    now = current(root)
    assert (fresh.as_of, now.moment, now.source) == (noon, noon, "candidate") and lists(fresh) != lists(of_night(root))
    assert "made again from the model that is published for 2025-06-02" in now.reasons[0]
    tomorrow = AS_OF + timedelta(days=1)
    night = nightly(as_of=tomorrow, store=str(root), return_state=True, **TINY).result()  # type: ignore[call-overload]
    assert current(root) == night and night.moment == tomorrow


def test_a_store_without_anything_published_is_an_answer(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="Nothing is published in .*, so there is no model"):
        again(tmp_path / "none").result()


def test_pruning_on_a_schedule_says_what_went(root: Path) -> None:
    state = prune(store=str(root), nights=1, promotions=1, return_state=True)
    gone = state.result()
    assert str(state.message).startswith(f"Removed: {len(gone.artifacts)} artifacts and 1 leftover, "), "of the lists that broke a contract"
    compared = AS_OF + timedelta(hours=12)  # tonight's lists were, with those that were published before
    assert gone.artifacts and {a.as_of for a in Store(root).artifacts("scoring")} == {compared, current(root).moment}
    asked = ArtifactFilter(key=ArtifactFilterKey(any_=["shop-pruned"]))
    with get_client(sync_client=True) as client:
        assert client.read_artifacts(artifact_filter=asked)
