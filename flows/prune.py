"""Pruning on a schedule: what neither the newest nights nor the newest promotions need goes, and the UI has a table of it."""

from typing import Annotated

from prefect import flow, get_run_logger, runtime
from prefect.states import Completed, State
from pydantic import Field

from flows import alerts, ui
from flows.overview import blinded, in_bytes
from recsys import pruning, windows
from recsys.pruning import Waste
from recsys.store import Store
from recsys.wording import counted


def run_name() -> str:
    """`prune-2026-03-01`, of the day."""
    return f"prune-{windows.label(windows.midnight(runtime.flow_run.scheduled_start_time))}"


@flow(name="prune", flow_run_name=run_name, on_failure=[alerts.on_stop], on_crashed=[alerts.on_stop])
def prune(
    store: str = "store", nights: Annotated[int, Field(ge=1)] = 14, promotions: Annotated[int, Field(ge=1)] = 14
) -> State[Waste]:  # fmt: skip
    """Remove what nobody needs any more. It waits for the run at work.

    Args:
        store: Folder of the artifacts.
        nights: Newest nights that stay whole.
        promotions: Newest promotions that can still be rolled back to.
    """
    gone = pruning.prune(Store(store), nights, promotions, who=str(runtime.flow_run.name))
    ui.show_waste(Store(store), gone)
    if blind := blinded(Store(store), gone):
        get_run_logger().warning(blind)
    what = f"{counted(len(gone.artifacts), 'artifact')} and {counted(len(gone.leftovers), 'leftover')}, {in_bytes(gone.bytes)}"
    return Completed(message=f"Removed: {what}.", data=gone)
