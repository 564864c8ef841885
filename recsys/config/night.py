"""What is done with a trained network, and the whole of a night."""

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from recsys import cohorts
from recsys.config.data import Data, Features, Sequences
from recsys.config.groups import Free, Group
from recsys.config.model import Model, Part, Training
from recsys.contenders import Baseline
from recsys.cutoff import K
from recsys.grammar import same_call
from recsys.validation import closest
from recsys.windows import Duration, Holdout


class Evaluation(Group):
    """The time split and what is measured on it."""

    holdout: Holdout = Field(
        "1d", description='The newest events are held out to compare models: a duration, or "last-1" for data with an order only.'
    )
    metrics: tuple[Part, ...] = Field(
        (
            "NDCG", "HitRate", "Recall", "MAP", "MRR",
            "CatalogCoverage", "AvgRecPopularity", "MeanInvUserFreq", "Serendipity", "Intersection",
        ),
        min_length=1,
        description='What is measured, e.g. "NDCG" or "MAP(divide_by_k=true)"; to the better baseline by the first one all are compared.',
    )  # fmt: skip
    k: tuple[PositiveInt, ...] = Field((10, 20), min_length=1, description="Lengths of lists at which every metric is measured.")
    slices: tuple[str, ...] = Field(
        (), description="Columns of users or items by which results are sliced too, beside history length and age of users and items."
    )
    popular_windows: tuple[Duration, ...] = Field(
        ("1h", "3h", "6h", "12h", "1d", "3d", "7d"),
        min_length=1,
        description="Windows of popular-lately that are tried on the training period.",
    )
    n_bootstrap: int = Field(1000, ge=100, description="Resamples of the users behind each interval.")
    max_users: int = Field(100_000, ge=1, description="Test users at most, drawn by seed.")


class Promotion(Group):
    """When the candidate is published, and what is published otherwise."""

    mode: Literal["automatic", "held"] = Field(
        "automatic",
        description="held: a candidate within the limits waits for `recsys promote`, and what was published stays until then.",
    )
    metric: Part = Field("NDCG", description="Metric that decides, one of evaluation.metrics.")
    k: int = Field(K, ge=1, description="Length of list at which it decides.")
    tolerance: float = Field(
        0.05, ge=0, description="Share of the current model's value that the candidate may lose, by the 95% interval of their difference."
    )
    slice_tolerance: dict[str, NonNegativeFloat] = Field(
        {},
        description='Slices of the evaluation, by name or how it begins, e.g. "users known for", and the share of the current model\'s '
        "value there that a candidate may lose: it is rejected where the whole interval is below. Of several the longest counts.",
    )
    min_lift: float | dict[Baseline, float] = Field(
        0.0,
        description="Share by which a model's value has to beat that of the better popularity baseline; or one for each, as "
        "{popular: 0.3, popular_lately: 0.02}, 0 for one that is not named.",
    )
    min_coverage: float = Field(0.0, ge=0, le=1, description="Share of the eligible items that the lists have to show.")
    min_users: int = Field(50, ge=1, description="Test users below which nothing is concluded and the current model stays.")
    min_refit_overlap: float = Field(
        0.1, ge=0, le=1, description="Share of the top 10 that the refit has to have in common with its twin, which is published otherwise."
    )


class Scoring(Group):
    """Tonight's lists."""

    k: int = Field(K, ge=1, le=1000, description="Items per user.")
    exclude_seen: bool = Field(True, description="Leave out what the user has had in the seen window.")
    segment: str | None = Field(None, description="User column by which the popular items of users without history are counted.")
    vectors: bool = Field(False, description="Write the vectors of items and users beside the lists.")
    similar_items: int = Field(0, ge=0, le=1000, description="Similar items to list for each item, by cosine; 0: no such lists.")
    users_per_tile: int = Free(1024, ge=1, description="Users scored at once: memory against speed.")
    accelerator: Literal["auto", "cpu", "gpu"] = Free("auto", description="Where lists are made, those of evaluations too.")
    threads: int | None = Free(None, description="Torch's threads for it; all cores unless said.")
    processes: int = Free(1, ge=1, description="Processes that shards are divided among, each with its share of the threads.")


class Export(Group):
    """A copy of the published lists outside the store, replaced every night."""

    format: Literal["parquet", "csv", "jsonl", "duckdb", "postgres"] = Field(
        description="parquet, csv and jsonl: a file in a folder or a bucket; duckdb: a table in a database file; postgres: on a server."
    )
    path: str | None = Field(
        None,
        description="Folder, s3://bucket/folder, database file, or connection string of PostgreSQL, without a password; without it "
        "libpq's PG* variables say where. ${NAME} is taken from the environment.",
    )
    table: str = Field("recommendations", description="Name of the table in a database, as schema.name or name.")

    @model_validator(mode="after")
    def _has_a_place(self) -> "Export":
        if self.path is None and self.format != "postgres":
            raise ValueError(f"{self.format} needs a `path`")
        return self


class Publishing(Group):
    """Contracts on the lists, then the pointer, then copies for others."""

    min_user_coverage: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of the users whose list must have k items. Whoever has seen more than the rest gets what is left.",
    )
    max_fallback_share: float = Field(
        1.0, ge=0, le=1, description="Largest share of users whose list starts with a popularity fallback although a model was published."
    )
    min_overlap: float = Field(0.0, ge=0, le=1, description="Smallest mean share of last night's list that is still in tonight's.")
    exports: tuple[Export, ...] = Free((), description="Copies of the lists for others, outside the store.")


class Night(Group):
    """A whole configuration: the groups of a file or a deployment."""

    seed: int = Field(1, ge=0, description="Every random choice follows from it.")
    data: Data
    features: Features = Features()
    sequences: Sequences = Sequences()
    model: Model = Model()
    training: Training = Training()
    evaluation: Evaluation = Evaluation()
    promotion: Promotion = Promotion()
    scoring: Scoring = Scoring()
    publishing: Publishing = Publishing()

    @model_validator(mode="after")
    def _groups_agree(self) -> "Night":
        events = self.data.events
        if events is not None and (events.time is None) != self.evaluation.holdout.startswith("last-"):
            raise ValueError(
                f"evaluation.holdout is {self.evaluation.holdout!r}, but the events have "
                + ('no time column: hold out "last-1"' if events.time is None else 'times: hold out a duration, as "1d"')
            )
        if self.sequences.key == "session" and events is not None and not (events.session or self.sequences.session_gap):
            raise ValueError("sequences.key is session: name data.events.session, or give sequences.session_gap")
        users = self.data.segments
        if self.scoring.segment is not None and self.scoring.segment not in users:
            there = f"There are: {', '.join(users)}" if users else "There are none: declare it in data.users.categorical"
            raise ValueError(f"scoring.segment is {self.scoring.segment!r}, which is no categorical column of the users. {there}")
        if self.promotion.k not in self.evaluation.k:
            raise ValueError(f"promotion.k is {self.promotion.k}, which evaluation.k {list(self.evaluation.k)} does not measure")
        for metric in (self.promotion.metric, *(["CatalogCoverage"] if self.promotion.min_coverage else [])):
            if not any(same_call(metric, measured) for measured in self.evaluation.metrics):
                there = ", ".join(self.evaluation.metrics)
                raise ValueError(f"promotion needs {metric}, which is not among evaluation.metrics ({there}): add it there")
        self._check_slices()
        lift = self.promotion.min_lift
        if events is not None and events.time is None and isinstance(lift, dict) and "popular_lately" in lift:
            raise ValueError("promotion.min_lift names popular_lately, but the events have an order only: nothing is popular lately there")
        return self

    def _check_slices(self) -> None:
        events, columns = self.data.events, self.evaluation.slices
        fixed, by_value = cohorts.names(events is None or events.time is not None), cohorts.of_columns(columns)
        for start in self.promotion.slice_tolerance:
            if any(name.startswith(start) for name in (*fixed, *by_value)) or start.startswith(tuple(by_value)):
                continue
            if cohorts.COLD.startswith(start):
                raise ValueError(
                    f"promotion.slice_tolerance names {start!r}, but a night's test users have an event before the holdout: nobody is in it"
                )
            raise ValueError(
                f"promotion.slice_tolerance names {start!r}, with which no slice begins. {closest(start, fixed)} Or users or items"
                f" with one of evaluation.slices ({', '.join(columns) or 'which names none'}) and a value."
            )
