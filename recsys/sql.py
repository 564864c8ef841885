"""How names and texts are written in SQL. Values are bound, wherever a statement takes parameters."""


def quoted(name: str) -> str:
    """An identifier, whatever is in it.

    >>> print(quoted('net "price" of'))
    "net ""price"" of"
    """
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A string.

    >>> print(literal("it's"))
    'it''s'
    """
    return "'" + text.replace("'", "''") + "'"
