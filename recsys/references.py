"""How artifacts and promotions name an artifact: step, moment and version, and the digest of the bytes that were meant."""

import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from recsys.errors import StoreError


def parsed(reference: Mapping[str, str], root: Path) -> tuple[str, datetime, str]:
    """Step, moment and version of a reference: a place in the store, whatever somebody else wrote into a manifest or a promotion."""
    try:
        step, moment, version = reference["step"], datetime.fromisoformat(reference["as_of"]), reference["version"]
        if not (re.fullmatch(r"[a-z_]+", step) and re.fullmatch(r"[0-9a-f]{12}(-\d+)?", version)):
            raise ValueError("step and version are not names of folders here")
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{reference!r} is no reference to an artifact of {root}: {error!r}. Was it written by hand?") from None
    return step, moment, version


def means(reference: Mapping[str, str], content: str) -> bool:
    """Whether these are the bytes that a reference means; any are, where an older reference says nothing of them."""
    return reference.get("content") in (None, content)
