"""The configuration: one typed group per step, nothing misspelt gets through, and versions know what can change a result."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from flows import deployments
from recsys.config import Backtest, Data, Evaluation, Events, Export, Group, Model, Night, Publishing, Scoring, Training, expand
from recsys.config.groups import RESULT_FREE
from recsys.errors import ConfigError

NIGHT: dict[str, Any] = {
    "data": {"events": {"path": "clicks/*.parquet", "time": "clicked_at"}},
    "training": {"max_epochs": 3},
    "publishing": {"exports": [{"format": "csv", "path": "out"}]},
}


def groups(group: type[Group] = Night) -> set[type[Group]]:
    """The group and every group below it."""
    found = {group}
    for field in group.model_fields.values():
        for inner in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(inner, type) and issubclass(inner, Group):
                found |= groups(inner)
    return found


GROUPS = sorted(groups() | groups(Backtest), key=lambda g: g.__name__)


def test_a_night_reads_as_written_and_back() -> None:
    night = Night.model_validate(NIGHT)
    assert night.training.max_epochs == 3
    assert night.publishing.exports[0].format == "csv"
    assert Night.model_validate_json(night.model_dump_json()) == night


def test_every_field_is_described() -> None:
    assert len(GROUPS) >= 15
    described = {f"{g.__name__}.{name}": f.description for g in GROUPS if g is not Night for name, f in g.model_fields.items()}
    assert [name for name, description in described.items() if not description] == []


@pytest.mark.parametrize("group", GROUPS, ids=lambda g: g.__name__)
def test_groups_are_frozen_and_know_their_keys(group: type[Group]) -> None:
    name = next(iter(group.model_fields))
    misspelt = name[:-1] + "qq"
    with pytest.raises(ValidationError, match=f"{misspelt}\n  Extra inputs are not permitted"):
        group.model_validate({misspelt: 1})
    with pytest.raises(ValidationError, match="frozen"):
        setattr(group.model_construct(), name, 1)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"trainig": {}}, "trainig: there is no such setting. Did you mean training"),
        ({"training": {"max_epoch": 3}}, "training.max_epoch: there is no such setting. Did you mean max_epochs"),
        ({"data": {"events": {"path": "a", "time": "t", "categorial": []}}}, "data.events.categorial: .* Did you mean categorical"),
        ({"scoring": {"qwxyz": 3}}, "There are: k, exclude_seen"),
    ],
)
def test_an_unknown_key_is_an_error_with_the_closest_names(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        deployments.night({**NIGHT, **given})


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"data": {}}, "give either `events`"),
        ({"data": {"events": {"path": "a", "time": "t"}, "demo": {}}}, "give either `events`"),
        ({"data": {"demo": {}, "items": {"path": "a"}}}, "brings its own items"),
        ({"data": {"events": {"time": "t"}}}, "give either `path`"),
        ({"data": {"events": {"path": "a", "table": "b", "time": "t"}}}, "give either `path`"),
        ({"data": {"events": {"path": "a"}}}, "name the `time` column"),
        (
            {"data": {"events": {"path": "a", "order": "n", "partition": "day"}}, "evaluation": {"holdout": "last-1"}},
            "`partition` holds dates",
        ),
        ({"data": {"events": {"path": "a", "order": "n"}}}, 'hold out "last-1"'),
        ({"evaluation": {"holdout": "last-1"}}, "hold out a duration"),
        ({"sequences": {"key": "session"}}, "name data.events.session"),
        ({"sequences": {"input_types": ["view"], "target_types": ["buy"]}}, "are not among input_types"),
        ({"model": {"loss": "CrossEntropy()", "heads": ["NextItem()"]}}, "not both"),
        ({"promotion": {"k": 5}}, "evaluation.k"),
        ({"promotion": {"slice_tolerance": {"new users": 0.1}}}, "names 'new users', with which no slice begins"),
        ({"promotion": {"slice_tolerance": {"users with country": 0.1}}}, "one of evaluation.slices .which names none. and a value"),
        ({"promotion": {"slice_tolerance": {"users known for lass than": 0.1}}}, "Did you mean users known for less than a day"),
        ({"promotion": {"slice_tolerance": {"users with no event": 0}}}, "test users have an event before the holdout: nobody is in it"),
        (
            {"evaluation": {"slices": ["genre"]}, "promotion": {"slice_tolerance": {"items with gender": 0.1}}},
            "evaluation.slices .genre. and",
        ),
        ({"promotion": {"min_lift": {"popular_latly": 0.1}}}, "'popular_lately' or 'popular'"),
        ({"promotion": {"metric": "Precision"}}, "promotion needs Precision, which is not among evaluation.metrics"),
        ({"evaluation": {"metrics": ["NDCG"]}, "promotion": {"min_coverage": 0.1}}, "promotion needs CatalogCoverage"),
        ({"evaluation": {"metrics": ["NDCG(5)"]}}, "given by name"),
        ({"evaluation": {"k": [10, 0]}}, "greater than 0"),
        ({"data": {"demo": {}}, "scoring": {"segment": "device"}}, "'device', which is no .* There are: country, membership"),
        (
            {
                "data": {"events": {"path": "a", "time": "t"}, "users": {"path": "b", "categorical": ["city"], "numeric": ["age"]}},
                "scoring": {"segment": "age"},
            },
            "'age', which is no categorical column of the users. There are: city",
        ),
        ({"data": {"events": {"path": "a", "time": "t"}}, "scoring": {"segment": "city"}}, "declare it in data.users.categorical"),
        ({"data": {"events": {"path": "a", "time": "t"}, "history": "30 days"}}, "is no duration"),
        ({"training": {"max_epochs": 0}}, "greater than or equal to 1"),
        ({"training": {"patience": "often"}}, "valid integer"),
        ({"publishing": {"exports": [{"format": "xlsx", "path": "out"}]}}, "'parquet', 'csv'"),
    ],
)
def test_settings_that_cannot_work_together_are_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Night.model_validate({**NIGHT, **given})


@pytest.mark.parametrize(
    "start",
    ["users", "users known for less than a day", "users with 2-4 events", "items with genre Drama", "items with", "items known for"],
)
def test_a_limit_names_how_slices_begin(start: str) -> None:
    Night.model_validate({**NIGHT, "evaluation": {"slices": ["genre"]}, "promotion": {"slice_tolerance": {start: 0.1}}})


def test_limits_and_lifts_name_what_there_is_in_data_with_an_order_only() -> None:
    order = {"data": {"events": {"path": "a", "order": "n"}}, "evaluation": {"holdout": "last-1"}}
    Night.model_validate({**order, "promotion": {"slice_tolerance": {"users with 1 event": 0.1}, "min_lift": {"popular": 0.1}}})
    for promotion, says in (
        ({"slice_tolerance": {"users known for": 0.1}}, "with which no slice begins"),
        ({"min_lift": {"popular_lately": 0.1}}, "nothing is popular lately"),
    ):
        with pytest.raises(ValidationError, match=says):
            Night.model_validate({**order, "promotion": promotion})


def test_versions_ignore_what_cannot_change_a_result() -> None:
    slow, fast = Training(), Training(accelerator="cpu", threads=7)
    assert slow.versioned() == fast.versioned() != Training(max_epochs=3).versioned()
    assert set(Training().versioned()) == set(Training.model_fields) - {"accelerator", "threads"}
    assert Scoring(users_per_tile=1).versioned() == Scoring().versioned() != Scoring(k=11).versioned()
    assert Model(code="team/").versioned() == Model().versioned() != Model(loss="CrossEntropy()").versioned()


def test_versions_ignore_where_tables_lie_but_not_what_columns_mean() -> None:
    here, there = (Data(events=Events(path=path, time="at")) for path in ("a.parquet", "b.parquet"))
    assert here.versioned() == there.versioned()
    assert here.versioned() != Data(events=Events(path="a.parquet", time="clicked_at")).versioned()


@pytest.mark.parametrize(
    "group", [g for g in GROUPS if not any(f.is_required() for f in g.model_fields.values())], ids=lambda g: g.__name__
)
def test_every_field_is_either_versioned_or_marked_free(group: type[Group]) -> None:
    free = {name for name, field in group.model_fields.items() if field.json_schema_extra == RESULT_FREE}
    assert set(group.model_construct().versioned()) == set(group.model_fields) - free


def test_versions_are_json() -> None:
    night = Night.model_validate(NIGHT)
    assert json.loads(json.dumps(night.versioned())) == night.versioned()
    assert night.versioned() != Night.model_validate({**NIGHT, "seed": 2}).versioned()


def test_paths_take_names_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_TEST_DATA", "/data")
    monkeypatch.delenv("RECSYS_TEST_MISSING", raising=False)
    assert expand("${RECSYS_TEST_DATA}/clicks/*.parquet") == "/data/clicks/*.parquet"
    assert expand("$RECSYS_TEST_DATA/~") == "$RECSYS_TEST_DATA/~"
    assert Events(path="${RECSYS_TEST_DATA}/a.csv", time="t").resolved_path() == "/data/a.csv"
    with pytest.raises(ConfigError, match="RECSYS_TEST_MISSING, which is not set"):
        expand("${RECSYS_TEST_MISSING}/clicks")


def test_the_metric_that_decides_may_be_spelt_otherwise() -> None:
    night = Night.model_validate(
        {**NIGHT, "evaluation": {"metrics": ["MAP( divide_by_k=true )"]}, "promotion": {"metric": "MAP(divide_by_k=true)"}}
    )
    assert night.promotion.metric == "MAP(divide_by_k=true)"


def test_holdouts_and_exports_are_typed() -> None:
    assert Evaluation(holdout="last-1").holdout == "last-1"
    assert Publishing(exports=(Export(format="duckdb", path="a.duckdb"),)).exports[0].table == "recommendations"


@pytest.mark.parametrize(
    "field, given, why",
    [
        ("loss", "CrossEntropy(1)", "given by name"),
        ("encoder", "PreLN(n_blocks=1 + 1)", "no JSON literal"),
        ("heads", ["NextItem("], "no building block"),
    ],
)
def test_a_building_block_that_is_no_call_is_refused_where_the_configuration_is_read(field: str, given: object, why: str) -> None:
    with pytest.raises(ValidationError, match=rf"{field}(\.0)?\n.*{why}"):
        Model.model_validate({field: given})


def test_a_part_that_is_made_already_is_asked_for_as_a_part() -> None:
    class Made:
        pass

    with pytest.raises(ValueError, match=r"write part\(Made, …\)"):
        Model(loss=Made())


def test_a_batch_is_of_users_or_of_events() -> None:
    by_events = Training(events_per_batch=4096)
    assert (by_events.users_per_batch, Training().users_per_batch, Training().events_per_batch) == (None, 128, None)
    assert Training.model_validate_json(by_events.model_dump_json()) == by_events
    for both_or_none in ({"users_per_batch": 128, "events_per_batch": 4096}, {"users_per_batch": None}):
        with pytest.raises(ValidationError, match="name users_per_batch or events_per_batch"):
            Training.model_validate(both_or_none)
