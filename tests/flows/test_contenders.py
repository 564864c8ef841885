"""Who takes part in a backtest, from text: each changes the configuration of the run as `--set` would."""

from pathlib import Path

import pytest

from flows.checks import check
from flows.contenders import checked, contender, contenders, name_of
from recsys.config import Backtest, Data, Evaluation, Model, Night, Promotion, Shop, Training
from recsys.errors import ConfigError
from recsys.store import Store
from recsys.windows import folds, parse_as_of

NIGHT = Night(data=Data(demo=Shop()), model=Model(recipe="gru4rec", width=32), training=Training(max_epochs=7))


def test_the_candidate_is_the_configuration_itself() -> None:
    found = contender("candidate", NIGHT)
    assert found.name == "candidate" and found.night == NIGHT


def test_a_recipe_keeps_what_all_have_in_common() -> None:
    found = contender("albert", NIGHT).night
    assert found is not None and found.model == Model(recipe="albert", width=32)
    assert found.training.max_epochs == 7


def test_settings_are_of_the_model_or_of_its_training() -> None:
    text = 'sasrec(width=64, encoder=PreLN(n_blocks=4), heads=[NextItem(loss=GBCE(t=0.75))], max_epochs=3, optimizer="RAdam(eps=1e-6)")'
    found = contender(text, NIGHT).night
    assert found is not None
    assert found.model.encoder == "PreLN(n_blocks=4)" and found.model.heads == ("NextItem(loss=GBCE(t=0.75))",)
    assert (found.model.width, found.training.max_epochs, found.training.optimizer) == (64, 3, "RAdam(eps=1e-6)")


def test_settings_of_the_candidate_leave_its_recipe() -> None:
    found = contender("candidate(loss=BPR, deterministic=true)", NIGHT).night
    assert found is not None and found.model == Model(recipe="gru4rec", width=32, loss="BPR") and found.training.deterministic


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("sasrec", "sasrec"),
        ("short=sasrec(max_events=10)", "short"),
        ("sasrec(max_events=10)", "sasrec(max_events=10)"),
        ("team/mine.yaml", "mine"),
        ("ours-2 = team/mine.yaml", "ours-2"),
    ],
)
def test_names(text: str, name: str) -> None:
    assert name_of(text) == name


def test_a_file_brings_model_and_training(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("model: {recipe: bert4rec}\ntraining: {max_epochs: 2}\ndata: {demo: {}}\n")
    found = contender(str(file), NIGHT)
    assert found.name == "mine" and found.night is not None
    assert found.night.model == Model(recipe="bert4rec", width=32) and found.night.training.max_epochs == 2
    assert found.night.data == NIGHT.data
    file.write_text("data: {demo: {}}\n")
    with pytest.raises(ConfigError, match="neither the group model nor training"):
        contender(str(file), NIGHT)


def test_baselines_have_no_model() -> None:
    assert contender("popular", NIGHT).night is None
    found = contender('popular_lately(window="6h")', NIGHT)
    assert (found.baseline, found.window, found.night) == ("popular_lately", "6h", None)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sasrek", "there is no model 'sasrek'. Did you mean sasrec"),
        ("sasrec(widht=3)", "widht is no setting of a model or its training. Did you mean width"),
        ("sasrec(width=-1)", "model.width: Input should be greater than or equal to 1"),
        ("sasrec(", "is no building block"),
        ("popular(window='6h')", "popular has no setting 'window'. It takes none."),
        ("popular_lately(days=2)", "popular_lately has no setting 'days'. It takes a window"),
        ("popular_lately(window='6 hours')", "'6 hours' is no duration"),
        ("absent.yaml", "absent.yaml cannot be read"),
    ],
)
def test_what_is_no_contender(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        contender(text, NIGHT)
    assert says in str(caught.value)


def test_references_take_part_and_each_name_is_one() -> None:
    asked = Backtest(models=("sasrec", "short=sasrec(max_events=5)"), references=("popular", "short", "popular"))
    assert [one.name for one in contenders(asked, NIGHT)] == ["sasrec", "short", "popular"]
    given = contenders(Backtest(models=("base=sasrec()",), references=("base", "base=sasrec()")), NIGHT)
    assert [one.name for one in given] == ["base"]
    with pytest.raises(ConfigError, match="'base' is another one of backtest.models, 'base=sasrec"):
        contenders(Backtest(models=("base=sasrec()",), references=("base=gru4rec()",)), NIGHT)
    with pytest.raises(ConfigError, match="two are called 'sasrec'. Give one another name"):
        contenders(Backtest(models=("sasrec", "sasrec=albert")), NIGHT)


def test_who_continues_starts_from_the_fold_before() -> None:
    assert [
        one.night and one.night.training.warm_start for one in contenders(Backtest(models=("sasrec", "popular"), continuing=True), NIGHT)
    ] == [
        True,
        None,
    ]


def test_nobody_starts_from_the_current_model() -> None:
    warm = NIGHT.model_copy(update={"training": Training(warm_start=True)})
    for text, night in (("sasrec(warm_start=true)", NIGHT), ("candidate", warm)):
        with pytest.raises(ConfigError, match="no current model to start from. With backtest.continuing"):
            contender(text, night)
        assert contender(text, night, continuing=True).night is not None
    assert contender("popular", warm).night is None
    assert contender("candidate(warm_start=false)", warm).night is not None


@pytest.mark.parametrize("metric", ["AvgRecPopularity", "Intersection", "Debiased(metric=AvgRecPopularity())"])
def test_what_decides_is_better_where_there_is_more_of_it(tmp_path: Path, metric: str) -> None:
    for changes in ({"promotion": Promotion(metric=metric)}, {"evaluation": Evaluation(metrics=(metric, "NDCG"))}):
        with pytest.raises(ConfigError, match="more of that is not better"):
            check(NIGHT.model_copy(update=changes), Store(tmp_path))
    check(NIGHT.model_copy(update={"evaluation": Evaluation(metrics=("NDCG", metric))}), Store(tmp_path))


def test_slices_are_limited_by_a_metric_of_users(tmp_path: Path) -> None:
    def asked(metric: str, **tolerance: float) -> Night:
        return NIGHT.model_copy(update={"promotion": Promotion(metric=metric, slice_tolerance=tolerance)})

    check(asked("Recall", users=0.1), Store(tmp_path))
    check(asked("CatalogCoverage"), Store(tmp_path))
    with pytest.raises(ConfigError, match="promotion.slice_tolerance: CatalogCoverage is of all lists together and has no interval"):
        check(asked("CatalogCoverage", users=0.1), Store(tmp_path))


def test_a_metric_compares_with_those_who_take_part(tmp_path: Path) -> None:
    store, plan = Store(tmp_path), folds(parse_as_of("2025-06-02"), "1d")
    shared = NIGHT.model_copy(update={"evaluation": Evaluation(metrics=("NDCG", 'Intersection(model="sasrec")'))})
    assert len(checked(Backtest(models=("sasrec", "popular")), shared, plan, store)) == 2
    for models in (("sasrek=gru4rec", "popular"), ("popular",)):
        with pytest.raises(ConfigError, match="Intersection: there is no model 'sasrec'"):
            checked(Backtest(models=models), shared, plan, store)
    with pytest.raises(ConfigError, match="there is no model 'sasrec'"):
        check(shared, store)
    of_night = Evaluation(metrics=("NDCG", "Intersection", 'Intersection(model="current")'))
    check(NIGHT.model_copy(update={"evaluation": of_night}), store)
