"""Where parameters come from: deployments, files, overrides, and what is said of mistakes in them."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from flows import deployments
from recsys.errors import ConfigError
from recsys.windows import parse_as_of

WRITTEN = yaml.safe_load(deployments.FILE.read_text())["deployments"]
DATA_SETS = [d["name"] for d in WRITTEN if d["entrypoint"].endswith(":nightly")]


def of(flow: str) -> dict[str, dict[str, Any]]:
    return {d["name"]: d for d in WRITTEN if d["entrypoint"].endswith(f":{flow}")}


@pytest.mark.parametrize("name", DATA_SETS)
def test_every_deployment_is_a_whole_configuration(name: str) -> None:
    parameters = deployments.deployed(name)
    night = deployments.night(parameters)
    assert set(parameters) - {"store"} == set(type(night).model_fields), "it shows every group, even one with defaults only"
    assert parameters["store"] == f"store/{name}", "each data set has its own store, since a store has one pointer"


@pytest.mark.parametrize("flow", ["backfill", "experiment", "score", "prune"])
def test_every_data_set_has_every_operation_with_the_parameters_of_its_nights(flow: str) -> None:
    assert set(of(flow)) == set(DATA_SETS)
    for name, deployment in of(flow).items():
        nightly = of("nightly")[name]
        shared = set(deployment["parameters"]) & set(nightly["parameters"])
        assert shared and all(deployment["parameters"][group] == nightly["parameters"][group] for group in shared)
        assert deployment["work_pool"] == nightly["work_pool"] and deployment["tags"] == [flow, name]


def test_a_store_has_a_queue_of_its_own_and_the_watch_waits_in_none() -> None:
    queues = {d["parameters"]["store"]: d["work_pool"]["work_queue_name"] for d in WRITTEN if "store" in d["parameters"]}
    assert len(set(queues.values())) == len(queues)
    assert all(d["work_pool"]["work_queue_name"] == queues[d["parameters"]["store"]] for d in WRITTEN if "store" in d["parameters"])
    assert "work_queue_name" not in of("watch")["watch"]["work_pool"]
    assert all("concurrency_limit" not in d for d in WRITTEN if d["name"] != "watch"), "its lease ends a night whose server is away"


def test_every_schedule_is_in_utc_and_the_demo_runs() -> None:
    schedules = [schedule for d in WRITTEN for schedule in d.get("schedules", [])]
    assert schedules and {schedule["timezone"] for schedule in schedules} == {"UTC"}
    assert of("nightly")["demo"]["schedules"][0]["active"]


@pytest.mark.parametrize(
    ("schedule", "now", "nights"),
    [
        ({"cron": "15 4 * * *"}, "2026-03-04T04:14", ["02", "03"]),
        ({"cron": "15 4 * * *"}, "2026-03-04T04:15", ["02", "03", "04"]),
        ({"cron": "0 0 * * *"}, "2026-03-02", ["02"]),
        ({"cron": "15 4 * * 1"}, "2026-03-09T05:00", ["02", "09"]),  # Mondays
        ({"cron": "30 0 * * *", "timezone": "Europe/Berlin"}, "2026-03-03T23:29", ["02"]),  # 23:30 in UTC, of the night before
        ({"cron": "30 0 * * *", "timezone": "Europe/Berlin"}, "2026-03-03T23:30", ["02", "03"]),
        ({"cron": "15 4 * * *", "active": False}, "2026-03-04T05:00", []),
        ({"interval": 3600}, "2026-03-04T05:00", []),
    ],
)
def test_nights_that_a_schedule_has_come_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schedule: dict[str, Any], now: str, nights: list[str]
) -> None:
    nightly = {"entrypoint": "flows/nightly.py:nightly", "parameters": {"store": str(tmp_path / "shop")}}
    written = [{**nightly, "name": "shop", "schedules": [schedule]}, {**nightly, "name": "other", "parameters": {"store": "elsewhere"}}]
    (tmp_path / "prefect.yaml").write_text(yaml.safe_dump({"deployments": written}))
    monkeypatch.setattr(deployments, "FILE", tmp_path / "prefect.yaml")
    found = deployments.due(tmp_path / "shop", parse_as_of("2026-03-02"), parse_as_of(now))
    assert [f"{night:%d}" for night in found] == nights
    assert deployments.due(tmp_path / "elsewhere", parse_as_of("2026-03-02"), parse_as_of(now)) == []


def test_nights_are_due_from_a_moment_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nightly = {"name": "shop", "entrypoint": "flows/nightly.py:nightly", "parameters": {"store": str(tmp_path / "shop")}}
    (tmp_path / "prefect.yaml").write_text(yaml.safe_dump({"deployments": [{**nightly, "schedules": [{"cron": "15 4 * * *"}]}]}))
    monkeypatch.setattr(deployments, "FILE", tmp_path / "prefect.yaml")
    for since, nights in (("2026-03-02T04:15", ["02", "03"]), ("2026-03-02T04:15:30", ["03"]), ("2026-03-03T05:00", [])):
        found = deployments.due(tmp_path / "shop", parse_as_of(since), parse_as_of("2026-03-03T23:00"))
        assert [f"{night:%d}" for night in found] == nights, since


def test_unknown_deployment_names_the_closest() -> None:
    with pytest.raises(ConfigError, match="no deployment 'glob'.*Did you mean globo"):
        deployments.deployed("glob")


@pytest.mark.parametrize(
    ("setting", "place", "value"),
    [
        ("training.max_epochs=3", ("training", "max_epochs"), 3),
        ("model.loss=CrossEntropy(label_smoothing=0.1)", ("model", "loss"), "CrossEntropy(label_smoothing=0.1)"),
        ("evaluation.k=[5, 10]", ("evaluation", "k"), [5, 10]),
        ("data.demo.n_users=50", ("data", "demo", "n_users"), 50),
        ("scoring.segment=null", ("scoring", "segment"), None),
        ("training.warm_start=true", ("training", "warm_start"), True),
        ("publishing.exports=[{format: csv, path: out}]", ("publishing", "exports"), [{"format": "csv", "path": "out"}]),
        ("data.events.path=a=b.parquet", ("data", "events", "path"), "a=b.parquet"),
        ("seed=5", ("seed",), 5),
    ],
)
def test_override_is_deep_and_typed(setting: str, place: tuple[str, ...], value: object) -> None:
    start = {"seed": 1, "data": {"demo": {"n_users": 10, "n_items": 20}}, "model": None}
    changed = deployments.override(start, [setting])
    found: object = changed
    for name in place:
        assert isinstance(found, dict)
        found = found[name]
    assert found == value
    assert start == {"seed": 1, "data": {"demo": {"n_users": 10, "n_items": 20}}, "model": None}, "the deployment itself stays"


@pytest.mark.parametrize("setting", ["training.max_epochs", "=3", "training..max_epochs=3", ".=1"])
def test_override_without_a_name_or_value_is_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match="write group.field=value"):
        deployments.override({}, [setting])


def test_override_below_a_value_is_refused() -> None:
    with pytest.raises(ConfigError, match="store is a value, 'here'"):
        deployments.override({"store": "here"}, ["store.path=there"])


def test_all_mistakes_are_named_at_once() -> None:
    wrong = ["training.max_epoch=3", "evaluation.holdout=3x", "publishing.exports=[{format: xml, path: a, tabel: x}]", "modle.width=3"]
    with pytest.raises(ConfigError) as caught:
        deployments.night(deployments.override(deployments.deployed("demo"), wrong))
    message = str(caught.value)
    assert "training.max_epoch: there is no such setting. Did you mean max_epochs?" in message
    assert "evaluation.holdout: '3x' is no holdout" in message
    assert "publishing.exports.0.tabel: there is no such setting. Did you mean table?" in message
    assert "publishing.exports.0.format: Input should be 'parquet', 'csv', 'jsonl', 'duckdb' or 'postgres' (it is 'xml')" in message
    assert "modle: there is no such setting. Did you mean model" in message


def test_a_file_names_its_store_or_gets_one_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("data: {demo: {}}\n")
    assert deployments.read(file)["store"] == "store/mine"
    file.write_text("data: {demo: {}}\nstore: /srv/lists\n")
    assert deployments.read(file)["store"] == "/srv/lists"


@pytest.mark.parametrize(("text", "says"), [("a: [", "is no YAML"), ("- 1\n", "has no groups"), ("", "has no groups")])
def test_a_file_that_is_no_configuration(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=says):
        deployments.read(file)
    with pytest.raises(ConfigError, match="absent.yaml cannot be read: No such file"):
        deployments.read(tmp_path / "absent.yaml")


def test_differences_name_every_field() -> None:
    ours = deployments.night(deployments.override(deployments.deployed("demo"), ["training.max_epochs=2", "data.demo.n_users=50"]))
    theirs = deployments.night(deployments.deployed("demo"))
    found = list(deployments.differences(ours.model_dump(mode="json"), theirs.model_dump(mode="json")))
    assert found == [
        "data.demo.n_users: 50 (deployed: 3000)",
        f"training.max_epochs: 2 (deployed: {theirs.training.max_epochs})",
    ]
