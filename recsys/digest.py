"""Digests: of files, of values, and of the code that a step runs.

A digest of code is taken from syntax trees without docstrings, so that a comment or a blank line re-trains nothing.
"""

import ast
import hashlib
import importlib.util
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

# Plumbing that cannot change a result: a setting's value enters a version by itself, and a recipe's as it was resolved.
_PLUMBING = {
    "recsys",
    "recsys.config",
    "recsys.recipes",
    "recsys.store",
    "recsys.attempts",
    "recsys.disk",
    "recsys.verification",
    "recsys.provenance",
    "recsys.published",
    "recsys.audit",
    "recsys.difference",
    "recsys.lineage",
    "recsys.rehearsal",
    "recsys.pruning",
    "recsys.status",
    "recsys.digest",
    "recsys.errors",
    "recsys.validation",
    "recsys.trust",
    "recsys.redaction",
}

_PARSING = Lock()  # in CPython 3.11, two threads that parse at once can end in a SystemError (python/cpython#106905)


def of_value(value: Any) -> str:
    """SHA-256 of a JSON value, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def of_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_code(module: str, files: Iterable[Path] = ()) -> str:
    """SHA-256 of a module, of all of ours that it imports, directly or not, and of further .py and .sql files."""
    return of_modules([module], files)


def of_modules(modules: Iterable[str], files: Iterable[Path] = ()) -> str:
    """The same of several modules."""
    with _PARSING:
        imported = set[str]().union(*map(_imported, modules))
        trees = {name: _without_docstrings(_source(name)) for name in sorted(imported)}
        others = sorted((path.name, _text_of(path)) for path in files)  # two folders may have files of one name
    return of_value({"modules": trees, "files": others})


def modules_named_in(source: str) -> set[str]:
    """Modules of ours that somebody's source imports."""
    with _PARSING:
        return {name for name in _named_in(source) if _file(name) is not None}


def _imported(module: str) -> set[str]:
    if _file(module) is None:
        raise ModuleNotFoundError(f"{module} names the code of a step, and there is no such module.")
    found: set[str] = set()
    open_ = [module]
    while open_:
        name = open_.pop()
        if name in found or name in _PLUMBING or _file(name) is None:
            continue
        found.add(name)
        open_.extend(_imports(name))
    return found


@cache
def _imports(module: str) -> tuple[str, ...]:
    """Modules of ours that this one names in an import, late ones too; `from package import name` may name a module."""
    package = module.rpartition(".")[0]
    return (*([package] if package else []), *_named_in(_source(module)))


def _named_in(source: str) -> tuple[str, ...]:
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(name for name in names if name.split(".")[0] == "recsys")


@cache
def _file(module: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec and spec.origin else None


@cache
def _source(module: str) -> str:
    path = _file(module)
    return path.read_text() if path else ""


@cache  # most of what the steps of a night run is the same modules
def _without_docstrings(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if (
            isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
            and ast.get_docstring(node, clean=False) is not None
        ):
            node.body = node.body[1:]
    return ast.dump(tree)


def _text_of(path: Path) -> str:
    if path.suffix == ".py":
        return _without_docstrings(path.read_text())
    lines = (line.strip() for line in path.read_text().splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("--"))
