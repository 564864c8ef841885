"""Drawings for reports, as SVG with text that stays text: small, sharp in print, and the same bytes each time.

Who is who is told by colour and by symbol: the colours are those that Okabe and Ito chose for colour-blind readers.
"""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
SYMBOLS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p")
DASHES: tuple[Literal["-", "--", "-.", ":"], ...] = ("-", "--", "-.", ":")
WIDTH = 10.3  # inches of the page
MAX_TICKS = 10  # that have a name, of many folds
N_SYMBOLS = 12  # on a line of many points

Line = tuple[Sequence[float], Sequence[float]]  # x and y


def tradeoffs(points: Mapping[str, Mapping[str, float]], accuracy: str, others: Sequence[str]) -> str:
    """One panel per other measure, with the accuracy upwards and a symbol for each name in `points`."""
    columns = 4 if len(others) == 4 else 3
    with _drawing("tradeoffs", len(others), columns, shared=True) as (figure, panels):
        looks = [_Look(number, filled=False) for number in range(len(points))]  # hollow: who is alike stands in one place
        for place, (panel, other) in enumerate(zip(panels, others, strict=True)):
            for look, values in zip(looks, points.values(), strict=True):
                panel.add_line(look.line([values[other]], [values[accuracy]]))
            panel.autoscale_view()
            panel.set(xlabel=_short(other, 35), ylabel=_short(accuracy, 35) if place % columns == 0 else "")
            panel.locator_params(axis="x", nbins=4)
            panel.margins(0.15)
        _legend(figure, dict(zip(points, looks, strict=True)))
        return _svg(figure)


def lines(
    panels: Mapping[str, Mapping[str, Line]], x: str, who: Sequence[str], *, ticks: Sequence[str] = (), log: bool = False, columns: int = 3
) -> str:
    """Panels by what they show, each with lines by name.

    `who` are all names there are in the report, in one order, so that everybody looks the same in all of its drawings. `ticks`
    are names of the places 0, 1, 2 … on the x axis; `log` makes it logarithmic.
    """
    from matplotlib.ticker import MaxNLocator

    there = {name for drawn in panels.values() for name in drawn}
    looks = {name: _Look(number) for number, name in enumerate(who) if name in there}
    with _drawing("lines" + "".join(panels), len(panels), columns) as (figure, axes):
        for panel, (title, drawn) in zip(axes, panels.items(), strict=True):
            for name, (xs, ys) in drawn.items():
                panel.add_line(looks[name].line(xs, ys))
            panel.autoscale_view()
            panel.set(title=_short(title, 50), xlabel=x)
            if log:
                panel.set_xscale("log")
                panel.xaxis.set_major_formatter("{x:,.0f}")
            elif ticks:
                places = range(0, len(ticks), ceil(len(ticks) / MAX_TICKS))
                panel.set_xticks(list(places), [_short(ticks[place], 20) for place in places], rotation=30, ha="right")
            else:
                panel.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        if len(looks) > 1:
            _legend(figure, looks)
        return _svg(figure)


def differences(rows: Sequence[tuple[str, float, float, float]], x: str) -> str:
    """A line from `low` to `high` with a point at the difference, per row `(name, difference, low, high)`, the first on top."""
    from matplotlib.figure import Figure

    with _style("differences"):
        figure = Figure(figsize=(WIDTH, 0.9 + 0.24 * len(rows)), layout="constrained")
        panel = figure.subplots()
        for place, (_, difference, low, high) in enumerate(rows):
            sure = low > 0 or high < 0
            panel.plot([low, high], [place, place], color=COLOURS[0], lw=1.6)
            panel.plot(difference, place, "o", color=COLOURS[0], mfc=COLOURS[0] if sure else "white", ms=6)
        panel.axvline(0, color="black", lw=0.8)
        panel.set(xlabel=x, ylim=(len(rows) - 0.4, -0.6))
        panel.set_yticks(range(len(rows)), [_short(name, 48) for name, *_ in rows])
        panel.grid(axis="y", visible=False)
        return _svg(figure)


@contextmanager
def _drawing(salt: str, n_panels: int, columns: int, shared: bool = False) -> "Iterator[tuple[Figure, list[Axes]]]":
    """A figure with so many panels in rows of up to `columns`, in the style of all."""
    from matplotlib.figure import Figure

    columns = min(columns, max(n_panels, 2))
    n_rows = ceil(n_panels / columns)
    with _style(salt):
        figure = Figure(figsize=(WIDTH, 0.5 + 2.7 * n_rows), layout="constrained")
        grid = figure.subplots(n_rows, columns, squeeze=False, sharey=shared)
        for spare in grid.flat[n_panels:]:
            spare.remove()
        yield figure, list(grid.flat[:n_panels])


@contextmanager
def _style(salt: str) -> Iterator[None]:
    """Settings of all drawings. Names come from data: a dollar sign in them is no mathematics."""
    import matplotlib

    settings: Any = {
        "svg.hashsalt": salt, "svg.fonttype": "none", "text.parse_math": False, "font.size": 10, "axes.titlesize": 10.5, "axes.grid": True,
        "grid.color": "#e2e2e2", "axes.axisbelow": True, "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#5a5a5a",
        "axes.formatter.useoffset": False, "axes.formatter.use_mathtext": False, "lines.markeredgewidth": 1.2,
    }  # fmt: skip
    with matplotlib.rc_context(settings):
        yield


@dataclass(frozen=True)
class _Look:
    """How somebody is drawn, by their number; `filled` with a line between the points, else as single hollow symbols."""

    number: int
    filled: bool = True

    @property
    def colour(self) -> str:
        return COLOURS[self.number % len(COLOURS)]

    def line(self, xs: Sequence[float], ys: Sequence[float]) -> "Line2D":
        from matplotlib.lines import Line2D

        marker = SYMBOLS[self.number % len(SYMBOLS)]
        if not self.filled:
            return Line2D(xs, ys, color=self.colour, linestyle="", marker=marker, markersize=9, markerfacecolor="none", markeredgewidth=2)
        dashes = DASHES[self.number // len(COLOURS) % len(DASHES)]
        every = max(1, ceil(len(xs) / N_SYMBOLS))
        return Line2D(xs, ys, color=self.colour, linestyle=dashes, linewidth=1.6, marker=marker, markersize=5, markevery=every)


def _legend(figure: "Figure", looks: Mapping[str, _Look]) -> None:
    """One for all panels, below them. A name that begins with an underscore would be left out, hence the invisible space."""
    shown = [_short("\u200b" + name if name.startswith("_") else name, 40) for name in looks]
    handles = [look.line([], []) for look in looks.values()]
    figure.legend(handles, shown, loc="outside lower center", ncols=min(4, len(looks)), frameon=False)


def _svg(figure: "Figure") -> str:
    """Without what an element of a page does not need, nor anything that differs from one drawing to the next."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    return re.sub(r'<g id="[^"]*"', "<g", svg)  # groups that nothing refers to, whose ids come twice in a page


def _short(name: str, n: int) -> str:
    return name if len(name) <= n else name[: n - 1] + "…"
