"""What is known of a configuration before any data is read: asked by commands before a server starts, and by every run."""

from collections.abc import Iterable

from flows import secrets
from recsys import recipes
from recsys.config import Data, Night, Promotion
from recsys.errors import ConfigError
from recsys.evaluation.comparison import OTHERS
from recsys.features import queries
from recsys.model.blocks import Blocks
from recsys.publishing import exports
from recsys.ranking import metrics
from recsys.store import Store
from recsys.training.parts import Parts


def check(night: Night, store: Store, contenders: Iterable[str] = ()) -> None:
    """ConfigError for names, building blocks, folders and places that cannot be, or do not go together.

    `contenders` are who takes part in a backtest beside those of a night: a metric may compare with any of them.
    """
    secrets.provide_blocks(night)
    blocks = Blocks.of(recipes.resolve(night.model))
    blocks.check(has_times=night.data.events is None or night.data.events.time is not None)
    blocks.check_aims(night.data.labels)
    Parts.of(night.training, night.model.code).check()
    measured = metrics.named(night.evaluation.metrics, "evaluation.metrics")
    for metric in measured.values():
        metric.check_others([*OTHERS, *contenders])
    _check_orders(*next(iter(measured.items())), "evaluation.metrics: the first")
    _check_limits(night.promotion)
    _check_data(night.data)
    exports.places(store, night.publishing.exports)


def _check_orders(name: str, metric: metrics.Metric, of: str) -> None:
    """By a metric of which more is not better nobody is compared."""
    if not metric.more_is_better:
        raise ConfigError(f"{of} is {name}, and more of that is not better: let it be one by which contenders are ordered, as NDCG.")


def _check_limits(promotion: Promotion) -> None:
    """What decides orders contenders; and a slice is limited by an interval, for which users need a value each."""
    ((name, metric),) = metrics.named([promotion.metric], "promotion.metric").items()
    _check_orders(name, metric, "promotion.metric")
    if promotion.slice_tolerance and not isinstance(metric, metrics.UserMetric):
        raise ConfigError(
            f"promotion.slice_tolerance: {promotion.metric} is of all lists together and has no interval, without which no slice is shown"
            " to lose: let promotion.metric be one of users, or limit no slice."
        )


def _check_data(data: Data) -> None:
    """The environment variables of its paths are set, and the folder of own SQL is there."""
    for table in filter(None, (data.events, data.items, data.users)):
        table.resolved_path()
    queries.collect(data.sql_overlay)
