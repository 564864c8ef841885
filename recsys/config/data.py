"""Where the tables are, what their columns mean, and what features and histories are made of them."""

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from recsys.config.groups import Free, Group, expand
from recsys.windows import Duration


class Table(Group):
    """Where a table is. Give `path`, or `table` (with `attach` for a database file)."""

    path: str | None = Free(
        None,
        description="Files as a glob: parquet, CSV or JSON lines, local or s3://. ${NAME} is taken from the environment. "
        "Folders named key=value that a wildcard stands for are columns too, where all files have the same keys.",
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


class Levels(Group):
    """How large a difference may be: from `warn` on it is reported, from `stop` on it stops the night; null is never."""

    warn: float | None = Field(None, ge=0, description="From here on it stands in the report.")
    stop: float | None = Field(None, ge=0, description="From here on the night stops, after its tables are made.")

    @model_validator(mode="after")
    def _in_order(self) -> "Levels":
        if self.warn is not None and self.stop is not None and self.stop < self.warn:
            raise ValueError(f"stop ({self.stop:g}) is below warn ({self.warn:g}): a night would stop before it warns")
        return self


class Drift(Group):
    """How much tonight's data may differ from each of the last nights'; the most similar of them counts."""

    nights: int = Field(7, ge=0, le=100, description="Nights before this one that it is compared with; 0: with none.")
    stability: Levels = Field(Levels(warn=0.25), description="Population stability index of a column, beyond what chance explains.")
    nulls: Levels = Field(Levels(warn=0.1, stop=0.5), description="Rise of a column's share of nulls.")
    volume: Levels = Field(Levels(warn=3), description="Factor by which a table has more rows, or fewer; of events, the last day's.")
    unknown_users: Levels = Field(Levels(warn=0.2), description="Rise of the share of the last day's users who had no event before.")
    new_items: Levels = Field(Levels(warn=0.2), description="Rise of the share of the last day's items that had no event before.")
    vanished_items: Levels = Field(
        Levels(warn=0.1, stop=0.5), description="Share of the eligible items that are not there any more although the windows reach them."
    )
    age: Levels = Field(Levels(warn=0.25), description="Days by which the newest event is older at as_of than it was.")

    @model_validator(mode="before")
    @classmethod
    def _other_level_stays(cls, given: Any) -> Any:
        """Who sets `stop` keeps the default `warn`, and the other way round."""
        if not isinstance(given, dict):
            return given
        defaults = {name: field.default.model_dump() for name, field in cls.model_fields.items() if isinstance(field.default, Levels)}
        return {name: {**defaults.get(name, {}), **value} if isinstance(value, dict) else value for name, value in given.items()}


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
    quarantine: float = Field(
        0.0, ge=0, le=1, description="Share of a source's rows that may break a contract and are then set aside; above it the run stops."
    )
    drift: Drift = Free(Drift(), description="Differences from the last nights that are reported, or stop the night.")
    memory_limit: str = Free("3GB", description="DuckDB's memory, in the sequences too; beyond it it spills into the store.")
    threads: int | None = Free(None, description="DuckDB's threads, in the sequences too; all cores unless said.")


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
