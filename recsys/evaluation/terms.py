"""The terms of a backtest: what all of its contenders share, of all folds and of one."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from recsys.config import Evaluation, Scoring
from recsys.dictionary import Dictionary
from recsys.evaluation.baselines import try_windows
from recsys.evaluation.ground import Ground, Kept, fold_ground
from recsys.evaluation.slices import user_columns
from recsys.histories import Histories
from recsys.model import own_parts
from recsys.ranking.metrics import Metric, named
from recsys.ranking.popularity import Popular, Popularity
from recsys.schema import Schema
from recsys.store import Artifact
from recsys.windows import Cut, Fold, spelt


@dataclass(frozen=True)
class Rules:
    """What all contenders of a backtest share: how lists are made, what is asked for, and of how many users."""

    evaluation: Evaluation
    kept: Kept
    scoring: Scoring
    seed: int
    code: str | None = None  # the folder of own metrics

    def metrics(self) -> dict[str, Metric]:
        """What is measured, by name. ConfigError where there is no such metric."""
        own_parts.put_on_path(self.code)
        return named(self.evaluation.metrics, "evaluation.metrics")

    def versioned(self) -> dict[str, Any]:
        """What lists depend on, as JSON values."""
        evaluation = self.evaluation
        longer = {
            name: [metric.places(k, n_relevant) for k in evaluation.k for n_relevant in (1, 100)]
            for name, metric in self.metrics().items()
            if metric.places(1, 1) > 1
        }
        asked = {"k": max(evaluation.k), "longer": longer, "max_users": evaluation.max_users, "popular_windows": evaluation.popular_windows}
        return {
            **asked,
            "kept": asdict(self.kept),
            "exclude_seen": self.scoring.exclude_seen,
            "segment": self.scoring.segment,
            "seed": self.seed,
        }

    def length(self, ground: Ground) -> int:
        """How long lists have to be for what is measured on them."""
        most = int(np.diff(ground.offsets).max(initial=0))
        return max(metric.places(k, most) for metric in self.metrics().values() for k in self.evaluation.k)


class Tables:
    """The histories and the dictionary of a backtest's sequences, read when somebody first needs them; of all folds together."""

    def __init__(self, sequences: Artifact, rules: Rules) -> None:
        self.sequences, self.rules = sequences, rules

    @cached_property
    def dictionary(self) -> Dictionary:
        return Dictionary.load(self.sequences.path)

    @cached_property
    def histories(self) -> Histories:
        """With the columns of users that segments and slices are made by; those of the events a model reads for itself."""
        columns, segment = user_columns(Schema.load(self.sequences.path), self.rules.evaluation.slices), self.rules.scoring.segment
        return Histories.load(self.sequences.path, columns=columns | ({segment} if segment else set()))


class Terms:
    """A fold, and what it asks of all contenders; each part is made when the first of them needs it."""

    def __init__(self, fold: Fold, tables: Tables) -> None:
        self.fold, self.tables, self.rules = fold, tables, tables.rules

    @property
    def past(self) -> Histories:
        """The histories that may be read."""
        return self._ground[0]

    @property
    def ground(self) -> Ground:
        """Whom the fold asks for what."""
        return self._ground[1]

    @cached_property
    def lately(self) -> str | None:
        """The best window of what is popular lately, on the time before the fold; None where folds are no windows of time."""
        learn, start, stop = self.fold.learn.at, self.fold.start.at, self.fold.stop.at
        if learn is None or start is None or stop is None:
            return None
        rules, evaluation = self.rules, self.rules.evaluation
        tried = try_windows(
            self.past, self.tables.dictionary, Cut(at=learn), spelt(stop - start), evaluation.popular_windows,
            exclude_seen=rules.scoring.exclude_seen, segment=rules.scoring.segment, max_users=evaluation.max_users, seed=rules.seed,
        )  # fmt: skip
        return next(row.window for row in tried if row.chosen)

    @cached_property
    def popular(self) -> Mapping[str, list[Popular]]:
        """What is popular where models learn, of everything before, however far back they learn; and lately, where there is a lately."""
        return self.popular_in(self.lately)

    def popular_in(self, window: str | None) -> Mapping[str, list[Popular]]:
        """The same with another window of lately."""
        segment = self.rules.scoring.segment
        return Popularity.count([self.past], self.tables.dictionary, self.fold.learn, window, segment).sources(self.past)

    @cached_property
    def _ground(self) -> tuple[Histories, Ground]:
        rules = self.rules
        past, ground = fold_ground(self.tables.histories, self.tables.dictionary, self.fold, rules.scoring.exclude_seen, rules.kept)
        return past, ground.some(rules.evaluation.max_users, rules.seed)
