"""Commands that export the published lists, and what lies behind them."""

from pathlib import Path
from typing import Annotated

import typer

from flows import console, deployments, secrets
from flows.cli.options import AsOf, Config, Deployment, Folder, answering, chosen, current, of_published, opened, whose
from recsys import published, windows
from recsys.errors import ConfigError, StoreError
from recsys.schema import Schema
from recsys.store import Artifact
from recsys.wording import counted

app = typer.Typer()
export = typer.Typer(no_args_is_help=True, help="The published lists, and what lies behind them, for other systems.")
app.add_typer(export, name="export")

Target = Annotated[Path, typer.Option("--to", help="A new folder.")]


@export.command("lists")
@answering
def export_lists(
    deployment: Deployment = None,
    config: Config = None,
    store: Folder = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Write the copies that show what is published too.")] = False,
) -> None:
    """The copies that publishing.exports asks for, where they do not show what is published now."""
    if unknown := whose(deployment, config, store):
        raise ConfigError(unknown)
    if not copies(current(opened(deployment, config, store)), deployment, config, store, rebuild):
        raise ConfigError("publishing.exports asks for no copies. Name them there, or give another --deployment or --config.")


def copies(now: published.Promotion, deployment: str | None, config: Path | None, store: Path | None, rebuild: bool = False) -> bool:
    """Write the copies that are due, and say so; whether the configuration asks for any."""
    night = deployments.night(chosen(deployment, config, store, []))
    exports = night.publishing.exports
    if exports:
        from recsys.publishing.exports import export  # imports DuckDB

        secrets.provide_blocks(night.publishing)
        written = export(opened(deployment, config, store), now, exports, rebuild)
        for place in written:
            console.say(f"Copied to {place}")
        if len(written) < len(exports):
            console.say(f"Copies that show {windows.label(now.moment)} already: {len(exports) - len(written)} of {len(exports)}.")
    return bool(exports)


@export.command("vectors")
@answering
def export_vectors(to: Target, deployment: Deployment = None, config: Config = None, store: Folder = None, as_of: AsOf = None) -> None:
    """Vectors of items and users, of the published model: items.parquet and users/part-000.parquet …"""
    model, histories, night = _model(deployment, config, store, as_of)
    _check_new(to)
    from recsys.scoring.vectors import write_vectors  # imports torch

    counts = write_vectors(to, model.path, histories.path, windows.everything(night.moment, Schema.load(histories.path).has_times))
    whose = f"{counted(counts['items'], 'item')} and {counted(counts['users'], 'user')}"
    typer.echo(f"Vectors of {whose} of {windows.label(night.moment)} are in {to}")


@export.command("similar")
@answering
def export_similar(
    to: Target,
    k: Annotated[int, typer.Option(min=1, max=1000, help="Similar items per item.")] = 20,
    deployment: Deployment = None,
    config: Config = None,
    store: Folder = None,
    as_of: AsOf = None,
) -> None:
    """The items most like each item, by cosine of the published model's vectors: similar_items.parquet."""
    model, histories, night = _model(deployment, config, store, as_of)
    _check_new(to)
    from recsys.scoring.vectors import write_similar  # imports torch

    n_items = write_similar(to / "similar_items.parquet", model.path, histories.path, k)
    typer.echo(f"The {k} items most like each of {n_items:,} of {windows.label(night.moment)} are in {to / 'similar_items.parquet'}")


def _model(
    deployment: str | None, config: Path | None, store: Path | None, as_of: str | None
) -> tuple[Artifact, Artifact, published.Promotion]:
    """The model and the histories of what is published now, or was for a night; and that promotion."""
    artifacts = opened(deployment, config, store)
    night = current(artifacts)
    if as_of is not None:
        found = published.of_night(artifacts, windows.parse_as_of(as_of))
        if found is None:
            raise StoreError(f"Nothing was published for {as_of} in {artifacts.root}. `recsys show` lists the nights.")
        night = found
    return of_published(artifacts, "training", night), of_published(artifacts, "sequences", night), night


def _check_new(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StoreError(f"{folder} is there already: give a new folder with --to, or remove it.")
