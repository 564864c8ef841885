"""Commands of who is on call: how matters stand, what is published instead, what may go, what is damaged, what changed."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track

from flows import console, overview
from flows.cli.export import copies
from flows.cli.options import Config, Deployment, Folder, answering, opened, whose
from recsys import audit, difference, pruning, published
from recsys.errors import StoreError
from recsys.published import Promotion
from recsys.store import Store
from recsys.windows import label
from recsys.wording import counted

app = typer.Typer()

THERE_ARE = "`recsys status` lists the nights that there are."
Why = Annotated[str, typer.Option("--why", help="The reason, for promotions.jsonl, beside your name.")]
Named = Annotated[str | None, typer.Argument(metavar="[NIGHT]", help="A night, or an id of `recsys show history`, or how it begins.")]


@app.command()
@answering
def status(
    deployment: Deployment = None,
    config: Config = None,
    store: Folder = None,
    nights: Annotated[int, typer.Option(min=1, help="Newest nights to list.")] = 7,
) -> None:
    """Nights and their steps: done, reused, failed, running or missing, with versions, ages and disk use."""
    overview.show_status(opened(deployment, config, store), nights)


@app.command()
@answering
def rollback(why: Why, to: Named = None, deployment: Deployment = None, config: Config = None, store: Folder = None) -> None:
    """Publish again what was published before, or of the night that is named. What came after it is taken back."""
    _moved(published.rollback(opened(deployment, config, store), _reason(why), to), deployment, config, store)


@app.command()
@answering
def promote(why: Why, to: Named = None, deployment: Deployment = None, config: Config = None, store: Folder = None) -> None:
    """Publish what is held for a person, or what was rolled back before."""
    _moved(published.promote(opened(deployment, config, store), _reason(why), to), deployment, config, store)


@app.command()
@answering
def prune(
    nights: Annotated[int, typer.Option(min=1, help="Newest nights that stay whole.")] = 14,
    promotions: Annotated[int, typer.Option(min=1, help="Newest promotions that can still be rolled back to.")] = 14,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it. Without, it is only shown.")] = False,
    deployment: Deployment = None,
    config: Config = None,
    store: Folder = None,
) -> None:
    """Remove what neither the newest nights nor the newest promotions need; first of all, show what that is."""
    artifacts = opened(deployment, config, store)
    found = pruning.prune(artifacts, nights, promotions) if yes else pruning.waste(artifacts, nights, promotions)
    overview.show_waste(artifacts, found, done=yes)
    if not yes and (found.artifacts or found.leftovers):
        console.say("Nothing was removed. The same command with --yes removes it.")


@app.command()
@answering
def verify(deployment: Deployment = None, config: Config = None, store: Folder = None) -> None:
    """Every file of every artifact against its manifest, and the pointer against its history. Ends with 1 where anything differs."""
    artifacts = opened(deployment, config, store)
    folders = audit.folders(artifacts)
    shown = track(folders, "Reading", console=Console(stderr=True), transient=True, disable=not Console(stderr=True).is_terminal)
    problems = [*audit.audit_pointer(artifacts), *(problem for folder in shown for problem in audit.audit(folder))]
    for problem in problems:
        console.say(problem)
    total = f"{counted(len(folders), 'artifact')}, {overview.in_bytes(sum(map(pruning.size, folders)))}, in {console.short(artifacts.root)}"
    if problems:
        console.say(f"{counted(len(problems), 'problem')} in {total}.")
        raise typer.Exit(1)
    console.say(f"All as written: {total}.")


@app.command()
@answering
def watch(
    published_by: Annotated[str, typer.Option(help="The hour, in UTC, by which a night that is due has to be published: 06:00.")] = "06:00",
    max_age: Annotated[str, typer.Option(help="The newest event of the published lists may be this old when lists are due: 2d.")] = "2d",
    silence: Annotated[str, typer.Option(help="A run without a sign of life for so long has vanished: 10m.")] = "10m",
    longest: Annotated[str, typer.Option(help="A run that is at work for longer is told; one of a schedule is cancelled: 6h.")] = "6h",
    names: Annotated[list[str] | None, typer.Option("--deployment", help="One of `nightly` to look after; those on schedule else.")] = None,
    test: Annotated[bool, typer.Option("--test", help="Only send a test alert, to RECSYS_ALERTS and RECSYS_ALERTS_URL.")] = False,
    only_server: Annotated[bool, typer.Option("--only-server", help="Only ask whether the server answers: from another machine.")] = False,
) -> None:
    """Look after the nights of the server, as the deployment `watch` does: for a timer beside the worker.

    The server is that of PREFECT_API_URL, or else of this checkout's `recsys up`.
    """
    from flows import local, machine, outage

    machine.settle()
    if test:
        from flows import channel  # imports Prefect, which reads the environment

        console.say(channel.send_test())
        return
    outage.check(console.say)
    if only_server:
        console.say(f"A server answers at {os.environ['PREFECT_API_URL']}.")
        return
    asked = {"published_by": published_by, "max_age": max_age, "silence": silence, "longest": longest, "names": tuple(names or ())}
    console.say(local.run("watch", asked).message)


@app.command()
@answering
def diff(
    before: Annotated[str | None, typer.Argument(metavar="[A]", help="A night, or an id of `recsys show history`.")] = None,
    after: Annotated[str | None, typer.Argument(metavar="[B]", help="Another one; what is published now unless given.")] = None,
    deployment: Deployment = None,
    config: Config = None,
    store: Folder = None,
) -> None:
    """What changed between two nights: configuration, data, metrics, lists. Of the last two promotions unless given."""
    artifacts = opened(deployment, config, store)
    names = _pair(artifacts, before, after)
    nights = difference.night(artifacts, names[0]), difference.night(artifacts, names[1])
    if before is not None and nights[0] == nights[1]:
        raise StoreError(f"{before} and {after or 'what is published now'} are the same: name another night. {THERE_ARE}")
    overview.show_difference(names, *nights)


def _pair(store: Store, before: str | None, after: str | None) -> tuple[str, str]:
    """The nights to compare, by what is published where they are not named."""
    newest = published.newest(store, 2)
    if after is None and not newest:
        raise StoreError(f"Nothing is published in {store.root} to compare with: run `recsys nightly`, or name two nights. {THERE_ARE}")
    if before is None and len(newest) < 2:
        only = f"{label(newest[0].moment)} is the only night that is published in {store.root}"
        raise StoreError(f"{only}: there is none before it to compare it with. Run another one, or name two. {THERE_ARE}")
    return before or newest[0].id, after or newest[-1].id


def _reason(why: str) -> str:
    if not why.strip():
        raise typer.BadParameter("say why, for those who read promotions.jsonl later", param_hint="--why")
    return why.strip()


def _moved(now: Promotion, deployment: str | None, config: Path | None, store: Path | None) -> None:
    """Say what is published now, and have the copies follow that the configuration asks for."""
    console.say(f"Published now: {label(now.moment)} {now.id}, the lists of {console.SOURCES[now.source]}.")
    if unknown := whose(deployment, config, store):  # others' copies show others' lists
        console.say(f"No copy was touched: {unknown}")
    else:
        copies(now, deployment, config, store)
