"""Commands that bring up what nights run from on a schedule."""

import os
from typing import Annotated

import typer

from flows import console
from flows.cli.options import answering

app = typer.Typer()


@app.command()
@answering
def up(port: Annotated[int, typer.Option(min=1, max=65535, help="Of the server and its UI, on this machine only.")] = 4200) -> None:
    """A Prefect server, the deployments and a worker on this machine, in the foreground, until Ctrl-C."""
    from flows import machine

    machine.up(port, console.say)


@app.command()
@answering
def deploy() -> None:
    """Tell the server of deployments/prefect.yaml: work pool, queues, deployments, search for vanished runs.

    The server is that of PREFECT_API_URL, or else of this checkout's `recsys up`.
    """
    from flows import machine

    machine.settle()
    machine.await_server(console.say)
    console.say(f"Server: is there, at {os.environ['PREFECT_API_URL']}.")
    from flows.server import deploy  # imports Prefect

    deploy(console.say)
