"""One task per step. Each calls one function of the library and shows in the UI what came out of it.

Prefect's caching and results stay off: the store is the cache, and the artifact of a step is its result.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import duckdb
from prefect import Task, get_client, get_run_logger, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.logging.handlers import APILogHandler

from flows import deployments, ui
from flows.checks import check
from flows.progress import Progress
from recsys import demo, digest, published, windows
from recsys.config import Backtest, Group, Night
from recsys.errors import RecsysError
from recsys.evaluation.evaluate import check_evaluation, evaluate
from recsys.features.tables import build_features
from recsys.promotion.policy import Decision, decide
from recsys.promotion.refit import check_refit
from recsys.published import Promotion
from recsys.publishing.publish import publish
from recsys.ranking.ranker import misfit
from recsys.scoring.recommend import recommend
from recsys.sequences.build import build_sequences
from recsys.store import Artifact, Store
from recsys.training.train import train
from recsys.validation import validated
from recsys.windows import Cut


@dataclass(frozen=True)
class Run:
    """What every step of a run needs to know. `started` is the clock's only use: rows from after it break a contract."""

    store: Store
    as_of: datetime
    night: Night
    started: datetime
    rebuild: bool = False

    @property
    def configuration(self) -> str:
        """Digest of all that was asked for; with the places of the data, which versions know by what is in them."""
        return digest.of_value({**self.night.versioned(), "data": self.night.data.model_dump(mode="json")})

    @property
    def holdout(self) -> Cut:
        return windows.holdout(self.as_of, self.night.evaluation.holdout)

    @property
    def everything(self) -> Cut:
        events = self.night.data.events
        return windows.everything(self.as_of, has_times=events is None or events.time is not None)


def begin(night: Night, store: str, as_of: datetime, rebuild: bool = False, *, backtest: Backtest | None = None) -> Run:
    """The run, after its building blocks were checked and what it does otherwise than its deployment was logged."""
    _listen()
    artifacts = Store(store, {"prefect_flow_run": runtime.flow_run.id})
    check(night, artifacts)
    for difference in _differences(dict(night) | ({"backtest": backtest} if backtest else {})):
        get_run_logger().info("Otherwise than deployed: %s", difference)
    artifacts.check_writable()
    return Run(artifacts, as_of, night, datetime.now(timezone.utc), rebuild)


def _listen() -> None:
    """The library's log lines go where the tasks' go: to the terminal and to the UI."""
    library = logging.getLogger("recsys")
    library.setLevel(logging.INFO)
    if not any(isinstance(handler, APILogHandler) for handler in library.handlers):
        library.addHandler(APILogHandler())


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


def progress_of(run: Run, what: str) -> Progress:
    return Progress(what, ui.key(run.store.root.name, f"progress-{what}"))


def may_pass(task: Task[..., Any], run: TaskRun, state: State) -> bool:
    """Whether another try may help: trouble of a disk or a network, and nothing that a person has to put right."""
    error = state.result(raise_on_failure=False)
    lasting = (RecsysError, FileNotFoundError, NotADirectoryError, FileExistsError, PermissionError)
    return isinstance(error, (OSError, duckdb.IOException)) and not isinstance(error, lasting)


@task(name="features", task_run_name="features", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=[5, 60], retry_condition_fn=may_pass)
def features(run: Run) -> Artifact:
    """The events, items and users of the night's windows, as tables that kept their contracts."""
    earlier = [artifact for artifact in run.store.artifacts("features") if artifact.as_of < run.as_of]
    with progress_of(run, "features"):
        data = run.night.data
        if data.demo is not None:
            data = demo.prepare(data, run.as_of, run.store.root / "demo")
        tables = build_features(
            run.store, run.as_of, data, run.night.features,
            previous=earlier[-1] if earlier else None, started=run.started, rebuild=run.rebuild,
        )  # fmt: skip
    ui.show_profile(tables)
    return ui.reported(tables)


@task(name="sequences", task_run_name="sequences", cache_policy=NO_CACHE)
def sequences(run: Run, tables: Artifact) -> Artifact:
    """Every user's history as flat arrays."""
    with progress_of(run, "sequences"):
        made = ui.reported(build_sequences(run.store, run.as_of, run.night.sequences, tables, rebuild=run.rebuild))
    check_evaluation(run.night.evaluation, made, run.night.model.code)  # before the training, which takes long
    return made


@task(name="training", task_run_name="training {role}", cache_policy=NO_CACHE)
def training(
    run: Run, role: str, histories: Artifact, cut: Cut, *, warm_from: Artifact | None = None, epochs: int | None = None
) -> Artifact:
    """A model of what happened before the cut. `epochs` is the exact number of them for a refit."""
    start = warm_from if run.night.training.warm_start else None
    with progress_of(run, f"training {role}") as progress:
        model = train(
            run.store, run.as_of, run.night.model, run.night.training, run.night.seed, histories, cut,
            key=run.night.sequences.key, warm_from=start, epochs=epochs, progress=progress, rebuild=run.rebuild,
        )  # fmt: skip
    ui.show_epochs(model, role)
    return ui.reported(model)


@task(name="evaluation", task_run_name="evaluation", cache_policy=NO_CACHE)
def evaluation(run: Run, histories: Artifact, candidate: Artifact, current: Artifact | None) -> Artifact:
    """The candidate, the current model and popularity, measured on the same users and items of the holdout."""
    with progress_of(run, "evaluation") as progress:
        comparison = evaluate(
            run.store, run.as_of, run.night.evaluation, run.night.scoring.exclude_seen, run.night.seed, histories, candidate, current,
            segment=run.night.scoring.segment, code=run.night.model.code, progress=progress, rebuild=run.rebuild,
        )  # fmt: skip
    ui.show_report(comparison)
    return ui.reported(comparison)


@task(name="promotion", task_run_name="promotion", cache_policy=NO_CACHE)
def promotion(run: Run, comparison: Artifact) -> Artifact:
    """Which contender's lists are published, and why."""
    decision = decide(run.store, run.as_of, run.night.promotion, comparison, rebuild=run.rebuild)
    ui.show_decision(decision)
    return ui.reported(decision)


@task(name="scoring", task_run_name="scoring", cache_policy=NO_CACHE)
def scoring(run: Run, histories: Artifact, model: Artifact | None, decision: Decision) -> Artifact:
    """Tonight's list of every user."""
    with progress_of(run, "scoring") as progress:
        lists = recommend(
            run.store, run.as_of, run.night.scoring, histories, model, decision.published, decision.popular_window,
            progress=progress, rebuild=run.rebuild,
        )  # fmt: skip
    ui.show_lists(run.store, lists)
    return ui.reported(lists)


def comparable(run: Run, current: Promotion | None, histories: Artifact) -> Artifact | None:
    """The current model as published where its training ended by the holdout's start, else its twin, else none.

    A model that cannot read tonight's histories, since a column is gone say, is none: a new one takes its place.
    """
    if current is None:
        return None
    why = "every model of it has seen events of the holdout" if "training" in current.artifacts else "it has no model"
    for name in ("training", "twin"):
        model = current.artifact(run.store, name)
        if model is not None and _ended_by(model.manifest["config"]["cut"], run.holdout):
            reason = misfit(model.path, histories.path)
            if reason is None:
                return model
            why = f"its model cannot read tonight's histories: {reason}"
    get_run_logger().warning("No fair comparator in what was published for %s, the lists of %s: %s.", current.as_of, current.source, why)
    return None


def _ended_by(train_end: str, holdout: Cut) -> bool:
    """Whether a training with this cut, as its manifest has it, saw nothing of the holdout."""
    if holdout.at is None or train_end.startswith("last-"):
        return train_end == str(holdout)
    return datetime.fromisoformat(train_end) <= holdout.at


@dataclass(frozen=True)
class Winner:
    """The model of tonight's lists and its twin that was trained before the holdout; neither where a baseline won."""

    model: Artifact | None = None
    twin: Artifact | None = None
    reasons: tuple[str, ...] = ()


def winner(
    run: Run, histories: Artifact, decision: Decision, candidate: Artifact, rival: Artifact | None, current: Promotion | None
) -> Winner:
    """Who makes tonight's lists. A candidate is trained again on everything before the night, if it stays itself by it."""
    if decision.published == "current" and current is not None:
        return Winner(current.artifact(run.store, "training"), current.artifact(run.store, "twin"))
    if decision.published != "candidate":
        return Winner()
    if not run.night.training.refit:
        return Winner(candidate)
    refit = training(run, "refit", histories, run.everything, warm_from=rival, epochs=candidate.metrics["best_epoch"])
    policy = run.night.promotion
    check = check_refit(refit, candidate, histories, run.holdout, min_overlap=policy.min_refit_overlap, seed=run.night.seed)
    get_run_logger().log(logging.INFO if check.passed else logging.WARNING, check.reason)
    return Winner(refit, candidate, (check.reason,)) if check.passed else Winner(candidate, None, (check.reason,))


@task(
    name="publishing", task_run_name="publishing", cache_policy=NO_CACHE,
    retries=2, retry_delay_seconds=[5, 60], retry_condition_fn=may_pass,
)  # fmt: skip
def publishing(
    run: Run, histories: Artifact, lists: Artifact, decision: Decision, winner: Winner, current: Promotion | None, **others: Artifact
) -> Promotion:
    """The lists, once they keep their contracts, are what everybody reads; `others` belong to them."""
    checked = publish(
        run.store, run.as_of, run.night.publishing, run.night.scoring, lists, histories,
        config=run.configuration, source=decision.published, reasons=(*decision.reasons, *winner.reasons),
        others={"training": winner.model, "twin": winner.twin, **others}, last=current, hold=decision.held, rebuild=run.rebuild,
    )  # fmt: skip
    ui.show_checks(checked)
    ui.reported(checked)
    promoted = published.finished(run.store, run.as_of, run.configuration) or published.held(run.store, run.as_of)
    assert promoted is not None
    return promoted
