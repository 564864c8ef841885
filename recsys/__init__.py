"""A nightly batch recommender: event tables in, top-k lists for every user out."""

import ctypes
import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recsys.recommender import Recommender, fit, item_vectors, load, recommend, similar_items, user_vectors

__all__ = ["Recommender", "fit", "item_vectors", "load", "recommend", "similar_items", "user_vectors"]
__version__ = "0.1.0"

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h

# Torch's threads spin while they wait for each other, without end where they have a core each. Beside other busy processes that made
# training steps 3 to 4 times slower, small products 10 to 30 times. Those that sleep at once make a training step of short
# sequences 1.5 times slower on a quiet machine, of narrow networks twice. So they spin for some microseconds, and then sleep.
# Read when torch is first imported.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")

# Torch keeps what it compiled for the last 1,024 shapes of bfloat16 products, twice, a quarter of a MB and more for each. No two
# batches have the same shape, so that a process that trains many models would hold gigabytes that are not used again.
for cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
    os.environ.setdefault(cache, "64")

# What is freed stays with the process: tensors of a step are as large as those of the step before, and to get their pages anew
# was half of the time of sampled losses and a sixth of that of recommending. Not what is larger than 128 MiB: a hole that glibc
# leaves is a bit too small for an aligned tensor of the same size, so that some of each size may lie idle.
if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
    libc.mallopt(M_MMAP_THRESHOLD, 2**27)
    libc.mallopt(M_TRIM_THRESHOLD, 2**30)


def __getattr__(name: str) -> Any:
    """The notebook's functions are imported when they are asked for, since torch takes seconds."""
    if name not in __all__:
        raise AttributeError(f"module 'recsys' has no attribute {name!r}")
    return getattr(importlib.import_module("recsys.recommender"), name)
