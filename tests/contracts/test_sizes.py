"""No part can be built of nothing: a size of 0, or below, is refused in the words of its argument."""

import inspect
from typing import Any

import pytest

from recsys.errors import ConfigError
from recsys.model.embeddings import FeatureEmbedding
from recsys.model.encoders import Encoder
from recsys.model.items import ItemTable
from recsys.model.losses import Loss
from recsys.model.objectives import Objective
from recsys.parts import part
from recsys.slots import choices

REQUIRED = {"HuggingFace": {"name": "bert"}, "Number": {"columns": ["price"]}, "SoftOneHot": {"columns": ["price"]}}
SIZES = [
    (cls, name)
    for slot in (Encoder, FeatureEmbedding, ItemTable, Loss, Objective)
    for cls in choices(slot).values()
    for name, parameter in inspect.signature(cls).parameters.items()
    if parameter.kind is inspect.Parameter.KEYWORD_ONLY and type(parameter.default) is int
]


@pytest.mark.parametrize(("cls", "size"), SIZES, ids=[f"{cls.__name__}.{size}" for cls, size in SIZES])
@pytest.mark.parametrize("value", [0, -1])
def test_a_size_is_above_0(world: Any, cls: type, size: str, value: int) -> None:
    with pytest.raises(ConfigError, match=size):
        part(cls, **{**REQUIRED.get(cls.__name__, {}), size: value}).build(**world.supplied())


@pytest.mark.parametrize(
    "inputs",
    [
        "Inputs(features='all', feature_width=0)",
        "Inputs(embeddings=[Category(columns=['brand'], width=0)])",
        "Inputs(projection=MLP(sizes=[8, 0]))",
    ],
)
def test_a_width_is_above_0(world: Any, inputs: str) -> None:
    with pytest.raises(ConfigError, match="Input should be greater than 0"):
        world.network(inputs=inputs)
