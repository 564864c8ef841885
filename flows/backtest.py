"""A backtest: several models on several folds of one data set. Nothing is published."""

from datetime import datetime

from prefect import flow, runtime
from prefect.states import Completed, State

from flows import alerts, folds, steps
from flows.contenders import checked
from flows.nightly import night_of
from recsys import config, windows
from recsys.evaluation.backtest import Listed, fold_rows, verdict
from recsys.store import Artifact


def run_name() -> str:
    """`backtest-2017-10-17`."""
    return f"backtest-{windows.label(night_of(runtime.flow_run.parameters.get('as_of')))}"


@flow(name="backtest", flow_run_name=run_name, on_failure=[alerts.on_stop], on_crashed=[alerts.on_stop])
def backtest(
    as_of: datetime | None = None,
    store: str = "store",
    seed: int = 1,
    data: config.Data = config.Data(demo=config.Shop()),
    features: config.Features = config.Features(),
    sequences: config.Sequences = config.Sequences(),
    model: config.Model = config.Model(),
    training: config.Training = config.Training(),
    evaluation: config.Evaluation = config.Evaluation(),
    scoring: config.Scoring = config.Scoring(),
    backtest: config.Backtest = config.Backtest(),
    rebuild: bool = False,
) -> State[Artifact]:
    """Train and list every model in every fold, and compare them all.

    All folds are cuts of the same histories. The model and the lists of a fold are artifacts: what is there is reused, so that a
    backtest that was stopped goes on where it was, and another model costs its own folds only.

    Args:
        as_of: Where the last fold ends, in UTC; the midnight before the scheduled time unless given.
        store: Folder of the artifacts; a data set's nights and backtests share one.
        seed: Every random choice follows from it.
        data: Where the tables are and what their columns mean. Its history is that of all folds together.
        features: DuckDB, and the contracts on what it reads and writes.
        sequences: What a history and a training sequence are.
        model: What all models have in common, and the model `candidate`.
        training: How they are fitted.
        evaluation: What is measured, and what a fold holds out unless the backtest says.
        scoring: Whether lists leave out what was seen.
        backtest: Who is compared, and on which folds.
        rebuild: Do everything again.
    """
    night = config.Night(
        seed=seed, data=data, features=features, sequences=sequences, model=model, training=training, evaluation=evaluation,
        scoring=scoring, promotion=config.Promotion(metric=evaluation.metrics[0], k=evaluation.k[0]),
    )  # fmt: skip
    run = steps.begin(night, store, night_of(as_of), rebuild, backtest=backtest)
    plan = backtest.folds(run.as_of, evaluation.holdout, seed)
    contenders = checked(backtest, night, plan, run.store)
    with steps.at_work(run):
        tables = steps.features(run)
        histories = steps.sequences(run, tables)
        listed: list[Listed] = []
        models: dict[str, Artifact | None] = {}
        for fold in plan:
            models = {one.name: folds.trained(run, one, fold, histories, models.get(one.name)) for one in contenders}
            listed += folds.listed(run, backtest, contenders, fold, histories, models)
        compared = folds.compared(run, backtest, histories, listed)
        return Completed(message=f"{verdict(fold_rows(run.store, compared))} Nothing was published.", data=compared)
