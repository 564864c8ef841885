"""A model's configuration as dictionaries of JSON values: nested, and flat with dotted names, for sweeps and trackers.

>>> model = Model(width=64, encoder="PreLN(n_blocks=4)", heads=("NextItem(loss=CrossEntropy(temperature=0.5))",))
>>> to_nested(model)["encoder"]
{'cls': 'PreLN', 'n_blocks': 4}
>>> flat = to_flat(model)
>>> flat["encoder.n_blocks"], flat["heads.0.loss.temperature"]
(4, 0.5)
>>> from_flat({**flat, "encoder.n_blocks": 2}).encoder
'PreLN(n_blocks=2)'

Both ways lose nothing: `from_nested(to_nested(model))` is the model with its parts spelt in the canonical way.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from recsys.config import Model
from recsys.errors import ConfigError
from recsys.model import own_parts
from recsys.model.blocks import ONE, OPTIONAL, SEVERAL, USUAL
from recsys.model.losses import Loss
from recsys.parts import Spec, annotations, parse, part, slot_of
from recsys.slots import class_named, name_of
from recsys.validation import closest, validated

# By field of the `model` group.
SLOTS: dict[str, type] = {**ONE, **OPTIONAL, **SEVERAL, **{name: slot for name, (slot, _) in USUAL.items()}, "loss": Loss}
CLASS = "cls"  # the key of a part's name; no argument can be called so


def to_nested(model: Model) -> dict[str, Any]:
    """What the configuration gives: sizes as they are, a part as {"cls": name, argument: value …}, heads as a list of those."""
    return {name: _nested(value) for name, value in _given(model).items()}


def to_flat(model: Model) -> dict[str, Any]:
    """The same in one level: "encoder.cls", "encoder.n_blocks", "heads.0.loss.cls" … Lists and mappings without a part stay values."""
    return dict(pair for name, value in _given(model).items() for pair in _flat(name, value))


def from_nested(given: Mapping[str, Any]) -> Model:
    """The configuration that a nested dictionary describes; a part may also be its text, "PreLN(n_blocks=4)".

    ConfigError names a key that is unknown, with the closest ones, and a value that does not fit.
    """
    for name in given:
        if name not in Model.model_fields:
            raise ConfigError(f"{name}: the model has no such setting. {closest(name, Model.model_fields)}")
    own_parts.put_on_path(given.get("code"))
    texts = {name: _text(value, name) if name in SLOTS else value for name, value in given.items()}
    return validated(Model, texts)


def from_flat(given: Mapping[str, Any]) -> Model:
    """The configuration that a flat dictionary describes. "encoder": "PreLN" says the same as "encoder.cls": "PreLN"."""
    return from_nested(_tree({tuple(name.split(".")): value for name, value in given.items()}, ""))


def _given(model: Model) -> dict[str, Any]:
    """The fields that are given: parts as specs."""
    own_parts.put_on_path(model.code)
    fields = model.model_dump(exclude_none=True)
    return {name: _specs(value, SLOTS[name]) if name in SLOTS else value for name, value in fields.items()}


def _specs(text: str | Sequence[str], slot: type) -> Any:
    return parse(text, slot) if isinstance(text, str) else [parse(one, slot) for one in text]


def _nested(value: Any) -> Any:
    if isinstance(value, Spec):
        return {CLASS: name_of(value.cls), **{name: _nested(argument) for name, argument in value.arguments.items()}}
    return [_nested(element) for element in value] if isinstance(value, (list, tuple)) else value


def _flat(at: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Spec):
        value = {CLASS: name_of(value.cls), **value.arguments}
    elif isinstance(value, (list, tuple)) and any(isinstance(element, Spec) for element in value):
        value = dict(enumerate(value))
    else:
        yield at, value
        return
    for name, inner in value.items():
        yield from _flat(f"{at}.{name}", inner)


def _tree(given: Mapping[tuple[str, ...], Any], at: str) -> Any:
    """What stands at a place, from the values of all paths below it; the empty path is the place itself."""
    if at and set(given) == {()}:
        return given[()]
    inner: dict[str, dict[tuple[str, ...], Any]] = {}
    for path, value in given.items():
        step, *rest = path or (CLASS,)
        if tuple(rest) in inner.setdefault(step, {}):
            raise ConfigError(f"{at!r} and {at + '.' + CLASS!r} are both given: leave one out.")
        inner[step][tuple(rest)] = value
    found = {step: _tree(below, f"{at}.{step}".strip(".")) for step, below in inner.items()}
    if not found or not all(step.isdigit() for step in found):
        return found
    if missing := sorted(set(map(str, range(len(found)))) - set(found)):
        raise ConfigError(f"{at}.{missing[0]} is missing: elements are numbered from 0, and there are {', '.join(sorted(found))}.")
    return [found[str(number)] for number in range(len(found))]


def _text(value: Any, field: str) -> str | tuple[str, ...]:
    """The configuration's text of a field's part, or of each of its parts."""
    if field not in SEVERAL:
        return str(_spec(value, SLOTS[field], field))
    if not isinstance(value, (list, tuple)):
        raise ConfigError(f"{field} is a list of building blocks, and {value!r} is none.")
    return tuple(str(_spec(one, SLOTS[field], f"{field}.{number}")) for number, one in enumerate(value))


def _spec(value: Any, slot: type, at: str) -> Spec[Any]:
    try:
        if isinstance(value, str):
            return parse(value, slot)
        if not (isinstance(value, Mapping) and isinstance(value.get(CLASS), str)):
            raise ConfigError(f"{value!r} is no building block: write {{{CLASS!r}: 'PreLN', 'n_blocks': 2}}, or \"PreLN(n_blocks=2)\".")
        cls = class_named(value[CLASS], slot, value[CLASS])
    except ConfigError as error:
        raise ConfigError(f"{at}: {error}") from None
    asked = annotations(cls)
    arguments = {name: _argument(inner, asked.get(name), f"{at}.{name}") for name, inner in value.items() if name != CLASS}
    try:
        return part(cls, **arguments)
    except ConfigError as error:
        raise ConfigError(f"{at}: {error}") from None


def _argument(value: Any, annotation: Any, at: str) -> Any:
    slot = slot_of(annotation)
    if slot is None:
        return value
    if isinstance(value, (list, tuple)):
        return [_argument(element, annotation, f"{at}.{number}") for number, element in enumerate(value)]
    is_text = isinstance(value, str) and str not in get_args(annotation)
    return _spec(value, slot, at) if is_text or (isinstance(value, Mapping) and CLASS in value) else value
