"""A user's own building blocks: the folder `model.code` that dotted names are imported from, and what their code is."""

import importlib
import inspect
import sys
import sysconfig
import uuid
from collections.abc import Iterable
from pathlib import Path

from recsys import digest, trust
from recsys.config import expand
from recsys.errors import ConfigError

_INSTALLED = tuple(Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "platstdlib", "purelib", "platlib"))

_seen: dict[Path, dict[str, str]] = {}  # digests of the files of each folder as they were when it was last put on the path


def put_on_path(folder: str | None) -> None:
    """Make the modules of the folder importable in this process, before any others of their names.

    What was imported from it before and has been edited since (between two cells of a notebook, say) is imported anew:
    its version says what is in the files now. So is what another folder of own parts has under the same name.
    """
    if folder is None:
        return
    root = _root(folder)
    sys.path[:] = [str(root), *(place for place in sys.path if place != str(root))]
    now = digests(folder)
    if now != _seen.setdefault(root, now):
        _forget(root)
    for other in _seen.keys() - {root}:
        if _top_level(now) & _top_level(_seen[other]):
            _forget(other)
    _seen[root] = now


def is_there(folder: str | None) -> bool:
    """Whether there is such a folder here."""
    try:
        return folder is not None and _root(folder).is_dir()
    except ConfigError:
        return False


def digests(folder: str | None) -> dict[str, str]:
    """SHA-256 of each Python file of the folder: other code is another version."""
    if folder is None:
        return {}
    root = _root(folder)
    return {str(file.relative_to(root)): digest.of_file(file) for file in sorted(root.rglob("*.py"))}


def sources(classes: Iterable[type], folder: str | None) -> dict[str, str]:
    """What runs where these parts do, as a version needs it: their modules, all of ours that they import, and own files.

    Which parts there are is found by looking, so no import of a step's module leads to them.
    """
    bases = {base for cls in classes for base in cls.__mro__}
    own = digests(folder)
    root = None if folder is None else _root(folder)
    ours = {base.__module__ for base in bases if base.__module__.startswith("recsys.")}
    known = (*_INSTALLED, root) if root is not None else _INSTALLED
    for base in bases:
        file = _file(base)
        if not base.__module__.startswith("recsys.") and not (file is not None and any(map(file.is_relative_to, known))):
            own |= _outside(base)
    for file in [] if root is None else sorted(root.rglob("*.py")):
        try:
            ours |= digest.modules_named_in(file.read_text())
        except (SyntaxError, ValueError) as error:
            raise ConfigError(f"{file}, in the folder of own parts, is no Python ({error}): put it right or take it out.") from None
    return {**own, "recsys": digest.of_modules(ours)}


def _outside(cls: type) -> dict[str, str]:
    """Code of a class that stands in no folder of own parts and in no installed library, as in a notebook or a script."""
    if cls.__module__ == "builtins":
        return {}
    try:
        source = inspect.getsource(cls)
    except (OSError, TypeError):  # typed into a prompt: nobody can say whether it is what it was
        source = uuid.uuid4().hex
    return {f"{cls.__module__}.{cls.__qualname__}": digest.of_value(source)}


def _file(cls: type) -> Path | None:
    name = getattr(sys.modules.get(cls.__module__), "__file__", None)
    return None if name is None else Path(name).resolve()


def _top_level(files: Iterable[str]) -> set[str]:
    """Names of the modules and packages that a folder's files make."""
    return {Path(file).parts[0].removesuffix(".py") for file in files}


def _forget(root: Path) -> None:
    """Let the folder's modules be imported anew, and not from what Python keeps of a file that has the same size and second."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file is not None and Path(file).is_relative_to(root) and name != "__main__":
            Path(getattr(module, "__cached__", None) or file).with_suffix(".pyc").unlink(missing_ok=True)
            del sys.modules[name]
    importlib.invalidate_caches()


def _root(folder: str) -> Path:
    root = Path(expand(folder)).resolve()
    if not root.is_dir():
        raise ConfigError(f"model.code is {folder!r}, and there is no such folder: {root}.")
    trust.check_folder(root, "model.code")
    return root
