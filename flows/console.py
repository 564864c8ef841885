"""What the commands print for people, on standard output."""

from collections.abc import Callable, Iterable, Sequence, Set
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from recsys import published
from recsys.config import Model
from recsys.errors import RecsysError
from recsys.store import Artifact, Store
from recsys.windows import label
from recsys.wording import counted

MAX_WIDTH = 120  # of tables; lines of text are as long as they are
SOURCES = {
    "candidate": "the new model",
    "current": "the model of an earlier night",
    "popular_lately": "what was popular lately",
    "popular": "what was popular ever",
}


def show_overview(store: Store) -> None:
    """What is published and why, and its metrics."""
    now = published.current(store)
    if now is None:
        say(f"Nothing is published in {store.root} yet.")
    else:
        show_promotion(now)
        show_metrics(store.open(now.artifacts["evaluation"]))
        _show_page(store, now)
    say("`recsys status` shows the nights and their versions, `recsys show history` what was published before.")


def show_night(store: Store, promotion: published.Promotion) -> None:
    """The end of a night: what was published and why, where the lists are, and three users' lists beside their histories."""
    show_promotion(promotion)
    lists = store.open(promotion.artifacts["scoring"]).path / "recommendations"
    say(f"The lists are in {short(lists)}")
    _show_page(store, promotion)
    show_users(store, store.open(promotion.artifacts["scoring"]))


def show_promotion(promotion: published.Promotion) -> None:
    done = "Held for a person" if promotion.action == "hold" else "Published"
    say(f"\n{done} for {label(promotion.moment)}: the lists of {SOURCES[promotion.source]}. ({promotion.by}, {promotion.at})")
    for reason in promotion.reasons:
        say(f"  {reason}")
    if promotion.action == "hold":
        say(f"What was published stays, until `recsys promote {promotion.id} --why …` publishes this.")


def _show_page(store: Store, promotion: published.Promotion) -> None:
    """Where the evaluation's page with the decision is; of a night from before there were pages, nothing."""
    gate = store.get(promotion.artifacts["promotion"])
    if gate is not None and (page := gate.path / "report.html").exists():
        say(f"The report, a page for the browser, is {short(page)}")


def show_metrics(evaluation: Artifact) -> None:
    """Every contender's metrics on all test users, and the candidate's paired difference to the reference."""
    import pyarrow.parquet as pq

    rows = pq.read_table(evaluation.path / "metrics.parquet", filters=[("slice", "=", "all")]).to_pylist()
    measured = {(row["contender"], row["metric"], row["k"]): row for row in rows}
    contenders = list(dict.fromkeys(row["contender"] for row in rows))
    rows_of_text = []
    for metric, k in dict.fromkeys((row["metric"], row["k"]) for row in rows):
        values = [f"{measured[contender, metric, k]['value']:.4f}" for contender in contenders]
        rows_of_text.append([f"{metric}@{k}", *values, _difference(measured["candidate", metric, k])])
    users = max(row["n_users"] for row in rows)
    title = f"{evaluation}: {counted(users, 'test user')}; the candidate's difference with its 95 % interval"
    say(table(title, ["metric", *contenders, "difference"], rows_of_text))


def show_users(store: Store, scoring: Artifact, users: Sequence[str] = (), n_events: int = 10) -> None:
    """Histories and lists side by side; of three users where none are named."""
    from flows.lists import Lists  # imports DuckDB

    lists = Lists.open(store, scoring)
    for user in users or lists.sample(3):
        history, list_ = lists.history(user, n_events), lists.recommendations(user)
        sources = " and ".join(dict.fromkeys(SOURCES[row["source"]] for row in list_))
        sides = Table.grid(padding=(0, 2, 0, 0), expand=True)  # halves, so that only titles are cut
        sides.add_column(ratio=1)
        sides.add_column(ratio=1)
        sides.add_row(
            _side(f"User {user} had, newest first", history, ["event_at", "item_id"], lists.titles()),
            _side(f"gets, from {sources}", list_, ["rank", "item_id"], [*lists.titles(), "score"]),
        )
        say(Padding(sides, (1, 0, 0, 0)))


def show_blocks(model: Model) -> None:
    """Every setting and building block of a model, as a configuration would give it."""
    given = model.model_dump(exclude_none=True).items()
    say(table("", ["setting", "value"], [[f"model.{name}", _text(value)] for name, value in given], flexible={"value"}))


def show_properties(slot: str, part: str, properties: Iterable[tuple[str, Callable[[], None]]]) -> bool:
    """What holds of a part and what is broken, with how. Whether all holds."""
    found = {name: _problem(check) for name, check in properties}
    broken = {name: problem for name, problem in found.items() if problem}
    say(table(f"{part}, {slot}", ["property", ""], [[name, "broken" if name in broken else "holds"] for name in found]))
    for name, problem in broken.items():
        say(f"\n{name}: {problem}")
    say(f"\nBroken: {len(broken)} of {len(found)} properties." if broken else f"\nAll {len(found)} properties hold.")
    return not broken


def _problem(check: Callable[[], None]) -> str:
    """What breaks a property, in words; nothing where it holds."""
    try:
        check()
    except RecsysError as error:
        return str(error)
    except Exception as error:  # somebody's own part: anything can happen in it
        return f"{type(error).__name__}: {error}"
    return ""


def _difference(row: dict[str, Any]) -> str:
    return "" if row["low"] is None else f"{row['difference']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]"


def _side(title: str, rows: Sequence[dict[str, Any]], names: Sequence[str], more: Sequence[str]) -> Table:
    """One of two tables side by side: of the columns, those with anything in them."""
    shown = [name for name in (*names, *more) if any(row[name] is not None for row in rows)]
    return table(title, shown, [[_text(row[name]) for name in shown] for row in rows], flexible=set(more) - {"score"})


def table(title: str, names: Sequence[str], rows: Sequence[Sequence[str | Text]], flexible: Set[str] = frozenset()) -> Table:
    """A plain table. Where the terminal is too narrow, only the flexible columns are cut; names of others wrap, where none is flexible."""
    plain = Table(title=title, title_justify="left", title_style="bold", box=None, header_style="dim", padding=(0, 1, 0, 0))
    for number, name in enumerate(names):
        widest, fixed = max((_width(row[number]) for row in rows), default=0), name not in flexible
        name_gives_way = not flexible and cell_len(name) > widest
        header = Text(name, no_wrap=not name_gives_way, overflow="fold" if name_gives_way else "ellipsis")
        plain.add_column(header, no_wrap=fixed and not name_gives_way, min_width=widest if fixed else None)
    for row in rows:
        plain.add_row(*(Text(cell, no_wrap=True, overflow="ellipsis") if isinstance(cell, str) else cell for cell in row))
    return plain


def _width(cell: str | Text) -> int:
    """Of the longest of its lines."""
    return max(map(cell_len, str(cell).split("\n")))


def _text(value: Any) -> str:
    match value:
        case None:
            return ""
        case float():
            return f"{value:.3f}"
        case datetime():
            return f"{value:%Y-%m-%d}"
        case tuple():
            return "\n".join(map(str, value))
    return str(value)


def short(path: Path) -> str:
    """The path from here, where it is below."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def say(what: Any) -> None:
    console = Console(highlight=False, soft_wrap=isinstance(what, str))
    console.print(what, markup=False, width=min(console.width, MAX_WIDTH), crop=False)
