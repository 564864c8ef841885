"""All that the Prefect server knows of something: it gives some at a time, and says nothing of the rest."""

from collections.abc import Iterator
from typing import Protocol, TypeVar

PAGE = 100

T = TypeVar("T")


class Read(Protocol[T]):
    """A method of the client, with the filters of what is asked for."""

    def __call__(self, *, limit: int, offset: int) -> list[T]: ...  # fmt: skip


def every(read: Read[T]) -> Iterator[T]:
    """Page after page, as far as is looked at."""
    n = 0
    while page := read(limit=PAGE, offset=n):
        yield from page
        n += len(page)
