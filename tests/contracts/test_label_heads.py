"""Heads of labels and their pooling: what they learn from, what they must not see, and that they learn what is there to learn."""

import math
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from recsys.errors import ConfigError, ContractError
from recsys.histories import Histories
from recsys.model import contracts, network_contracts
from recsys.model.blocks import build
from recsys.model.bucket import Bucket
from recsys.model.heads import Head
from recsys.model.heads.binary import Binary
from recsys.model.heads.label import LabelHead
from recsys.model.network import Network
from recsys.model.objectives import Plan
from recsys.model.pooling import Attention, First, Last, Mean, Pooling
from recsys.model.reader import Reader
from recsys.model.sample import START, sample
from recsys.model.vocabulary import Vocabulary
from recsys.parts import part
from recsys.slots import choices
from recsys.training.labels import measure
from recsys.windows import Cut

POOLINGS = choices(Pooling)
LABEL_OF = {"Binary": "bought", "MultiClass": "reason", "Regression": "spent"}  # of the sample
HEADS = [f'{head}(label="{label}", pooling={pooling}())' for head, label in LABEL_OF.items() for pooling in POOLINGS]
OF_EVENTS = [f'{head}(label="{label}", of="event")' for head, label in LABEL_OF.items()]
OBJECTIVES = ["CausalLM()", "MaskedLM()", "NextAction()"]


def plan_of(hidden: torch.Tensor, lengths: list[int], **labels: torch.Tensor) -> Plan:
    """A plan that reads sequences of these lengths with the labels (B, L)."""
    B, L = hidden.shape[:2]
    index = torch.zeros(B, L, dtype=torch.long)
    bucket = Bucket(torch.arange(B), torch.tensor(lengths), index, index.float(), event_columns=dict(labels))
    return Plan(bucket, torch.arange(B), torch.tensor(lengths) - 1)


def test_every_head_of_a_label_is_here() -> None:
    assert {name for name, head in choices(Head).items() if issubclass(head, LabelHead)} == set(LABEL_OF)


# Pooling


def test_pooling_by_hand() -> None:
    hidden = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [9.0, 9.0]], [[5.0, 7.0], [9.0, 9.0], [9.0, 9.0]]])
    real = torch.tensor([[True, True, False], [True, False, False]])
    assert Last()(hidden, real).tolist() == [[3, 6], [5, 7]]
    assert First()(hidden, real).tolist() == [[1, 2], [5, 7]]
    assert Mean()(hidden, real).tolist() == [[2, 4], [5, 7]]
    attention = Attention(2)
    torch.nn.init.eye_(attention.hidden.weight), torch.nn.init.zeros_(attention.hidden.bias)
    torch.nn.init.constant_(attention.context, 2.0)
    a, b = (math.exp(2 * (math.tanh(x) + math.tanh(y))) for x, y in ((1, 2), (3, 6)))
    expected = [[(a * 1 + b * 3) / (a + b), (a * 2 + b * 6) / (a + b)], [5, 7]]
    torch.testing.assert_close(attention(hidden, real), torch.tensor(expected))


@pytest.mark.parametrize("name", POOLINGS)
def test_pooling_reads_real_events_only(name: str) -> None:
    contracts.pools_real_events_only(part(POOLINGS[name]).build(width=16), 16)


class _OverPadding(Pooling):
    def forward(self, hidden: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        return hidden.nan_to_num().mean(1)


def test_a_pooling_over_padding_is_found_out() -> None:
    with pytest.raises(ContractError, match="_OverPadding: what is in the padding"):
        contracts.pools_real_events_only(_OverPadding(), 16)


# What is learned


def test_of_the_sequence_it_learns_the_newest_label_and_of_each_event_all_that_are_known(world: Any) -> None:
    hidden = torch.arange(24.0).view(3, 4, 2)  # with a query's place after the longest sequence
    label = torch.tensor([[1.0, 0.0, math.nan], [0.0, 1.0, 1.0], [math.nan, 0.0, 0.0]])
    plan = plan_of(hidden[:, :3], [2, 1, 3], bought=label)
    build = {"width": 2, "vocabulary": world.vocabulary}
    sequence = part(Binary, label="bought").build(**build).select(hidden, plan)
    assert sequence.target.tolist() == [0, 0, 0] and sequence.hidden.tolist() == [
        hidden[b, i].tolist() for b, i in ((0, 1), (1, 0), (2, 2))
    ]
    event = part(Binary, label="bought", of="event").build(**build).select(hidden, plan)
    assert event.target.tolist() == [1, 0, 0, 0, 0]
    assert event.hidden.tolist() == [hidden[b, i].tolist() for b, i in ((0, 0), (0, 1), (1, 0), (2, 1), (2, 2))]


def test_losses_equal_their_formulas(world: Any) -> None:
    hidden, lengths = torch.randn(6, 5, 16), [5, 4, 3, 2, 1, 5]
    newest = hidden[torch.arange(6), torch.tensor(lengths) - 1].double()
    bought, spent = torch.randint(2, (6, 5)).float(), torch.rand(6, 5) * 9
    bought[5] = spent[5] = math.nan
    reason = torch.randint(1, 6, (6, 5), dtype=torch.int32)
    reason[5] = 0
    plan = plan_of(hidden, lengths, bought=bought, spent=spent, reason=reason)
    at = torch.arange(5), torch.tensor(lengths[:5]) - 1

    def loss(name: str, **settings: Any) -> tuple[torch.Tensor, torch.Tensor]:
        head = part(choices(Head)[name], label=LABEL_OF[name], **settings).build(width=16, vocabulary=world.vocabulary)
        for parameter in head.parameters():
            torch.nn.init.normal_(parameter)
        return head.loss(head.select(hidden, plan), None), head.double().output(newest[:5])

    value, logit = loss("Binary")
    p = 1 / (1 + torch.exp(-logit))
    y = bought[at].double()
    torch.testing.assert_close(value.double(), -(y * p.log() + (1 - y) * (1 - p).log()).mean(), rtol=1e-5, atol=1e-6)
    value, logits = loss("MultiClass")
    chosen = logits.exp()[torch.arange(5), reason[at].long() - 1] / logits.exp().sum(1)
    torch.testing.assert_close(value.double(), -chosen.log().mean(), rtol=1e-5, atol=1e-6)
    scale = world.vocabulary.numeric["spent"]
    for kind in ("squared", "huber"):
        value, output = loss("Regression", loss=kind)
        off = (output - (spent[at].double() - scale.mean) / scale.std).abs()
        expected = off**2 if kind == "squared" else torch.where(off <= 1, off**2 / 2, off - 0.5)
        torch.testing.assert_close(value.double(), expected.mean(), rtol=1e-5, atol=1e-6)


def test_without_a_known_label_nothing_is_learned(world: Any) -> None:
    for head, label in LABEL_OF.items():
        network, reader, spans = world.network(heads=("NextItem()", f'{head}(label="{label}")'))
        alone, _, _ = world.network(heads=("NextItem()",))
        column = reader.labels[label]
        reader.labels[label] = torch.full_like(column, torch.nan if column.is_floating_point() else 0)
        network.load_state_dict({**network.state_dict(), **alone.state_dict()})
        buckets = list(reader.buckets(spans.newest(9)))
        torch.testing.assert_close(network.eval().loss(buckets), alone.eval().loss(buckets))


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("head", HEADS)
def test_gradients_reach_every_parameter(world: Any, head: str, objective: str) -> None:
    network, reader, spans = world.network(heads=("NextItem()", head), objective=objective, encoder="PreLN(n_blocks=1, n_heads=2)")
    buckets = list(reader.buckets(spans.newest(network.objective.n_trained(network.max_events))))
    contracts.gradients_reach(network, lambda: network.loss(buckets))


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("head", HEADS)
def test_batch_mates_and_padding_change_no_answer(world: Any, head: str, objective: str) -> None:
    network_contracts.answers_each_sequence_alone(
        *world.network(heads=("NextItem()", head), objective=objective, encoder="PreLN(n_blocks=1, n_heads=2)")
    )


@pytest.mark.parametrize("head", [*HEADS, *OF_EVENTS])
def test_buckets_of_a_batch_are_one_step(world: Any, head: str) -> None:
    network, reader, spans = world.network(heads=(head,))
    network.eval()
    whole, parts = [reader.bucket(spans.newest(9))], list(reader.buckets(spans.newest(9)))
    assert len(parts) > 1
    torch.testing.assert_close(network.loss(whole), network.loss(parts))


@pytest.mark.parametrize("head", OF_EVENTS)
def test_gradients_reach_every_parameter_of_heads_of_events(world: Any, head: str) -> None:
    network, reader, spans = world.network(heads=("NextItem()", head))
    buckets = list(reader.buckets(spans.newest(9)))
    contracts.gradients_reach(network, lambda: network.loss(buckets))
    network_contracts.answers_each_sequence_alone(network, reader, spans)


@pytest.mark.parametrize("head", [*HEADS, *OF_EVENTS])
def test_the_label_of_what_is_cut_off_is_never_learned(world: Any, head: str) -> None:
    """Training reads a history without its newest event: whatever that one's label, the loss is the same."""
    network, reader, spans = world.network(heads=(head,))
    bucket = reader.bucket(spans[torch.nonzero(spans.lengths >= 2)[:, 0]].newest(9))
    newest = torch.arange(bucket.item_index.shape[1]) == (bucket.lengths - 1)[:, None]
    (label,) = reader.labels
    column = bucket.event_columns[label]
    assert isinstance(column, torch.Tensor)
    changed = replace(bucket, event_columns={**bucket.event_columns, label: torch.where(newest | ~bucket.real, 1, column).to(column.dtype)})
    assert torch.equal(network.eval().loss([bucket]), network.loss([changed]))
    before = replace(bucket, event_columns={**bucket.event_columns, label: torch.where(bucket.real & ~newest, 1, column).to(column.dtype)})
    assert not torch.equal(network.loss([bucket]), network.loss([before]))


# What is refused


def test_events_of_both_sides_are_refused_with_what_works(world: Any) -> None:
    both = {"objective": "MaskedLM()", "encoder": "PreLN(n_blocks=1, n_heads=2)"}
    for head in OF_EVENTS:
        with pytest.raises(ConfigError, match="of='event'.: under MaskedLM, PreLN looks at both sides.*Use of='sequence'.*CausalLM"):
            world.network(heads=("NextItem()", head), **both)
        world.network(heads=("NextItem()", head), **{**both, "objective": "CausalLM()"})


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        (['Binary(label="bougth")'], "no label 'bougth'. There are: bought, spent, reason"),
        (['Binary(label="reason")'], r'reason. is text.*Use MultiClass\(label="reason"\)'),
        (['Regression(label="reason")'], r'reason. is text.*Use MultiClass\(label="reason"\)'),
        (['MultiClass(label="spent")'], "spent. is a number"),
        (['Binary(label="bought", weight=0.0)'], "Binary: weight=0.0"),
        (['Binary(label="bought", of="event", pooling=Mean())'], "nothing is pooled"),
        (['Binary(label="bought")', 'Regression(label="bought")'], "2 heads are called 'bought'"),
    ],
)
def test_heads_that_cannot_be(world: Any, heads: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        world.network(heads=("NextItem()", *heads))


def test_two_heads_of_one_label_have_names(world: Any) -> None:
    network, reader, spans = world.network(heads=('Binary(label="bought")', 'Regression(label="bought", name="share")'))
    hidden, said = network.eval().read(reader.bucket(spans.newest(8)))
    assert hidden is None and said.keys() == {"bought", "share"}


class _Halved(Network):
    """Recommends in its own way."""

    def read(self, bucket: Bucket) -> tuple[Tensor | None, dict[str, Tensor]]:
        recommending, said = super().read(bucket)
        return recommending / 2, said


@pytest.mark.parametrize("fusion", [None, 'UserFeatures(features=["country"])'])
def test_one_pass_says_and_recommends_also_where_a_network_recommends_in_its_own_way(world: Any, fusion: str | None) -> None:
    """All places are read where a head of a label or a fusion may look at them, else only the one that recommends: the same states."""
    parts = {} if fusion is None else {"fusion": fusion}
    network, reader, spans = world.network(heads=("NextItem()", 'Binary(label="bought", pooling=Mean())'), **parts)
    alone = Network(network.inputs, network.objective, network.encoder, [network.next_item], 8, network.positions, fusion=network.fusion)
    halved = _Halved(network.inputs, network.objective, network.encoder, list(network.heads), 8, network.positions, fusion=network.fusion)
    passes: list[Tensor] = []
    network.inputs.register_forward_hook(lambda module, given, made: passes.append(made[0]))
    bucket = reader.bucket(spans[torch.nonzero(spans.lengths)[:, 0]].newest(8))
    with torch.no_grad():
        recommending, said = halved.eval().read(bucket)
        assert len(passes) == 1 and said["bought"].shape == (len(bucket),)
        torch.testing.assert_close(2 * recommending, network.eval().encode(bucket))
        torch.testing.assert_close(alone.eval().encode(bucket), network.encode(bucket), rtol=0, atol=2e-6)
        assert torch.equal(halved.encode(bucket), recommending)


def test_a_yes_or_no_is_0_or_1(world: Any) -> None:
    with pytest.raises(ContractError, match="label 'spent' is neither 0 nor 1 in .* events"):
        world.network(heads=('Binary(label="spent")',))


def test_a_label_that_nobody_knows_is_refused(world: Any) -> None:
    network, _, _ = world.network(heads=("NextItem()", 'Binary(label="bought")'))
    columns = {**world.histories.columns, "bought": np.full(len(world.histories.item_code), np.nan, dtype=np.float32)}
    with pytest.raises(ContractError, match="'bought' is known of none of the .* events"):
        network.reader(replace(world.histories, columns=columns), world.dictionary, world.vocabulary)


def test_histories_without_the_label_are_refused(world: Any) -> None:
    network, _, _ = world.network(heads=("NextItem()", 'Binary(label="bought")'))
    bare = replace(world.histories, columns={n: c for n, c in world.histories.columns.items() if n != "bought"})
    with pytest.raises(ConfigError, match="label 'bought', which these histories do not have"):
        network.reader(bare, world.dictionary, world.vocabulary)
    assert network.reader(bare, world.dictionary, world.vocabulary, labels=False).labels == {}


# Time


def test_what_was_unknown_at_the_cut_is_null(world: Any) -> None:
    """In the sample a label is known with the event that follows, an hour later: at a cut the newest label before it is null."""
    histories = world.histories
    known = histories.as_known(Cut(at=datetime.fromtimestamp(START / 10**6, timezone.utc) + timedelta(hours=5)))
    place = np.arange(len(histories.item_code)) - np.repeat(histories.offsets[:-1], np.diff(histories.offsets))
    for label in LABEL_OF.values():
        kept = place + 1 < 5
        np.testing.assert_array_equal(known.columns[label][kept], histories.columns[label][kept])
        null = known.columns[label][~kept]
        assert (np.isnan(null) if null.dtype.kind == "f" else null == -1).all()


def test_who_validates_is_not_told_the_answer(world: Any) -> None:
    """Null for training are the label that is asked for and whatever becomes known with the event after it; nobody else's."""
    _, reader, spans = world.network(heads=('Binary(label="bought")', 'MultiClass(label="reason")'))
    asked = spans[torch.nonzero(spans.lengths >= 4)[:5, 0]]
    asked = type(asked)(asked.user, asked.start, asked.end - 2)
    trained = reader.without_labels_of(asked)
    for label, null in (("bought", torch.nan), ("reason", 0)):
        expected = reader.labels[label].clone()
        for start, end in zip(asked.end.tolist(), spans.end[torch.isin(spans.user, asked.user)].tolist(), strict=True):
            expected[start - 1 : end] = null  # the one that is asked for, and those known from the next event on
        torch.testing.assert_close(trained.labels[label], expected, equal_nan=True)
    assert not torch.equal(reader.labels["reason"], trained.labels["reason"]), "the reader itself keeps them"


# Signals


def planted(n_users: int, seed: int) -> tuple[Histories, Any]:
    """The sample's items, each with a hidden number; an event's labels say how the mean of a history's numbers up to it stands."""
    histories, dictionary = sample(n_users, n_items=12, seed=seed)
    hidden_number = np.random.default_rng(0).permutation(np.linspace(-1, 1, dictionary.n_items))[histories.item_code]
    total = np.cumsum(hidden_number)
    first = np.repeat(histories.offsets[:-1], np.diff(histories.offsets))
    place = np.arange(len(total)) - first
    mean = (total - total[first] + hidden_number[first]) / (1 + place)
    labels = {
        "bought": (mean > 0).astype(np.float32),
        "spent": (100 + 20 * mean).astype(np.float32),
        "reason": np.searchsorted([-0.2, 0.2], mean).astype(np.int32),
    }
    return replace(histories, columns=histories.columns | labels), dictionary


@pytest.mark.parametrize("head", [*HEADS, *OF_EVENTS])
def test_each_head_learns_a_planted_signal(world: Any, head: str) -> None:
    """In seconds, and on other people than it has seen. The first event's state knows the rest where both sides are read.

    Of fewer people more steps learn these by heart; how far is up to the rounding of the machine.
    """
    trained, dictionary = planted(1500, seed=1)
    others, _ = planted(400, seed=2)
    vocabulary = Vocabulary.fit(trained, dictionary, trained.offsets[1:])
    objective = "CausalLM()" if head in OF_EVENTS else "NextAction()"
    torch.manual_seed(1)
    model = world.model(heads=(head,), objective=objective, encoder="PreLN(n_blocks=1, n_heads=2, dropout=0.0)")
    network = build(model, vocabulary)
    reader = network.reader(trained, dictionary, vocabulary)
    spans = reader.spans(*trained.sequences(trained.offsets[1:], "user"))
    bucket = reader.bucket(spans[torch.nonzero((spans.lengths >= 3) & (spans.lengths <= 9))[:, 0]])  # of which all is read
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(40):
        optimizer.zero_grad()
        network.loss([bucket]).backward()
        optimizer.step()
    found = measured(network, network.reader(others, dictionary, vocabulary), others)
    metrics = {name.partition("/")[2]: value for name, value in found.items()}
    if "auroc" in metrics:
        assert metrics["auroc"] > 0.95 and metrics["accuracy"] > 0.85, metrics
    elif "rmse" in metrics:
        assert metrics["rmse"] < 0.5 * others.columns["spent"].std(), metrics
    else:
        assert metrics["accuracy"] > 0.75, metrics


def measured(network: Any, reader: Reader, histories: Histories) -> dict[str, float]:
    """Metrics of the one head, at the newest event of everybody whose whole history is read."""
    spans = reader.spans(*histories.sequences(histories.offsets[1:], "user"))
    return measure(network, reader, spans[torch.nonzero(spans.lengths <= 8)[:, 0]])


def test_metrics_by_hand(world: Any) -> None:
    heads = {name: part(choices(Head)[name], label=LABEL_OF[name]).build(width=4, vocabulary=world.vocabulary) for name in LABEL_OF}
    found = heads["Binary"].metrics(torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0.0, 0.0, 1.0, 1.0]))
    assert found["auroc"] == pytest.approx(0.75) and found["accuracy"] == pytest.approx(0.75)
    assert found["log_loss"] == pytest.approx(-(math.log(0.9) + math.log(0.6) + math.log(0.35) + math.log(0.8)) / 4)
    assert found["skill"] == pytest.approx(1 - found["log_loss"] / math.log(2))
    assert math.isnan(heads["Binary"].metrics(torch.tensor([0.1]), torch.tensor([1.0]))["auroc"])
    found = heads["Regression"].metrics(torch.tensor([1.0, 5.0]), torch.tensor([2.0, 2.0]))
    assert found == {"mae": pytest.approx(2.0), "rmse": pytest.approx(math.sqrt(5)), "skill": pytest.approx(math.nan, nan_ok=True)}
    assert heads["Regression"].metrics(torch.tensor([2.0, 4.0]), torch.tensor([1.0, 5.0]))["skill"] == pytest.approx(1 - 1 / 4)
    said = functional.one_hot(torch.tensor([0, 3]), 5) * 0.5 + 0.1
    found = heads["MultiClass"].metrics(said, torch.tensor([0, 1]))
    log_loss = -(math.log(0.6) + math.log(0.1)) / 2
    assert found == {
        "accuracy": pytest.approx(0.5),
        "log_loss": pytest.approx(log_loss),
        "skill": pytest.approx(1 - log_loss / math.log(2)),
    }
    assert heads["MultiClass"].classes.to_pylist() == pa.array([f"reason-{i}" for i in range(5)]).to_pylist()
