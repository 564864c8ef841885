"""The grammar of building blocks: a call with JSON literals as keyword arguments, and calls in them. Names mean nothing here.

The text is parsed with `ast` and never evaluated; `recsys.parts` looks names and arguments up.
"""

import ast
import json
from typing import Any

from recsys.errors import ConfigError

JSON_NAMES = {"true": True, "false": False, "null": None}


def check_grammar(text: str) -> None:
    """Whether the text is a call with literals at all; names are looked up later, by `parse`."""
    call(text)


def same_call(one: str, other: str) -> bool:
    """Whether two texts are the same call, however they are spelt.

    >>> same_call("Recall", "Recall( )")
    True
    """
    return ast.dump(call(one)) == ast.dump(call(other))


def call(text: str) -> ast.Call:
    """The text as a call, with every value in it checked; a bare name is a call without arguments. ConfigError says what is wrong."""
    try:
        node = ast.parse(text.strip(), mode="eval").body
        if isinstance(node, (ast.Name, ast.Attribute)):
            node = ast.Call(func=node, args=[], keywords=[])
        if not isinstance(node, ast.Call):
            raise ConfigError(f'{text!r} is no building block. Write a call, as in "PreLN(n_blocks=2)".')
        _check_call(node, text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(f'{text!r} is no building block: {error.__class__.__name__}. Write a call, as in "PreLN(n_blocks=2)".') from None
    return node


def _check_call(node: ast.Call, text: str) -> None:
    dotted(node.func, text)
    if node.args:
        raise ConfigError(f'{text!r}: arguments are given by name, as in "PreLN(n_blocks=2)".')
    names = [keyword.arg for keyword in node.keywords]
    if None in names or len(set(names)) != len(names):
        raise ConfigError(f"{text!r}: each argument is given once and by name; ** is not read.")
    for keyword in node.keywords:
        _check_value(keyword.value, text)


def _check_value(node: ast.expr, text: str) -> None:
    if isinstance(node, ast.Call):
        return _check_call(node, text)
    if isinstance(node, (ast.List, ast.Tuple)):
        for element in node.elts:
            _check_value(element, text)
    elif isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            key_of(key, node, text)
            _check_value(value, text)
    elif isinstance(node, (ast.Name, ast.Attribute)):  # true, false, null, or a block without brackets
        dotted(node, text)
    else:
        literal(node, text)
    return None


def dotted(node: ast.expr, text: str) -> str:
    """The name that is called, as `team.losses.Focal`."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value, text)}.{node.attr}"
    raise ConfigError(f'{text!r}: only names can be called, as in "PreLN()" or "team.losses.Focal(gamma=2.0)".')


def literal(node: ast.expr, text: str) -> Any:
    """A JSON value."""
    if isinstance(node, ast.Name) and node.id in JSON_NAMES:
        return JSON_NAMES[node.id]
    try:
        value = ast.literal_eval(node)
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise ConfigError(
            f"{text!r}: {ast.unparse(node)} is no JSON literal: write numbers, strings, true, false, null, lists or nested calls."
        ) from None
    return value


def key_of(node: ast.expr | None, of: ast.Dict, text: str) -> str:
    """A key of a dictionary."""
    if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
        raise ConfigError(f"{text!r}: the keys of {ast.unparse(of)} have to be strings, as in JSON.")
    return str(literal(node, text))
