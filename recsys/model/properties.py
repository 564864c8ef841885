"""Which properties a building block has to have, by its slot: what the tests and `recsys check` run, on sample data.

>>> slot, spec = find("PreLN(n_blocks=1)")
>>> slot.__name__, [name for name, _ in properties(slot, spec)][0]
('Encoder', 'keeps shape (both sides)')

A part is checked alone, by the contracts of its slot, and in a small network, by those of all networks.
"""

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from recsys.errors import ConfigError, ContractError
from recsys.grammar import call, dotted
from recsys.model import contracts, network_contracts, saving
from recsys.model.aggregation import Aggregation
from recsys.model.blocks import SEVERAL
from recsys.model.catalogue import Catalogue
from recsys.model.embeddings import FeatureEmbedding
from recsys.model.encoders import Encoder, View
from recsys.model.heads import Head
from recsys.model.heads.label import LabelHead
from recsys.model.heads.next_item import NextItem
from recsys.model.hyperparameters import SLOTS
from recsys.model.inference import read
from recsys.model.inputs import InputBlock
from recsys.model.items import ItemTable
from recsys.model.losses import Loss
from recsys.model.negatives import Negatives
from recsys.model.noise import Noise
from recsys.model.objectives import Objective
from recsys.model.pooling import Pooling
from recsys.model.positions import Positions
from recsys.model.priors import Prior
from recsys.model.projection import Projection
from recsys.model.reader import Reader
from recsys.model.sample import EARLY, until
from recsys.model.similarity import Similarity
from recsys.model.world import WIDTH, World, world
from recsys.parts import Spec, parse
from recsys.schema import Column
from recsys.slots import choices, class_named
from recsys.validation import closest
from recsys.windows import HOUR

Property = tuple[str, Callable[[], None]]  # what it is called; raises where it does not hold


def slots() -> list[type]:
    """The contracts that parts are checked by: those of the model's fields, and of what stands inside of their parts."""
    return list(dict.fromkeys([*SLOTS.values(), *_ALONE]))


def find(text: str) -> tuple[type, Spec[Any]]:
    """The slot that a part belongs to, and the part, from its text. ConfigError where it belongs to none."""
    name = dotted(call(text).func, text)
    if "." in name:
        cls = class_named(name, object, text)
        fitting = [slot for slot in slots() if issubclass(cls, slot)]
    else:
        fitting = [slot for slot in slots() if name in choices(slot)]
    if not fitting:
        contracts_ = ", ".join(f"{slot.__module__}.{slot.__name__}" for slot in slots())
        if "." in name:
            raise ConfigError(f"{text!r}: {name} derives from none of the contracts of a slot: {contracts_}.")
        raise ConfigError(f"{text!r}: there is no part {name!r}. {closest(name, [n for slot in slots() for n in choices(slot)])}")
    return fitting[0], parse(text, fitting[0])


def properties(slot: type, spec: Spec[Any]) -> Iterator[Property]:
    """The properties of a part of the slot, each with what checks it. Nothing is checked before it is called."""
    if slot in _ALONE:
        yield from _ALONE[slot](spec)
    fields = _in_network(slot, spec)
    if fields is not None:
        yield from _of_network(world(_label(spec)), fields)


ENCODER_CONTRACTS = (
    contracts.ignores_padding,
    contracts.keeps_batch_order,
    contracts.survives_empty_sequences,
    contracts.reads_one_place_alike,
)


def _of_encoder(spec: Spec[Any]) -> Iterator[Property]:
    encoder: Encoder = world().built(spec)
    for direction in sorted(encoder.directions):
        yield f"keeps shape ({direction})", partial(lambda d: contracts.keeps_shape(world().built(spec), WIDTH, d), direction)
    if "left to right" in encoder.directions:
        yield "looks back only", lambda: contracts.looks_back_only(world().built(spec), WIDTH)
    for direction in sorted(encoder.directions):
        for contract in ENCODER_CONTRACTS:
            yield f"{_named(contract)} ({direction})", partial(lambda c, d: c(world().built(spec), WIDTH, d), contract, direction)
    if encoder.two_streams:
        yield "keeps streams apart", lambda: contracts.keeps_streams_apart(world().built(spec), WIDTH)

    def gradients() -> None:
        built, x, weight = world().built(spec), torch.randn(4, 6, WIDTH), torch.randn(4, 6, WIDTH)
        times = torch.arange(6).expand(4, 6) * HOUR
        view = View(torch.full((4,), 6), sorted(built.directions)[0], times=times, next_times=times + HOUR)
        contracts.gradients_reach(built, lambda: (built(x, view) * weight).sum())

    yield "gradients reach every parameter", gradients


def _of_inputs(spec: Spec[Any]) -> Iterator[Property]:
    def bucket(inputs: InputBlock) -> Any:
        night = world().histories, world().dictionary, world().vocabulary
        reader = Reader(*night, event_columns=inputs.event_columns, user_columns=inputs.user_columns)
        return reader.bucket(reader.spans(*world().histories.sequences(world().histories.offsets[1:], "user")))

    def alone() -> None:
        inputs = world().built(spec)
        contracts.embeds_each_event_alone(inputs, bucket(inputs), WIDTH)

    yield "embeds each event alone", alone


def _of_positions(spec: Spec[Any]) -> Iterator[Property]:
    yield "keeps earlier positions", lambda: contracts.keeps_earlier_positions(world().built(spec), WIDTH)


def _of_loss(spec: Spec[Any]) -> Iterator[Property]:
    for contract in (contracts.is_mean_over_weights, contracts.rewards_the_target):
        yield _named(contract), partial(lambda c: c(world().built(spec), *_predictions()), contract)


def _of_items(spec: Spec[Any]) -> Iterator[Property]:
    yield "rows are vectors", lambda: contracts.rows_are_vectors(world().built(spec), world().vocabulary.n_items)


def _of_noise(spec: Spec[Any]) -> Iterator[Property]:
    def real_events_only() -> None:
        _, reader, spans = world().network(inputs='Inputs(features="all")')
        contracts.changes_real_events_only(world().built(spec), reader.bucket(spans))

    yield "changes real events only, in training", real_events_only


def _of_negatives(spec: Spec[Any]) -> Iterator[Property]:
    yield "draws as often as it says", lambda: contracts.draws_as_often_as_it_says(world().built(spec), _predictions()[2])


def _of_pooling(spec: Spec[Any]) -> Iterator[Property]:
    yield "pools real events only", lambda: contracts.pools_real_events_only(world().built(spec), WIDTH)


def _of_prior(spec: Spec[Any]) -> Iterator[Property]:
    def alone() -> None:
        night = world().dictionary
        contracts.knows_the_past_only(world().built(spec), night, until(night, EARLY), world().vocabulary, EARLY)

    yield "knows the past only", alone


def _of_objective(spec: Spec[Any]) -> Iterator[Property]:
    fields = _in_network(Objective, spec)
    assert fields is not None
    checked = (
        network_contracts.predicts_what_happened,
        network_contracts.hides_what_it_predicts,
        network_contracts.evaluates_as_it_recommends,
    )
    for contract in checked:
        yield _named(contract), partial(lambda c: c(*world().network(**fields)), contract)


_IN_INPUTS: dict[type, str] = {
    Aggregation: 'Inputs(features="all", aggregation={})',
    FeatureEmbedding: "Inputs(embeddings=[{}])",
    Noise: 'Inputs(features="all", noise={})',
    Projection: 'Inputs(features="all", projection={})',
}

_ALONE: dict[type, Callable[[Spec[Any]], Iterator[Property]]] = {
    Encoder: _of_encoder, InputBlock: _of_inputs, Positions: _of_positions, Loss: _of_loss, ItemTable: _of_items,
    Negatives: _of_negatives, Pooling: _of_pooling, Objective: _of_objective,
    Noise: _of_noise, Prior: _of_prior, **dict.fromkeys([Similarity, *_IN_INPUTS], lambda spec: iter(())),  # the last in networks only
}  # fmt: skip


def _in_network(slot: type, spec: Spec[Any]) -> dict[str, Any] | None:
    """Fields of a configuration of a small network that has the part, and otherwise what fits it; None where none has such parts."""
    text = str(spec)
    if slot is Objective:
        fits = "XLNet(n_blocks=1, n_heads=2)" if spec.cls.two_streams else "PreLN(n_blocks=1, n_heads=2)"
        return {"objective": text, "encoder": fits, "inputs": 'Inputs(features="all")'}
    if slot is Encoder:
        encoder: Encoder = world().built(spec)
        return {"encoder": text, "objective": "CausalLM()" if "left to right" in encoder.directions else "MaskedLM()"}
    if slot is Similarity:
        return {"heads": (f"NextItem(similarity={text})",)}
    if slot is Prior:
        return {"heads": (f"NextItem(prior={text})",)}
    if slot in _IN_INPUTS:
        return {"inputs": _IN_INPUTS[slot].format(text)}
    if slot is Head:
        return {"heads": (text,) if issubclass(spec.cls, NextItem) else (text, "NextItem()")}
    for field, contract in SLOTS.items():
        if contract is slot:
            return {field: (text,) if field in SEVERAL else text}
    return None


def _label(spec: Spec[Any]) -> Column | None:
    """The label that a head asks for, which is somebody's own: the sample has to have it too. Of 0 and 1, or text."""
    if not issubclass(spec.cls, LabelHead):
        return None
    parameter = inspect.signature(spec.cls).parameters.get("label")
    name = spec.arguments.get("label", getattr(parameter, "default", None))
    return Column(name, "events", "label", "VARCHAR" if spec.cls.learns_text else "BIGINT") if isinstance(name, str) else None


def _of_network(there: World, fields: dict[str, Any]) -> Iterator[Property]:
    def gradients() -> None:
        network, reader, spans = there.network(**fields)
        buckets = list(reader.buckets(spans.newest(network.objective.n_trained(network.max_events))))
        contracts.gradients_reach(network, lambda: network.loss(buckets))

    def looks_back() -> None:
        network, reader, spans = there.network(**fields)
        if network.direction == "left to right":
            network_contracts.sees_no_future(network, reader, spans)

    yield "in a network: sees no future, where it reads from left to right", looks_back
    yield "in a network: ignores batch mates", lambda: network_contracts.ignores_batch_mates(*there.network(**fields))
    heads: list[Spec[Any]] = [parse(text, Head) for text in fields.get("heads", ())]
    if any(issubclass(head.cls, LabelHead) for head in heads):
        yield "in a network: answers each sequence alone", lambda: network_contracts.answers_each_sequence_alone(*there.network(**fields))
    yield "in a network: gradients reach every parameter", gradients
    yield "in a network: one seed gives one set of weights", lambda: _one_seed(there, fields)
    yield "in a network: saved and loaded, it scores the same", lambda: _saved_and_loaded(there, fields)


def _one_seed(there: World, fields: dict[str, Any]) -> None:
    first, again = (there.network(seed=1, **fields)[0].state_dict() for _ in range(2))
    for name, tensor in first.items():
        if not torch.equal(tensor, again[name]):
            raise ContractError(f"{name} differs between two networks that were built from one seed.")


def _saved_and_loaded(there: World, fields: dict[str, Any]) -> None:
    network, reader, spans = there.network(**fields)
    spans = spans[torch.nonzero(spans.lengths)[:, 0]]  # of an empty one label heads say NaN, which equals nothing
    with TemporaryDirectory() as folder:
        saving.save(Path(folder), network, there.model(**fields), there.vocabulary)
        loaded, vocabulary = saving.load(Path(folder))
    again = loaded.reader(there.histories, there.dictionary, vocabulary)
    before, after = ([hidden, *said.values()] for hidden, said in (read(network, reader, spans), read(loaded, again, spans)))
    if not all(map(torch.equal, before, after)):
        raise ContractError("A network that is saved and loaded says something else: a buffer or a setting is lost on the way.")


def _predictions(n: int = 300, n_items: int = 37, width: int = 8) -> tuple[torch.Tensor, torch.Tensor, Catalogue]:
    """Hidden states (N, D), targets (N,), and a catalogue with counts, whose items have no direction in common."""
    torch.manual_seed(0)
    hidden, target, vectors = torch.randn(n, width), torch.arange(n) % n_items, torch.randn(n_items, width)
    return hidden, target, Catalogue(vectors - vectors.mean(0), counts=torch.randint(1, 100, (n_items,)))


def _named(contract: Callable[..., None]) -> str:
    return contract.__name__.replace("_", " ")
