"""A configuration's mistakes as sentences: the field's dotted name, what is wrong with it, and of misspelt names the closest."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from recsys.errors import ConfigError

T = TypeVar("T", bound=BaseModel)


def validated(group: type[T], given: Mapping[str, Any], place: str = "") -> T:
    """The group of these fields; ConfigError with a line for everything that is wrong. `place` stands before the fields' names."""
    try:
        return group.model_validate(given)
    except ValidationError as error:
        raise ConfigError("\n".join(_explained(error, group, place))) from None


def closest(name: str, known: Iterable[str]) -> str:
    """What a misspelt name may mean: "Did you mean …?", or all that there are."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"Did you mean {' or '.join(close)}?" if close else f"There are: {', '.join(known) or 'none'}."


def _explained(error: ValidationError, group: type[BaseModel], place: str) -> Iterator[str]:
    for problem in error.errors():
        where = ".".join(map(str, (place, *problem["loc"]) if place else problem["loc"]))
        if problem["type"] == "extra_forbidden":
            yield f"{where}: there is no such setting. {closest(str(problem['loc'][-1]), _fields(group, problem['loc'][:-1]))}"
        elif problem["type"] == "missing":
            yield f"{where}: this setting is needed."
        else:
            given = f" (it is {problem['input']!r})" if where and not isinstance(problem["input"], (dict, BaseModel)) else ""
            yield f"{where or 'configuration'}: {problem['msg'].removeprefix('Value error, ')}{given}"


def _fields(group: type[BaseModel], location: tuple[int | str, ...]) -> Mapping[str, Any]:
    """The fields of the group at this place of the configuration, by name."""
    for step in location:
        if isinstance(step, str):
            annotation = group.model_fields[step].annotation
            group = next(a for a in (annotation, *get_args(annotation)) if isinstance(a, type) and issubclass(a, BaseModel))
    return group.model_fields
