"""What every building block has to be true to. The tests run these over all members of each kind, and they hold for
anybody's own part: each function takes a built part in eval mode or not, and raises a ContractError that says what broke.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from recsys.dictionary import Dictionary
from recsys.errors import ContractError
from recsys.model.bucket import Bucket
from recsys.model.catalogue import Catalogue
from recsys.model.encoders import Direction, Encoder, View
from recsys.model.inputs import InputBlock
from recsys.model.items import ItemTable
from recsys.model.losses import Loss
from recsys.model.negatives import Negatives
from recsys.model.noise import Noise
from recsys.model.pooling import Pooling
from recsys.model.positions import Positions
from recsys.model.priors import Prior
from recsys.model.vocabulary import Vocabulary
from recsys.windows import HOUR

TOLERANCE = 1e-5  # of float32 hidden states of size one
LENGTHS = torch.tensor([7, 3, 1, 5, 7])


# Encoders


def keeps_shape(encoder: Encoder, width: int, direction: Direction) -> None:
    """(B, L, D) in, (B, L, D) out."""
    x = torch.randn(len(LENGTHS), 7, width)
    states = _encoded(encoder, x, LENGTHS, direction)
    if states.shape != x.shape:
        raise ContractError(f"{kind(encoder)}: gives {tuple(states.shape)} for {tuple(x.shape)} (sequences, places, width).")


def looks_back_only(encoder: Encoder, width: int) -> None:
    """From left to right, replacing future events never changes a hidden state."""
    x = torch.randn(len(LENGTHS), 7, width)
    changed = torch.cat([x[:, :4], torch.randn(len(LENGTHS), 3, width)], dim=1)
    a, b = (_encoded(encoder, events, LENGTHS, "left to right") for events in (x, changed))
    equal(a[:, :4], b[:, :4], encoder, "replacing the events after position 3 changes the hidden states up to it: it looks ahead")


def ignores_padding(encoder: Encoder, width: int, direction: Direction) -> None:
    """What stands in the padding, how much of it there is, and who else is in the bucket: all change nothing."""
    x = torch.randn(len(LENGTHS), 7, width)
    real = torch.arange(7) < LENGTHS[:, None]
    states = _encoded(encoder, x, LENGTHS, direction)
    wider = torch.cat([x.where(real[..., None], torch.randn_like(x)), torch.randn(len(LENGTHS), 4, width)], dim=1)
    equal(states[real], _encoded(encoder, wider, LENGTHS, direction)[:, :7][real], encoder, "its hidden states depend on the padding")
    for row, length in enumerate(LENGTHS.tolist()):
        alone = _encoded(encoder, x[row : row + 1, :length], LENGTHS[row : row + 1], direction)
        equal(states[row, :length], alone[0], encoder, "its hidden states depend on the other sequences of the bucket")


def keeps_batch_order(encoder: Encoder, width: int, direction: Direction) -> None:
    """Permuting the sequences permutes the hidden states."""
    x, order = torch.randn(len(LENGTHS), 7, width), torch.tensor([3, 0, 4, 1, 2])
    real = (torch.arange(7) < LENGTHS[:, None])[order]
    states = _encoded(encoder, x, LENGTHS, direction)[order]
    equal(
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
    equal(states[real], _encoded(encoder, x, LENGTHS, direction)[real], encoder, "an empty sequence changes others")
    states[real].square().sum().backward()
    for name, parameter in encoder.named_parameters():
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            raise ContractError(f"{kind(encoder)}: with an empty sequence the gradient of {name} is not finite.")


def reads_one_place_alike(encoder: Encoder, width: int, direction: Direction) -> None:
    """`at` gives of any place the hidden state that `forward` has there: what is recommended is what was trained."""
    x = torch.randn(len(LENGTHS), 7, width)
    for place in (LENGTHS - 1, LENGTHS // 2):
        with torch.no_grad():
            states, alone = _encoded(encoder, x, LENGTHS, direction), encoder.at(x, _view(x, LENGTHS, direction), place)
        equal(states[torch.arange(len(x)), place], alone, encoder, "the state of one place differs from the same among all")


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
            raise ContractError(f"{kind(encoder)}: a state of its second stream depends on its own event, or one that it may not see.")
        if (difference[order > order[place]] == 0).any():
            raise ContractError(f"{kind(encoder)}: a state of its second stream does not see all that it may.")


# Inputs and positions


def embeds_each_event_alone(inputs: InputBlock, bucket: Bucket, width: int) -> None:
    """(B, L, D), and each event's vector depends on that event and its user only."""
    inputs.eval()
    whole = inputs(bucket)
    if whole.shape != (*bucket.item_index.shape, width):
        raise ContractError(
            f"{kind(inputs)}: gives {tuple(whole.shape)} for a bucket of {tuple(bucket.item_index.shape)} events and width {width}."
        )
    shorter = bucket.without_last()
    real = shorter.real
    equal(whole[:, : real.shape[1]][real], inputs(shorter)[real], inputs, "an event's vector depends on the events after it")


def keeps_earlier_positions(positions: Positions, width: int) -> None:
    """An event that is appended changes nothing before it, and nor does padding."""
    positions.eval()
    x = torch.randn(2, 6, width)
    before, after = positions(x[:, :5], torch.tensor([5, 3])), positions(x, torch.tensor([6, 3]))
    equal(before[0], after[0, :5], positions, "appending an event changes what is before it")
    equal(before[1, :3], after[1, :3], positions, "padding changes what is before it")


def changes_real_events_only(noise: Noise, bucket: Bucket) -> None:
    """In training some events are read as others. Lengths, weights, users and the padding stay, and so does the bucket it is given."""
    before = bucket.item_index.clone()
    noise.train()
    noisy = [noise(bucket) for _ in range(20)]
    if not torch.equal(bucket.item_index, before):
        raise ContractError(f"{kind(noise)}: it writes into the bucket that labels are made of.")
    for changed in noisy:
        if not (torch.equal(changed.lengths, bucket.lengths) and torch.equal(changed.weight, bucket.weight)):
            raise ContractError(f"{kind(noise)}: it changes lengths or weights, which say what is predicted.")
        equal(changed.item_index[~bucket.real].float(), before[~bucket.real].float(), noise, "it changes what is in the padding")
    if all(torch.equal(changed.item_index, before) for changed in noisy):
        raise ContractError(f"{kind(noise)}: it changes no item in training.")
    if not torch.equal(noise.eval()(bucket).item_index, before):
        raise ContractError(f"{kind(noise)}: it changes items when the model is evaluated or recommends.")


def rows_are_vectors(table: ItemTable, n_items: int) -> None:
    """(V, D), and the vector of an item that an event reads is the one that is ranked."""
    table.eval()
    vectors = table.vectors()
    if vectors.shape != (n_items, table.width):
        raise ContractError(f"{kind(table)}: gives {tuple(vectors.shape)} for {n_items} items of width {table.width}.")
    index = torch.randint(n_items, (5, 7))
    equal(table.rows(index), vectors[index], table, "a row of the table is not the vector of its item")


# Losses


def is_mean_over_weights(loss: Loss, hidden: Tensor, target: Tensor, catalogue: Catalogue) -> None:
    """A weight of 0 removes a prediction, equal weights of any size change nothing, and no prediction costs nothing."""
    loss.eval()
    weight = torch.rand(len(target)) + 0.5
    value = _drawn_alike(loss, hidden, target, catalogue, weight)
    equal(value, _drawn_alike(loss, hidden, target, catalogue, 7 * weight), loss, "weights that are seven times as large change it")
    some = weight * (torch.arange(len(target)) % 3 > 0)
    others = torch.where(some[:, None] > 0, hidden, torch.randn_like(hidden)), target.where(some > 0, target.flip(0)), catalogue, some
    equal(_drawn_alike(loss, hidden, target, catalogue, some), _drawn_alike(loss, *others), loss, "a prediction with weight 0 changes it")
    none, nothing = loss(hidden[:0], target[:0], catalogue, weight[:0]), loss(hidden, target, catalogue, 0 * weight)
    equal(none, torch.zeros(()), loss, "it is not 0 without a prediction")
    equal(nothing, torch.zeros(()), loss, "it is not 0 where all weights are")


def rewards_the_target(loss: Loss, hidden: Tensor, target: Tensor, catalogue: Catalogue) -> None:
    """Moving hidden states towards their targets' vectors lowers it."""
    towards = hidden + 0.1 * catalogue.vectors[target]
    weight = torch.ones(len(target))
    if not _drawn_alike(loss, towards, target, catalogue, weight) < _drawn_alike(loss, hidden, target, catalogue, weight):
        raise ContractError(f"{kind(loss)}: hidden states that are closer to their targets have no lower loss.")


def _drawn_alike(loss: Loss, hidden: Tensor, target: Tensor, catalogue: Catalogue, weight: Tensor) -> Tensor:
    """The loss, with the same random numbers each time: a sampled one is compared on the same negatives."""
    torch.manual_seed(0)
    return loss(hidden, target, catalogue, weight)


# Negatives


def draws_as_often_as_it_says(negatives: Negatives, catalogue: Catalogue, n: int = 50, n_steps: int = 1000) -> None:
    """n items of the catalogue a set, each as often as `log_expected` says, where targets come by the catalogue's counts."""
    assert catalogue.counts is not None
    expected = 2 * n_steps * negatives.log_expected(torch.arange(catalogue.n_items), n, catalogue).double().exp()
    found = torch.zeros_like(expected)
    for _ in range(n_steps):
        target = torch.multinomial(catalogue.counts.double(), 2 * n, replacement=True)
        items = negatives.draw(2, n, catalogue, target, torch.ones(len(target)))
        if items.shape != (2, n) or not ((items >= 0) & (items < catalogue.n_items)).all():
            raise ContractError(
                f"{kind(negatives)}: draws {items} where 2 sets of {n} of the items 0 … {catalogue.n_items - 1} are asked for."
            )
        found += torch.bincount(items.flatten(), minlength=catalogue.n_items)
    surprise = (found - expected).abs() / (2 * expected + 1).sqrt()  # 2: targets are drawn too, and both sets are of the same
    if not surprise.max() < 6:
        item = int(surprise.argmax())
        often, said = float(found[item]) / n_steps / 2, float(expected[item]) / n_steps / 2
        raise ContractError(f"{kind(negatives)}: item {item} is drawn {often:.3g} times a set and expected {said:.3g} times.")


# Pooling


def pools_real_events_only(pooling: Pooling, width: int) -> None:
    """(B, D), and neither padding, however much of it, nor other sequences have a say."""
    pooling.eval()
    x, lengths = torch.randn(len(LENGTHS), 7, width), LENGTHS
    real = torch.arange(9) < lengths[:, None]
    pooled = pooling(x, real[:, :7])
    if pooled.shape != (len(lengths), width):
        raise ContractError(f"{kind(pooling)}: gives {tuple(pooled.shape)} for {len(lengths)} sequences of width {width}.")
    padded = torch.cat([x, torch.randn(len(lengths), 2, width)], dim=1)
    padded = padded.where(real[..., None], torch.full_like(padded, torch.nan))
    equal(pooled, pooling(padded, real), pooling, "what is in the padding changes it")
    for row, length in enumerate(lengths.tolist()):
        alone = pooling(x[row : row + 1, :length], real[row : row + 1, :length])
        equal(pooled[row : row + 1], alone, pooling, "it depends on the other sequences of the bucket")


# Priors


def knows_the_past_only(prior: Prior, night: Dictionary, until: Dictionary, vocabulary: Vocabulary, at: int) -> None:
    """(T, V) numbers, −inf for what could not be listed; at a moment `at`, they are those of the night that ended there (`until`)."""
    moments = prior.moments(torch.tensor([at]))
    prior.enter(night, vocabulary)
    said = prior(moments)
    if said.shape != (1, vocabulary.n_items):
        raise ContractError(f"{kind(prior)}: gives {tuple(said.shape)} for one moment and {vocabulary.n_items} items.")
    if said.isnan().any() or said.isposinf().any() or not said.isfinite().any():
        raise ContractError(f"{kind(prior)}: says no number of an item that has events, or of all of them.")
    prior.enter(until, vocabulary)
    if not torch.equal(prior(moments), said):
        raise ContractError(f"{kind(prior)}: what it says at a moment depends on what happened after it.")


# Every part


def gradients_reach(part: nn.Module, loss: Callable[[], Tensor]) -> None:
    """Every parameter receives a gradient that is finite and not all zero."""
    part.zero_grad()
    loss().backward()
    for name, parameter in part.named_parameters():
        if parameter.grad is None or not parameter.grad.any():
            raise ContractError(f"{kind(part)}: no gradient reaches {name}: it is never trained.")
        if not parameter.grad.isfinite().all():
            raise ContractError(f"{kind(part)}: the gradient of {name} is not finite.")


def _encoded(encoder: Encoder, x: Tensor, lengths: Tensor, direction: Direction) -> Tensor:
    return encoder.eval()(x, _view(x, lengths, direction))


def _view(x: Tensor, lengths: Tensor, direction: Direction) -> View:
    times = torch.arange(x.shape[1]).expand(x.shape[:2]) * HOUR
    return View(lengths, direction, times=times, next_times=times + HOUR)


def equal(a: Tensor, b: Tensor, part: nn.Module, otherwise: str) -> None:
    """ContractError, with `otherwise` saying what that means, where two tensors differ by more than rounding."""
    if a.shape != b.shape:
        raise ContractError(f"{kind(part)}: {otherwise} ({tuple(a.shape)} against {tuple(b.shape)}).")
    difference = float((a - b).detach().abs().max()) if a.numel() else 0.0
    if not difference <= TOLERANCE * max(1.0, float(a.detach().abs().max()) if a.numel() else 0.0):
        raise ContractError(f"{kind(part)}: {otherwise} (by up to {difference:.2g}).")


def kind(part: nn.Module) -> str:
    """What messages call a part."""
    return type(part).__name__
