"""What every network has to be true to, whatever its parts: as in `recsys.model.contracts`, each function raises a
ContractError that says what broke.
"""

from dataclasses import replace

import torch
from torch import Tensor

from recsys.errors import ContractError
from recsys.model.bucket import Bucket, Column
from recsys.model.contracts import equal, kind
from recsys.model.network import Network
from recsys.model.reader import Reader, Spans


def sees_no_future(network: Network, reader: Reader, spans: Spans) -> None:
    """What a causal network predicts at a position is the same whatever comes after it."""
    network.eval()
    bucket = reader.bucket(spans.newest(network.max_events))
    n = bucket.item_index.shape[1] // 2
    other = torch.randint_like(bucket.item_index, network.catalogue().n_items)
    changed = replace(bucket, item_index=torch.cat([bucket.item_index[:, :n], other[:, n:]], dim=1))
    a, b = (network.hidden(network.objective.plan(x)) for x in (bucket, changed))
    real = bucket.without_last().real[:, :n]
    equal(a[:, :n][real], b[:, :n][real], network, "replacing future items changes a prediction")


def predicts_what_happened(network: Network, reader: Reader, spans: Spans) -> None:
    """Each prediction is of an event of its history that is a target, with the event's own weight."""
    spans = spans[torch.nonzero(spans.lengths > 1)[:, 0]].newest(network.objective.n_trained(network.max_events))
    bucket = reader.bucket(spans)
    plan = network.objective.plan(bucket, torch.Generator().manual_seed(1))
    assert plan.target is not None and plan.weight is not None
    same = (bucket.item_index[plan.row] == plan.target[:, None]) & (bucket.weight[plan.row] == plan.weight[:, None])
    if not (same & bucket.real[plan.row] & (bucket.weight[plan.row] > 0)).any(1).all():
        raise ContractError(f"{kind(network.objective)}: predicts something that is no target of the history, or with another weight.")


def hides_what_it_predicts(network: Network, reader: Reader, spans: Spans) -> None:
    """No prediction changes when the event that it predicts does, be it its item or any other feature of it."""
    network.eval()
    spans = spans[torch.nonzero(spans.lengths > 1)[:, 0]].newest(network.objective.n_trained(network.max_events))
    bucket = reader.bucket(spans)
    n_items = network.catalogue().n_items
    bucket = _with_distinct_items(bucket, n_items)
    plan = network.objective.plan(bucket, torch.Generator().manual_seed(1))
    assert plan.target is not None
    drawn = torch.randperm(len(plan.row))[: 4 * len(spans)]
    first = torch.full((len(spans),), -1).scatter(0, plan.row[drawn], drawn)  # one prediction of each sequence
    chosen = first[first >= 0]
    row, target = plan.row[chosen], plan.target[chosen]
    place = (bucket.item_index[row] == target[:, None]).int().argmax(1)
    changed = _replaced(bucket, row, place, (target + 1) % n_items)
    again = network.objective.plan(changed, torch.Generator().manual_seed(1))
    at = row, plan.col[chosen]
    equal(network.hidden(plan)[at], network.hidden(again)[at], network, "a prediction sees the event that it predicts")


def _with_distinct_items(bucket: Bucket, n_items: int) -> Bucket:
    """The bucket with no item twice in a sequence, so that a target says which event it is."""
    distinct = torch.rand(len(bucket), n_items).argsort(1)[:, : bucket.item_index.shape[1]]
    return replace(bucket, item_index=distinct.where(bucket.real, 0))


def _replaced(bucket: Bucket, row: Tensor, place: Tensor, items: Tensor) -> Bucket:
    """The bucket with other items at [row, place], and the features of other events."""

    def other(column: Column) -> Column:
        if isinstance(column, Tensor):
            return column.index_put((row, place), column[row.flip(0), place.flip(0)])
        index = torch.arange(len(column)).view(bucket.item_index.shape)
        return column.take(index.index_put((row, place), index[row.flip(0), place.flip(0)]))

    columns = {name: other(column) for name, column in bucket.event_columns.items()}
    return replace(bucket, item_index=bucket.item_index.index_put((row, place), items), event_columns=columns)


def evaluates_as_it_recommends(network: Network, reader: Reader, spans: Spans) -> None:
    """Where training predicts a history's last event from all before it, that is what recommending makes of the rest.

    Objectives that hide several events at random do so of some histories in some of many plans.
    """
    network.eval()
    spans = spans[torch.nonzero(spans.lengths >= 2)[:, 0]].newest(network.objective.n_trained(network.max_events))
    bucket = _with_distinct_items(reader.bucket(spans), network.catalogue().n_items)
    asked = network.objective.reading(bucket.without_last())
    last = bucket.item_index.gather(1, bucket.lengths[:, None] - 1)[:, 0]
    recommended, n_compared = network.encode(bucket.without_last()), 0
    for seed in range(30):
        plan = network.objective.plan(bucket, torch.Generator().manual_seed(seed))
        assert plan.target is not None
        n_hidden = torch.bincount(plan.row, minlength=len(spans)) if plan.hidden is not None or plan.mask is not None else 0 * last + 1
        alone = (plan.target == last[plan.row]) & (n_hidden[plan.row] == 1)
        all_read = (plan.col == asked.col[plan.row]) & (plan.bucket.lengths[plan.row] >= spans.lengths[plan.row] - 1)
        row, col = plan.row[alone & all_read], plan.col[alone & all_read]
        trained = network.next_item.similarity(network.states(plan)[network.next_item.tower][row, col])
        equal(trained, recommended[row], network, "a prediction in training differs from the same when recommending")
        n_compared += len(row)
    if not n_compared:
        raise ContractError(f"{kind(network.objective)}: 30 plans never predict a history's last event from all before it.")


def ignores_batch_mates(network: Network, reader: Reader, spans: Spans) -> None:
    """A sequence's hidden state is the same alone, in any order, and beside longer ones."""
    network.eval()
    spans = spans[torch.nonzero(spans.lengths)[:, 0]].newest(network.max_events)
    together = network.encode(reader.bucket(spans))
    order = torch.randperm(len(spans))
    equal(together[order], network.encode(reader.bucket(spans[order])), network, "permuting the batch does not permute the output")
    for row in range(min(len(spans), 8)):
        one = torch.tensor([row])
        equal(together[one], network.encode(reader.bucket(spans[one])), network, "a prediction depends on the other sequences of the batch")


def answers_each_sequence_alone(network: Network, reader: Reader, spans: Spans) -> None:
    """What heads say of a sequence is the same alone, in any order, and beside longer ones."""
    network.eval()
    spans = spans[torch.nonzero(spans.lengths)[:, 0]].newest(network.max_events)
    _, together = network.read(reader.bucket(spans))
    order = torch.randperm(len(spans))
    _, permuted = network.read(reader.bucket(spans[order]))
    for head in network.label_heads:
        equal(together[head.name][order], permuted[head.name], head, "permuting the batch does not permute its answers")
    for row in range(min(len(spans), 8)):
        one = torch.tensor([row])
        _, alone = network.read(reader.bucket(spans[one]))
        for head in network.label_heads:
            equal(together[head.name][one], alone[head.name], head, "an answer depends on the other sequences of the batch")
