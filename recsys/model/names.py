"""Names of columns as names of torch modules."""


def module_name(*columns: str) -> str:
    """A name for what belongs to the columns: a module's takes no dots, and different columns have different ones.

    >>> module_name("price"), module_name("a.b", "a_b")
    ('of_price', 'of_a%2Eb+a_b')
    """
    return "of_" + "+".join(c.replace("%", "%25").replace(".", "%2E").replace("+", "%2B") for c in columns)
