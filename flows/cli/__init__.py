"""The `recsys` command. Prefect and torch are imported by the commands that need them: looking things up is instant."""

import typer

from flows.cli import export, lookup, machine, operation, runs

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="A nightly batch recommender.")
for family in (runs, operation, machine, lookup, export):
    app.add_typer(family.app)
