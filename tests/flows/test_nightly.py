"""Whole nights on a tiny shop: what is published, what is reused, what is compared with what, and what stops a night."""

import glob
import json
from datetime import datetime, timedelta, timezone
from html import escape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pendulum
import pyarrow.parquet as pq
import pytest
from prefect import runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactCollectionFilter, ArtifactCollectionFilterKey, FlowRunFilter, FlowRunFilterName
from prefect.states import Failed, State

from flows import steps
from flows.experiment import experiment
from flows.nightly import night_of, nightly
from flows.plan import STEPS, plan
from flows.run import Run
from recsys import published
from recsys.config import Data, Evaluation, Events, Export, Model, Night, Promotion, Publishing, Scoring, Shop, Training
from recsys.demo import prepare
from recsys.errors import ConfigError, ContractError, ExportError, SourceError
from recsys.promotion.policy import Decision
from recsys.rehearsal import Rehearsal
from recsys.store import Store

pytestmark = pytest.mark.usefixtures("prefect_server")

FIRST = datetime(2025, 6, 2, tzinfo=timezone.utc)
TINY: dict[str, Any] = {
    "data": Data(demo=Shop(n_users=150, n_items=50)),
    "model": Model(width=16, max_events=10),
    "training": Training(max_epochs=4, learning_rate=0.01, users_per_batch=32, n_validation_users=50),
    "evaluation": Evaluation(n_bootstrap=100),
    "promotion": Promotion(min_users=1, min_lift=-1.0, min_refit_overlap=0.0, tolerance=1.0),  # whatever it is worth, it is published
}


def night(store: Path, as_of: datetime = FIRST, **groups: Any) -> State[published.Promotion]:
    return nightly(as_of=as_of, store=str(store), return_state=True, **{**TINY, **groups})  # type: ignore[no-any-return, call-overload]


@pytest.fixture(scope="module")
def store(prefect_server: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one published night."""
    folder = tmp_path_factory.mktemp("nights") / "shop"
    assert night(folder).is_completed()
    return folder


def made(store: Path) -> set[Path]:
    return {artifact.path for artifact in Store(store).artifacts()}


def test_a_night_publishes_a_list_for_every_user(store: Path) -> None:
    now = published.current(Store(store))
    assert now is not None and now.moment == FIRST and now.source == "candidate"
    assert set(now.artifacts) >= {"sequences", "training", "twin", "evaluation", "promotion", "scoring", "publishing"}
    assert json.loads((store / "current.json").read_text())["id"] == now.id
    users = pq.read_table(Store(store).open(now.artifacts["sequences"]).path / "users")
    lists = pq.read_table(Store(store).open(now.artifacts["scoring"]).path / "recommendations")
    assert set(lists["user_id"].to_pylist()) == set(users["user_id"].to_pylist())


def test_the_refit_knows_the_newest_day_and_its_twin_does_not(store: Path) -> None:
    now = published.current(Store(store))
    assert now is not None
    cuts = {name: Store(store).open(now.artifacts[name]).manifest["config"]["cut"] for name in ("training", "twin")}
    assert cuts == {"training": FIRST.isoformat(), "twin": (FIRST - timedelta(days=1)).isoformat()}


def test_a_second_run_does_no_work_and_says_so(store: Path) -> None:
    before = made(store)
    log = (store / "promotions.jsonl").read_text()
    again = night(store)
    assert again.message == "2025-06-02 was published with this configuration: nothing to do (if rows changed since, --rebuild reads them)."
    assert again.result() == published.current(Store(store))
    assert made(store) == before
    assert (store / "promotions.jsonl").read_text() == log


def test_a_run_after_the_pointer_was_lost_builds_nothing_again(store: Path) -> None:
    before = made(store)
    kept = {name: (store / name).read_bytes() for name in ("promotions.jsonl", "current.json")}
    for name in kept:
        (store / name).unlink()
    again = night(store).result()
    assert made(store) == before
    assert again.id == json.loads(kept["current.json"])["id"]


def test_rebuild_does_everything_again_and_comes_to_the_same_versions(store: Path) -> None:
    before = {path: (path / "run.json").stat().st_mtime_ns for path in made(store)}
    assert night(store, rebuild=True).is_completed()
    after = {path: (path / "run.json").stat().st_mtime_ns for path in made(store)}
    assert set(after) == set(before)
    assert all(after[path] > before[path] for path in before)


def test_the_next_night_is_compared_with_what_was_published(store: Path) -> None:
    last = published.current(Store(store))
    assert last is not None
    now = night(store, FIRST + timedelta(days=1)).result()
    evaluation = Store(store).open(now.artifacts["evaluation"])
    assert evaluation.manifest["inputs"]["current"]["version"] == last.artifacts["training"]["version"]
    longer = night(store, FIRST + timedelta(days=2), evaluation=Evaluation(holdout="2d", n_bootstrap=100)).result()
    evaluation = Store(store).open(longer.artifacts["evaluation"])
    twin = now.artifacts["twin"]["version"]
    assert evaluation.manifest["inputs"]["current"]["version"] == twin, "the published model saw the first day of this holdout"


def test_a_model_starts_from_the_current_one_only_where_asked(store: Path) -> None:
    def inputs(training: Training) -> set[str]:
        now = night(store, FIRST + timedelta(days=1), training=training).result()
        return set(Store(store).open(now.artifacts["twin"]).manifest["inputs"])

    assert inputs(TINY["training"]) == {"sequences"}
    assert inputs(TINY["training"].model_copy(update={"warm_start": True})) == {"sequences", "warm_from"}


def test_nothing_good_enough_still_means_lists(store: Path, tmp_path: Path) -> None:
    state = night(tmp_path / "shop", promotion=Promotion(min_users=1, min_lift=100.0))
    now = state.result()
    assert now.source in ("popular", "popular_lately")
    assert "training" not in now.artifacts
    lists = Store(tmp_path / "shop").open(now.artifacts["scoring"]).path / "recommendations" / "*.parquet"
    assert duckdb.sql(f"select count(*) from '{lists}' where source in ('candidate', 'current')").fetchall() == [(0,)]
    later = night(tmp_path / "shop", FIRST + timedelta(days=1)).result()
    assert later.source == "candidate", "a night after one without a model has no current model to compare with"


def test_a_rejected_candidate_means_lists_of_the_current_model(store: Path) -> None:
    last = published.before(Store(store), FIRST + timedelta(days=3))
    assert last is not None
    beaten = Training(max_epochs=1, learning_rate=1e-9, n_validation_users=50)
    now = night(store, FIRST + timedelta(days=3), training=beaten, promotion=Promotion(min_users=1, min_lift=-1.0, tolerance=0.0)).result()
    assert now.source == "current"
    assert now.artifacts["training"] == last.artifacts["training"]
    assert now.artifacts["twin"] == last.artifacts["twin"]
    assert any("candidate" in reason.lower() for reason in now.reasons)


def test_a_broken_contract_stops_the_night_and_what_was_published_stays(store: Path, tmp_path: Path) -> None:
    before = (store / "current.json").read_bytes()
    late = FIRST + timedelta(days=4)
    data = prepare(TINY["data"], late, tmp_path)
    assert data.events is not None and data.events.path is not None
    newest = Path(max(glob.glob(data.events.path)))
    pq.write_table(pq.read_table(newest).slice(0, 1), newest)
    state = night(store, late, data=data)
    assert state.is_failed()
    with pytest.raises(ContractError, match="low_day_volume: .*n_events: 1,"):
        state.result()
    assert (store / "current.json").read_bytes() == before
    assert not any(artifact.as_of == late for artifact in Store(store).artifacts())


@pytest.mark.parametrize(
    ("groups", "error", "says"),
    [
        ({"model": Model(encoder="SASRec(n_block=1)")}, ConfigError, "no argument 'n_block'. Did you mean n_blocks"),
        ({"model": Model(loss="CrosEntropy()")}, ConfigError, "no Loss 'CrosEntropy'. Did you mean CrossEntropy"),
        ({"model": Model(encoder="json.JSONDecoder()")}, ConfigError, "json.JSONDecoder is no recsys.model.encoders.Encoder"),
        ({"model": Model(width=15)}, ConfigError, "model.encoder: width 15 cannot be divided among 4 attention heads"),
        ({"as_of": datetime(2020, 1, 1)}, ConfigError, "before any data"),
        ({"data": Data(events=Events(path="/nowhere/*.parquet", time="at"))}, SourceError, "no file matches /nowhere"),
    ],
)
def test_what_cannot_be_is_said_before_any_work(tmp_path: Path, groups: dict[str, Any], error: type[Exception], says: str) -> None:
    state = night(tmp_path / "shop", **groups)
    with pytest.raises(error, match=says):
        state.result()
    assert not Store(tmp_path / "shop").artifacts()


def test_the_ui_shows_the_night(store: Path) -> None:
    folders = {"features", "sequences", "training-candidate", "training-refit", "evaluation", "promotion", "scoring", "publishing"}
    tables = {"profile", "drift", "metrics", "lifts", "report", "decision", "lists", "checks", "nights"}
    tables |= {"training-candidate", "training-refit"}
    progress = {"progress-training-candidate", "progress-training-refit", "progress-scoring"}
    pages = {"evaluation-page", "promotion-page"}
    expected = {f"shop-{name}" for name in tables | progress | pages | {f"{folder}-folder" for folder in folders}}
    shown = ArtifactCollectionFilter(key=ArtifactCollectionFilterKey(any_=sorted(expected)))
    named = FlowRunFilter(name=FlowRunFilterName(any_=[f"nightly-{FIRST:%Y-%m-%d}"]))
    with get_client(sync_client=True) as client:
        assert {artifact.key for artifact in client.read_latest_artifacts(artifact_filter=shown)} == expected
        assert client.read_flow_runs(flow_run_filter=named)


def test_the_page_of_a_night_has_its_decision(store: Path) -> None:
    gate = Store(store).find("promotion", FIRST)
    html = (gate.path / "report.html").read_text()
    assert all(escape(reason) in html for reason in Decision.load(gate).reasons) and "<h2>Some users</h2>" in html
    assert html.count("<svg") == 4, "trade-offs, slices, popularity, training"


def test_an_experiment_reuses_the_night_and_publishes_nothing(store: Path) -> None:
    before = made(store)
    kept = (store / "promotions.jsonl").read_bytes()
    variant = {**TINY, "model": Model(width=16, max_events=10, loss="CrossEntropy(label_smoothing=0.1)")}
    state = experiment(as_of=FIRST, store=str(store), return_state=True, **variant)  # type: ignore[call-overload]
    gate = state.result()
    evaluation = Store(store).open(gate.manifest["inputs"]["evaluation"])
    assert "Nothing was published" in state.message and "Nothing was published" in (gate.path / "report.html").read_text()
    assert (store / "promotions.jsonl").read_bytes() == kept
    assert {path.parents[1].name for path in made(store) - before} == {"training", "evaluation", "promotion"}
    published_then = next(p for p in published.history(Store(store)) if p.moment == FIRST)
    assert evaluation.manifest["inputs"]["current"]["version"] == published_then.artifacts["twin"]["version"]
    of_variant = [("contender", "=", "candidate"), ("metric", "=", "NDCG"), ("slice", "=", "all")]
    rows = pq.read_table(evaluation.path / "metrics.parquet", filters=of_variant).to_pylist()
    assert [row["k"] for row in rows] == [10, 20] and all(row["low"] <= row["difference"] <= row["high"] for row in rows)


def test_a_current_model_that_has_seen_the_holdout_is_no_rival_and_the_decision_says_why(store: Path) -> None:
    longer = {**TINY, "evaluation": Evaluation(holdout="2d", n_bootstrap=100)}  # than what its twin was trained before
    state = experiment(as_of=FIRST, store=str(store), return_state=True, **longer)  # type: ignore[call-overload]
    why = "the current model is not compared with, since it has seen events of the holdout, and so has any twin"
    assert state.message.endswith(f"; {why}.")
    gate = state.result()
    assert why in Decision.load(gate).reasons[0] and why in (gate.path / "report.html").read_text()
    assert "current" not in Store(store).open(gate.manifest["inputs"]["evaluation"]).manifest["inputs"]


def test_tables_with_string_ids_and_a_folder_of_their_own(tmp_path: Path) -> None:
    data = prepare(Data(demo=Shop(n_users=150, n_items=50, ids="string")), FIRST, tmp_path / "tables")
    now = night(tmp_path / "shop", data=data).result()
    lists = pq.read_table(Store(tmp_path / "shop").open(now.artifacts["scoring"]).path / "recommendations")
    assert {str(lists.schema.field(name).type) for name in ("user_id", "item_id")} <= {"string", "large_string"}
    assert lists.num_rows > 0


def test_what_the_ui_saves_beside_the_groups_is_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    class Client:
        __enter__ = lambda self: self  # noqa: E731
        __exit__ = lambda self, *_: None  # noqa: E731

        def read_deployment(self, _: object) -> SimpleNamespace:
            groups = {"data": {"demo": {}}, "training": {"max_epochs": 9}}
            return SimpleNamespace(parameters={**groups, "as_of": None, "rebuild": False, "store": "store"})

    asked = SimpleNamespace(parameters={"data": {}, "training": {}})
    monkeypatch.setattr(steps, "runtime", SimpleNamespace(deployment=SimpleNamespace(id="x"), flow_run=asked))
    monkeypatch.setattr(steps, "get_client", lambda sync_client: Client())
    tonight = Night(data=Data(demo=Shop()), training=Training(max_epochs=3))
    assert list(steps._differences(dict(tonight))) == ["training.max_epochs: 3 (deployed: 9)"]


def test_a_night_without_a_date_is_the_midnight_before_its_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    scheduled = pendulum.datetime(2025, 6, 3, 4, 15, tz="UTC")
    monkeypatch.setattr(runtime.flow_run, "scheduled_start_time", scheduled, raising=False)
    found = night_of(None)
    assert found == datetime(2025, 6, 3, tzinfo=timezone.utc)
    assert type(found) is datetime, "arithmetic of the steps is that of plain datetimes"
    assert night_of("2025-05-01T06:00") == datetime(2025, 5, 1, 6, tzinfo=timezone.utc)


@pytest.mark.parametrize("error", [OSError("disk"), ConnectionResetError(), duckdb.IOException("read"), ExportError("down", may_pass=True)])
def test_passing_trouble_is_tried_again(error: Exception) -> None:
    assert steps.may_pass(steps.features, None, Failed(data=error))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "error", [SourceError("gone"), ContractError("broken"), ValueError("a bug"), FileNotFoundError("x"), ExportError("no permission")]
)
def test_what_a_person_has_to_put_right_is_not(error: Exception) -> None:
    assert not steps.may_pass(steps.features, None, Failed(data=error))  # type: ignore[arg-type]


def test_a_copy_that_fails_fails_the_run_and_unpublishes_nothing_and_the_next_run_writes_it(store: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    exports = (Export(format="jsonl", path=str(tmp_path / "lists")), Export(format="csv", path=str(tmp_path / "file" / "lists")))
    newer = FIRST + timedelta(days=5)
    stopped = night(store, newer, publishing=Publishing(exports=exports))
    assert stopped.is_failed() and "but 1 of 2 copies could not be written" in str(stopped.message)
    now = published.current(Store(store))
    assert now is not None and now.moment == newer
    (tmp_path / "file").unlink()
    again = night(store, newer, publishing=Publishing(exports=exports))
    assert str(again.message).endswith(f"was published with this configuration: copied to {tmp_path}/file/lists/recommendations.csv.")
    assert published.current(Store(store)) == now


def test_a_held_candidate_waits_for_a_person(store: Path) -> None:
    before = (store / "current.json").read_bytes()
    last = FIRST + timedelta(days=6)
    asked = Promotion(min_users=1, min_lift=-1.0, min_refit_overlap=0.0, tolerance=1.0, mode="held")
    state = night(store, last, promotion=asked)
    held = state.result()
    assert (held.moment, held.action, held.source) == (last, "hold", "candidate")
    assert state.message.startswith("The candidate is held for a person to `recsys promote` it")
    assert (store / "current.json").read_bytes() == before
    again = night(store, last, promotion=asked)
    assert again.result() == held and len(published.history(Store(store))) == len({(p.id, p.at) for p in published.history(Store(store))})
    done = published.promote(Store(store), "looked at the lists")
    assert "was published with this configuration: nothing to do" in night(store, last, promotion=asked).message
    assert published.current(Store(store)) == done
    published.rollback(Store(store), "only a test")


def test_a_plan_says_what_would_be_reused_and_what_would_run_and_why(store: Path) -> None:
    def asked(as_of: datetime = FIRST, rebuild: bool = False, **groups: Any) -> dict[str, tuple[str, tuple[str, ...]]]:
        run = Run(Rehearsal(store), as_of, Night(**{**TINY, **groups}), datetime.now(timezone.utc), rebuild)
        return {line.step: (line.does, line.reasons) for line in plan(run)}

    before = made(store)
    assert {does for does, _ in asked().values()} == {"reused"} and list(asked()) == list(STEPS)
    longer = asked(training=TINY["training"].model_copy(update={"max_epochs": 5}))
    assert longer["sequences"] == ("reused", ()) and longer["evaluation"] == ("follows", ())
    assert longer["training candidate"] == ("runs", ("training.max_epochs is 5 and was 4",))
    shorter = asked(scoring=Scoring(k=5))
    assert shorter["training refit"] == ("reused", ()) and shorter["scoring"] == ("runs", ("k is 5 and was 10",))
    assert asked(rebuild=True)["features"] == ("runs", ("--rebuild",))
    once = asked(rebuild=True, training=TINY["training"].model_copy(update={"refit": False}))
    assert list(once) == [step for step in STEPS if step != "training refit"], "no refit is asked for"
    assert {does for does, _ in asked(FIRST - timedelta(days=9)).values()} == {"runs"}
    assert made(store) == before and not list((store / ".tmp").iterdir())
