"""A nightly batch recommender: event tables in, top-k lists for every user out."""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recsys.recommender import Recommender, fit, item_vectors, load, recommend, similar_items, user_vectors

__all__ = ["Recommender", "fit", "item_vectors", "load", "recommend", "similar_items", "user_vectors"]
__version__ = "0.1.0"

# Torch's threads spin while they wait for each other. Beside other busy processes that made training steps 3 to 4 times
# slower, and small products 10 to 30 times; what sleeping costs on a quiet machine is not measured yet. It is read when
# torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def __getattr__(name: str) -> Any:
    """The notebook's functions are imported when they are asked for, since torch takes seconds."""
    if name not in __all__:
        raise AttributeError(f"module 'recsys' has no attribute {name!r}")
    return getattr(importlib.import_module("recsys.recommender"), name)
