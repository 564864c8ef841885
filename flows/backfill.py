"""A backfill: nights over dates, oldest first, each compared with the one before it. It is resumed by running it again."""

from dataclasses import replace
from datetime import datetime

from prefect import flow, get_run_logger, runtime
from prefect.states import Completed, State

from flows import alerts, steps
from flows.nightly import made
from flows.run import Run
from recsys import config, published, windows
from recsys.published import Promotion


def run_name() -> str:
    """`backfill-2026-02-20-2026-02-27`."""
    first, last = (windows.parse_as_of(runtime.flow_run.parameters[name]) for name in ("first", "last"))
    return f"backfill-{windows.label(first)}-{windows.label(last)}"


@flow(
    name="backfill", flow_run_name=run_name,
    on_failure=[alerts.on_stop], on_crashed=[alerts.on_stop],
)  # fmt: skip
def backfill(
    first: datetime,
    last: datetime,
    store: str = "store",
    seed: int = 1,
    data: config.Data = config.Data(demo=config.Shop()),
    features: config.Features = config.Features(),
    sequences: config.Sequences = config.Sequences(),
    model: config.Model = config.Model(),
    training: config.Training = config.Training(),
    evaluation: config.Evaluation = config.Evaluation(),
    promotion: config.Promotion = config.Promotion(),
    scoring: config.Scoring = config.Scoring(),
    publishing: config.Publishing = config.Publishing(),
    publish: bool = False,
) -> State[list[Promotion]]:
    """Make every night from the first to the last that is not there for this configuration, published or not.

    A night is compared with the backfill's own night before; the first with what was published before it. What stops a
    night stops the backfill, since those after it are compared with it.

    Args:
        first: The oldest night, in UTC.
        last: The newest one.
        store: Folder of the artifacts.
        seed: Every random choice follows from it.
        data: Where the tables are and what their columns mean.
        features: DuckDB, and the contracts on what it reads and writes.
        sequences: What a history and a training sequence are.
        model: The building blocks of the network.
        training: How it is fitted.
        evaluation: The time split and what is measured on it.
        promotion: Whose lists a night has: the new model's, the earlier one's or a baseline's.
        scoring: The lists.
        publishing: Contracts on the lists.
        publish: Publish each night too. A newer one that is published stays what readers see.
    """
    nights = windows.nights(windows.parse_as_of(first), windows.parse_as_of(last))
    night = config.Night(
        seed=seed, data=data, features=features, sequences=sequences, model=model, training=training,
        evaluation=evaluation, promotion=promotion, scoring=scoring, publishing=publishing,
    )  # fmt: skip
    run = replace(steps.begin(night, store, nights[0]), publishes=publish)
    found: list[Promotion] = []
    n_made = 0
    with steps.at_work(run):
        current = published.before(run.store, nights[0])
        for as_of in nights:
            run = replace(run, as_of=as_of)
            done = _done(run)
            if done is None:
                done = made(run, current)
                n_made += 1
            elif publish and done.action == "backfill":
                done = published.publish(run.store, replace(done, action="publish"))
                steps.copies(run, done)  # nothing, where a newer night is what readers see
            kept = "on record, not published; the gate would have said: " if done.action == "backfill" else ""
            get_run_logger().info("%s: %s%s", windows.label(as_of), kept, done.reasons[0])
            found.append(done)
            if done.action != "hold":  # nobody has decided yet: what was there before is what the next night is compared with
                current = done
    there = f"Nights that were there for this configuration: {len(nights) - n_made} of {len(nights)}"
    return Completed(message=f"{there}. {f'Made now: {n_made}' if n_made else 'Nothing to do'}.", data=found)


def _done(run: Run) -> Promotion | None:
    """What a night of this configuration came to: published, on record from another backfill, or waiting for a person."""
    found = (published.finished, published.backfilled, published.waiting)
    return next(filter(None, (look(run.store, run.as_of, run.configuration) for look in found)), None)
