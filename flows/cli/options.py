"""What the commands share: options, the parameters and the store that they lead to, and errors as one message."""

import functools
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, ParamSpec

import typer
from rich.console import Console
from rich.text import Text

from flows import deployments
from recsys import published, windows
from recsys.config import Backtest
from recsys.errors import ConfigError, RecsysError, StoreError
from recsys.lineage import ancestor
from recsys.store import Artifact, Store
from recsys.validation import validated

Deployment = Annotated[str | None, typer.Option(help="A deployment of deployments/prefect.yaml; that of --store, or demo, unless given.")]
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
        except KeyboardInterrupt as interrupt:  # a run says in it how it goes on
            typer.echo(f"Interrupted. {interrupt}".strip(), err=True)
            raise typer.Exit(130) from None

    return answered


def chosen(deployment: str | None, config: Path | None, store: Path | None, settings: list[str]) -> dict[str, Any]:
    """The parameters of a night, checked: a deployment's or a file's, with the overrides in them."""
    parameters = _asked("nightly", deployment, config, store, settings)
    _check_whose(deployment, config, store, parameters)
    parameters.pop("backtest", None)  # a file may have both
    deployments.night(parameters)
    return parameters


def chosen_backtest(
    deployment: str | None, config: Path | None, store: Path | None, settings: list[str], models: list[str]
) -> dict[str, Any]:
    """The same of a backtest, of a deployment of its own or of a night's, and of these models where any are named."""
    parameters = _asked("backtest", deployment, config, store, settings)
    _check_whose(deployment, config, store, parameters)
    deployments.unpublished(parameters)
    group = dict(parameters.get("backtest") or {}) | ({"models": models} if models else {})
    validated(Backtest, group, "backtest")
    return {name: value for name, value in parameters.items() if name not in ("promotion", "publishing")} | {"backtest": group}


def _asked(flow: str, deployment: str | None, config: Path | None, store: Path | None, settings: list[str]) -> dict[str, Any]:
    if deployment is not None and config is not None:
        raise typer.BadParameter("give a deployment or a configuration file, not both", param_hint="--config")
    if deployment is None and config is None and store is not None:
        deployment = next(iter(deployments.of_store(store)), None)
    start = deployments.read(config) if config is not None else deployments.deployed(deployment or "demo", flow)
    return deployments.override(start, settings) | ({"store": str(store)} if store is not None else {})


def check(parameters: Mapping[str, Any]) -> None:
    """ConfigError for whatever is known to be wrong before any work: before a server is started, which takes its time."""
    from flows import checks  # imports torch

    checks.check(deployments.night(parameters), Store(parameters["store"]))


def check_backtest(parameters: Mapping[str, Any], as_of: datetime) -> None:
    """The same of a backtest, with everybody who takes part."""
    from flows import contenders  # imports torch

    asked, night = Backtest(**parameters["backtest"]), deployments.unpublished(parameters)
    contenders.checked(asked, night, asked.folds(as_of, night.evaluation.holdout, night.seed), Store(parameters["store"]))


def opened(deployment: str | None, config: Path | None, store: Path | None) -> Store:
    found = Store(_asked("nightly", deployment, config, store, [])["store"])
    if not found.root.is_dir():
        raise StoreError(f"There is no store in {found.root}: run `recsys nightly` first, or give its folder with --store.")
    return found


def whose(deployment: str | None, config: Path | None, store: Path | None) -> str:
    """Why nobody knows the tables and the copies of a store that is given by its folder alone; empty where they are known."""
    if deployment is not None or config is not None or store is None or len(names := deployments.of_store(store)) == 1:
        return ""
    return (
        f"{store} is the store of {' and '.join(names) or 'no deployment'}. "
        "Say with --deployment or --config, beside --store, what its nights are made with."
    )


def _check_whose(deployment: str | None, config: Path | None, store: Path | None, parameters: Mapping[str, Any]) -> None:
    """ConfigError where the demo shop would be run into a store of other tables, for want of a word whose it is."""
    own = (parameters.get("data") or {"demo": {}}).get("demo") is None  # named with --set
    if store is None or own or not (unknown := whose(deployment, config, store)):
        return
    from recsys import demo  # imports pyarrow

    found = Store(store)
    if found.artifacts("features") and not demo.folder_in(found.root).is_dir():  # a manifest names no sources
        raise ConfigError(unknown)


def current(store: Store) -> published.Promotion:
    if (now := published.current(store)) is None:
        raise StoreError(f"Nothing is published in {store.root} yet: run `recsys nightly` first, or give its folder with --store.")
    return now


def of_published(store: Store, step: str, night: published.Promotion | None = None) -> Artifact:
    """The step's artifact in what is published (or was for a night), or that it was made from."""
    now = night or current(store)
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
    return ancestor(store, store.open(now.artifacts["scoring"]), step)
