"""A report as a document: sections of text, tables and figures, written as one page of HTML or as markdown.

The page asks no network for anything. Whatever stands in a document is text, escaped in both: titles and ids are other people's.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from recsys.page import PLACE_OF_DECISION

PAGE = Path(__file__).with_name("page.html")


class Cell(NamedTuple):
    """A field of a table; `note` is less important, `strong` stands out."""

    text: str
    note: str = ""
    strong: bool = False


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str

    def markdown(self) -> str:
        return _escaped(self.text)


@dataclass(frozen=True)
class Items:
    """A list of short lines."""

    lines: Sequence[str]

    def markdown(self) -> str:
        return "\n".join(f"- {_escaped(line)}" for line in self.lines)


@dataclass(frozen=True)
class Table:
    """Rows of cells; the first `n_labels` columns are words, the others numbers."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell | str]]
    n_labels: int = 1
    caption: str = ""

    @property
    def cells(self) -> list[list[Cell]]:
        return [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in self.rows]

    def markdown(self) -> str:
        lines = [_line(self.columns), "|---" * len(self.columns) + "|"]
        lines += [_line([cell.text + (f" ({cell.note})" if cell.note else "") for cell in row]) for row in self.cells]
        return "\n".join([_escaped(self.caption), "", *lines] if self.caption else lines)


@dataclass(frozen=True)
class Figure:
    """A drawing. `alt` says what is to be seen in it, to those who cannot; its numbers stand in tables beside it."""

    svg: str
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Section:
    title: str
    blocks: Sequence[Text | Items | Table | Figure]

    @property
    def anchor(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


@dataclass(frozen=True)
class Document:
    """What a report says: `opening` stands before the sections."""

    title: str
    opening: Sequence[Text | Items | Table | Figure]
    sections: Sequence[Section]

    def markdown(self) -> str:
        """Without the figures."""
        parts = [f"# {_escaped(self.title)}", *_written(self.opening)]
        for section in self.sections:
            parts += [f"## {_escaped(section.title)}", *_written(section.blocks)]
        return "\n\n".join(parts) + "\n"

    def html(self) -> str:
        """One page that needs nothing beside it."""
        from jinja2 import Environment, FileSystemLoader, StrictUndefined

        jinja = Environment(
            loader=FileSystemLoader(PAGE.parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        jinja.tests.update({kind.__name__.lower(): _is(kind) for kind in (Text, Items, Table, Figure)})
        return jinja.get_template(PAGE.name).render(document=self, place_of_decision=PLACE_OF_DECISION)


def _is(kind: type) -> Callable[..., bool]:
    return lambda block: isinstance(block, kind)


def _written(blocks: Sequence[Text | Items | Table | Figure]) -> list[str]:
    return [block.markdown() for block in blocks if not isinstance(block, Figure)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_escaped(cell) for cell in cells)} |"


def _escaped(text: str) -> str:
    """Text that markdown shows as it is, on one line.

    >>> print(_escaped("<b>|a|\\n[x](http://y)"))
    &lt;b>\\|a\\| \\[x\\](http://y)
    """
    plain = re.sub(r"([\\`*|\[\]])", r"\\\1", " ".join(text.split()))
    return plain.replace("&", "&amp;").replace("<", "&lt;")
