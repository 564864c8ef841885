"""From a notebook or a script, without a store or Prefect: fit a model to a table, recommend, save it, load it elsewhere.

    from recsys import fit, load, recommend

    model = fit("sasrec", events, width=64, max_epochs=5)   # pandas, Arrow or DuckDB: user_id, item_id and a timestamp
    recommend(model, users=[42], k=10)                      # user_id, rank, item_id, score, source
    model.save("models/mine")

    model = load("models/mine")                             # or the folder that `recsys path training` prints
    recommend(model, k=10, events=events)                   # the newest histories, of everybody in them

The steps are those of a night, so that what is learnt and what is refused are the same.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from recsys import frames
from recsys.config import Model, Sequences, Table, Training
from recsys.errors import ConfigError, StoreError
from recsys.features.columns import DERIVED
from recsys.frames import Past
from recsys.model import own_parts, saving
from recsys.model.blocks import Blocks
from recsys.model.hyperparameters import from_flat
from recsys.model.network import Network
from recsys.model.vocabulary import Vocabulary
from recsys.ranking.ranker import unreadable
from recsys.recipes import resolve
from recsys.recommender.ranking import Ranking
from recsys.schema import Schema
from recsys.scoring import vectors
from recsys.training.train import train
from recsys.validation import closest, validated
from recsys.windows import everything

FILES = ("weights.safetensors", "model.json", "vocabulary")


@dataclass(frozen=True, eq=False, repr=False)
class Recommender:
    """A trained model: its files in `folder`, and the histories that it was fitted to, where it was fitted here.

    `data` and `sequences` say how tables are read, as the groups of a configuration do.
    """

    folder: Path
    past: Past | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    sequences: Sequences = Sequences()
    metrics: Mapping[str, Any] = field(default_factory=dict)  # of the training, as ndcg_at_10 of its best epoch
    in_pandas: bool = False
    code: str | None = None  # the folder of own parts, where it is not that of the training any more

    def __repr__(self) -> str:
        histories = "without histories" if self.past is None else f"of events before {self.past.as_of:%Y-%m-%d %H:%M:%S}"
        return f"<Recommender in {self.folder}, {histories}>"

    @cached_property
    def network(self) -> Network:
        """In eval mode; on the CPU until it recommends, which moves it to the GPU where there is one."""
        return self._loaded[0]

    @cached_property
    def vocabulary(self) -> Vocabulary:
        return self._loaded[1]

    @cached_property
    def _loaded(self) -> tuple[Network, Vocabulary]:
        return saving.load(self.folder, self.code)

    @cached_property
    def _ranking(self) -> Ranking | None:
        return None if self.past is None else self._at_work(self.past)

    def _at_work(self, past: Past) -> Ranking:
        return Ranking(self.network, self.vocabulary, self.sequences.key, past)

    def save(self, folder: str | Path) -> Path:
        """Write weights, configuration and vocabulary into a new folder: what `load` reads. StoreError where something is there."""
        target = Path(folder)
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise StoreError(f"{target} is there already: give a new folder, or remove it.")
        target.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            source = self.folder / name
            (shutil.copytree if source.is_dir() else shutil.copyfile)(source, target / name)
        return target


def item_vectors(model: Recommender) -> Any:
    """`item_id, vector`, and `bias` where the model has one, of all items that the model knows."""
    return _like(model, vectors.item_vectors(model.vocabulary.item_id, model.network.catalogue()))


def similar_items(model: Recommender, k: int = 10) -> Any:
    """`item_id, rank, similar_item_id, score`: for each item the k others with the highest cosine of their vectors."""
    _check_length(k)
    return _like(model, vectors.similar_items(model.vocabulary.item_id, model.network.catalogue(), k))


def user_vectors(model: Recommender, users: Any = None, *, events: Any = None, as_of: str | datetime | None = None) -> Any:
    """`user_id, vector` of the users, as for `recommend`; without those of whom the model knows no event.

    A user's score of an item is the product of their vectors, plus the item's bias.
    """
    ranking, user_id = _asked(model, users, events, as_of)
    row = ranking.rows(user_id)
    return _like(model, vectors.user_vectors(ranking.reading, ranking.histories.user_id, row[row >= 0]), events)


def fit(
    recipe: str | Model | Mapping[str, Any],
    events: Any,
    items: Any = None,
    users: Any = None,
    *,
    data: Mapping[str, Any] | None = None,
    sequences: Mapping[str, Any] | None = None,
    as_of: str | datetime | None = None,
    seed: int = 1,
    **settings: Any,
) -> Recommender:
    """A model of what happened in `events`, one row per event, before `as_of`; by default of all of it.

    `recipe` is a name, a `recsys.config.Model`, or its hyperparameters as a dictionary. `settings` are fields of the groups
    `model` and `training`, as width=64, encoder="PreLN(n_blocks=4)", max_epochs=5. `items` and `users` have one row each, with
    what is known of them. `data` says what columns mean, as the `data` group of a configuration:
    `data={"events": {"time": "bought_at", "categorical": ["device"]}, "history": "60d"}`; unsaid, ids are in user_id and
    item_id, the only timestamp is the time, and a feature is what is declared one. `sequences` is the group of that name.

    ConfigError, SourceError and ContractError are those of a night's steps.
    """
    model, training = _settings(recipe, settings)
    reading = validated(Sequences, dict(sequences or {}), "sequences")
    past = frames.read({"events": events, "items": items, "users": users}, data or {}, reading, as_of)
    cut = everything(past.as_of, Schema.load(past.sequences.path).has_times)
    trained = train(past.store, past.as_of, model, training, seed, past.sequences, cut, key=reading.key)
    return Recommender(trained.path, past, data or {}, reading, trained.metrics, frames.is_pandas(events))


def load(
    folder: str | Path,
    *,
    data: Mapping[str, Any] | None = None,
    sequences: Mapping[str, Any] | None = None,
    code: str | None = None,
) -> Recommender:
    """The model in a folder that `Recommender.save` or a night's training wrote.

    `data` and `sequences` say how the tables are read that `recommend` is given, as for `fit`; features are known to the
    model by itself. `code` is the folder of own parts that the model is built from.
    """
    place = Path(folder)
    missing = [name for name in FILES if not (place / name).exists()]
    if missing:
        raise StoreError(f"There is no model in {place}: {', '.join(missing)} is missing. Give a folder that holds {', '.join(FILES)}.")
    own_parts.put_on_path(code)
    reading = validated(Sequences, {"key": saving.key_of(place), **(sequences or {})}, "sequences")
    model = Recommender(place, data=data or {}, sequences=reading, code=code)
    assert model.network is not None  # what cannot be built says so now
    return model


def recommend(
    model: Recommender,
    users: Any = None,
    k: int = 10,
    *,
    events: Any = None,
    as_of: str | datetime | None = None,
    exclude_seen: bool = True,
) -> Any:
    """The k best items of each user: `user_id, rank, item_id, score, source`, users in the order asked for, best first.

    A pandas DataFrame where the events were one, else an Arrow table. `users` are ids, or a table of them with what is
    known of each; by default everybody who has a history. Histories are those the model was fitted to, or `events`: newer
    ones, of any users, read as of the moment after the last (or `as_of`). Where the model knows nothing of a user, or has no
    item left, `source` is "popular" instead of "model": items by number of events in the training.

    A list leaves out what the user has had in these events, unless `exclude_seen` is false, and is shorter than k where
    nothing is left.
    """
    _check_length(k)
    ranking, user_id = _asked(model, users, events, as_of)
    return _like(model, ranking.table(user_id, k, exclude_seen), events)


def _asked(model: Recommender, users: Any, events: Any, as_of: str | datetime | None) -> tuple[Ranking, pa.Array]:
    """The model at work on the histories that are asked for, and the ids of the users that are, each once."""
    known = users if hasattr(users, "columns") or hasattr(users, "column_names") else None
    ranking = model._ranking if events is None else model._at_work(_newer(model, events, known, as_of))
    if ranking is None:
        raise ConfigError("This model was loaded without histories: give the users' events, as recommend(model, …, events=…).")
    if known is not None:
        users = frames.to_arrow(known, "users")[model.data.get("users", {}).get("user", "user_id")]
    return ranking, ranking.histories.user_id if users is None else frames.ids(users, ranking.histories.user_id.type)


def _check_length(k: int) -> None:
    if not isinstance(k, (int, np.integer)) or k < 1:
        raise ConfigError(f"k is {k!r}: the length of a list is a whole number from 1 on.")


def _like(model: Recommender, table: pa.Table, events: Any = None) -> Any:
    """In pandas where the events were."""
    in_pandas = model.in_pandas if events is None else frames.is_pandas(events)
    return table.to_pandas() if in_pandas else table


def _settings(recipe: str | Model | Mapping[str, Any], settings: Mapping[str, Any]) -> tuple[Model, Training]:
    """Model and training with the settings in them, checked as far as they can be without data."""
    for name in settings:
        if name not in Model.model_fields and name not in Training.model_fields:
            known = [*Model.model_fields, *Training.model_fields]
            raise ConfigError(f"{name}: there is no such setting of a model or its training. {closest(name, known)}")
    start = Model(recipe=recipe) if isinstance(recipe, str) else from_flat(recipe) if isinstance(recipe, Mapping) else recipe
    own = {name: value for name, value in settings.items() if name in Model.model_fields}
    model = validated(Model, {**start.model_dump(exclude_none=True), **own}, "model")
    training = validated(Training, {name: value for name, value in settings.items() if name in Training.model_fields}, "training")
    Blocks.of(resolve(model)).check()
    return model, training


def _newer(model: Recommender, events: Any, users: Any, as_of: str | datetime | None) -> Past:
    """Newer histories, with the model's own items and features; ConfigError where it cannot read them."""
    if model.network.next_item.prior is not None:
        raise ConfigError(
            "The model weighs items by what happened with them lately, to everybody, which the events of some users do not tell. "
            "Recommend without `events`, from the histories that the model was fitted on, or fit it again on all that is new."
        )
    items = pa.table({"item_id": model.vocabulary.item_id})  # all of them may be recommended, whoever had them
    asked = {name: {**_keys(model.data.get(name, {})), **_features(model, name)} for name in ("events", "users")}
    if users is None and (needed := sum(_features(model, "users").values(), [])):
        raise ConfigError(f"The model reads {', '.join(needed)} of the users: give `users` as a table with {', '.join(needed)}.")
    if users is None:
        del asked["users"]
    rules = {name: value for name, value in model.data.items() if name == "sql_overlay"}
    features = frames.FEATURES.model_copy(update={"max_orphan_share": 1.0})  # any number of items may be new to the model
    past = frames.read({"events": events, "items": items, "users": users}, {**asked, **rules}, model.sequences, as_of, features)
    if reason := unreadable(model.network, model.vocabulary, past.sequences.path):
        raise ConfigError(f"The model cannot read these tables: {reason}.")
    return past


def _keys(columns: Mapping[str, Any]) -> dict[str, Any]:
    """What the columns of a table mean, without those that a model reads or predicts."""
    return {name: value for name, value in columns.items() if name not in (*Table.model_fields, "label", "label_known_at")}


def _features(model: Recommender, table: str) -> dict[str, list[str]]:
    """The columns of a table that the model reads, by the role that the `data` group calls them."""
    read = {*model.network.event_columns, *model.network.user_columns} - {column.name for column in DERIVED}
    roles: dict[str, list[str]] = {}
    for column in model.vocabulary.schema.features(table):  # type: ignore[arg-type]
        if column.name in read:
            roles.setdefault("log_numeric" if column.scale == "log" else column.role, []).append(column.name)
    return roles
