"""Whose code a worker runs: RECSYS_PACKAGES, of its environment, names packages and folders, as `team,acme.losses,/srv/parts`.

A configuration, or a model that somebody else trained, names classes, and importing a class runs its module. Where the
variable is set, they come from these packages, from those of the contracts themselves (torch has the optimisers) and from
files below these folders; `model.code` and `data.sql_overlay` have to be such folders. Where it is not set, every package that
can be imported will do: right where whoever can start a run may run anything on the machine anyway.
"""

import importlib.util
import os
from pathlib import Path

from recsys.errors import ConfigError

VARIABLE = "RECSYS_PACKAGES"


def check_module(module: str, contract: type, text: str) -> None:
    """ConfigError for a module that this worker does not import; asked before it is. `text` is what the error quotes."""
    if VARIABLE not in os.environ or _top_level(module) in ("recsys", _top_level(contract.__module__)):
        return
    packages, folders = _allowed()
    if not any(module == package or module.startswith(f"{package}.") for package in packages) and not _are_below(_places(module), folders):
        raise ConfigError(
            f"{text!r}: this worker imports nothing from {module}, for {VARIABLE} is {os.environ[VARIABLE]!r}. Name a part of its "
            f"packages, or let whoever runs the worker add {_top_level(module)} to it."
        )


def check_folder(folder: Path, field: str) -> None:
    """ConfigError for a folder of code or SQL that this worker does not run."""
    if VARIABLE in os.environ and not _are_below([folder], _allowed()[1]):
        raise ConfigError(
            f"{field}: this worker runs nothing from {folder}, for {VARIABLE} is {os.environ[VARIABLE]!r}. Use one of its folders, or "
            "let whoever runs the worker add this one to it."
        )


def _allowed() -> tuple[list[str], list[Path]]:
    """Packages, and folders with all links followed."""
    entries = [entry for entry in map(str.strip, os.environ[VARIABLE].split(",")) if entry]
    return [entry for entry in entries if os.sep not in entry], [Path(entry).resolve() for entry in entries if os.sep in entry]


def _are_below(places: list[Path], folders: list[Path]) -> bool:
    return bool(places) and all(any(place.resolve().is_relative_to(folder) for folder in folders) for place in places)


def _places(module: str) -> list[Path]:
    """From where the module's top level would be imported. It is looked for and not run; a package without a file may lie in several."""
    try:
        found = importlib.util.find_spec(_top_level(module))
    except ValueError:  # __main__, which is nowhere
        return []
    return [Path(place) for place in ([found.origin] if found.origin else found.submodule_search_locations or [])] if found else []


def _top_level(module: str) -> str:
    return module.partition(".")[0]
