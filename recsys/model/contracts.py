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
from recsys.model.items import ItemTable
from recsys.model.losses import Loss
from recsys.model.negatives import Negatives
from recsys.model.network import Network
from recsys.model.noise import Noise
from recsys.model.pooling import Pooling
from recsys.model.positions import Positions
from recsys.model.reader import Reader, Spans
from recsys.model.sample import HOUR

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


def survives_empty_sequences(encoder: Encoder, width: int, direction: Direction) -> None:
    """A sequence without events, which a training plan may hold, changes no state and no gradient of the others."""
    x, lengths = torch.randn(len(LENGTHS), 7, width), LENGTHS.clone()
    lengths[1] = 0
    real = torch.arange(7) < lengths[:, None]
    states = _encoded(encoder, x, lengths, direction)
    _equal(states[real], _encoded(encoder, x, LENGTHS, direction)[real], encoder, "an empty sequence changes others")
    states[real].square().sum().backward()
    for name, parameter in encoder.named_parameters():
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            raise ContractError(f"{_name(encoder)}: with an empty sequence the gradient of {name} is not finite.")


def keeps_streams_apart(encoder: Encoder, width: int) -> None:
    """A state of the second stream depends on the events before its place in the order, and neither on its own nor on later ones."""
    encoder.eval()
    x, query, lengths = torch.randn(1, 7, width), torch.randn(width), torch.tensor([7])
    order = torch.randperm(7)
    view = View(lengths, "both sides", (order < order[:, None])[None], query)
    states = encoder(x, view)
    for place in range(7):
        changed = x.clone()
        changed[:, place] = torch.randn(width)
        difference = (encoder(changed, view) - states)[0].detach().abs().amax(-1)
        if (difference[order <= order[place]] > TOLERANCE).any():
            raise ContractError(f"{_name(encoder)}: a state of its second stream depends on its own event, or one that it may not see.")
        if (difference[order > order[place]] == 0).any():
            raise ContractError(f"{_name(encoder)}: a state of its second stream does not see all that it may.")


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


def changes_real_events_only(noise: Noise, bucket: Bucket) -> None:
    """In training some events are read as others. Lengths, weights, users and the padding stay, and so does the bucket it is given."""
    before = bucket.item_index.clone()
    noise.train()
    noisy = [noise(bucket) for _ in range(20)]
    if not torch.equal(bucket.item_index, before):
        raise ContractError(f"{_name(noise)}: it writes into the bucket that labels are made of.")
    for changed in noisy:
        if not (torch.equal(changed.lengths, bucket.lengths) and torch.equal(changed.weight, bucket.weight)):
            raise ContractError(f"{_name(noise)}: it changes lengths or weights, which say what is predicted.")
        _equal(changed.item_index[~bucket.real].float(), before[~bucket.real].float(), noise, "it changes what is in the padding")
    if all(torch.equal(changed.item_index, before) for changed in noisy):
        raise ContractError(f"{_name(noise)}: it changes no item in training.")
    if not torch.equal(noise.eval()(bucket).item_index, before):
        raise ContractError(f"{_name(noise)}: it changes items when the model is evaluated or recommends.")


def rows_are_vectors(table: ItemTable, n_items: int) -> None:
    """(V, D), and the vector of an item that an event reads is the one that is ranked."""
    table.eval()
    vectors = table.vectors()
    if vectors.shape != (n_items, table.width):
        raise ContractError(f"{_name(table)}: gives {tuple(vectors.shape)} for {n_items} items of width {table.width}.")
    index = torch.randint(n_items, (5, 7))
    _equal(table.rows(index), vectors[index], table, "a row of the table is not the vector of its item")


# Losses


def is_mean_over_weights(loss: Loss, hidden: Tensor, target: Tensor, catalogue: Catalogue) -> None:
    """A weight of 0 removes a prediction, equal weights of any size change nothing, and no prediction costs nothing."""
    loss.eval()
    weight = torch.rand(len(target)) + 0.5
    value = _drawn_alike(loss, hidden, target, catalogue, weight)
    _equal(value, _drawn_alike(loss, hidden, target, catalogue, 7 * weight), loss, "weights that are seven times as large change it")
    more = torch.cat([hidden, torch.randn_like(hidden)]), torch.cat([target, target]), catalogue, torch.cat([weight, 0 * weight])
    _equal(value, _drawn_alike(loss, *more), loss, "a prediction with weight 0 changes it")
    none, nothing = loss(hidden[:0], target[:0], catalogue, weight[:0]), loss(hidden, target, catalogue, 0 * weight)
    _equal(none, torch.zeros(()), loss, "it is not 0 without a prediction")
    _equal(nothing, torch.zeros(()), loss, "it is not 0 where all weights are")


def rewards_the_target(loss: Loss, hidden: Tensor, target: Tensor, catalogue: Catalogue) -> None:
    """Moving hidden states towards their targets' vectors lowers it."""
    towards = hidden + 0.1 * catalogue.vectors[target]
    weight = torch.ones(len(target))
    if not _drawn_alike(loss, towards, target, catalogue, weight) < _drawn_alike(loss, hidden, target, catalogue, weight):
        raise ContractError(f"{_name(loss)}: hidden states that are closer to their targets have no lower loss.")


def _drawn_alike(loss: Loss, hidden: Tensor, target: Tensor, catalogue: Catalogue, weight: Tensor) -> Tensor:
    """The loss, with the same random numbers each time: a sampled one is compared on the same negatives."""
    torch.manual_seed(0)
    return loss(hidden, target, catalogue, weight)


# Negatives


def draws_as_often_as_it_says(negatives: Negatives, catalogue: Catalogue, n: int = 50, n_steps: int = 2000) -> None:
    """n items of the catalogue a step, each as often as `log_expected` says, where targets come by the catalogue's counts."""
    assert catalogue.counts is not None
    expected = n_steps * negatives.log_expected(torch.arange(catalogue.n_items), n, catalogue).double().exp()
    found = torch.zeros_like(expected)
    for _ in range(n_steps):
        target = torch.multinomial(catalogue.counts.double(), 2 * n, replacement=True)
        items = negatives.draw(n, catalogue, target, torch.ones(len(target)))
        if items.shape != (n,) or not ((items >= 0) & (items < catalogue.n_items)).all():
            raise ContractError(f"{_name(negatives)}: draws {items} where {n} of the items 0 … {catalogue.n_items - 1} are asked for.")
        found += torch.bincount(items, minlength=catalogue.n_items)
    surprise = (found - expected).abs() / (1.5 * expected + 1).sqrt()  # 1.5: of two draws, the targets' and ours among them
    if not surprise.max() < 6:
        item = int(surprise.argmax())
        often, said = float(found[item]) / n_steps, float(expected[item]) / n_steps
        raise ContractError(f"{_name(negatives)}: item {item} is drawn {often:.3g} times a step and expected {said:.3g} times.")


# Pooling and heads of labels


def pools_real_events_only(pooling: Pooling, width: int) -> None:
    """(B, D), and neither padding, however much of it, nor other sequences have a say."""
    pooling.eval()
    x, lengths = torch.randn(len(LENGTHS), 7, width), LENGTHS
    real = torch.arange(9) < lengths[:, None]
    pooled = pooling(x, real[:, :7])
    if pooled.shape != (len(lengths), width):
        raise ContractError(f"{_name(pooling)}: gives {tuple(pooled.shape)} for {len(lengths)} sequences of width {width}.")
    padded = torch.cat([x, torch.randn(len(lengths), 2, width)], dim=1)
    padded = padded.where(real[..., None], torch.full_like(padded, torch.nan))
    _equal(pooled, pooling(padded, real), pooling, "what is in the padding changes it")
    for row, length in enumerate(lengths.tolist()):
        alone = pooling(x[row : row + 1, :length], real[row : row + 1, :length])
        _equal(pooled[row : row + 1], alone, pooling, "it depends on the other sequences of the bucket")


def answers_each_sequence_alone(network: Network, reader: Reader, spans: Spans) -> None:
    """What heads say of a sequence is the same alone, in any order, and beside longer ones."""
    network.eval()
    spans = spans[torch.nonzero(spans.lengths)[:, 0]].newest(network.max_events)
    _, together = network.read(reader.bucket(spans))
    order = torch.randperm(len(spans))
    _, permuted = network.read(reader.bucket(spans[order]))
    for head in network.label_heads:
        _equal(together[head.name][order], permuted[head.name], head, "permuting the batch does not permute its answers")
    for row in range(min(len(spans), 8)):
        one = torch.tensor([row])
        _, alone = network.read(reader.bucket(spans[one]))
        for head in network.label_heads:
            _equal(together[head.name][one], alone[head.name], head, "an answer depends on the other sequences of the batch")


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
    _equal(network.hidden(plan)[at], network.hidden(again)[at], network, "a prediction sees the event that it predicts")


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
        _equal(trained, recommended[row], network, "a prediction in training differs from the same when recommending")
        n_compared += len(row)
    if not n_compared:
        raise ContractError(f"{_name(network.objective)}: 30 plans never predict a history's last event from all before it.")


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
    times = torch.arange(x.shape[1]).expand(x.shape[:2]) * HOUR
    return encoder(x, View(lengths, direction, times=times, next_times=times + HOUR))


def _equal(a: Tensor, b: Tensor, part: nn.Module, otherwise: str) -> None:
    if a.shape != b.shape:
        raise ContractError(f"{_name(part)}: {otherwise} ({tuple(a.shape)} against {tuple(b.shape)}).")
    difference = float((a - b).detach().abs().max()) if a.numel() else 0.0
    if not difference <= TOLERANCE * max(1.0, float(a.detach().abs().max()) if a.numel() else 0.0):
        raise ContractError(f"{_name(part)}: {otherwise} (by up to {difference:.2g}).")


def _name(part: nn.Module) -> str:
    return type(part).__name__
