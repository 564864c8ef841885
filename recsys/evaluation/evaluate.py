"""The candidate, the current model and popularity on the same users, items and exclusions of the holdout."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.config import Evaluation, Scoring
from recsys.dictionary import Dictionary
from recsys.errors import ConfigError
from recsys.evaluation.baselines import Tried, try_windows
from recsys.evaluation.comparison import Comparison
from recsys.evaluation.ground import Ground, common_ground
from recsys.evaluation.report import document
from recsys.evaluation.report.night import Report
from recsys.evaluation.report.popularity import Shares
from recsys.evaluation.report.training import read_epochs
from recsys.evaluation.report.users import Users
from recsys.evaluation.slices import check_columns, slices, user_columns
from recsys.histories import Histories
from recsys.model import own_parts, saving
from recsys.model.device import device_of, threads
from recsys.ranking.lists import Lists, Source, counting, make_lists
from recsys.ranking.metrics import Past, named, specs
from recsys.ranking.popularity import Popularity
from recsys.ranking.ranker import Ranker, Reading
from recsys.schema import Schema
from recsys.store import Artifact, Draft, Store
from recsys.windows import ended_by, holdout, label, microseconds

TRIED = pa.schema([("window", pa.string()), ("ndcg_at_10", pa.float64()), ("chosen", pa.bool_())])


def evaluate(
    store: Store,
    as_of: datetime,
    evaluation: Evaluation,
    scoring: Scoring,
    seed: int,
    sequences: Artifact,
    candidate: Artifact,
    current: Artifact | None,
    *,
    code: str | None = None,
    progress: Callable[[float], None] | None = None,
    rebuild: bool = False,
) -> Artifact:
    """The artifact with `metrics.parquet`, `lifts.parquet`, `users.parquet`, `baselines.parquet`, `report.html` and `report.md`.

    `candidate` and `current` (None: there is none that could be compared fairly) are *training* artifacts whose training
    ended at the holdout's start or before. Lists are made as by `scoring`, and where it says. `code` is the folder of
    own metrics.
    """
    check_evaluation(evaluation, sequences, code)
    measured = specs(evaluation.metrics, "evaluation.metrics")
    config = {**evaluation.versioned(), "metrics": list(measured), "seed": seed}
    config |= {"exclude_seen": scoring.exclude_seen, "segment": scoring.segment}
    for trained in filter(None, (candidate, current)):
        _check_unseen(trained, as_of, evaluation)
    models = {"candidate": candidate} if current is None else {"candidate": candidate, "current": current}

    def build(draft: Draft) -> None:
        with threads(scoring.threads):
            _Evening(as_of, evaluation, scoring, seed, sequences, models, progress).write(draft)

    sources = {name: saving.sources(model.path) for name, model in models.items()}
    sources["metrics"] = own_parts.sources({cls for spec in measured.values() for cls in spec.classes()}, code)
    inputs = {"sequences": sequences, **models}
    return store.ensure(
        "evaluation", as_of, config, inputs, build,
        code=__name__, sources=sources, sql=[document.PAGE], rebuild=rebuild,
    )  # fmt: skip


def check_evaluation(evaluation: Evaluation, sequences: Artifact, code: str | None = None) -> None:
    """ConfigError where a metric or a slice is asked for that there is not, or that needs columns which the tables have not."""
    own_parts.put_on_path(code)
    schema = Schema.load(sequences.path)
    check_columns(schema, evaluation.slices)
    for name, metric in named(evaluation.metrics, "evaluation.metrics").items():
        if problem := metric.misfit(schema):
            raise ConfigError(f"evaluation.metrics: {name} does not fit these tables: {problem}")


class _Evening:
    """One evaluation at work: what all of its parts need to know."""

    def __init__(
        self,
        as_of: datetime,
        evaluation: Evaluation,
        scoring: Scoring,
        seed: int,
        sequences: Artifact,
        models: dict[str, Artifact],
        progress: Callable[[float], None] | None,
    ) -> None:
        self.evaluation, self.scoring, self.seed = evaluation, scoring, seed
        self.as_of, self.sequences, self.progress = as_of, sequences, progress
        self.cut = holdout(as_of, evaluation.holdout)
        self.dictionary = Dictionary.load(sequences.path)
        self.rankers = [Ranker.load(name, model.path, self.dictionary, device_of(scoring.accelerator)) for name, model in models.items()]
        self.candidate = models["candidate"]
        self.metrics = named(evaluation.metrics)
        columns = {column for ranker in self.rankers for column in ranker.columns} | ({scoring.segment} if scoring.segment else set())
        columns |= user_columns(self.dictionary.schema, evaluation.slices)
        self.histories = Histories.load(sequences.path, columns=columns)

    def write(self, draft: Draft) -> None:
        """Every table of the artifact."""
        histories, dictionary, evaluation = self.histories, self.dictionary, self.evaluation
        ground = common_ground(histories, dictionary, self.cut, histories.offsets[1:], self.scoring.exclude_seen)
        ground = ground.some(evaluation.max_users, self.seed)
        tried = self._tried()
        lists, unknown = self._lists(ground, tried)
        comparison = Comparison(
            lists, ground, Past.of(histories, ground.ends, dictionary), slices(ground, histories, dictionary, self.cut, evaluation.slices),
            self.metrics, evaluation.k, evaluation.n_bootstrap, self.seed,
        )  # fmt: skip
        metrics = comparison.table()
        draft.counts = {**ground.counts, **unknown}
        draft.metrics = _headline(metrics)
        lifts = comparison.lifts()
        pq.write_table(metrics, draft.path / "metrics.parquet", compression="zstd")
        pq.write_table(lifts, draft.path / "lifts.parquet", compression="zstd")
        user_id = histories.user_id.take(pa.array(ground.users))
        pq.write_table(comparison.users(user_id), draft.path / "users.parquet", compression="zstd")
        pq.write_table(pa.Table.from_pylist([vars(row) for row in tried], TRIED), draft.path / "baselines.parquet", compression="zstd")
        report = replace(self._report(comparison, metrics, tried, draft.counts), lifts=lifts.to_pylist()).document()
        (draft.path / "report.md").write_text(report.markdown())
        (draft.path / "report.html").write_text(report.html())

    def _report(self, comparison: Comparison, metrics: pa.Table, tried: list[Tried], counts: dict[str, int | float]) -> Report:
        """The tables for people, and a look at the lists themselves at the first k."""
        k = self.evaluation.k[0]
        units = {name: metric.unit for name, metric in self.metrics.items()}
        found = Report(
            label(self.as_of), self.evaluation.holdout, comparison.reference, metrics.to_pylist(), tried, counts, units,
            list(comparison.of_lists), epochs=read_epochs(self.candidate.path), best_epoch=self.candidate.metrics.get("best_epoch"),
        )  # fmt: skip
        if not counts["test_users"]:
            return found
        users = Users.of(comparison, self.histories, self.dictionary, ("candidate", comparison.reference), k)
        shares = Shares.of(comparison.lists, comparison.ground.relevant, comparison.past, k)
        return replace(found, shares=shares, users=users)

    def _tried(self) -> list[Tried]:
        evaluation = self.evaluation
        return try_windows(
            self.histories, self.dictionary, self.cut, evaluation.holdout, evaluation.popular_windows,
            exclude_seen=self.scoring.exclude_seen, segment=self.scoring.segment, max_users=evaluation.max_users, seed=self.seed,
        )  # fmt: skip

    def _lists(self, ground: Ground, tried: list[Tried]) -> tuple[dict[str, Lists], dict[str, int]]:
        """Every contender's lists, made as tonight's are, and what each model does not know."""
        window = next((row.window for row in tried if row.chosen), None)
        popular = Popularity.count([self.histories], self.dictionary, self.cut, window, self.scoring.segment).sources(self.histories)
        readings = [self._reading(ranker, ground) for ranker in self.rankers]
        contenders: dict[str, list[Source]] = {reading.name: [reading, *Popularity.after_a_model(popular)] for reading in readings}
        contenders |= {name: list(sources) for name, sources in popular.items()}
        advance = counting(len(contenders) * len(ground.users), self.progress)
        most_relevant = int(np.diff(ground.offsets).max(initial=0))
        k = max(metric.places(k, most_relevant) for metric in self.metrics.values() for k in self.evaluation.k)
        lists = {
            name: make_lists(sources, ground.users, k, ground.excluded, ground.n_history, progress=advance)
            for name, sources in contenders.items()
        }
        counts = {f"{reading.name}_fallback_users": int((lists[reading.name].source[:, 0] > 0).sum()) for reading in readings}
        return lists, counts | {f"{reading.name}_unknown_events": reading.n_unknown for reading in readings}

    def _reading(self, ranker: Ranker, ground: Ground) -> Reading:
        """A model at the cut: what it would have recommended at that moment."""
        now = None if self.cut.at is None else microseconds(self.cut.at)
        return ranker.reading(self.histories, ground.ends, now)


def _check_unseen(model: Artifact, as_of: datetime, evaluation: Evaluation) -> None:
    """A model that learnt from the holdout would be asked what it was told."""
    start, trained = holdout(as_of, evaluation.holdout), model.manifest["config"]["cut"]
    if not ended_by(trained, start):
        raise ConfigError(f"{model} was trained on what was before {trained}, and the holdout begins at {start}: compare its twin.")


def _headline(metrics: pa.Table) -> dict[str, dict[str, float]]:
    """Of every contender, on all users: what the store's manifest and `recsys show` tell of an evaluation."""
    found: dict[str, dict[str, float]] = {}
    for row in metrics.to_pylist():
        if row["slice"] == "all" and not np.isnan(row["value"]):
            found.setdefault(row["contender"], {})[f"{row['metric']}@{row['k']}"] = row["value"]
    return found
