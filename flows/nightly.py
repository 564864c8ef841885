"""The night: from event tables to published lists, one step after the other."""

from dataclasses import replace
from datetime import datetime
from typing import Annotated

from prefect import flow, get_run_logger, runtime
from prefect.states import Completed, State
from pydantic import Field

from flows import alerts, missed, steps, ui
from flows.run import Run, comparable
from recsys import config, published, windows
from recsys.promotion.policy import Decision
from recsys.turn import Turn
from recsys.wording import counted


def night_of(as_of: datetime | str | None) -> datetime:
    """The moment asked for, or else the midnight before the scheduled time, however late the run is."""
    if as_of is not None:
        return windows.parse_as_of(as_of)
    return windows.midnight(runtime.flow_run.scheduled_start_time)


def run_name() -> str:
    """`nightly-2017-10-17`: a run is found by its night, not by when it ran."""
    return f"nightly-{windows.label(night_of(runtime.flow_run.parameters.get('as_of')))}"


@flow(
    name="nightly", flow_run_name=run_name,
    on_failure=[alerts.on_stop], on_crashed=[alerts.on_stop], on_completion=[alerts.on_decision],
)  # fmt: skip
def nightly(
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
    publishing: config.Publishing = config.Publishing(),
    catch_up: Annotated[int, Field(ge=0, le=31)] = 0,
    rebuild: bool = False,
) -> State[published.Promotion | None]:
    """Learn from everything before `as_of` and publish a list for every user.

    Args:
        as_of: The night, in UTC; the midnight before the scheduled time unless given.
        store: Folder of the artifacts. Data sets do not share one: it has one set of published lists.
        seed: Every random choice follows from it.
        data: Where the tables are and what their columns mean.
        features: DuckDB, and the contracts on what it reads and writes.
        sequences: What a history and a training sequence are.
        model: The building blocks of the network.
        training: How it is fitted.
        evaluation: The time split and what is measured on it.
        promotion: When the new model is published, and what otherwise.
        scoring: Tonight's lists.
        publishing: Contracts on the lists, and copies of them for others.
        catch_up: How many missed nights a run of the schedule makes before its own, the newest ones, oldest first. Older ones are skipped.
        rebuild: Do everything again, even where the night was published with the same configuration.
    """
    night = config.Night(
        seed=seed, data=data, features=features, sequences=sequences, model=model, training=training,
        evaluation=evaluation, promotion=promotion, scoring=scoring, publishing=publishing,
    )  # fmt: skip
    run = steps.begin(night, store, night_of(as_of), rebuild)
    late = missed.nights_late() if as_of is None else None
    with steps.at_work(run) as turn:
        if (finished := published.finished(run.store, run.as_of, run.configuration)) and not rebuild:
            published.settle(run.store)
            copied = steps.copies(run, finished)  # those that failed before
            rest = f"copied to {' and '.join(copied)}" if copied else "nothing to do (if rows changed since, --rebuild reads them)"
            return Completed(message=f"{windows.label(run.as_of)} was published with this configuration: {rest}.", data=finished)
        if late is not None and late > catch_up:
            why = f"{counted(late, 'newer night')} {'is' if late == 1 else 'are'} due, and catch_up is {catch_up}"
            return Completed(name="Skipped", message=f"{windows.label(run.as_of)} is skipped: {why}.", data=None)
        if late is not None:
            _catch_up(run, turn, catch_up - late)
        promoted = made(run, published.before(run.store, run.as_of))  # asked once: no night is compared with itself
        if late is not None:
            turn.heeded()
    return Completed(message=promoted.reasons[0], data=promoted)


def _catch_up(run: Run, turn: Turn, at_most: int) -> None:
    """Make the nights that were missed, oldest first. One that stops is told, and stops nobody.

    Where the run before was killed in such a night, as by its need of memory, tonight comes first: the missed ones are skipped.
    """
    nights, log = missed.nights(run.store, run.as_of, at_most), get_run_logger()
    if nights and turn.killed is not None:
        log.warning("Missed nights are skipped: %s was killed in one of them. `recsys backfill` makes them.", turn.killed)
        return
    for night in map(windows.label, nights):
        turn.catch_up(night)
        log.info("%s was missed, and is made now.", night)
        try:
            earlier = replace(run, as_of=windows.parse_as_of(night))
            promoted = made(earlier, published.before(run.store, earlier.as_of))
            log.info("%s: %s", night, promoted.reasons[0])
            alerts.on_missed(night, promoted)
        except Exception as error:
            log.error("%s was missed, and cannot be made: %s", night, error)
            alerts.on_missed(night, error)
    turn.catch_up("")


def made(run: Run, current: published.Promotion | None) -> published.Promotion:
    """A night, step by step. `current` is what it is compared with, and whose lists it has where nothing new is good enough."""
    tables = steps.features(run)
    histories = steps.sequences(run, tables)
    rival = comparable(run, current, histories)
    candidate = steps.training(run, "candidate", histories, run.holdout, warm_from=rival.model)
    comparison = steps.evaluation(run, histories, candidate, rival.model)
    gate = steps.promotion(run, comparison, rival)
    decision = Decision.load(gate)
    winner = steps.winner(run, histories, decision, candidate, rival.model, current)
    lists = steps.scoring(run, histories, winner.model, decision)
    promoted = steps.publishing(run, histories, lists, decision, winner, current, evaluation=comparison, promotion=gate)
    steps.copies(run, promoted)
    ui.show_record(run.store, run.night.promotion)
    return promoted
