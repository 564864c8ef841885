"""Numbers and names in sentences that people read."""

from collections.abc import Sequence


def counted(n: float, noun: str, plural: str = "") -> str:
    """`1 user`, `1,200 users`, `2 losses` where the plural is given."""
    return f"{n:,} {noun if n == 1 else plural or f'{noun}s'}"


def listed(names: Sequence[str]) -> str:
    """`a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def capital(text: str) -> str:
    """With a large first letter, the others as they are."""
    return text[:1].upper() + text[1:]
