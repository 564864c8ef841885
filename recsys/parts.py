"""Building blocks in a configuration: `"GBCE(t=0.75)"` → a `Spec` → an object.

A block is a call with JSON literals as keyword arguments; calls nest. A bare name is a public class of its slot's
module (the one that defines the slot's contract; where that is a package, of any of its files), a dotted one is imported
and has to be a subclass of that contract. The text is parsed with `ast` and never evaluated.

Constructors follow one rule: **positional parameters are what only the network knows** (width, number of items, schema)
and are supplied when the block is built; **keyword-only parameters are what a configuration may set**. Classes of other
libraries (an optimiser, a callback, a torch module) know nothing of it: there every parameter may be set that is not supplied.
A constructor that hands `**others` on to the class it derives from takes what that one takes.

>>> from recsys.model.losses import Loss
>>> parse("CrossEntropy(label_smoothing=0.1)", Loss).build()          # doctest: +SKIP
"""

import ast
import inspect
import json
import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from recsys.errors import ConfigError
from recsys.grammar import JSON_NAMES, call, dotted, key_of, literal
from recsys.slots import choices, class_named, is_foreign, name_of
from recsys.validation import closest

T = TypeVar("T")


@dataclass(frozen=True)
class Spec(Generic[T]):
    """A building block that is not built yet. `str(spec)` is what is stored, hashed and shown, and reads back equal."""

    cls: type[T]
    arguments: dict[str, Any] = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash(str(self))

    def supplied_by(self, *names: str) -> bool:
        """Whether these are all that its constructor, and those of the blocks in it, need from the network."""
        own = all(
            name in names or parameter.kind is inspect.Parameter.KEYWORD_ONLY or parameter.default is not inspect.Parameter.empty
            for name, parameter in _parameters(self.cls).items()
        )
        return own and all(spec.supplied_by(*names) for value in self.arguments.values() for spec in _specs(value))

    def build(self, **supplied: Any) -> T:
        """The object. Of `supplied`, it gets what its constructor's positional parameters name."""
        known = {}
        for name, parameter in _parameters(self.cls).items():
            if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
                if name in self.arguments:
                    continue
                if name in supplied:
                    known[name] = supplied[name]
                elif parameter.default is inspect.Parameter.empty:
                    there = ", ".join(supplied) or "nothing"
                    remedy = " Set it, or name a class of your own that does." if is_foreign(self.cls) else ""
                    raise ConfigError(f"{self.cls.__name__} needs {name!r}; its place in the network supplies {there}.{remedy}")
        hints = annotations(self.cls)
        chosen = {name: _built(value, hints.get(name), supplied) for name, value in self.arguments.items()}
        return self.cls(**known, **chosen)

    def classes(self) -> set[type]:
        """Its class and those of the blocks in it."""
        return {self.cls}.union(*(spec.classes() for value in self.arguments.values() for spec in _specs(value)))

    def __str__(self) -> str:
        return f"{name_of(self.cls)}({', '.join(f'{k}={_text(v)}' for k, v in self.arguments.items())})"


def part(cls: type[T], **arguments: Any) -> Spec[T]:
    """The same spec from Python: `part(PreLN, n_blocks=4)`. Names and values are checked as in a configuration."""
    return Spec(cls, _checked(cls, arguments, str(cls.__name__)))


def parse(text: str, slot: type[T], field: str = "") -> Spec[T]:
    """The spec that the text names, for a slot with the contract `slot`.

    ConfigError says what is wrong with the text of the configuration's `field`, with the closest valid names.
    """
    try:
        return _resolve(call(text), slot, text)
    except ConfigError as error:
        raise ConfigError(f"{field}: {error}" if field else str(error)) from error.__cause__


def _resolve(node: ast.Call, slot: Any, text: str) -> Spec[Any]:
    cls = class_named(dotted(node.func, text), slot, text)
    _settable(cls, [k.arg for k in node.keywords if k.arg], text)  # before the values, whose slots are those of the arguments
    hints = annotations(cls)
    arguments = {k.arg: _value(k.value, hints.get(k.arg or ""), text) for k in node.keywords if k.arg}
    return Spec(cls, _checked(cls, arguments, text))


def _value(node: ast.expr, annotation: Any, text: str) -> Any:
    if isinstance(node, ast.Call):
        slot = slot_of(annotation)
        if slot is None:
            raise ConfigError(f"{text!r}: {ast.unparse(node)} stands where no building block is taken.")
        return _resolve(node, slot, text)
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(element, annotation, text) for element in node.elts]
    if isinstance(node, ast.Dict):
        return {key_of(k, node, text): _value(v, None, text) for k, v in zip(node.keys, node.values, strict=True)}
    slot = slot_of(annotation)
    if slot is not None and isinstance(node, (ast.Name, ast.Attribute)) and ast.unparse(node) not in JSON_NAMES:
        return _resolve(ast.Call(func=node, args=[], keywords=[]), slot, text)  # a block without brackets
    return literal(node, text)


def _constructors(cls: type) -> Iterator[Callable[..., None]]:
    """The class's `__init__`, and those that it hands what it does not name itself, as `**others`."""
    for base in cls.__mro__:
        init = base.__dict__.get("__init__")
        if init is not None and init is not object.__init__:
            yield init
            if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in inspect.signature(init).parameters.values()):
                return


def _parameters(cls: type) -> dict[str, inspect.Parameter]:
    found: dict[str, inspect.Parameter] = {}
    for init in _constructors(cls):
        for name, parameter in list(inspect.signature(init).parameters.items())[1:]:
            if parameter.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
                found.setdefault(name, parameter)
    return found


def annotations(cls: type) -> dict[str, Any]:
    """Type annotations of a part's constructor, by parameter; none of another library's class, whose types are its own affair."""
    if is_foreign(cls):
        return {}
    found: dict[str, Any] = {}
    for init in _constructors(cls):
        found = {**get_type_hints(init, include_extras=True), **found}
    return found


def slot_of(annotation: Any) -> type | None:
    """The contract that an annotation asks for: of `Loss`, `Loss | None`, `Spec[Loss]` and `Sequence[Loss]` it is Loss."""
    if get_origin(annotation) is not None:
        inner = get_args(annotation)
        if get_origin(annotation) in (Union, types.UnionType):
            inner = tuple(a for a in inner if a is not type(None))
        found = [slot for slot in map(slot_of, inner) if slot is not None]
        return found[0] if found else None
    ours = isinstance(annotation, type) and annotation.__module__ not in ("builtins", "typing", "types")
    return annotation if ours else None


def _takes_spec(annotation: Any) -> bool:
    return get_origin(annotation) is Spec or any(map(_takes_spec, get_args(annotation)))


def _built(value: Any, annotation: Any, supplied: dict[str, Any]) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(_built(v, annotation, supplied) for v in value)
    return value.build(**supplied) if isinstance(value, Spec) and not _takes_spec(annotation) else value


def _specs(value: Any) -> list[Spec[Any]]:
    inner = value if isinstance(value, (list, tuple)) else [value]
    return [element for element in inner if isinstance(element, Spec)]


def _checked(cls: type, arguments: dict[str, Any], text: str) -> dict[str, Any]:
    """The arguments, after checking that each is a keyword-only parameter and has a value of its type."""
    settable = _settable(cls, arguments, text)
    hints = annotations(cls)
    for name, value in arguments.items():
        problem = _misfit(value, hints.get(name, Any))
        if problem:
            raise ConfigError(f"{text!r}: {name}={value!r} does not fit {cls.__name__}: {problem}.")
    missing = [] if is_foreign(cls) else [n for n, p in settable.items() if p.default is inspect.Parameter.empty and n not in arguments]
    if missing:
        raise ConfigError(f"{text!r}: {cls.__name__} needs {', '.join(missing)}.")
    return arguments


def _settable(cls: type, names: Iterable[str], text: str) -> dict[str, inspect.Parameter]:
    """The parameters that a configuration may set. ConfigError where one of the names is none of them."""
    settable = {n: p for n, p in _parameters(cls).items() if p.kind is inspect.Parameter.KEYWORD_ONLY or is_foreign(cls)}
    for name in names:
        if name not in settable:
            raise ConfigError(f"{text!r}: {cls.__name__} has no argument {name!r}. {closest(name, settable)}")
    return settable


def _misfit(value: Any, annotation: Any) -> str | None:
    """What keeps the value from being the argument that the annotation asks for, if anything."""
    slot = slot_of(annotation)
    if slot is not None:
        given = value if isinstance(value, (list, tuple)) else [value]
        if all(isinstance(v, Spec) and issubclass(v.cls, slot) for v in given):
            return None
        others = tuple(a for a in get_args(annotation) if slot_of(a) is None)
        if not others or _misfit(value, Union[others]):
            return f"it takes a {slot.__name__}, of {', '.join(sorted(choices(slot))) or 'your own'}"
        return None
    try:
        TypeAdapter(annotation).validate_json(json.dumps(value, allow_nan=False), strict=True)
    except ValidationError as error:
        return error.errors()[0]["msg"]
    except (TypeError, ValueError) as error:
        return f"it is no JSON value ({error})"
    return None


def _text(value: Any) -> str:
    if isinstance(value, Spec):
        return str(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_text, value))}]"
    return json.dumps(value, ensure_ascii=False)
