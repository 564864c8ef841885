"""What a Prefect server has to know before nights run from it: the work pool, a queue per store, the deployments, and how it
finds out that a run has vanished. Each step says what it found and what it did; doing it again changes nothing.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from prefect import get_client
from prefect.automations import AutomationCore, EventTrigger, Posture, ResourceSpecification
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.exceptions import ObjectAlreadyExists
from prefect.settings import get_current_settings

from flows import channel, deployments, schedules, vanished
from recsys.errors import ConfigError, RecsysError

ROOT = deployments.FILE.parents[1]
WRITTEN = re.compile(r"Deployment '(.+?)' successfully created")  # as `prefect deploy` says it, of old ones too
MISSED_BEATS = 10  # of a run that has vanished: a busy machine delays some


def deploy(say: Callable[[str], None]) -> None:
    """Bring the server at PREFECT_API_URL up to date with `deployments/prefect.yaml`; ConfigError where it refuses that."""
    for pool in sorted({pool for pool, _ in deployments.queues()}):
        say(f"Work pool {pool}: {'made' if _made_pool(pool) else 'is there'}.")
    _deploy_all(say)
    say(f"Deployments of {deployments.FILE}: written to {get_current_settings().api.url}.")
    schedules.settle(say)
    for pool, queue in deployments.queues():
        if queue is not None:
            _limit(pool, queue)
    say("Queues: one run at a time on each store.")
    say(f"Automation {look_for_vanished(silence())}: a run that is silent for {silence().total_seconds():.0f} s is marked as crashed.")
    if gap := channel.gap():
        say(gap)


def silence() -> timedelta:
    """After which a run has vanished."""
    frequency = get_current_settings().flows.heartbeat_frequency
    if frequency is None:
        raise ConfigError("Runs give no sign of life, so none can be missed: set PREFECT_FLOWS_HEARTBEAT_FREQUENCY to some seconds.")
    return timedelta(seconds=MISSED_BEATS * frequency)


def _made_pool(name: str) -> bool:
    with get_client(sync_client=True) as client:
        try:
            client.create_work_pool(WorkPoolCreate(name=name, type="process"))
        except ObjectAlreadyExists:
            return False
        return True


def _deploy_all(say: Callable[[str], None]) -> None:
    prefect = Path(sys.executable).with_name("prefect")
    command = [str(prefect), "--no-prompt", "deploy", "--all", "--prefect-file", str(deployments.FILE.relative_to(ROOT))]
    total, printed, written = len(deployments.schedules()), "", 0
    say(f"Deployments: {total} to write. The first takes longest.")
    wide = {**os.environ, "COLUMNS": "400"}  # a name is not broken over lines
    with subprocess.Popen(command, cwd=ROOT, env=wide, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as deploying:
        try:
            for line in deploying.stdout or ():
                printed += line
                if (name := WRITTEN.search(line)) is not None:
                    written += 1
                    say(f"Deployment {name[1]}: written, {written} of {total}.")
        except BaseException:  # we are told to end, and SIGTERM is told to us only
            deploying.kill()
            raise
    if deploying.returncode:
        raise RecsysError(f"`{' '.join(command)}` ended with {deploying.returncode}:\n{printed}")


def _limit(pool: str, queue: str) -> None:
    """One run at a time: the others wait in the order of their times, and none is cancelled."""
    with get_client(sync_client=True) as client:
        found = client.read_work_queue_by_name(queue, work_pool_name=pool)
        if found.concurrency_limit != 1:
            client.update_work_queue(found.id, concurrency_limit=1)


def look_for_vanished(silence: timedelta) -> str:
    """Prefect's way to find runs that vanished (docs.prefect.io, "How to detect and respond to zombie flows"). The automation's name."""
    wanted = AutomationCore(
        name="vanished-runs",
        description="Marks a run as crashed that has stopped to give signs of life: its machine went down, or it was killed.",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"}, expect={"prefect.flow-run.*"}, for_each={"prefect.resource.id"},
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            posture=Posture.Proactive, threshold=1, within=silence,
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message=vanished.message(silence))],
    )  # fmt: skip
    with get_client(sync_client=True) as client:
        there = client.read_automations_by_name(wanted.name)
        if there:
            client.update_automation(there[0].id, wanted)
        else:
            client.create_automation(wanted)
    return wanted.name
