"""What the operator's commands print: the grid of nights, the history of promotions, what pruning takes, what changed."""

import shlex
import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from rich.text import Text

from flows import deployments
from flows.console import say, short, table
from recsys import difference, published, turn
from recsys.difference import Change
from recsys.pruning import Waste, size
from recsys.status import STEPS, Cell, began, status
from recsys.store import Artifact, Store
from recsys.windows import label, midnight, parse_as_of
from recsys.wording import counted

if TYPE_CHECKING:
    from flows.plan import Line  # imports torch

STYLES = {"done": "green", "reused": "cyan", "running": "yellow", "failed": "bold red", "missing": "dim"}


def show_status(store: Store, nights: int) -> None:
    """Nights × steps with version, age and size of each; what failed and why; what is published and held; the disk."""
    found = status(store, nights)
    now = datetime.now(timezone.utc)
    missed = _missed(store, parse_as_of(found[0].label), now) if found else []
    rows: list[list[str | Text]] = []
    if missed:
        ends = dict.fromkeys(map(label, (missed[0], missed[-1])))
        rows.append(["\nto\n".join(ends), *[_cell(Cell("missing"), now)] * len(STEPS)])
    for night in found:
        rows.append([f"{night.label}\n{night.decision}", *(_cell(night.steps[step], now) for step in STEPS)])
    say(table(f"{short(store.root)} (* is published now)", ["night", *STEPS], rows))
    for night in found:
        for step, cell in night.steps.items():
            if cell.error:
                say(f"{' '.join(filter(None, (night.label, step, cell.version)))} failed {_age(cell.at, now)} ago: {cell.error}")
    if not found:
        say("No night has left anything here yet.")
    if missed:
        _say_missed(store, missed)
    if (run := turn.at_work(store.root)) is not None:
        say(f"At work now: {run}.")
    if (waiting := published.held(store)) is not None:
        say(f"{label(waiting.moment)} {waiting.id} is held for a person: `recsys promote --why …` publishes it.")
    disk = shutil.disk_usage(store.root)
    say(f"The store has {in_bytes(size(store.root))}; {in_bytes(disk.free)} of {in_bytes(disk.total)} are free on its disk.")


def _missed(store: Store, newest: datetime, now: datetime) -> list[datetime]:
    """The nights of the schedule after the newest one: of those that were due since the store has its first record."""
    first = began(store)
    return deployments.due(store.root, max(midnight(newest) + timedelta(days=1), first), now) if first is not None else []


def _say_missed(store: Store, nights: Sequence[datetime]) -> None:
    """Why there is nothing of them, and how to be rid of the row."""
    say(
        f"Nights that came due since, by the schedule as it is now, and of which there is nothing: {len(nights)}. No run began, or it "
        "stopped before its first step: `prefect flow-run ls --flow-name nightly --state-type FAILED --state-type CRASHED` names it. "
        f"`recsys backfill --from {label(nights[0])} --to {label(nights[-1])} --publish --store {shlex.quote(short(store.root))}` "
        "makes them. They are listed until there is a newer night."
    )


def show_history(store: Store) -> None:
    """Every change of what is published, newest first."""
    now = published.current(store)
    lines = published.history(store)
    if not lines:
        say(f"Nothing was ever published in {short(store.root)}.")
        return
    rows = []
    for line in reversed(lines):
        name = line.undoes or line.id
        mark = "*" if now is not None and line.id == now.id and line.at == now.at else ""
        rows.append([line.at[:16].replace("T", " "), line.by, line.action, label(line.moment), name + mark, line.source, line.reasons[0]])
    names = ["when (UTC)", "who", "what", "night", "id", "lists of", "why"]
    say(table(f"Promotions in {short(store.root)} (* is published now)", names, rows, flexible={"why"}))


def show_nights(store: Store, nights: Sequence[published.Promotion]) -> None:
    """Of each night whose lists it has, why, and whether it was published."""
    became = {"backfill": "on record", "hold": "held"}
    rows = [[label(p.moment), p.id, p.source, became.get(p.action, "published"), p.reasons[0]] for p in nights]
    say(table(f"Nights in {short(store.root)}", ["night", "id", "lists of", "", "the gate"], rows, flexible={"the gate"}))


def show_waste(store: Store, waste: Waste, done: bool) -> None:
    """What pruning takes, by night and step."""
    by_night: dict[str, dict[str, list[Artifact]]] = {}
    for artifact in waste.artifacts:
        by_night.setdefault(label(artifact.as_of), {}).setdefault(artifact.step, []).append(artifact)
    rows = [[night, *("\n".join(a.version[:7] for a in gone.get(step, ())) for step in STEPS)] for night, gone in sorted(by_night.items())]
    what = "Removed" if done else "Would go"
    if rows := [row for row in rows if any(row[1:])]:
        say(table(f"{what}: versions that no kept night or promotion needs", ["night", *STEPS], rows))
    for step in sorted({artifact.step for artifact in waste.artifacts} - {*STEPS}):  # has no column, as drift
        say(f"{what}: {step} of {', '.join(night for night, gone in sorted(by_night.items()) if step in gone)}")
    for folder in waste.leftovers:
        say(f"{what}: {short(folder)}, left by an attempt that was not finished")
    kept = f"{label(waste.kept_nights[0])} to {label(waste.kept_nights[-1])}" if waste.kept_nights else "none there are"
    total = f"{counted(len(waste.artifacts), 'artifact')} and {counted(len(waste.leftovers), 'leftover')}, {in_bytes(waste.bytes)}"
    say(f"{what}: {total}. Nights kept whole: {kept}. In {short(store.root)}.")
    if blind := blinded(store, waste):
        say(blind)


def blinded(store: Store, waste: Waste) -> str:
    """A sentence, where this takes nights that tonight's data are to be compared with: their profiles go with their tables."""
    measured = store.artifacts("drift")
    wanted = measured[-1].manifest["config"]["drift"]["nights"] if measured else 0
    gone = {artifact.as_of for artifact in waste.artifacts if artifact.step == "features"}
    left = {artifact.as_of for artifact in store.artifacts("features") if artifact not in waste.artifacts}
    newest = sorted(gone | left)[-wanted:] if wanted else []
    if left.issuperset(newest):
        return ""
    n = len(left.intersection(newest))
    few = f"Data are then compared with {n} of the last {counted(wanted, 'night')} only"
    return f"{few} (features.drift.nights): --nights {wanted} keeps them all."


def show_difference(names: tuple[str, str], before: Mapping[str, Artifact], after: Mapping[str, Artifact]) -> None:
    """Configuration, data, metrics and lists, each where both nights have them."""
    nights = _night(before), _night(after)
    names = nights if nights[0] != nights[1] else names
    settings = [_row(change) for change in difference.configuration(before, after)]
    _changes("Configuration and code", ["step", "setting", *names], settings, "the same in every step that both have")
    if (pair := _both("features", before, after)) is not None:
        columns = [_row(change) for change in difference.profile(*pair)]
        _changes("Data: rows, and columns with a notable change", ["table", "what", *names], columns, "nothing notable")
    if (pair := _both("evaluation", before, after)) is not None:
        _show_metrics(difference.metrics(*pair))
    if (pair := _both("scoring", before, after)) is not None:
        found = difference.lists(pair[0].path, pair[1].path)
        rows = [
            ["users with a list", *map(_value, (*found.users, found.users_of_both))],
            ["different items in them", *map(_value, (*found.items, found.items_of_both))],
        ]
        say(table("Lists", ["", *names, "both"], rows))
        say(f"Of a list, {found.same_items:.1%} is in the other night's; {found.same_first:.1%} begin with the same item.")


def _show_metrics(changes: Sequence[Change]) -> None:
    """A row per metric, a column per contender."""
    cells = {(change.where, change.name): f"{_value(change.before)} → {_value(change.after)}" for change in changes}
    contenders = list(dict.fromkeys(change.where for change in changes))
    metrics = dict.fromkeys(change.name for change in changes)
    rows = [[metric, *(cells.get((contender, metric), "") for contender in contenders)] for metric in metrics]
    say(table("Metrics, each night's on its own holdout", ["metric", *contenders], rows))
    say("")


def show_plan(store: Store, night: datetime, lines: Sequence["Line"]) -> None:
    """What a run would do with each step, and why; no lines where it was published with this configuration."""
    if not lines:
        say(f"{label(night)} was published with this configuration: nothing to do (if rows changed since, --rebuild reads them).")
        return
    says = {"reused": "is reused", "runs": "runs", "follows": "depends", "stops": "would stop"}
    rows = [[line.step, says[line.does], line.version[:7], "; ".join(line.reasons)] for line in lines]
    say(table(f"recsys nightly --as-of {label(night)}, in {short(store.root)}", ["step", "", "version", "why"], rows, flexible={"why"}))
    if any(line.does == "follows" for line in lines):
        say("What depends is reused where the step before comes to the same bytes as earlier, and runs otherwise.")
    elif lines[-1].does == "stops":
        say("The night would stop there. Where the change is meant, allow it: `stop` of that measure, under features.drift.")
    elif all(line.does == "reused" for line in lines):
        say("Every step is there: the run would only publish.")


def in_bytes(number: int) -> str:
    """`12.3 MB`."""
    value = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def _cell(cell: Cell, now: datetime) -> Text:
    text = Text(cell.state, style=STYLES[cell.state])
    if cell.version:
        again = cell.version[12:]  # "-2" of a version that came to other bytes later
        text.append(f"\n{cell.version[:7]}{again}{'*' * cell.published}\n{_age(cell.at, now)}\n{in_bytes(cell.bytes)}", style="default")
    return text.append(f"\nof {cell.versions}", style="dim") if cell.versions > 1 else text


def _age(at: datetime | None, now: datetime) -> str:
    """`3 h`, of the largest unit that fits."""
    seconds = max((now - at).total_seconds(), 0.0) if at is not None else 0.0
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _both(step: str, before: Mapping[str, Artifact], after: Mapping[str, Artifact]) -> tuple[Artifact, Artifact] | None:
    if step in before and step in after:
        return before[step], after[step]
    say(f"\nOnly one of the two nights has {step}, or none: nothing to compare.")
    return None


def _changes(title: str, names: list[str], rows: list[list[str]], nothing: str) -> None:
    if rows:
        say(table(title, names, rows, flexible=set(names[2:])))
    else:
        say(f"{title}: {nothing}.")
    say("")


def _night(made: Mapping[str, Artifact]) -> str:
    return label(max(artifact.as_of for artifact in made.values()))


def _row(change: Change) -> list[str]:
    return [change.where, change.name, _value(change.before), _value(change.after)]


def _value(value: Any) -> str:
    match value:
        case None:
            return "–"
        case float():
            return f"{value:.4g}" if abs(value) >= 1 else f"{value:.4f}"
        case int():
            return f"{value:,}"
    return str(value)
