"""Backtests of a tiny shop: what is compared, what is reused, what goes on, and what is printed."""

import csv
import re
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import Result
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from typer.testing import CliRunner

from flows import deployments, folds
from flows.backtest import backtest
from flows.cli import app
from flows.contenders import contenders
from recsys import windows
from recsys.config import Backtest, Data, Evaluation, Model, Shop, Training
from recsys.errors import ConfigError
from recsys.evaluation.backtest import fold_rows, model_rows
from recsys.store import Artifact, Store

pytestmark = pytest.mark.usefixtures("prefect_server")

AS_OF = datetime(2025, 6, 2, tzinfo=timezone.utc)
TINY: dict[str, Any] = {
    "data": Data(demo=Shop(n_users=150, n_items=50)),
    "model": Model(width=16, max_events=10),
    "training": Training(max_epochs=2, learning_rate=0.01, users_per_batch=32, n_validation_users=50),
    "evaluation": Evaluation(k=(10,), n_bootstrap=100, metrics=("NDCG", "CatalogCoverage")),
}


def run(store: Path, asked: Backtest, **groups: Any) -> Artifact:
    return backtest(as_of=AS_OF, store=str(store), backtest=asked, **{**TINY, **groups}, return_state=True).result()  # type: ignore[no-any-return, call-overload]


def made(store: Path, step: str) -> set[Path]:
    return {artifact.path for artifact in Store(store).artifacts(step)}


@pytest.fixture(scope="module")
def store(prefect_server: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a backtest of two models and a baseline on two days."""
    folder = tmp_path_factory.mktemp("backtests") / "shop"
    run(folder, Backtest(models=("sasrec", "popular", "gru4rec"), n_folds=2, references=("popular",)))
    return folder


@pytest.fixture
def rows(store: Path) -> list[dict[str, Any]]:
    return fold_rows(Store(store), Store(store).find("backtest"))


def test_every_model_has_a_row_in_every_fold(rows: list[dict[str, Any]]) -> None:
    days = ("2025-05-31", "2025-06-01")
    assert [(row["fold"], row["model"]) for row in rows] == [(day, model) for day in days for model in ("sasrec", "popular", "gru4rec")]
    assert all(row["n_users"] > 20 and 0 < row["NDCG@10"] < 1 and 0 < row["CatalogCoverage@10"] <= 1 for row in rows)


def test_the_page_has_every_model_in_numbers_and_drawings(store: Path, rows: list[dict[str, Any]]) -> None:
    html = (Store(store).find("backtest").path / "report.html").read_text()
    for row in rows:
        assert f'<th scope="col" class="n">{row["model"]}</th>' in html and f"{row['NDCG@10']:.4f}" in html
    for title in ("Means over folds", "Trade-offs", "Fold by fold", "Popularity of what is recommended", "Training", "Some users"):
        assert f"<h2>{title}</h2>" in html
    assert "gets from sasrec" in html and "gru4rec" in html and len(html) < 400_000


def test_lists_are_intersected_with_those_of_the_reference(rows: list[dict[str, Any]]) -> None:
    shared = {row["model"]: row['Intersection(model="popular")@10'] for row in rows}
    assert shared["popular"] == 1 and shared["sasrec"] < 1


def test_the_means_have_intervals_to_the_reference(store: Path, rows: list[dict[str, Any]]) -> None:
    found = {(row["model"], row["metric"]): row for row in pq.read_table(Store(store).find("backtest").path / "means.parquet").to_pylist()}
    models = {row["model"]: row for row in model_rows(rows)}
    for model in ("sasrec", "gru4rec"):
        mean = found[model, "NDCG"]
        assert (mean["value"], mean["folds"], mean["reference"]) == (models[model]["NDCG@10"], 2, "popular")
        assert mean["low"] < mean["difference"] < mean["high"] and found[model, "CatalogCoverage"]["low"] is None
        assert mean["difference"] == pytest.approx(models[model]["NDCG@10"] - models["popular"]["NDCG@10"])
    page = (Store(store).find("backtest").path / "report.html").read_text()
    assert f"{found['sasrec', 'NDCG']['low']:+.4f} … {found['sasrec', 'NDCG']['high']:+.4f}" in page


def test_what_a_model_took_is_told_of_the_training_and_the_lists(rows: list[dict[str, Any]]) -> None:
    assert all(row["listing_seconds"] > 0 and row["peak_memory_bytes"] > 2**26 for row in rows)
    assert {row["model"]: row["training_seconds"] is None for row in rows} == {"sasrec": False, "popular": True, "gru4rec": False}


def test_the_report_in_the_ui_says_so_too_and_the_page_does_not(store: Path) -> None:
    asked = ArtifactFilter(key=ArtifactFilterKey(any_=["shop-backtest-report"]))
    with get_client(sync_client=True) as client:
        report = str(client.read_artifacts(artifact_filter=asked)[0].data)
    assert "## Time and memory" in report and "|  | seconds of training | seconds of listing | GiB at the peak |" in report
    assert "Time and memory" not in (Store(store).find("backtest").path / "report.html").read_text()


def test_a_fold_trains_on_what_was_before_it(store: Path) -> None:
    cuts = {artifact.manifest["config"]["cut"][:10] for artifact in Store(store).artifacts("training")}
    assert cuts == {"2025-05-31", "2025-06-01"}


def test_nothing_is_published(store: Path) -> None:
    assert not (store / "current.json").exists() and not (store / "promotions.jsonl").exists()


def test_another_model_costs_its_own_folds_only(store: Path) -> None:
    trained, listed = made(store, "training"), made(store, "folds")
    found = run(store, Backtest(models=("sasrec", "popular", "gru4rec", "wide=sasrec(width=24)"), n_folds=2, references=("popular",)))
    assert len(made(store, "training") - trained) == len(made(store, "folds") - listed) == 2
    more = run(store, Backtest(models=("sasrec", "popular"), n_folds=3, references=("popular",)))
    assert len(made(store, "training") - trained) == 3, "the two newest folds are those of before"
    assert found.path != more.path


def test_a_backtest_that_was_stopped_goes_on_where_it_was(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Backtest(models=("sasrec", "popular"), n_folds=2)
    list_fold, calls = folds.list_fold, []

    def stopped(*arguments: Any, **options: Any) -> Artifact:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return list_fold(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(folds, "list_fold", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "shop", asked)
    there = made(tmp_path / "shop", "training") | made(tmp_path / "shop", "folds")
    assert len(there) == 4
    again = run(tmp_path / "shop", asked)
    now = {artifact.path: artifact for step in ("training", "folds") for artifact in Store(tmp_path / "shop").artifacts(step)}
    assert there < set(now) and len(now) == 6
    whole = run(store, asked)
    assert (again.version, again.content) == (whole.version, whole.content), "and comes to the same"


def test_references_stand_in_the_tables_only_where_asked(store: Path) -> None:
    found = run(store, Backtest(models=("sasrec",), references=("popular",), test_references=False))
    assert [row["model"] for row in model_rows(fold_rows(Store(store), found))] == ["sasrec"]
    assert 'Intersection(model="popular")@10' in fold_rows(Store(store), found)[0]


def test_a_metric_may_name_whoever_takes_part(store: Path) -> None:
    measured = Evaluation(k=(10,), n_bootstrap=100, metrics=("NDCG", 'Intersection(model="sasrec")'))
    found = run(store, Backtest(models=("sasrec", "popular")), evaluation=measured)
    sasrec, popular = fold_rows(Store(store), found)
    assert sasrec['Intersection(model="sasrec")@10'] == 1 > popular['Intersection(model="sasrec")@10']


def test_each_window_continues_from_the_one_before(store: Path) -> None:
    """The protocol of Transformers4Rec: train on one window, beginning with the weights so far, and test on the next."""
    asked = Backtest(models=("sasrec",), n_folds=3, train_window="1d", continuing=True, last_only=True)
    found = run(store, asked)
    trained = [
        artifact
        for artifact in Store(store).artifacts("training")
        if artifact.manifest["config"]["cut"].endswith("since " + "2025-05-30T00:00:00+00:00")
    ]
    assert len(trained) == 1 and "warm_from" not in Store(store).artifacts("training")[0].manifest["inputs"]
    assert set(trained[0].manifest["inputs"]) == {"sequences", "warm_from"} and trained[0].counts["warm_items"] > 0
    over_time = fold_rows(Store(store), found)
    assert [row["fold"] for row in over_time] == ["2025-05-30", "2025-05-31", "2025-06-01"]
    mean = sum(row["NDCG@10"] for row in over_time) / 3
    assert model_rows(over_time)[0]["NDCG@10"] == pytest.approx(mean)
    before = made(store, "training")
    assert run(store, asked).reused and made(store, "training") == before


def test_windows_that_expand_continue_too(store: Path) -> None:
    """Each learns from everything before it, and begins with the weights of the window before."""
    before = made(store, "training")
    run(store, Backtest(models=("sasrec(width=20)",), n_folds=2, continuing=True, last_only=True))
    of_both = [artifact.manifest for artifact in Store(store).artifacts("training") if artifact.path not in before]
    assert {manifest["config"]["cut"]: "warm_from" in manifest["inputs"] for manifest in of_both} == {
        "2025-05-31T00:00:00+00:00": False,
        "2025-06-01T00:00:00+00:00": True,
    }


@pytest.mark.parametrize("split", ["last-1", "last-2", "random-10%"])
def test_other_splits_of_the_same_histories(store: Path, split: str) -> None:
    found = run(store, Backtest(models=("sasrec", "popular"), split=split, n_folds=2))
    measured = model_rows(fold_rows(Store(store), found))
    assert all(row["folds"] == 2 and row["n_users"] > 50 and row["NDCG@10"] > 0 for row in measured)


def test_what_cannot_be_is_said_before_any_data_is_read(tmp_path: Path) -> None:
    for asked, says in (
        (Backtest(models=("sasrek",)), "Did you mean sasrec"),
        (Backtest(models=("sasrec(encoder=PreLN(n_block=2))",)), "n_blocks"),
        (Backtest(models=("popular_lately",), split="last-1"), "popular_lately needs folds that are windows of time"),
        (Backtest(models=("popular",), split="last-1", gap="1d"), "gap are of a split in time"),
        (Backtest(models=("popular",), split="random-10%", n_folds=2, continuing=True), "continuing"),
    ):
        with pytest.raises(ConfigError, match=says):
            run(tmp_path / "shop", asked)
    assert made(tmp_path / "shop", "features") == set()


def recsys(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def test_the_command_prints_means_folds_and_costs_and_writes_csv(store: Path, tmp_path: Path) -> None:
    file = tmp_path / "shop.yaml"
    written = {name: group.model_dump(mode="json", exclude_unset=True) for name, group in TINY.items()}
    file.write_text(yaml.safe_dump({"store": str(store), **written, "backtest": {"n_folds": 2, "references": ["popular"]}}))
    asked = ("--config", file, "--as-of", "2025-06-02", "--model", "sasrec", "--model", "popular", "--csv", tmp_path / "csv")
    done = recsys("backtest", *asked)
    assert done.exit_code == 0, done.output
    assert "means over 2 folds" in done.stdout and "NDCG@10 by fold" in done.stdout and "2025-05-31" in done.stdout
    less, low, high = (
        float(re.search(rf"  {words} +([+-][\d.]+)\s", done.stdout)[1]) for words in ("less popular", "95 % interval from", "to")
    )  # type: ignore[index]
    assert low < less < high
    assert "seconds of training" in done.stdout and "GiB at the peak" in done.stdout
    assert "on the average of 2 folds is that of" in done.stdout and "Nothing was published." in done.stdout
    with (tmp_path / "csv" / "models.csv").open() as models, (tmp_path / "csv" / "folds.csv").open() as of_folds:
        means, rows = list(csv.DictReader(models)), list(csv.DictReader(of_folds))
    assert [row["model"] for row in means] == ["sasrec", "popular"] and len(rows) == 4
    of_sasrec = [float(row["NDCG@10"]) for row in rows if row["model"] == "sasrec"]
    assert float(means[0]["NDCG@10"]) == pytest.approx(sum(of_sasrec) / 2)
    assert recsys("nightly", "--config", file, "--set", "training.max_epochs=0").exit_code == 1, "a file may have both groups"


def test_folds_are_a_table(store: Path) -> None:
    found = duckdb.sql(f"select name, learn, n.test_users from '{store}/backtest/*/*/folds.parquet' n order by all limit 1").fetchall()
    assert found and windows.parse_as_of(found[0][1].split(" ")[0]) <= AS_OF


BACKTESTS = [d["name"] for d in yaml.safe_load(deployments.FILE.read_text())["deployments"] if d["entrypoint"].endswith(":backtest")]


@pytest.mark.parametrize("name", BACKTESTS)
def test_every_deployment_of_a_backtest_is_a_whole_configuration(name: str) -> None:
    parameters = deployments.deployed(name, "backtest")
    night = deployments.unpublished(parameters)
    asked = Backtest(**parameters["backtest"])
    assert set(parameters) == set(backtest.parameters.properties) - {"rebuild"}
    assert parameters["store"] == f"store/{name}"
    trained = [one for one in contenders(asked, night) if one.night is not None]
    assert len(trained) == (6 if name.startswith("seven-models") else 2), "the seventh is popular"
    assert asked.folds(windows.parse_as_of(parameters["as_of"]), night.evaluation.holdout, night.seed)


def test_the_seven_models_run_as_one_command(tmp_path: Path) -> None:
    """As deployed, on a smaller shop and for one epoch."""
    smaller = ["data.demo.n_users=150", "data.demo.n_items=50", "model.width=16", "training.max_epochs=1", "evaluation.n_bootstrap=100"]
    settings = [word for setting in smaller for word in ("--set", setting)]
    done = recsys("backtest", "--deployment", "seven-models", "--store", tmp_path / "shop", *settings)
    assert done.exit_code == 0, done.output
    measured = model_rows(fold_rows(Store(tmp_path / "shop"), Store(tmp_path / "shop").find("backtest")))
    assert [row["model"] for row in measured] == [
        "popular", "sasrec", "next_action_bidirectional", "next_action_unidirectional", "albert", "alsasrec", "sasrec_albert_layers",
    ]  # fmt: skip
    assert {name.partition("@")[0] for name in measured[0] if "@" in name} >= {
        "HitRate",
        "MAP",
        "Serendipity",
        "CoveredUsers",
        "AvgRecPopularity",
    }


@pytest.mark.slow
@pytest.mark.parametrize(("name", "share", "n_models"), [("seven-models-ml-1m", 0.02, 7), ("seven-models-globo", 0.005, 8)])
def test_the_seven_models_run_on_public_data(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, share: float, n_models: int
) -> None:
    """As deployed, on a share of the people, on one fold and for one epoch."""
    monkeypatch.setenv("RECSYS_DATA", str(shared_data))
    smaller = [f"data.sample_users={share}", "model.width=16", "training.max_epochs=1", "evaluation.n_bootstrap=100", "backtest.n_folds=1"]
    settings = [word for setting in smaller for word in ("--set", setting)]
    done = recsys("backtest", "--deployment", name, "--store", tmp_path / "store", *settings, "--csv", tmp_path / "csv")
    assert done.exit_code == 0, done.output
    with (tmp_path / "csv" / "models.csv").open() as models:
        measured = list(csv.DictReader(models))
    assert len(measured) == n_models and all(float(row["n_users"]) > 50 and float(row["CoveredUsers@10"]) == 1 for row in measured)
    assert 0 < max(float(row["HitRate@10"]) for row in measured) < 1
    page = (Store(tmp_path / "store").find("backtest").path / "report.html").read_text()
    assert "<h2>Trade-offs</h2>" in page and all(row["model"] in page for row in measured)
