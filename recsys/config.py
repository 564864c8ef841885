"""The configuration: one frozen group per step, each a parameter of the flow and a typed form in the UI.

Fields made with `Free(...)` cannot change a result (threads, memory, devices, places) and stay out of versions.
"""

import os
import re
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from recsys.errors import ConfigError
from recsys.grammar import check_grammar
from recsys.parts import Spec, name_of
from recsys.windows import Duration, Holdout

RESULT_FREE: dict[str, Any] = {"result_free": True}


def Free(default: Any = ..., **kwargs: Any) -> Any:  # reads like pydantic's Field
    """A field that cannot change a result."""
    return Field(default, json_schema_extra=RESULT_FREE, **kwargs)


def _as_text(given: Any) -> Any:
    """From Python a part may be a spec, as `part(PreLN, n_blocks=4)`, or a class."""
    return str(given) if isinstance(given, Spec) else name_of(given) if isinstance(given, type) else given


def _call(text: str) -> str:
    """Grammar is checked here; names and arguments are looked up when a run starts."""
    try:
        check_grammar(text)
    except ConfigError as error:  # pydantic reports ValueErrors with the field's name
        raise ValueError(str(error)) from None
    return text


Part: TypeAlias = Annotated[str, BeforeValidator(_as_text), AfterValidator(_call)]  # a building block, as "PreLN(n_blocks=2)"


class Group(BaseModel):
    """A part of the configuration: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def versioned(self) -> dict[str, Any]:
        """The fields that can change a result, as JSON values: what versions are made from."""
        chosen: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            if field.json_schema_extra == RESULT_FREE:
                continue
            value = getattr(self, name)
            if isinstance(value, Group):
                chosen[name] = value.versioned()
            elif isinstance(value, tuple) and any(isinstance(v, Group) for v in value):
                chosen[name] = [v.versioned() for v in value]
            else:
                chosen[name] = self.model_dump(mode="json", include={name})[name]
        return chosen


class Table(Group):
    """Where a table is. Give `path`, or `table` (with `attach` for a database file)."""

    path: str | None = Free(
        None, description="Files as a glob: parquet, CSV or JSON lines, local or s3://. ${NAME} is taken from the environment."
    )
    attach: str | None = Free(None, description="A DuckDB database file in which `table` is.")
    table: str | None = Free(None, description="A table or view of the attached database, as schema.name or name.")
    categorical: tuple[str, ...] = Field((), description="Columns with one of a limited number of values.")
    multi_categorical: tuple[str, ...] = Field((), description="Columns with a list of such values.")
    numeric: tuple[str, ...] = Field((), description="Numbers, standardised by the training period's mean and deviation.")
    log_numeric: tuple[str, ...] = Field((), description="Numbers ≥ 0 with a long tail: log(1 + x), then standardised.")
    vector: tuple[str, ...] = Field((), description="Columns with a list of numbers, all of one length.")
    text: tuple[str, ...] = Field((), description="Columns shown to people, read by no model.")

    @model_validator(mode="after")
    def _one_place(self) -> "Table":
        if (self.path is None) == (self.table is None):
            raise ValueError("give either `path` (files) or `table` (of an attached database)")
        return self

    def resolved_path(self) -> str | None:
        return None if self.path is None else expand(self.path)


class Events(Table):
    """One row per event: who did something with which item, and when."""

    user: str = Field("user_id", description="Column with the user's id: an integer or a string.")
    item: str = Field("item_id", description="Column with the item's id: an integer or a string.")
    time: str | None = Field(None, description="Column with the moment: a timestamp (naive means UTC), or an integer with time_unit.")
    time_unit: Literal["s", "ms", "us"] | None = Field(None, description="Unit of an integer time since 1970.")
    time_is_date: bool = Field(
        False, description="Say so where the time column has dates only; events of a day then keep the source's order."
    )
    order: str | None = Field(None, description="Column that orders events of the same moment, or all of them where there is no time.")
    partition: str | None = Field(
        None, description="Hive folder key with the date of the rows, so that days outside the window are not read."
    )
    type: str | None = Field(None, description="Column with the kind of event (view, purchase …).")
    weight: str | None = Field(None, description="Column with the weight of an event as a training target.")
    session: str | None = Field(None, description="Column with the session's id.")
    label: tuple[str, ...] = Field(
        (), description="What heads predict: columns, null while unknown, or names of files in sql/labels that compute them."
    )
    label_known_at: str | None = Field(
        None, description="Column with the moment from which an event's labels are known, where that is later than the event."
    )

    @model_validator(mode="after")
    def _ordered(self) -> "Events":
        if self.time is None and self.order is None:
            raise ValueError("name the `time` column, or for data without times the `order` column")
        if self.time is None and self.partition is not None:
            raise ValueError("`partition` holds dates and needs a `time` column")
        if self.label_known_at is not None and (self.time is None or not self.label):
            raise ValueError("`label_known_at` is a moment of the columns in `label`, and needs a `time` column too")
        return self


class Items(Table):
    """One row per item, with what is known of it."""

    item: str = Field("item_id", description="Column with the item's id.")


class Users(Table):
    """One row per user, with what is known of them."""

    user: str = Field("user_id", description="Column with the user's id.")


class Shop(Group):
    """The synthetic shop of `recsys.demo`, generated into the store: a trial without any data, with a known best score."""

    n_users: int = Field(3000, ge=20, description="Customers.")
    n_items: int = Field(600, ge=20, description="Articles.")
    seed: int = Field(7, description="Another seed is another shop.")
    ids: Literal["integer", "string"] = Field("integer", description="Kind of user and item ids.")

    segments: ClassVar[tuple[str, ...]] = ("country", "membership")  # categorical columns of its users
    labels: ClassVar[tuple[str, ...]] = ("purchased", "hours_until_return")  # of its events, computed by sql/labels


class Data(Group):
    """Where the tables are and what their columns mean."""

    demo: Shop | None = Field(None, description="The synthetic shop instead of own tables.")
    events: Events | None = Field(None, description="The events table.")
    items: Items | None = Field(None, description="The items table, where there is one.")
    users: Users | None = Field(None, description="The users table, where there is one.")
    history: Duration = Field("30d", description="Events this long before as_of are learnt from.")
    seen: Duration = Field("90d", description="Items that a user had this long before as_of count as seen.")
    sample_users: float = Field(1.0, gt=0, le=1, description="Share of users to keep, by a hash of the id: for quick tries.")
    sql_overlay: str | None = Free(None, description="Folder with SQL files that replace or add to those of sql/, by name.")

    @property
    def segments(self) -> tuple[str, ...]:
        """The users' categorical columns."""
        return self.demo.segments if self.demo is not None else self.users.categorical if self.users is not None else ()

    @property
    def labels(self) -> tuple[str, ...]:
        """What heads can predict of the events."""
        return self.demo.labels if self.demo is not None else self.events.label if self.events is not None else ()

    @model_validator(mode="after")
    def _one_source(self) -> "Data":
        if (self.demo is None) == (self.events is None):
            raise ValueError("give either `events` (own tables) or `demo` (the synthetic shop)")
        if self.demo is not None and (self.items or self.users):
            raise ValueError("the demo shop brings its own items and users")
        return self


class Features(Group):
    """DuckDB feature engineering and the contracts on what comes in and goes out."""

    n_shards: int = Field(4, ge=1, le=4096, description="Parts that users are divided into; no list depends on it.")
    max_age: Duration = Field("2d", description="The newest event may be this old at as_of.")
    min_day_volume: float = Field(
        0.25,
        ge=0,
        description="Events of the last day, as a share of the median of up to 7 days before; below it the run stops. 0 turns it off.",
    )
    max_orphan_share: float = Field(
        0.5, ge=0, le=1, description="Largest share of events whose item (or user) is not in the declared items (users) table."
    )
    memory_limit: str = Free("3GB", description="DuckDB's memory; beyond it it spills into the store.")
    threads: int | None = Free(None, description="DuckDB's threads; all cores unless said.")


class Sequences(Group):
    """Dictionary and histories."""

    key: Literal["user", "session"] = Field("user", description="What a training sequence is: a user's history, or a session of it.")
    session_gap: Duration | None = Field(None, description="A pause this long starts a session, where the events have no session column.")
    input_types: tuple[str, ...] = Field((), description="Event types a history is made of; all unless said.")
    target_types: tuple[str, ...] = Field((), description="Event types to be predicted; all input types unless said.")
    seen_types: tuple[str, ...] = Field((), description="Event types that make an item seen; all unless said.")

    @model_validator(mode="after")
    def _targets_are_inputs(self) -> "Sequences":
        missing = set(self.target_types) - set(self.input_types) if self.input_types else set()
        if missing:
            raise ValueError(
                f"target_types {sorted(missing)} are not among input_types: an event is predicted from its place in the history"
            )
        return self


class Model(Group):
    """The network, as building blocks. A recipe fills what is not given; `recsys show model` prints the result."""

    recipe: str = Field("sasrec", description="Named model of recsys.recipes.")
    width: int | None = Field(None, ge=1, description="Width D of the hidden vectors.")
    max_events: int | None = Field(None, ge=1, description="Newest events of a history that the network reads (L).")
    inputs: Part | None = Field(None, description='How an event becomes a vector, e.g. "Inputs(aggregation=Concat())".')
    items: Part | None = Field(None, description='The item table, e.g. "IdEmbedding()".')
    positions: Part | None = Field(None, description='Position encoding, e.g. "Learned()" or "NoPositions()".')
    objective: Part | None = Field(None, description='Which positions are predicted, e.g. "CausalLM()".')
    encoder: Part | None = Field(None, description='The sequence encoder, e.g. "PreLN(n_blocks=2, n_heads=2)".')
    loss: Part | None = Field(None, description='Loss of the recipe\'s NextItem head, e.g. "CrossEntropy(label_smoothing=0.1)".')
    heads: tuple[Part, ...] | None = Field(None, description='Heads, e.g. ["NextItem(loss=CrossEntropy())"]; instead of `loss`.')
    towers: tuple[Part, ...] | None = Field(
        None, description="Inputs and encoders beside the main ones, e.g. \"Tower(name='context', inputs=Inputs(), encoder=GRU())\"."
    )
    fusion: Part | None = Field(
        None, description="User features after the encoder, e.g. \"UserFeatures(features=['age'])\"; none unless said."
    )
    merge: Part | None = Field(None, description='How hidden states of several towers become one, e.g. "Concat()"; their sum unless said.')
    network: Part | None = Field(
        None, description='The network that holds the parts, e.g. "team.networks.Debiased(strength=0.5)"; "Network()".'
    )
    batching: Part | None = Field(None, description='How a batch becomes padded tensors: "ByLength()" unless said, or "Padded()".')
    initialisation: Part | None = Field(
        None, description='Weights to start from, e.g. "XavierNormal()" or "Normal(std=0.02)"; "AsBuilt()" unless said.'
    )
    code: str | None = Free(None, description="Folder with own parts: put on the path, its content into the version.")

    @model_validator(mode="after")
    def _loss_or_heads(self) -> "Model":
        if self.loss is not None and self.heads is not None:
            raise ValueError("`loss` is the loss of the recipe's NextItem head: name it or `heads`, not both")
        return self


class Training(Group):
    """How the network is fitted."""

    max_epochs: int = Field(20, ge=1, description="Epochs at most.")
    users_per_batch: int = Field(128, ge=1, description="Sequences per step.")
    optimizer: Part = Field(
        "AdamW(betas=[0.9, 0.98], fused=true)", description='The optimiser, of torch.optim or your own, e.g. "RAdam(eps=1e-6)".'
    )
    learning_rate: float = Field(1e-3, gt=0, description="The optimiser's learning rate.")
    weight_decay: float = Field(0.0, ge=0, description="The optimiser's weight decay, on matrices only: it spares biases and norms.")
    schedule: Part = Field(
        "Constant()",
        description='Learning rate by step, e.g. "WarmupCosine(warmup=0.1)" or "TorchSchedule(scheduler=OneCycleLR(max_lr=0.01))".',
    )
    patience: int = Field(3, ge=1, description="Epochs without a better validation NDCG@10 before it stops.")
    n_validation_users: int = Field(2048, ge=1, description="Users whose newest event before train_end validates.")
    validation_users: Part = Field("RandomUsers()", description='Who they are: drawn by seed, or "SameUsers()" night after night.')
    min_user_events: int = Field(2, ge=2, description="Users with fewer events are not trained on; they are scored all the same.")
    min_item_events: int = Field(1, ge=1, description="Items with fewer events before train_end are unknown to the model.")
    long_histories: Literal["newest", "windows"] = Field(
        "newest", description="Learn from the newest max_events of a history, or from all of it in windows."
    )
    limit_train_batches: float | None = Field(None, gt=0, le=1, description="Share of the batches of an epoch: for quick tries.")
    module: Part = Field("SequenceModule()", description="The LightningModule: its steps, its validation and what it logs.")
    trainer: Part = Field("Trainer()", description='More for Lightning\'s Trainer, e.g. "Trainer(gradient_clip_val=1.0)".')
    callbacks: tuple[Part, ...] = Field((), description='Lightning callbacks, e.g. ["EMAWeightAveraging(decay=0.999)"].')
    warm_start: bool = Field(False, description="Start from the current model's vectors and weights, by item_id.")
    refit: bool = Field(True, description="Repeat the winner on everything before as_of.")
    deterministic: bool = Field(False, description="Bit-equal weights from equal inputs, on one device and thread count; slower.")
    accelerator: Literal["auto", "cpu", "gpu"] = Free("auto", description="Where it runs.")
    devices: int | Literal["auto"] = Free("auto", description="Lightning's devices.")
    threads: int | None = Free(None, description="Torch's threads; all cores unless said.")


class Evaluation(Group):
    """The time split and what is measured on it."""

    holdout: Holdout = Field(
        "1d", description='The newest events are held out to compare models: a duration, or "last-1" for data with an order only.'
    )
    k: tuple[int, ...] = Field((10, 20), min_length=1, description="Lengths of lists that are measured.")
    popular_windows: tuple[Duration, ...] = Field(
        ("1h", "3h", "6h", "12h", "1d", "3d", "7d"), description="Windows of popular-lately that are tried on the training period."
    )
    n_bootstrap: int = Field(1000, ge=100, description="Resamples of the users behind each interval.")
    max_users: int = Field(100_000, ge=1, description="Test users at most, drawn by seed.")


class Promotion(Group):
    """When the candidate is published, and what is published otherwise."""

    metric: Literal["ndcg", "hit_rate", "recall", "map", "mrr"] = Field("ndcg", description="Metric that decides.")
    k: int = Field(10, ge=1, description="Length of list at which it decides.")
    tolerance: float = Field(0.02, ge=0, description="Share of the current model's value that the candidate may lose.")
    min_lift: float = Field(0.0, description="Share by which a model has to beat the better popularity baseline.")
    min_coverage: float = Field(0.0, ge=0, le=1, description="Share of the eligible items that the lists have to show.")
    min_users: int = Field(50, ge=1, description="Test users below which nothing is concluded and the current model stays.")
    min_refit_overlap: float = Field(
        0.1, ge=0, le=1, description="Share of the top 10 that the refit has to have in common with its twin, which is published otherwise."
    )


class Scoring(Group):
    """Tonight's lists."""

    k: int = Field(10, ge=1, le=1000, description="Items per user.")
    exclude_seen: bool = Field(True, description="Leave out what the user has had in the seen window.")
    segment: str | None = Field(None, description="User column by which the popular items of users without history are counted.")
    vectors: bool = Field(False, description="Write the vectors of items and users beside the lists.")
    similar_items: int = Field(0, ge=0, le=1000, description="Similar items to list for each item, by cosine; 0: no such lists.")
    users_per_tile: int = Free(1024, ge=1, description="Users scored at once: memory against speed.")
    accelerator: Literal["auto", "cpu", "gpu"] = Free("auto", description="Where it runs.")
    threads: int | None = Free(None, description="Torch's threads; all cores unless said.")


class Export(Group):
    """A copy of the published lists outside the store, replaced every night."""

    format: Literal["parquet", "csv", "duckdb"] = Field(description="parquet and CSV: a folder; duckdb: a table in a database file.")
    path: str = Field(description="Folder or database file. ${NAME} is taken from the environment.")
    table: str = Field("recommendations", description="Name of the table in a database.")


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
    exports: tuple[Export, ...] = Field((), description="Copies of the lists.")


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
        return self


def expand(text: str) -> str:
    """`${NAME}` replaced from the environment; a name that is not set is an error."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise ConfigError(f"{text!r} needs the environment variable {match[1]}, which is not set: export {match[1]}=…")
        return os.environ[match[1]]

    return re.sub(r"\$\{(\w+)\}", value, text)
