"""Commands that look something up: what is published, of whom a list is, what a model is made of, where an artifact lies."""

import json
from typing import Annotated

import typer

from flows import console, deployments, overview
from flows.cli.options import AsOf, Config, Deployment, Folder, Settings, answering, chosen, of_published, opened
from recsys import published, recipes, windows
from recsys.status import STEPS
from recsys.validation import closest

app = typer.Typer()
show = typer.Typer(help="What is published and why, with its metrics; the list of a single user; what was published before.")
app.add_typer(show, name="show")


@show.callback(invoke_without_command=True)
@answering
def show_overview(context: typer.Context, deployment: Deployment = None, config: Config = None, store: Folder = None) -> None:
    if context.invoked_subcommand is None:
        console.show_overview(opened(deployment, config, store))
    elif deployment or config or store:
        raise typer.BadParameter(f"options go behind: recsys show {context.invoked_subcommand} …")


@show.command("history")
@answering
def show_history(deployment: Deployment = None, config: Config = None, store: Folder = None) -> None:
    """Every change of what is published: when, by whom, why."""
    overview.show_history(opened(deployment, config, store))


@show.command("recommendations")
@answering
def show_recommendations(
    user: Annotated[str, typer.Option(help="The user's id.")],
    deployment: Deployment = None,
    config: Config = None,
    store: Folder = None,
) -> None:
    """A user's history and list, side by side."""
    artifacts = opened(deployment, config, store)
    console.show_users(artifacts, of_published(artifacts, "scoring"), [user])


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
    artifacts = opened(deployment, config, store)
    if step == "twin" or (as_of is None and version is None and published.current(artifacts) is not None):
        typer.echo(of_published(artifacts, step).path)
    else:
        typer.echo(artifacts.find(step, windows.parse_as_of(as_of) if as_of else None, version).path)
