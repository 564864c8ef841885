"""Contracts on the lists, then the pointer: in this order, so that nothing broken is ever pointed to."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal

from recsys import published
from recsys.config import Publishing, Scoring
from recsys.published import Promotion
from recsys.publishing.contracts import keep_contracts
from recsys.store import Artifact, Store


def publish(
    store: Store,
    as_of: datetime,
    publishing: Publishing,
    scoring: Scoring,
    lists: Artifact,
    sequences: Artifact,
    *,
    config: str,
    source: str,
    reasons: Sequence[str],
    others: Mapping[str, Artifact | None],
    last: Promotion | None,
    action: Literal["publish", "hold", "backfill"] = "publish",
    rebuild: bool = False,
) -> Artifact:
    """Publish the lists of a scoring artifact if they keep their contracts; the artifact holds `checks.parquet`.

    `config` is the digest of the whole configuration, `source` what was decided on, `others` what else belongs to the
    published set (training, twin, evaluation, promotion), `last` the last promotion of an earlier night. Publishing the
    same set again changes nothing, and an older night never takes the place of a newer one. Another
    `action` only puts them on record, for a person to publish: the pointer stays as it is. ContractError where a rule is
    broken: nothing is published.
    """
    artifact = keep_contracts(store, as_of, publishing, scoring, lists, sequences, source=source, last=last, rebuild=rebuild)
    whole = {**others, "sequences": sequences, "scoring": lists, "publishing": artifact}
    tonight = published.promotion(as_of, config, source, whole, tuple(reasons))
    if action == "publish":
        published.publish(store, tonight)
    else:
        published.set_aside(store, tonight, action)
    return artifact
