"""The chosen features of an event, an item or a user as vectors, one after the other."""

from collections.abc import Callable, Sequence
from typing import Literal

from torch import Tensor, nn

from recsys.errors import ConfigError
from recsys.model.embeddings import Feature, FeatureEmbedding, known_column
from recsys.model.embeddings.category import Category
from recsys.model.embeddings.numbers import Number, Numbers
from recsys.model.embeddings.user import UserId
from recsys.model.embeddings.vector import Vector
from recsys.model.names import module_name
from recsys.model.vocabulary import USER, Vocabulary
from recsys.parts import Spec, part
from recsys.schema import Column, Role, Schema, Table

Chosen = Sequence[str] | Literal["all"]

BY_ROLE: dict[Role, type[FeatureEmbedding]] = {
    "categorical": Category,
    "multi_categorical": Category,
    "numeric": Number,
    "vector": Vector,
}


class FeatureVectors(nn.Module):
    """Each chosen column by the embedding that names it, or else by the usual one of its role.

    `features` are names of columns of the given tables, or "all"; what `embeddings` name is chosen by that. `width` is
    that of all categories, vectors and numbers that are not given one. With `common_width` every vector has to have it,
    for an aggregation that adds them up: numbers of another width are projected, for others it is a ConfigError.
    """

    def __init__(
        self,
        schema: Schema,
        vocabulary: Vocabulary,
        *,
        owner: str,
        tables: Sequence[Table],
        features: Chosen,
        embeddings: Sequence[Spec[FeatureEmbedding]] = (),
        width: int | None = None,
        common_width: int | None = None,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        known = [column for table in tables for column in schema.features(table)]
        users = [Column(USER, "users", "user")] if "users" in tables else []
        specs, columns = _assigned(known, users, features, embeddings, owner)
        built = [spec.build(schema=schema, vocabulary=vocabulary, default_width=width or common_width) for spec in specs]
        if common_width is not None:
            _check_widths(built, common_width, owner)
        widths = {name: w for embedding in built for name, w in embedding.widths.items()}
        self.columns = {column.name: column for column in columns}
        self.widths = {name: common_width or w for name, w in widths.items()}
        self.embeddings = nn.ModuleDict({module_name(*embedding.columns): embedding for embedding in built})
        self.finish = nn.ModuleDict({module_name(name): _finish(w, self.widths[name], layer_norm) for name, w in widths.items()})

    def names(self, table: Table) -> tuple[str, ...]:
        """Names of the columns of a table that are embedded."""
        return tuple(name for name, column in self.columns.items() if column.table == table)

    def forward(self, read: Callable[[Column], Feature]) -> list[Tensor]:
        """Vectors (*shape, width), in the order of `widths`; `read` gives each column's values at the places in question."""
        found: list[Tensor] = []
        for embedding in self._embeddings:
            found += embedding([read(self.columns[name]) for name in embedding.columns])
        return [self.finish[module_name(name)](vector) for name, vector in zip(self.widths, found, strict=True)]

    @property
    def _embeddings(self) -> list[FeatureEmbedding]:
        return [embedding for embedding in self.embeddings.values() if isinstance(embedding, FeatureEmbedding)]


def _finish(width: int, out_width: int, layer_norm: bool) -> nn.Module:
    """What follows an embedding. The norm of a single number would be the same for every number, so it has none."""
    projection = nn.Linear(width, out_width) if width != out_width else nn.Identity()
    return nn.Sequential(projection, nn.LayerNorm(out_width) if layer_norm and out_width > 1 else nn.Identity())


def _assigned(
    known: Sequence[Column], users: Sequence[Column], features: Chosen, embeddings: Sequence[Spec[FeatureEmbedding]], owner: str
) -> tuple[list[Spec[FeatureEmbedding]], list[Column]]:
    """An embedding for every chosen column, and the columns in the order in which these read them."""
    specs, columns = list(embeddings), []
    for spec in embeddings:
        there, names = (users, [USER]) if issubclass(spec.cls, UserId) else (known, spec.arguments.get("columns", ()))
        found = [known_column(there, name, f"{owner}: {spec.cls.__name__}") for name in names]
        if not found:
            raise ConfigError(f"{owner}: {spec.cls.__name__}(columns=[]) names no feature. Name one, or leave it out.")
        columns += [_fitting(column, spec.cls, owner) for column in found]
    for column in columns:
        if columns.count(column) > 1:
            raise ConfigError(f"{owner}: two embeddings name {column.name}. A feature has one: leave it out of the others.")
    chosen = known if features == "all" else [known_column(known, name, f"{owner}(features=…)") for name in dict.fromkeys(features)]
    others = [column for column in chosen if column not in columns]
    specs += [part(BY_ROLE[column.role], columns=[column.name]) for column in others]
    return specs, [*columns, *others]


def _fitting(column: Column, cls: type[FeatureEmbedding], owner: str) -> Column:
    if column.role in cls.roles:
        return column
    what = " and ".join(cls.roles)
    raise ConfigError(
        f"{owner}: {cls.__name__} embeds {what} columns, and {column.name} is {column.role}. "
        + (f"Use {BY_ROLE[column.role].__name__}." if column.role in BY_ROLE else "It is embedded by UserId().")
    )


def _check_widths(embeddings: Sequence[FeatureEmbedding], common_width: int, owner: str) -> None:
    """ConfigError for features of another width. Numbers are projected, so theirs may be any."""
    widths = {name: width for embedding in embeddings if not isinstance(embedding, Numbers) for name, width in embedding.widths.items()}
    other = [f"{name} ({width})" for name, width in widths.items() if width != common_width]
    if other:
        raise ConfigError(
            f"{owner}: features that are added up have one width, here {common_width}, and {', '.join(other)} "
            f"{'has another' if len(other) == 1 else 'have others'}. Leave the width out for {'it' if len(other) == 1 else 'them'}, "
            "or set aggregation=Concat()."
        )
