"""Lists again, from the model that is published: for everybody or some, by other rules, or of a later moment."""

from dataclasses import replace
from datetime import datetime

from prefect import flow, runtime
from prefect.states import Completed, State

from flows import alerts, steps
from flows.run import Run, Winner
from recsys import config, published, windows
from recsys.errors import ConfigError, StoreError
from recsys.promotion.policy import Decision
from recsys.published import Promotion
from recsys.ranking.ranker import misfit
from recsys.store import Artifact, Store
from recsys.wording import counted


def run_name() -> str:
    """`score-2026-03-01`, of the moment that is asked for or else of what is published."""
    asked = runtime.flow_run.parameters
    now = published.current(Store(asked.get("store", "store")))
    moment = asked.get("as_of") or (now.moment if now else None)
    return f"score-{windows.label(windows.parse_as_of(moment))}" if moment else "score"


@flow(name="score", flow_run_name=run_name, on_failure=[alerts.on_stop], on_crashed=[alerts.on_stop])
def score(
    as_of: datetime | None = None,
    store: str = "store",
    data: config.Data = config.Data(demo=config.Shop()),
    features: config.Features = config.Features(),
    sequences: config.Sequences = config.Sequences(),
    scoring: config.Scoring = config.Scoring(),
    publishing: config.Publishing = config.Publishing(),
    users: tuple[str, ...] = (),
    publish: bool = False,
    rebuild: bool = False,
) -> State[Artifact]:
    """Make lists again from the model that is published, without training anything.

    What is there of the tables, the histories and the lists is reused. Lists that keep the contracts are published where that
    is asked for; a night stays finished by it.

    Args:
        as_of: The moment before which events are read, in UTC; that of what is published unless given.
        store: Folder of the artifacts.
        data: Where the tables are and what their columns mean; with data.sql_overlay other rules on items and pairs.
        features: DuckDB, and the contracts on what it reads and writes.
        sequences: What a history is.
        scoring: The lists.
        publishing: Contracts on the lists, and copies of them for others.
        users: Ids of the users whose lists are made; everybody unless given. Published, everybody else keeps theirs, which takes
            the histories that those were made from.
        publish: Publish them. A newer night that is published stays what readers see.
        rebuild: Do everything again.
    """
    night = _night(data, features, sequences, scoring, publishing)
    asked = windows.parse_as_of(as_of) if as_of else None
    run = steps.begin(night, store, asked or _current(Store(store)).moment, rebuild)
    with steps.at_work(run):
        now = _current(run.store)  # another one, where this run had to wait
        run = replace(run, as_of=asked or now.moment)
        histories = steps.sequences(run, steps.features(run))
        decision = _decision(run, now, users)
        model = _model(run, now, histories)
        others = now.artifact(run.store, "scoring") if users and publish else None
        lists = steps.scoring(run, histories, model, decision, users=users, others=others)
        if not publish:
            return Completed(message=f"{decision.reasons[0]} Nothing was published.", data=lists)
        on_record = replace(run, known_as=now.config) if run.as_of == now.moment else run
        measured = {name: now.artifact(run.store, name) for name in ("evaluation", "promotion")}
        winner = Winner(model, now.artifact(run.store, "twin"))
        before = published.before(run.store, run.as_of)
        others_of = {name: artifact for name, artifact in measured.items() if artifact}
        steps.copies(run, steps.publishing(on_record, histories, lists, decision, winner, before, **others_of))
        return Completed(message=decision.reasons[0], data=lists)


def _night(
    data: config.Data, features: config.Features, sequences: config.Sequences, scoring: config.Scoring, publishing: config.Publishing
) -> config.Night:
    """A whole configuration with these groups; nothing of the others is used but that they have to fit the data."""
    has_times = data.events is None or data.events.time is not None
    evaluation = config.Evaluation() if has_times else config.Evaluation(holdout="last-1")
    return config.Night(
        data=data, features=features, sequences=sequences, scoring=scoring, publishing=publishing, evaluation=evaluation
    )  # fmt: skip


def _current(store: Store) -> Promotion:
    if (now := published.current(store)) is None:
        raise StoreError(f"Nothing is published in {store.root}, so there is no model to make lists with. Run a night first.")
    return now


def _decision(run: Run, now: Promotion, users: tuple[str, ...]) -> Decision:
    """Whose lists they are: decided on when that was published, and still so."""
    gate = now.artifact(run.store, "promotion")
    whom = counted(len(users), "user") if users else "everybody"
    night, moment = windows.label(now.moment), windows.label(run.as_of)
    whose = f"the model that is published for {night}" if "training" in now.artifacts else f"what is popular, as published for {night}"
    why = f"Lists of {moment} for {whom} are made again from {whose}."
    decided = Decision.load(gate) if gate else None  # now.reasons may be those of lists that were made again too
    return Decision(now.source, (why, *(decided.reasons if decided else now.reasons)), {}, decided.popular_window if decided else "")


def _model(run: Run, now: Promotion, histories: Artifact) -> Artifact | None:
    model = now.artifact(run.store, "training")
    if model is not None and (reason := misfit(model.path, histories.path)) is not None:
        raise ConfigError(f"{model}, which is published, cannot read the histories of this configuration: {reason}")
    return model
