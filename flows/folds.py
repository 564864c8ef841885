"""The tasks of a backtest: a model of a fold, a contender's lists of it, and the comparison of all."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from flows import steps, ui
from flows.contenders import Contender, name_of
from flows.run import Run
from recsys.config import Backtest, expand
from recsys.evaluation.backtest import Listed, backtest, fold_rows, model_rows, write_csv
from recsys.evaluation.folds import list_fold
from recsys.evaluation.ground import Kept
from recsys.evaluation.report.folds import taken
from recsys.evaluation.terms import Rules, Tables, Terms
from recsys.store import Artifact
from recsys.windows import Fold


def trained(run: Run, contender: Contender, fold: Fold, histories: Artifact, before: Artifact | None) -> Artifact | None:
    """The contender's model of the fold, which may begin with that of the fold `before`; None of a baseline."""
    if contender.night is None:
        return None
    return steps.training(replace(run, night=contender.night), f"{contender.name} {fold.name}", histories, fold.learn, warm_from=before)


def listed(
    run: Run, asked: Backtest, contenders: Sequence[Contender], fold: Fold, histories: Artifact, models: Mapping[str, Artifact | None]
) -> list[Listed]:
    """Everybody's lists of a fold. What they share is made once, and let go before the next models are trained."""
    terms = Terms(fold, Tables(histories, _rules(run, asked)))
    return [lists(run, terms, contender, models[contender.name]) for contender in contenders]


@task(name="folds", task_run_name="lists {contender.name} {terms.fold.name}", cache_policy=NO_CACHE)
def lists(run: Run, terms: Terms, contender: Contender, model: Artifact | None) -> Listed:
    """The contender's lists of the fold's test users."""
    with steps.at(run, "folds") as progress:
        made = list_fold(
            run.store, run.as_of, terms, model or contender.baseline, window=contender.window, progress=progress, rebuild=run.rebuild
        )  # fmt: skip
    return Listed(terms.fold, contender.name, ui.reported(made))


@task(name="backtest", task_run_name="backtest", cache_policy=NO_CACHE)
def compared(run: Run, asked: Backtest, histories: Artifact, listed: Sequence[Listed]) -> Artifact:
    """Every model on every fold, and the means; as tables in the UI, and as CSV where that is asked for."""
    references = [name_of(text) for text in asked.references]
    named = [name_of(text) for text in asked.models]
    tested = list(dict.fromkeys([*named, *references])) if asked.test_references else named
    tables = Tables(histories, _rules(run, asked))
    found = backtest(run.store, run.as_of, tables, listed, references=references, tested=tested, rebuild=run.rebuild)
    rows = fold_rows(run.store, found)
    models = model_rows(rows)
    ui.show_backtest(found, models, rows, taken(models).markdown())
    if asked.csv is not None:
        write_csv(Path(expand(asked.csv)), rows)
    return ui.reported(found)


def _rules(run: Run, asked: Backtest) -> Rules:
    kept = Kept(asked.cold_users, asked.cold_items, asked.seen)
    return Rules(run.night.evaluation, kept, run.night.scoring, run.night.seed, run.night.model.code)
