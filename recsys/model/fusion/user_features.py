"""User features after the encoder."""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from recsys.errors import ConfigError
from recsys.model.bucket import Bucket
from recsys.model.embeddings import Feature, FeatureEmbedding
from recsys.model.feature_vectors import Chosen, FeatureVectors
from recsys.model.fusion import Fusion
from recsys.model.vocabulary import Vocabulary
from recsys.parts import Spec
from recsys.schema import Schema


class UserFeatures(Fusion):
    """The user's features side by side as c, and with each hidden state h: [h; c]·W, h + c·W or h ⊙ (1 + c·W), each plus b.

    They are embedded as in `Inputs`. The context fusion of Transformers4Rec, with the multiplication of Latent Cross
    (Beutel et al. 2018, WSDM), whose factor is 1 where nothing is known of a user.
    """

    def __init__(
        self,
        schema: Schema,
        vocabulary: Vocabulary,
        width: int,
        *,
        features: Chosen = (),
        embeddings: Sequence[Spec[FeatureEmbedding]] = (),
        feature_width: PositiveInt | None = None,
        layer_norm: bool = False,
        how: Literal["concat", "sum", "multiply"] = "concat",
    ) -> None:
        super().__init__()
        self.how = how
        self.features = FeatureVectors(
            schema,
            vocabulary,
            owner="UserFeatures",
            tables=("users",),
            features=features,
            embeddings=embeddings,
            width=feature_width,
            layer_norm=layer_norm,
        )
        self.user_columns = self.features.names("users")
        if not self.user_columns:
            there = ", ".join(c.name for c in schema.features("users")) or "none: embeddings=[UserId()] needs none"
            raise ConfigError(f'UserFeatures() names no feature of the users. Set features=[…] or features="all". There are: {there}.')
        context_width = sum(self.features.widths.values())
        self.projection = nn.Linear(context_width + (width if how == "concat" else 0), width)

    def forward(self, hidden: Tensor, bucket: Bucket) -> Tensor:
        context = torch.cat(self.features(lambda column: Feature.of_users(bucket, column.name)), dim=-1)  # (B, 1, C)
        if self.how == "concat":
            return self.projection(torch.cat([hidden, context.expand(*hidden.shape[:2], -1)], dim=-1))
        projected = self.projection(context)
        return hidden + projected if self.how == "sum" else hidden * (1 + projected)
