"""Schedules of the server that the file of deployments does not have: Prefect writes those that it has, and leaves others as they are."""

from collections.abc import Callable, Iterator

from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.responses import DeploymentResponse

from flows import deployments
from flows.paging import every

WORKING_DIRECTORY = "prefect.deployments.steps.set_working_directory"


def settle(say: Callable[[str], None]) -> None:
    """Remove them, and name the deployments of this checkout that the file has no more: none of those runs by itself."""
    written = {name: {schedule.get("slug") for schedule in asked} for name, asked in deployments.schedules().items()}
    with get_client(sync_client=True) as client:
        for deployment in _ours(client):
            name = f"{client.read_flow(deployment.flow_id).name}/{deployment.name}"
            for schedule in deployment.schedules:
                if schedule.slug not in written.get(name, ()):
                    client.delete_deployment_schedule(deployment.id, schedule.id)
                    say(f"Schedule {schedule.slug or 'without a name'} of {name}: removed, for the file does not have it.")
            if name not in written:
                say(f"Deployment {name}: is not in the file. `prefect deployment delete {name}` removes it.")


def _ours(client: SyncPrefectClient) -> Iterator[DeploymentResponse]:
    """The deployments whose runs work in this checkout; others may share the server."""
    here = str(deployments.FILE.parents[1].resolve())
    for deployment in every(client.read_deployments):
        places = [step.get(WORKING_DIRECTORY) or {} for step in deployment.pull_steps or []]
        if any(place.get("directory") == here for place in places):
            yield deployment
