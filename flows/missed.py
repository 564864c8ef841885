"""Nights that a schedule missed, since the machine was down: which they are, and how late a run of the schedule is."""

from datetime import datetime, timedelta, timezone

from prefect import get_client, runtime

from recsys import published, status, windows
from recsys.store import Store

NIGHT = timedelta(days=1)


def nights_late() -> int | None:
    """How many nights of the schedule have come due since that of this run. None where no schedule asked for it, but a person.

    A run that is tried again is a person's too, however old its date is.
    """
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(runtime.flow_run.id)
    if not run.auto_scheduled or run.run_count > 1 or run.expected_start_time is None:
        return None
    late = datetime.now(timezone.utc).timestamp() - run.expected_start_time.timestamp()  # the client's times are no plain datetimes
    return max(int(late // NIGHT.total_seconds()), 0)


def nights(store: Store, as_of: datetime, at_most: int) -> list[datetime]:
    """The nights between the last one on record and this one, oldest first: the newest `at_most` of them.

    None from before the day of the first record: a store begins with it, and it may be a night of long ago, made as a trial.
    """
    before, began = [line.moment for line in published.history(store) if line.moment < as_of], status.began(store)
    if not before or began is None or at_most < 1:
        return []
    first = max(windows.midnight(max(before)) + NIGHT, windows.midnight(began) + NIGHT, as_of - at_most * NIGHT)
    return windows.nights(first, as_of - NIGHT) if first < as_of else []
