"""A user's folder of own building blocks, `model.code`: where dotted names of a configuration are imported from."""

import sys
from pathlib import Path

from recsys import digest
from recsys.config import expand
from recsys.errors import ConfigError


def put_on_path(folder: str | None) -> None:
    """Make the modules of the folder importable in this process, before any others of their names."""
    if folder is not None and str(_root(folder)) not in sys.path:
        sys.path.insert(0, str(_root(folder)))


def digests(folder: str | None) -> dict[str, str]:
    """SHA-256 of each Python file of the folder: other code is another version."""
    if folder is None:
        return {}
    root = _root(folder)
    return {str(file.relative_to(root)): digest.of_file(file) for file in sorted(root.rglob("*.py"))}


def _root(folder: str) -> Path:
    root = Path(expand(folder)).absolute()
    if not root.is_dir():
        raise ConfigError(f"model.code is {folder!r}, and there is no such folder: {root}.")
    return root
