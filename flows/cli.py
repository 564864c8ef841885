"""The `recsys` command. Prefect and torch are imported by the commands that need them: looking things up is instant."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ParamSpec

import typer
from rich.console import Console
from rich.text import Text

from flows import console, deployments
from recsys import published, recipes, windows
from recsys.errors import RecsysError, StoreError
from recsys.schema import Schema
from recsys.store import Artifact, Store
from recsys.validation import closest

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="A nightly batch recommender.")
show = typer.Typer(help="What is published and why, what ran, and the list of a single user.")
app.add_typer(show, name="show")
export = typer.Typer(no_args_is_help=True, help="What lies behind the published lists, as parquet for other systems.")
app.add_typer(export, name="export")

STEPS = ("features", "sequences", "training", "evaluation", "promotion", "scoring", "publishing")

Deployment = Annotated[str | None, typer.Option(help="A deployment of deployments/prefect.yaml; demo unless given.")]
Config = Annotated[Path | None, typer.Option(help="A YAML file with the same groups, instead of a deployment.")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="One field, as in training.max_epochs=3; as often as needed.")]
Folder = Annotated[Path | None, typer.Option("--store", help="Folder of the artifacts; the deployment's unless given.")]
AsOf = Annotated[str | None, typer.Option(help="The night: 2017-10-17, or 2017-10-17T06:00, in UTC.")]

P = ParamSpec("P")


def answering(command: Callable[P, None]) -> Callable[P, None]:
    """The command, with an error that a person can put right as one message, and Ctrl-C or SIGTERM as an ordinary end."""

    @functools.wraps(command)
    def answered(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except RecsysError as error:
            Console(stderr=True, soft_wrap=True).print(Text.assemble((type(error).__name__, "bold red"), f": {error}"))
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            typer.echo("Interrupted. The same command goes on after the last finished step, in a training after its last epoch.", err=True)
            raise typer.Exit(130) from None

    return answered


@app.command()
@answering
def nightly(
    deployment: Deployment = None,
    config: Config = None,
    settings: Settings = None,
    as_of: AsOf = None,
    store: Folder = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Do everything again, finished or not.")] = False,
) -> None:
    """Learn from everything before a night and publish a list for every user, here and now."""
    parameters = chosen(deployment, config, store, settings or [])
    moment = windows.parse_as_of(as_of) if as_of else None
    from flows import local  # imports Prefect

    done = local.run("nightly", {**parameters, "as_of": moment, "rebuild": rebuild})
    if done.message not in done.result.reasons:  # the night was finished before
        typer.echo(done.message)
    console.show_night(Store(parameters["store"]), done.result)
    typer.echo(done.how_to_see_it)


@app.command()
@answering
def experiment(
    settings: Settings = None,
    deployment: Deployment = None,
    config: Config = None,
    as_of: AsOf = None,
    store: Folder = None,
) -> None:
    """Train a variant of a night's model and compare it with the current one; nothing is published."""
    if any(setting.startswith("publishing.") for setting in settings or []):
        raise typer.BadParameter("an experiment publishes nothing: leave publishing out", param_hint="--set")
    parameters = chosen(deployment, config, store, settings or [])
    parameters.pop("publishing", None)
    moment = windows.parse_as_of(as_of) if as_of else _current(Store(parameters["store"])).moment
    from flows import local  # imports Prefect

    done = local.run("experiment", {**parameters, "as_of": moment})
    console.show_metrics(done.result)
    typer.echo(f"{done.message}\n{done.how_to_see_it}")


@show.callback(invoke_without_command=True)
@answering
def show_overview(
    context: typer.Context,
    deployment: Deployment = None,
    config: Config = None,
    store: Folder = None,
    nights: Annotated[int, typer.Option(min=1, help="Newest nights to list.")] = 7,
) -> None:
    if context.invoked_subcommand is None:
        console.show_overview(_store(deployment, config, store), nights)
    elif deployment or config or store:
        raise typer.BadParameter(f"options go behind: recsys show {context.invoked_subcommand} …")


@show.command("recommendations")
@answering
def show_recommendations(
    user: Annotated[str, typer.Option(help="The user's id.")],
    deployment: Deployment = None,
    config: Config = None,
    store: Folder = None,
) -> None:
    """A user's history and list, side by side."""
    artifacts = _store(deployment, config, store)
    console.show_users(artifacts, _current(artifacts), [user])


@show.command("model")
@answering
def show_model(
    deployment: Deployment = None,
    config: Config = None,
    settings: Settings = None,
    flat: Annotated[bool, typer.Option("--flat", help="As JSON with dotted names: encoder.n_blocks.")] = False,
) -> None:
    """The building blocks of a configuration, with what its recipe fills in."""
    model = recipes.resolve(deployments.night(chosen(deployment, config, None, settings or [])).model)
    from recsys.model.blocks import Blocks  # imports torch

    Blocks.of(model).check()
    if flat:
        from recsys.model.hyperparameters import to_flat

        typer.echo(json.dumps(to_flat(model), indent=1))
    else:
        console.show_blocks(model)


@app.command()
@answering
def check(
    part: Annotated[str, typer.Argument(help="A building block as in a configuration: 'team.losses.Focal(gamma=2.0)'.")],
    code: Annotated[str | None, typer.Option(help="Folder with own parts, as model.code.")] = None,
) -> None:
    """Run the contracts of a building block's slot on sample data: what holds, what is broken and how."""
    from recsys.model import own_parts, properties  # imports torch

    own_parts.put_on_path(code)
    slot, spec = properties.find(part)
    if not console.show_properties(slot.__name__, str(spec), properties.properties(slot, spec)):
        raise typer.Exit(1)


@app.command()
@answering
def path(
    step: Annotated[str, typer.Argument(help=f"{', '.join(STEPS)}; or twin.")],
    as_of: AsOf = None,
    version: Annotated[str | None, typer.Option(help="A version, or how it begins.")] = None,
    deployment: Deployment = None,
    config: Config = None,
    store: Folder = None,
) -> None:
    """Print the folder of an artifact, for scripts: of what is published, unless a night or version is given."""
    if step not in (*STEPS, "twin"):
        raise typer.BadParameter(f"there is no step {step!r}. {closest(step, (*STEPS, 'twin'))}", param_hint="STEP")
    if step == "twin" and (as_of or version):
        raise typer.BadParameter("twin is of what is published: for other nights and versions ask for training", param_hint="STEP")
    artifacts = _store(deployment, config, store)
    if step == "twin" or (as_of is None and version is None and published.current(artifacts) is not None):
        typer.echo(_of_published(artifacts, step).path)
    else:
        typer.echo(artifacts.find(step, windows.parse_as_of(as_of) if as_of else None, version).path)


Target = Annotated[Path, typer.Option("--to", help="A new folder.")]


@export.command("vectors")
@answering
def export_vectors(to: Target, deployment: Deployment = None, config: Config = None, store: Folder = None, as_of: AsOf = None) -> None:
    """Vectors of items and users, of the published model: items.parquet and users/part-000.parquet …"""
    model, histories, night = _model(deployment, config, store, as_of)
    _check_new(to)
    from recsys.scoring.vectors import write_vectors  # imports torch

    counts = write_vectors(to, model.path, histories.path, windows.everything(night.moment, Schema.load(histories.path).has_times))
    typer.echo(f"Vectors of {counts['items']:,} items and {counts['users']:,} users of {windows.label(night.moment)} are in {to}")


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


def chosen(deployment: str | None, config: Path | None, store: Path | None, settings: list[str]) -> dict[str, Any]:
    """The parameters of a run, checked: a deployment's or a file's, with the overrides in them, which are printed."""
    if deployment is not None and config is not None:
        raise typer.BadParameter("give a deployment or a configuration file, not both", param_hint="--config")
    start = deployments.read(config) if config is not None else deployments.deployed(deployment or "demo")
    parameters = deployments.override(start, settings)
    if store is not None:
        parameters["store"] = str(store)
    deployments.night(parameters)
    return parameters


def _store(deployment: str | None, config: Path | None, store: Path | None) -> Store:
    found = Store(chosen(deployment, config, store, [])["store"])
    if not found.root.is_dir():
        raise StoreError(f"There is no store in {found.root}: run `recsys nightly` first, or give its folder with --store.")
    return found


def _current(store: Store) -> published.Promotion:
    if (now := published.current(store)) is None:
        raise StoreError(f"Nothing is published in {store.root} yet: run `recsys nightly` first, or give its folder with --store.")
    return now


def _model(
    deployment: str | None, config: Path | None, store: Path | None, as_of: str | None
) -> tuple[Artifact, Artifact, published.Promotion]:
    """The model and the histories of what is published now, or was for a night; and that promotion."""
    artifacts = _store(deployment, config, store)
    night = _current(artifacts)
    if as_of is not None:
        found = published.of_night(artifacts, windows.parse_as_of(as_of))
        if found is None:
            raise StoreError(f"Nothing was published for {as_of} in {artifacts.root}. `recsys show` lists the nights.")
        night = found
    return _of_published(artifacts, "training", night), _of_published(artifacts, "sequences", night), night


def _check_new(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StoreError(f"{folder} is there already: give a new folder with --to, or remove it.")


def _of_published(store: Store, step: str, night: published.Promotion | None = None) -> Artifact:
    """The step's artifact in what is published (or was for a night), or that it was made from."""
    now = night or _current(store)
    if step in now.artifacts:
        return store.open(now.artifacts[step])
    if step in ("training", "twin") and "training" not in now.artifacts:
        raise StoreError(
            f"No model was published for {windows.label(now.moment)}, but the lists of {now.source}. "
            f"`recsys path training --as-of {windows.label(now.moment)}` is the model that was trained and not published."
        )
    if step == "twin":
        raise StoreError(
            f"The model that was published for {windows.label(now.moment)} has no twin: it was itself trained before the holdout. "
            "`recsys path training` is its folder."
        )
    from flows.lists import ancestor

    return ancestor(store, store.open(now.artifacts["scoring"]), step)
