"""The classes that a slot takes: those of its own module by their names, and a team's by dotted ones."""

import importlib
import inspect
import pkgutil
import sys
from functools import cache
from types import ModuleType
from typing import Any

from recsys import trust
from recsys.errors import ConfigError
from recsys.validation import closest


def choices(slot: type) -> dict[str, type[Any]]:
    """Public classes of the slot's module that meet its contract, by name; of a package, those of all its files."""
    home = _home(slot)
    found = {name: value for module in (home, *_files(home)) for name, value in vars(module).items() if isinstance(value, type)}
    members = {
        name: cls
        for name, cls in sorted(found.items())
        if issubclass(cls, slot)
        and f"{cls.__module__}.".startswith(f"{home.__name__}.")
        and not name.startswith("_")
        and not inspect.isabstract(cls)
        and (cls is not slot or not is_foreign(cls))
    }
    # Another library's contract is rarely marked as abstract; where nothing derives from it, as from Lightning's Trainer, it is none.
    return members or ({slot.__name__: slot} if is_foreign(slot) else {})


def class_named(name: str, slot: type, text: str) -> type:
    """The part of a slot with this name, a public one's own or a dotted one; `text` is what an error quotes."""
    return _imported(name, slot, text) if "." in name else _named(name, slot, text)


def name_of(cls: type) -> str:
    """The shortest name that reads back as the class. A notebook's class, of `__main__`, does so in its own process."""
    listed = any(choices(base).get(cls.__name__) is cls for base in cls.__mro__ if base.__module__.startswith("recsys."))
    if "<locals>" in cls.__qualname__:
        raise ConfigError(f"{cls.__qualname__} is written inside a function, where no configuration can name it: write it outside.")
    return cls.__name__ if listed else f"{cls.__module__}.{cls.__qualname__}"


def _home(slot: type) -> ModuleType:
    """The module that lists a slot's members: its own, or the package that hands it on, as torch.optim does."""
    package = sys.modules.get(slot.__module__.rpartition(".")[0])
    return package if package is not None and getattr(package, slot.__name__, None) is slot else sys.modules[slot.__module__]


@cache
def _files(package: ModuleType) -> tuple[ModuleType, ...]:
    """The modules of one of our packages, imported."""
    if not package.__name__.startswith("recsys."):
        return ()
    found = pkgutil.iter_modules(getattr(package, "__path__", ()))
    return tuple(importlib.import_module(f"{package.__name__}.{module.name}") for module in found)


def is_foreign(cls: type) -> bool:
    """Whether a class comes from another library: none of its bases is one of our contracts."""
    return not any(inspect.isabstract(base) or base.__module__.startswith("recsys.") for base in cls.__mro__)


def _named(name: str, slot: type, text: str) -> type:
    known = choices(slot)
    if name in known:
        return known[name]
    hint = f"{closest(name, sorted(known))} A class of your own is named with its module."
    raise ConfigError(f"{text!r}: there is no {slot.__name__} {name!r}. {hint}")


def _imported(name: str, slot: type, text: str) -> type:
    module, _, attribute = name.rpartition(".")
    trust.check_module(module, slot, text)
    try:
        there = importlib.import_module(module)
        if not hasattr(there, attribute) and module != "__main__":
            own = [n for n, value in vars(there).items() if isinstance(value, type) and value.__module__ == module]
            raise ConfigError(f"{text!r}: the module {module} has no {attribute!r}. {closest(attribute, own)}")
        found = getattr(there, attribute)
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:  # somebody's module: anything can happen while it is imported
        missing = isinstance(error, ModuleNotFoundError) and module.split(".")[0] == (error.name or "").split(".")[0]
        remedy = "Is its folder given as model.code?" if missing else "That is for its author to put right."
        if module == "__main__":
            remedy = (
                "It was written in a notebook or a script: move it into a file, name it with its module, and give its folder as model.code."
            )
        raise ConfigError(f"{text!r}: {name} cannot be imported ({error!r}). {remedy}") from error
    if not (isinstance(found, type) and issubclass(found, slot)):
        raise ConfigError(f"{text!r}: {name} is no {slot.__module__}.{slot.__name__}: derive it from that class.")
    if inspect.isabstract(found):
        raise ConfigError(f"{text!r}: {name} is abstract: name a class that derives from it.")
    return found
