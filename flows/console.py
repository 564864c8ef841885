"""What the commands print for people, on standard output."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.columns import Columns
from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from recsys import published
from recsys.config import Model
from recsys.store import Artifact, Store
from recsys.windows import label

STEPS = ("features", "sequences", "training", "evaluation", "promotion", "scoring", "publishing")
SOURCES = {"candidate": "the new model", "current": "the current model", "popular_lately": "popular lately", "popular": "popular"}


def show_overview(store: Store, nights: int) -> None:
    """What is published and why, its metrics, and the versions there are of the newest nights."""
    now = published.current(store)
    if now is None:
        _print(f"Nothing is published in {store.root} yet.")
    else:
        show_promotion(now)
        show_metrics(store.find("evaluation", now.moment, now.artifacts["evaluation"]["version"]))
    _show_nights(store, nights)


def show_night(store: Store, promotion: published.Promotion) -> None:
    """The end of a night: what was published and why, where the lists are, and three users' lists beside their histories."""
    show_promotion(promotion)
    lists = store.open(promotion.artifacts["scoring"]).path / "recommendations"
    _print(f"The lists are in {_short(lists)}")
    show_users(store, promotion)


def show_promotion(promotion: published.Promotion) -> None:
    _print(f"\nPublished for {label(promotion.moment)}: the lists of {SOURCES[promotion.source]}. ({promotion.by}, {promotion.at})")
    for reason in promotion.reasons:
        _print(f"  {reason}")


def show_metrics(evaluation: Artifact) -> None:
    """Every contender's metrics on all test users, and its paired difference to the reference with a 95 % interval."""
    import pyarrow.parquet as pq

    rows = pq.read_table(evaluation.path / "metrics.parquet", filters=[("slice", "=", "all")]).to_pylist()
    table = Table("metric", "contender", "value", "difference", "95 % interval", "users", title=str(evaluation), title_justify="left")
    for row in rows:
        measured = row["low"] is not None
        table.add_row(
            f"{row['metric']}@{row['k']}", row["contender"], f"{row['value']:.4f}",
            f"{row['difference']:+.4f}" if measured else "", f"{row['low']:+.4f} … {row['high']:+.4f}" if measured else "",
            f"{row['n_users']:,}",
        )  # fmt: skip
    _print(table)


def show_users(store: Store, promotion: published.Promotion, users: Sequence[str] = (), n_events: int = 10) -> None:
    """Histories and lists side by side; of three users where none are named."""
    from flows.lists import Lists  # imports DuckDB

    lists = Lists.open(store, store.open(promotion.artifacts["scoring"]))
    for user in users or lists.sample(3):
        history, list_ = lists.history(user, n_events), lists.recommendations(user)
        columns = [
            _table(f"User {user}: had (newest first)", ["event_at", "item_id", "event_type", *lists.titles()], history),
            _table("gets", ["rank", "item_id", *lists.titles(), "score", "source"], list_),
        ]
        _print(Padding(Columns(columns, padding=(0, 3)), (1, 0, 0, 0)))


def show_blocks(model: Model) -> None:
    """Every setting and building block of a model, as a configuration would give it."""
    table = Table("setting", "value", box=None, header_style="dim")
    for name, value in model.model_dump(exclude_none=True).items():
        table.add_row(f"model.{name}", "\n".join(value) if isinstance(value, tuple) else str(value))
    _print(table)


def _show_nights(store: Store, nights: int) -> None:
    made = store.artifacts()
    moments = sorted({artifact.as_of for artifact in made})[-nights:]
    table = Table("night", *STEPS, title=f"Newest nights in {_short(store.root)}", title_justify="left")
    for moment in reversed(moments):
        cells = ["\n".join(a.version for a in made if (a.step, a.as_of) == (step, moment)) for step in STEPS]
        table.add_row(label(moment), *cells)
    _print(table)


def _table(title: str, names: Sequence[str], rows: Sequence[dict[str, Any]]) -> Table:
    shown = [name for name in names if any(row.get(name) is not None for row in rows)]
    table = Table(*shown, title=title, title_justify="left", box=None, header_style="dim")
    for row in rows:
        table.add_row(*(_text(row[name]) for name in shown))
    return table


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return "" if value is None else str(value)[:40]


def _short(path: Path) -> str:
    """The path from here, where it is below."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _print(what: Any) -> None:
    Console(highlight=False, soft_wrap=isinstance(what, str)).print(what, markup=False)
