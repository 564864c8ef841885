"""What every building block has to be true to. The tests run these over all members of each kind, and they hold for
anybody's own part: each function takes a built part in eval mode or not, and raises a ContractError that says what broke.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from recsys.errors import ContractError
from recsys.model.bucket import Bucket, Column
from recsys.model.catalogue import Catalogue
from recsys.model.encoders import Direction, Encoder, View
from recsys.model.inputs import InputBlock
from recsys.model.losses import Loss
from recsys.model.network import Network
from recsys.model.positions import Positions
from recsys.model.reader import Reader, Spans

TOLERANCE = 1e-5  # of float32 hidden states of size one
LENGTHS = torch.tensor([7, 3, 1, 5, 7])


# Encoders


def looks_back_only(encoder: Encoder, width: int) -> None:
    """From left to right, replacing future events never changes a hidden state."""
    x = torch.randn(len(LENGTHS), 7, width)
    changed = torch.cat([x[:, :4], torch.randn(len(LENGTHS), 3, width)], dim=1)
    a, b = (_encoded(encoder, events, LENGTHS, "left to right") for events in (x, changed))
    _equal(a[:, :4], b[:, :4], encoder, "replacing the events after position 3 changes the hidden states up to it: it looks ahead")


def ignores_padding(encoder: Encoder, width: int, direction: Direction) -> None:
    """What stands in the padding, how much of it there is, and who else is in the bucket: all change nothing."""
    x = torch.randn(len(LENGTHS), 7, width)
    real = torch.arange(7) < LENGTHS[:, None]
    states = _encoded(encoder, x, LENGTHS, direction)
    wider = torch.cat([x.where(real[..., None], torch.randn_like(x)), torch.randn(len(LENGTHS), 4, width)], dim=1)
    _equal(states[real], _encoded(encoder, wider, LENGTHS, direction)[:, :7][real], encoder, "its hidden states depend on the padding")
    for row, length in enumerate(LENGTHS.tolist()):
        alone = _encoded(encoder, x[row : row + 1, :length], LENGTHS[row : row + 1], direction)
        _equal(states[row, :length], alone[0], encoder, "its hidden states depend on the other sequences of the bucket")


def keeps_batch_order(encoder: Encoder, width: int, direction: Direction) -> None:
    """Permuting the sequences permutes the hidden states."""
    x, order = torch.randn(len(LENGTHS), 7, width), torch.tensor([3, 0, 4, 1, 2])
    real = (torch.arange(7) < LENGTHS[:, None])[order]
    states = _encoded(encoder, x, LENGTHS, direction)[order]
    _equal(
        states[real],
        _encoded(encoder, x[order], LENGTHS[order], direction)[real],
        encoder,
        "permuting the sequences does not permute its output",
    )


# Inputs and positions


def embeds_each_event_alone(inputs: InputBlock, bucket: Bucket, width: int) -> None:
    """(B, L, D), and each event's vector depends on that event and its user only."""
    inputs.eval()
    whole = inputs(bucket)
    if whole.shape != (*bucket.item_index.shape, width):
        raise ContractError(
            f"{_name(inputs)}: gives {tuple(whole.shape)} for a bucket of {tuple(bucket.item_index.shape)} events and width {width}."
        )
    shorter = bucket.without_last()
    real = shorter.real
    _equal(whole[:, : real.shape[1]][real], inputs(shorter)[real], inputs, "an event's vector depends on the events after it")


def keeps_earlier_positions(positions: Positions, width: int) -> None:
    """An event that is appended changes nothing before it, and nor does padding."""
    positions.eval()
    x = torch.randn(2, 6, width)
    before, after = positions(x[:, :5], torch.tensor([5, 3])), positions(x, torch.tensor([6, 3]))
    _equal(before[0], after[0, :5], positions, "appending an event changes what is before it")
    _equal(before[1, :3], after[1, :3], positions, "padding changes what is before it")


# Losses


def is_mean_over_weights(loss: Loss, hidden: Tensor, target: Tensor, catalogue: Catalogue) -> None:
    """A weight of 0 removes a prediction, equal weights of any size change nothing, and no prediction costs nothing."""
    loss.eval()
    weight = torch.rand(len(target)) + 0.5
    value = loss(hidden, target, catalogue, weight)
    _equal(value, loss(hidden, target, catalogue, 7 * weight), loss, "weights that are seven times as large change it")
    more = torch.cat([hidden, torch.randn_like(hidden)]), torch.cat([target, target]), catalogue, torch.cat([weight, 0 * weight])
    _equal(value, loss(*more), loss, "a prediction with weight 0 changes it")
    none = loss(hidden[:0], target[:0], catalogue, weight[:0])
    _equal(none, torch.zeros(()), loss, "it is not 0 without a prediction")


def rewards_the_target(loss: Loss, hidden: Tensor, target: Tensor, catalogue: Catalogue) -> None:
    """Moving hidden states towards their targets' vectors lowers it."""
    towards = hidden + 0.1 * catalogue.vectors[target]
    weight = torch.ones(len(target))
    torch.manual_seed(0)
    before = loss(hidden, target, catalogue, weight)
    torch.manual_seed(0)
    if not loss(towards, target, catalogue, weight) < before:
        raise ContractError(f"{_name(loss)}: hidden states that are closer to their targets have no lower loss.")


# Whole networks


def gradients_reach(network: nn.Module, loss: Callable[[], Tensor]) -> None:
    """Every parameter receives a gradient that is finite and not all zero."""
    network.zero_grad()
    loss().backward()
    for name, parameter in network.named_parameters():
        if parameter.grad is None or not parameter.grad.any():
            raise ContractError(f"{_name(network)}: no gradient reaches {name}: it is never trained.")
        if not parameter.grad.isfinite().all():
            raise ContractError(f"{_name(network)}: the gradient of {name} is not finite.")


def sees_no_future(network: Network, reader: Reader, spans: Spans) -> None:
    """What a causal network predicts at a position is the same whatever comes after it."""
    network.eval()
    bucket = reader.bucket(spans.newest(network.max_events))
    n = bucket.item_index.shape[1] // 2
    other = torch.randint_like(bucket.item_index, network.catalogue().n_items)
    changed = replace(bucket, item_index=torch.cat([bucket.item_index[:, :n], other[:, n:]], dim=1))
    a, b = (network.hidden(network.objective.plan(x)) for x in (bucket, changed))
    real = bucket.without_last().real[:, :n]
    _equal(a[:, :n][real], b[:, :n][real], network, "replacing future items changes a prediction")


def hides_what_it_predicts(network: Network, reader: Reader, spans: Spans) -> None:
    """No prediction changes when the event that it predicts does, be it its item or any other feature of it."""
    network.eval()
    spans = spans[torch.nonzero(spans.lengths > 1)[:, 0]].newest(network.objective.n_trained(network.max_events))
    bucket = reader.bucket(spans)
    n_items = network.catalogue().n_items
    distinct = torch.stack([torch.randperm(n_items)[: bucket.item_index.shape[1]] for _ in range(len(spans))])
    bucket = replace(bucket, item_index=distinct.where(bucket.real, 0))  # so that a target says which event it is
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
    _equal(network.hidden(plan)[at], network.hidden(again)[at], network, "a prediction sees the event that it predicts")


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
    """The training-time prediction of a history's last event is what recommending makes of the history before it."""
    network.eval()
    spans = spans[torch.nonzero(spans.lengths >= 2)[:, 0]].newest(network.objective.n_trained(network.max_events))
    bucket = reader.bucket(spans)
    plan = network.objective.plan(bucket)
    states = network.next_item.similarity(network.hidden(plan))
    trained = states[torch.arange(len(spans)), spans.lengths - 2]
    recommended = network.encode(reader.bucket(Spans(spans.user, spans.start, spans.end - 1)))
    _equal(trained, recommended, network, "a prediction in training differs from the same when recommending")


def ignores_batch_mates(network: Network, reader: Reader, spans: Spans) -> None:
    """A sequence's hidden state is the same alone, in any order, and beside longer ones."""
    network.eval()
    spans = spans[torch.nonzero(spans.lengths)[:, 0]].newest(network.max_events)
    together = network.encode(reader.bucket(spans))
    order = torch.randperm(len(spans))
    _equal(together[order], network.encode(reader.bucket(spans[order])), network, "permuting the batch does not permute the output")
    for row in range(min(len(spans), 8)):
        one = torch.tensor([row])
        _equal(
            together[one], network.encode(reader.bucket(spans[one])), network, "a prediction depends on the other sequences of the batch"
        )


def _encoded(encoder: Encoder, x: Tensor, lengths: Tensor, direction: Direction) -> Tensor:
    encoder.eval()
    times = torch.arange(x.shape[1]).expand(x.shape[:2]) * 3_600_000_000
    return encoder(x, View(lengths, direction, times=times, next_times=times + 3_600_000_000))


def _equal(a: Tensor, b: Tensor, part: nn.Module, otherwise: str) -> None:
    if a.shape != b.shape:
        raise ContractError(f"{_name(part)}: {otherwise} ({tuple(a.shape)} against {tuple(b.shape)}).")
    difference = float((a - b).detach().abs().max()) if a.numel() else 0.0
    if not difference <= TOLERANCE * max(1.0, float(a.detach().abs().max()) if a.numel() else 0.0):
        raise ContractError(f"{_name(part)}: {otherwise} (by up to {difference:.2g}).")


def _name(part: nn.Module) -> str:
    return type(part).__name__
