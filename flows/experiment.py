"""An experiment: a variant of a night's model against the current one, on the night's own tables and holdout."""

from datetime import datetime, timedelta

from prefect import flow, runtime
from prefect.states import Completed, State

from flows import alerts, steps
from flows.nightly import night_of
from flows.run import comparable
from recsys import config, published, windows
from recsys.errors import StoreError
from recsys.promotion.policy import Decision
from recsys.store import Artifact, Store


def run_name() -> str:
    """`experiment-2026-03-01`, of the night that is asked for or else of what is published."""
    asked = runtime.flow_run.parameters
    return f"experiment-{windows.label(_night_of(asked.get('as_of'), asked.get('store', 'store')))}"


def _night_of(as_of: datetime | str | None, store: str) -> datetime:
    now = published.current(Store(store)) if as_of is None else None
    if as_of is None and now is None:
        raise StoreError(f"Nothing is published in {Store(store).root}, so there is no night to compare with: say which one is meant.")
    return now.moment if now is not None else night_of(as_of)


@flow(name="experiment", flow_run_name=run_name, on_failure=[alerts.on_stop], on_crashed=[alerts.on_stop])
def experiment(
    as_of: datetime | None = None,
    store: str = "store",
    seed: int = 1,
    data: config.Data = config.Data(demo=config.Shop()),
    features: config.Features = config.Features(),
    sequences: config.Sequences = config.Sequences(),
    model: config.Model = config.Model(),
    training: config.Training = config.Training(),
    evaluation: config.Evaluation = config.Evaluation(),
    promotion: config.Promotion = config.Promotion(),
    scoring: config.Scoring = config.Scoring(),
) -> State[Artifact]:
    """Train a variant, measure it against the current model and popularity, and ask the gate; nothing is published.

    The night's features and sequences are reused where the configuration of them is the night's. The current model is
    what is published up to the night: its twin, trained before the holdout, where itself has seen the holdout. What is
    returned is the gate's artifact, with the page.

    Args:
        as_of: The night whose tables and holdout are used, in UTC; that of what is published unless given.
        store: Folder of the artifacts.
        seed: Every random choice follows from it.
        data: Where the tables are and what their columns mean.
        features: DuckDB, and the contracts on what it reads and writes.
        sequences: What a history and a training sequence are.
        model: The building blocks of the network.
        training: How it is fitted.
        evaluation: The time split and what is measured on it.
        promotion: When the variant would be published.
        scoring: Whether lists leave out what was seen.
    """
    night = config.Night(
        seed=seed, data=data, features=features, sequences=sequences, model=model, training=training,
        evaluation=evaluation, promotion=promotion, scoring=scoring,
    )  # fmt: skip
    run = steps.begin(night, store, _night_of(as_of, store))
    with steps.at_work(run):
        tables = steps.features(run)
        histories = steps.sequences(run, tables)
        rival = comparable(run, published.before(run.store, run.as_of + timedelta.resolution), histories)  # this night's too
        variant = steps.training(run, "variant", histories, run.holdout, warm_from=rival.model)
        comparison = steps.evaluation(run, histories, variant, rival.model)
        gate = steps.promotion(run, comparison, rival, trial=True)
        message = f"Nothing was published for {windows.label(run.as_of)}. It would be: {Decision.load(gate).reasons[0]}"
        return Completed(message=message, data=gate)
