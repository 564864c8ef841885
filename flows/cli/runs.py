"""Commands that run a flow, here and now."""

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

import typer

from flows import console, deployments, leaderboard, overview
from flows.cli.options import AsOf, Config, Deployment, Folder, Settings, answering, check, check_backtest, chosen, chosen_backtest, current
from recsys import published, windows
from recsys.rehearsal import Rehearsal
from recsys.store import Store

app = typer.Typer()


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
    check(parameters)
    from flows import local  # imports Prefect

    done = local.run("nightly", {**parameters, "as_of": moment, "rebuild": rebuild})
    if done.message not in done.result.reasons:  # the night was finished before
        typer.echo(done.message)
    console.show_night(Store(parameters["store"]), done.result)
    typer.echo(done.how_to_see_it)


@app.command()
@answering
def plan(
    deployment: Deployment = None,
    config: Config = None,
    settings: Settings = None,
    as_of: AsOf = None,
    store: Folder = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="As of recsys nightly.")] = False,
) -> None:
    """What `recsys nightly` with these options would do: what it would reuse, what it would run, and why."""
    parameters = chosen(deployment, config, store, settings or [])
    now = datetime.now(timezone.utc)
    moment = windows.parse_as_of(as_of) if as_of else windows.midnight(now)
    check(parameters)
    from flows.plan import plan  # imports torch
    from flows.run import Run

    run = Run(Rehearsal(parameters["store"]), moment, deployments.night(parameters), now, rebuild)
    finished = None if rebuild else published.finished(run.store, run.as_of, run.configuration)
    overview.show_plan(run.store, moment, [] if finished else plan(run))


@app.command()
@answering
def backfill(
    first: Annotated[str, typer.Option("--from", help="The oldest night: 2017-10-10.")],
    last: Annotated[str, typer.Option("--to", help="The newest one.")],
    deployment: Deployment = None,
    config: Config = None,
    settings: Settings = None,
    store: Folder = None,
    publish: Annotated[bool, typer.Option("--publish", help="Publish the nights too; a newer one stays what readers see.")] = False,
) -> None:
    """Make the nights of these dates that are not there, oldest first. The same command goes on where it was stopped."""
    parameters = chosen(deployment, config, store, settings or [])
    nights = windows.nights(windows.parse_as_of(first), windows.parse_as_of(last))
    check(parameters)
    from flows import local  # imports Prefect

    done = local.run("backfill", {**parameters, "first": nights[0], "last": nights[-1], "publish": publish})
    overview.show_nights(Store(parameters["store"]), done.result)
    typer.echo(f"{done.message}\n{done.how_to_see_it}")


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
    moment = windows.parse_as_of(as_of) if as_of else current(Store(parameters["store"])).moment
    check(parameters)
    from flows import local  # imports Prefect

    done = local.run("experiment", {**parameters, "as_of": moment})
    console.show_metrics(Store(parameters["store"]).open(done.result.manifest["inputs"]["evaluation"]))
    console.say(f"The report, a page for the browser, is {console.short(done.result.path / 'report.html')}")
    typer.echo(f"{done.message}\n{done.how_to_see_it}")


@app.command()
@answering
def score(
    users: Annotated[list[str] | None, typer.Option("--user", help="A user's id, as often as needed; everybody unless said.")] = None,
    settings: Settings = None,
    deployment: Deployment = None,
    config: Config = None,
    as_of: AsOf = None,
    store: Folder = None,
    publish: Annotated[bool, typer.Option("--publish", help="Publish the lists, beside those of the same histories.")] = False,
) -> None:
    """Make lists again from the published model: for everybody or some, by other rules (--set), or of a later moment."""
    given = chosen(deployment, config, store, settings or [])
    parameters = {name: value for name, value in given.items() if name not in ("seed", "model", "training", "evaluation", "promotion")}
    moment = windows.parse_as_of(as_of) if as_of else None
    current(Store(given["store"]))
    check(given)
    from flows import local  # imports Prefect

    done = local.run("score", {**parameters, "as_of": moment, "users": tuple(users or ()), "publish": publish})
    artifacts = Store(given["store"])
    console.show_users(artifacts, done.result, users or ())
    console.say(f"The lists are in {console.short(done.result.path / 'recommendations')}")
    typer.echo(f"{done.message}\n{done.how_to_see_it}")


@app.command()
@answering
def backtest(
    models: Annotated[
        list[str] | None, typer.Option("--model", help="popular, a file, a recipe as albert or 'wide=sasrec(width=512)'; often.")
    ] = None,
    settings: Settings = None,
    deployment: Deployment = None,
    config: Config = None,
    as_of: AsOf = None,
    store: Folder = None,
    csv: Annotated[Path | None, typer.Option(help="Folder for models.csv and folds.csv.")] = None,
) -> None:
    """Compare several models on several folds; nothing is published, and what was trained before is reused."""
    written = [f"backtest.csv={json.dumps(str(csv))}"] if csv else []
    parameters = chosen_backtest(deployment, config, store, [*(settings or []), *written], models or [])
    asked = as_of or parameters.pop("as_of", None)
    moment = windows.parse_as_of(asked) if asked else None
    check_backtest(parameters, moment or datetime.now(timezone.utc))
    from flows import local  # imports Prefect

    done = local.run("backtest", {**parameters, "as_of": moment})
    leaderboard.show_backtest(Store(parameters["store"]), done.result)
    typer.echo(f"{done.message}\n{done.how_to_see_it}")
