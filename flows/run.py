"""A run: what was asked for, and what each step is called with. The tasks show it; `recsys plan` only looks what is there."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from recsys import demo, digest, disk, windows
from recsys.config import Night
from recsys.errors import Diverged
from recsys.evaluation.evaluate import check_evaluation, evaluate
from recsys.features.drift import measure_drift
from recsys.features.tables import build_features
from recsys.promotion.policy import ALONE, Decision, decide
from recsys.promotion.refit import check_refit
from recsys.published import Promotion
from recsys.ranking.ranker import misfit
from recsys.scoring.recommend import recommend
from recsys.sequences.build import build_sequences
from recsys.store import Artifact, Store
from recsys.training.train import train
from recsys.windows import Cut

log = logging.getLogger(__name__)

Progress = Callable[[float], None]  # called with fractions 0 … 1


@dataclass(frozen=True)
class Rival:
    """The current model, as a new one may be compared with it fairly; without one, `why`, as part of a sentence.

    One that is not compared with `stays` where nothing is concluded, if it can read tonight's histories.
    """

    model: Artifact | None = None
    why: str = ALONE
    stays: bool = False


@dataclass(frozen=True)
class Run:
    """What every step of a run needs to know. `started` is the clock's only use: rows from after it break a contract."""

    store: Store
    as_of: datetime
    night: Night
    started: datetime
    rebuild: bool = False
    publishes: bool = True  # a backfill only puts its nights on record, unless it is asked to
    known_as: str = ""  # the configuration of a night that is finished and stays so, whatever becomes of its lists

    @property
    def configuration(self) -> str:
        """Digest of all that was asked for; with the places of the data, which versions know by what is in them."""
        return self.known_as or digest.of_value({**self.night.versioned(), "data": self.night.data.model_dump(mode="json")})

    @property
    def holdout(self) -> Cut:
        return windows.holdout(self.as_of, self.night.evaluation.holdout)

    @property
    def everything(self) -> Cut:
        events = self.night.data.events
        return windows.everything(self.as_of, has_times=events is None or events.time is not None)

    def features(self) -> Artifact:
        """The events, items and users of the night's windows, as tables that kept their contracts."""
        earlier = [artifact for artifact in self.store.artifacts("features") if artifact.as_of < self.as_of]
        data = self.night.data
        if data.demo is not None:
            with disk.explained(self.store.root, "features"):
                data = demo.prepare(data, self.as_of, demo.folder_in(self.store.root))
        return build_features(
            self.store, self.as_of, data, self.night.features,
            previous=earlier[-1] if earlier else None, started=self.started, rebuild=self.rebuild,
        )  # fmt: skip

    def drift(self, tables: Artifact) -> Artifact:
        """In what the tables differ from those of the last nights."""
        return measure_drift(self.store, tables, self.night.features.drift, rebuild=self.rebuild)

    def sequences(self, tables: Artifact) -> Artifact:
        """Every user's history as flat arrays. ConfigError where the evaluation cannot be made of them: before the training."""
        made = build_sequences(
            self.store, self.as_of, self.night.sequences, tables, limits=self.night.features, rebuild=self.rebuild
        )  # fmt: skip
        check_evaluation(self.night.evaluation, made, self.night.model.code)
        return made

    def training(
        self,
        histories: Artifact,
        cut: Cut,
        warm_from: Artifact | None = None,
        epochs: int | None = None,
        progress: Progress | None = None,
    ) -> Artifact:
        """A model of what happened before the cut. `epochs` is the exact number of them for a refit."""
        start = warm_from if self.night.training.warm_start else None
        return train(
            self.store, self.as_of, self.night.model, self.night.training, self.night.seed, histories, cut,
            key=self.night.sequences.key, warm_from=start, epochs=epochs, progress=progress, rebuild=self.rebuild,
        )  # fmt: skip

    def evaluation(
        self, histories: Artifact, candidate: Artifact, current: Artifact | None, progress: Progress | None = None
    ) -> Artifact:  # fmt: skip
        """The candidate, the current model and popularity, measured on the same users and items of the holdout."""
        return evaluate(
            self.store, self.as_of, self.night.evaluation, self.night.scoring, self.night.seed, histories, candidate, current,
            code=self.night.model.code, progress=progress, rebuild=self.rebuild,
        )  # fmt: skip

    def promotion(self, comparison: Artifact, rival: Rival, trial: bool = False) -> Artifact:
        """Which contender's lists are published, and why; or would be, in a `trial`."""
        return decide(
            self.store, self.as_of, self.night.promotion, comparison, alone=rival.why, stays=rival.stays, trial=trial, rebuild=self.rebuild
        )  # fmt: skip

    def scoring(
        self,
        histories: Artifact,
        model: Artifact | None,
        decision: Decision,
        progress: Progress | None = None,
        users: Sequence[str] = (),
        others: Artifact | None = None,
    ) -> Artifact:
        """Tonight's list of every user, or of those that are named."""
        return recommend(
            self.store, self.as_of, self.night.scoring, histories, model, decision.published, decision.popular_window,
            users=users, others=others, progress=progress, rebuild=self.rebuild,
        )  # fmt: skip


def comparable(run: Run, current: Promotion | None, histories: Artifact) -> Rival:
    """The current model as published where its training ended by the holdout's start, else its twin, else none.

    A model that cannot read tonight's histories, since a column is gone say, is none: a new one takes its place.
    """
    if current is None or "training" not in current.artifacts:
        return Rival()
    models = [model for name in ("training", "twin") if (model := current.artifact(run.store, name)) is not None]
    problem = misfit(models[0].path, histories.path)
    unseen = next((model for model in models if windows.ended_by(model.manifest["config"]["cut"], run.holdout)), None)
    if problem is None and unseen is not None:
        return Rival(unseen)
    why = "it has seen events of the holdout, and so has any twin"
    if problem is not None:
        why = f"it cannot read tonight's histories: {problem.rstrip('.')}"
    log.warning("The model that was published for %s is not compared with: %s.", current.as_of, why)
    return Rival(why=f"the current model is not compared with, since {why}", stays=problem is None)


@dataclass(frozen=True)
class Winner:
    """The model of tonight's lists and its twin that was trained before the holdout; neither where a baseline won."""

    model: Artifact | None = None
    twin: Artifact | None = None
    reasons: tuple[str, ...] = ()


def winner(
    run: Run, histories: Artifact, decision: Decision, candidate: Artifact, current: Promotion | None, refit: Callable[[], Artifact]
) -> Winner:
    """Who makes tonight's lists. A candidate is trained again on everything before the night, if it stays itself by it."""
    if decision.published == "current" and current is not None:
        return Winner(current.artifact(run.store, "training"), current.artifact(run.store, "twin"))
    if decision.published != "candidate":
        return Winner()
    if not run.night.training.refit:
        return Winner(candidate)
    policy = run.night.promotion
    try:
        again = refit()
    except Diverged as error:
        reason = f"The refit is given up for its twin: {error}"
        log.warning(reason)
        return Winner(candidate, None, (reason,))
    check = check_refit(
        again, candidate, histories, run.holdout, run.night.scoring, min_overlap=policy.min_refit_overlap, seed=run.night.seed
    )
    log.log(logging.INFO if check.passed else logging.WARNING, check.reason)
    return Winner(again, candidate, (check.reason,)) if check.passed else Winner(candidate, None, (check.reason,))
