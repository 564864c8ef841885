"""Where torch works."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from recsys.errors import ConfigError


def device_of(accelerator: Literal["auto", "cpu", "gpu"]) -> str:
    """ "cpu" or "cuda": "auto" is a GPU where there is one. ConfigError where one is asked for and there is none."""
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise ConfigError('accelerator is "gpu", and this machine has none that torch can use: say "auto" or "cpu".')
    return "cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu"


@contextmanager
def threads(n: int | None) -> Iterator[None]:
    """Torch's threads on the CPU for a while; None: as they are."""
    before = torch.get_num_threads()
    torch.set_num_threads(n or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
