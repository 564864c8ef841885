"""One task per step. Each calls one function of the library and shows in the UI what came out of it.

Prefect's caching and results stay off: the store is the cache, and the artifact of a step is its result.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timezone
from typing import Any, Literal

import duckdb
from prefect import Task, get_client, get_run_logger, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.logging.handlers import APILogHandler

from flows import deployments, secrets, ui
from flows.checks import check
from flows.progress import Progress
from flows.run import Rival, Run, Winner
from flows.run import winner as winner_of
from recsys import attempts, published, windows
from recsys.config import Backtest, Group, Night
from recsys.errors import ExportError, RecsysError
from recsys.features.drift import check_drift
from recsys.promotion.policy import Decision
from recsys.published import Promotion
from recsys.publishing.exports import export
from recsys.publishing.publish import publish
from recsys.store import Artifact, Store
from recsys.turn import Turn
from recsys.validation import validated
from recsys.windows import Cut


def begin(night: Night, store: str, as_of: datetime, rebuild: bool = False, *, backtest: Backtest | None = None) -> Run:
    """The run, after its building blocks were checked and what it does otherwise than its deployment was logged.

    Those of a backtest are checked with everybody who takes part in it: see flows.contenders.
    """
    _listen()
    artifacts = Store(store, {"prefect_flow_run": runtime.flow_run.id})
    if backtest is None:
        check(night, artifacts)
    for difference in _differences(dict(night) | ({"backtest": backtest} if backtest else {})):
        get_run_logger().info("Otherwise than deployed: %s", difference)
    artifacts.check_writable()
    return Run(artifacts, as_of, night, datetime.now(timezone.utc), rebuild)


def at_work(run: Run) -> AbstractContextManager[Turn]:
    """The run's turn on its store: one at a time, the others wait and say for whom."""
    return run.store.at_work(str(runtime.flow_run.name))


def _listen() -> None:
    """The library's log lines go where the tasks' go, and those of a run: to the terminal and to the UI."""
    for name in ("recsys", "flows.run"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        if not any(isinstance(handler, APILogHandler) for handler in logger.handlers):
            logger.addHandler(APILogHandler())
    secrets.keep_out_of_logs()


def _differences(groups: Mapping[str, Any]) -> Iterator[str]:
    """Every field in which a parameter of the flow differs from its deployment's."""
    if not runtime.deployment.id:
        return
    with get_client(sync_client=True) as client:
        deployed = client.read_deployment(runtime.deployment.id).parameters
    for name, group in groups.items():
        if isinstance(group, Group) and name in runtime.flow_run.parameters:
            theirs = validated(type(group), deployed[name], name) if name in deployed else type(group).model_construct()
            yield from deployments.differences(group.model_dump(mode="json"), theirs.model_dump(mode="json"), name)
        elif name in deployed:
            yield from deployments.differences(group, deployed[name], name)


@contextmanager
def at(run: Run, what: str) -> Iterator[Progress]:
    """A step at work, `what` begins with its name: in the UI how far it is, and in the store why it came to nothing."""
    step, night = what.split()[0], windows.label(run.as_of)
    with attempts.noted(run.store.root, step, night), Progress(what, ui.key(run.store.root.name, f"progress-{what}")) as progress:
        yield progress


def may_pass(task: Task[..., Any], run: TaskRun, state: State) -> bool:
    """Whether another try may help: trouble of a disk or a network, and nothing that a person has to put right."""
    error = state.result(raise_on_failure=False)
    if isinstance(error, ExportError):
        return error.may_pass
    lasting = (RecsysError, FileNotFoundError, NotADirectoryError, FileExistsError, PermissionError)
    return isinstance(error, (OSError, duckdb.IOException)) and not isinstance(error, lasting)


@task(name="features", task_run_name="features", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=[5, 60], retry_condition_fn=may_pass)
def features(run: Run) -> Artifact:
    """The events, items and users of the night's windows, as tables that kept their contracts and are like the last nights'."""
    with at(run, "features"):
        tables = run.features()
    ui.show_profile(tables)
    ui.reported(tables)
    drift = run.drift(tables)
    ui.show_drift(drift)
    check_drift(drift)
    return tables


@task(name="sequences", task_run_name="sequences", cache_policy=NO_CACHE)
def sequences(run: Run, tables: Artifact) -> Artifact:
    """Every user's history as flat arrays."""
    with at(run, "sequences"):
        return ui.reported(run.sequences(tables))


@task(name="training", task_run_name="training {role}", cache_policy=NO_CACHE)
def training(
    run: Run, role: str, histories: Artifact, cut: Cut, *, warm_from: Artifact | None = None, epochs: int | None = None
) -> Artifact:
    """A model of what happened before the cut. `epochs` is the exact number of them for a refit."""
    with at(run, f"training {role}") as progress:
        model = run.training(histories, cut, warm_from, epochs, progress)
    ui.show_epochs(model, role)
    return ui.reported(model)


@task(name="evaluation", task_run_name="evaluation", cache_policy=NO_CACHE)
def evaluation(run: Run, histories: Artifact, candidate: Artifact, current: Artifact | None) -> Artifact:
    """The candidate, the current model and popularity, measured on the same users and items of the holdout."""
    with at(run, "evaluation") as progress:
        comparison = run.evaluation(histories, candidate, current, progress)
    ui.show_report(comparison)
    return ui.reported(comparison)


@task(name="promotion", task_run_name="promotion", cache_policy=NO_CACHE)
def promotion(run: Run, comparison: Artifact, rival: Rival, trial: bool = False) -> Artifact:
    """Which contender's lists are published, and why; or would be, in a `trial`."""
    with at(run, "promotion"):
        decision = run.promotion(comparison, rival, trial)
    ui.show_decision(decision)
    return ui.reported(decision)


@task(name="scoring", task_run_name="scoring", cache_policy=NO_CACHE)
def scoring(
    run: Run, histories: Artifact, model: Artifact | None, decision: Decision, users: Sequence[str] = (), others: Artifact | None = None
) -> Artifact:
    """Tonight's list of every user, or of those that are named."""
    with at(run, "scoring") as progress:
        lists = run.scoring(histories, model, decision, progress, users, others)
    ui.show_lists(run.store, lists)
    return ui.reported(lists)


def winner(
    run: Run, histories: Artifact, decision: Decision, candidate: Artifact, rival: Artifact | None, current: Promotion | None
) -> Winner:
    """Who makes tonight's lists; the refit of a candidate is a task of its own."""

    def refit() -> Artifact:
        return training(run, "refit", histories, run.everything, warm_from=rival, epochs=candidate.metrics["best_epoch"])

    return winner_of(run, histories, decision, candidate, current, refit)


@task(name="publishing", task_run_name="publishing", cache_policy=NO_CACHE)
def publishing(
    run: Run, histories: Artifact, lists: Artifact, decision: Decision, winner: Winner, current: Promotion | None, **others: Artifact
) -> Promotion:
    """The lists, once they keep their contracts, are what everybody reads; `others` belong to them."""
    action: Literal["publish", "hold", "backfill"] = "backfill" if not run.publishes else "hold" if decision.held else "publish"
    with at(run, "publishing"):
        checked = publish(
            run.store, run.as_of, run.night.publishing, run.night.scoring, lists, histories,
            config=run.configuration, source=decision.published, reasons=(*decision.reasons, *winner.reasons),
            others={"training": winner.model, "twin": winner.twin, **others}, last=current, action=action, rebuild=run.rebuild,
        )  # fmt: skip
    ui.show_checks(checked)
    ui.reported(checked)
    promoted = {
        "publish": published.finished(run.store, run.as_of, run.configuration),
        "hold": published.waiting(run.store, run.as_of, run.configuration),
        "backfill": published.backfilled(run.store, run.as_of, run.configuration),
    }[action]
    assert promoted is not None
    return promoted


def copies(run: Run, promoted: Promotion) -> list[str]:
    """The copies of what is published that were due; of what waits for a person or is only on record there are none."""
    return exports(run, promoted) if run.night.publishing.exports and promoted.action not in ("hold", "backfill") else []


@task(name="exports", task_run_name="exports", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=[5, 60], retry_condition_fn=may_pass)
def exports(run: Run, promoted: Promotion) -> list[str]:
    """Copies for others, of lists that are published whatever becomes of the copies."""
    written = export(run.store, promoted, run.night.publishing.exports)
    for place in written:
        get_run_logger().info("Copied to %s", place)
    return written
