"""Item vectors from elsewhere."""

from recsys.errors import ConfigError
from recsys.model.embeddings import FeatureEmbedding
from recsys.model.embeddings.vector import Vector
from recsys.model.items.features import Features
from recsys.model.vocabulary import Vocabulary
from recsys.parts import Spec, part
from recsys.schema import Schema


class GivenVectors(Features):
    """The vectors in a column of the items, of texts or images say, through a linear adapter to the width D.

    They stay as they are, or with `trained` are the first values of a table that is trained too. Without a column it is
    the only one of vectors that the items have.
    """

    def __init__(self, schema: Schema, vocabulary: Vocabulary, width: int, *, column: str | None = None, trained: bool = False) -> None:
        there = schema.names("vector", table="items")
        if column is None and len(there) != 1:
            raise ConfigError(f"GivenVectors(): set column=…, a vector column of the items. There are: {', '.join(there) or 'none'}.")
        embedding: Spec[FeatureEmbedding] = part(Vector, columns=[column or there[0]], trained=trained)
        super().__init__(schema, vocabulary, width, features=(), embeddings=[embedding])
