"""Training with heads of labels: without one that recommends, and from the weights of another model."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recsys.config import Data, Features, Model, Sequences, Shop, Training
from recsys.demo import prepare
from recsys.dictionary import Dictionary
from recsys.errors import ConfigError
from recsys.features.tables import build_features
from recsys.histories import Histories
from recsys.model import saving
from recsys.model.blocks import Blocks, build
from recsys.model.inference import encode, read
from recsys.model.network import Network
from recsys.model.sample import sample
from recsys.model.vocabulary import Vocabulary
from recsys.recipes import resolve
from recsys.sequences.build import build_sequences
from recsys.store import Store
from recsys.training.labels import Labels, measure
from recsys.training.train import train
from recsys.training.warm_start import warm_start
from recsys.windows import holdout, parse_as_of


def network_of(vocabulary: Vocabulary, *heads: str, seed: int = 0) -> tuple[Network, Model]:
    torch.manual_seed(seed)
    model = resolve(Model(width=16, max_events=8, heads=heads))
    return build(model, vocabulary), model


@pytest.fixture(scope="module")
def world() -> tuple[Histories, object, Vocabulary]:
    histories, dictionary = sample()
    return histories, dictionary, Vocabulary.fit(histories, dictionary, histories.offsets[1:])


def test_metrics_of_all_heads_at_the_newest_known_labels(world: tuple) -> None:
    histories, dictionary, vocabulary = world
    network, _ = network_of(vocabulary, "NextItem()", 'Binary(label="bought")', 'Regression(label="spent", weight=3.0)')
    reader = network.reader(histories, dictionary, vocabulary)
    spans = reader.spans(*histories.sequences(histories.offsets[1:], "user"))
    found = measure(network, reader, spans)
    _, said = read(network, reader, spans)
    newest = torch.from_numpy(histories.columns["bought"])[torch.from_numpy(histories.offsets[1:][np.diff(histories.offsets) > 0] - 1)]
    known = ~newest.isnan()
    bought = network.label_heads[0].metrics(said["bought"][known], newest[known])
    assert {name: found[f"bought/{name}"] for name in bought} == pytest.approx(bought, rel=1e-4)
    assert found["skill"] == pytest.approx((found["bought/skill"] + 3 * found["spent/skill"]) / 4)
    assert not network_of(vocabulary, "NextItem()")[0].label_heads and Labels(network_of(vocabulary, "NextItem()")[0]).metrics() == {}


def test_without_a_head_that_recommends_there_are_answers_and_no_lists(world: tuple) -> None:
    histories, dictionary, vocabulary = world
    network, model = network_of(vocabulary, 'MultiClass(label="reason")')
    reader = network.reader(histories, dictionary, vocabulary)
    spans = reader.spans(histories.offsets[:-1], histories.offsets[1:])
    hidden, said = read(network, reader, spans)
    assert hidden.shape == (len(spans), 0) and said["reason"].shape == (len(spans), 5)
    empty = spans.lengths == 0
    assert empty.any() and said["reason"][empty].isnan().all()
    torch.testing.assert_close(said["reason"][~empty].sum(1), torch.ones(int((~empty).sum())))
    with pytest.raises(ConfigError, match="no NextItem head"):
        encode(network, reader, spans)
    with pytest.raises(ConfigError, match=r"none of them recommends.*NextItem\(\)"):
        Blocks.of(model).check_aims(("reason",))


def test_labels_are_checked_before_any_work() -> None:
    blocks = Blocks.of(resolve(Model(heads=("NextItem()", 'Binary(label="purchased")'))))
    blocks.check_aims(("purchased",))
    with pytest.raises(ConfigError, match="label that the events do not have; they have: liked. Name 'purchased' in data.events.label"):
        blocks.check_aims(("liked",))


def test_a_warm_start_moves_answers_by_class(world: tuple, tmp_path: Path) -> None:
    """Rows follow their class into a vocabulary that lacks one and has a new one; another label's rows are never taken."""
    _, _, vocabulary = world
    network, model = network_of(vocabulary, "NextItem()", 'MultiClass(label="reason")', seed=1)
    saving.save(tmp_path, network, model, vocabulary, "user")
    fewer = replace(vocabulary, values=vocabulary.values | {"reason": pa.array(["reason-0", "reason-3", "reason-9"])})
    moved, _ = network_of(fewer, "NextItem()", 'MultiClass(label="reason")', seed=2)
    warm_start(moved, fewer, tmp_path)
    old, new = (next(p for name, p in n.named_parameters() if "vectors_of_reason" in name) for n in (network, moved))
    assert torch.equal(new[1:3], old[[1, 4]])
    torch.testing.assert_close(new[3], old[[0, 1, 4]].mean(0))

    schema = replace(vocabulary.schema, columns=(*vocabulary.schema.columns, replace(vocabulary.schema.select("label")[2], name="why")))
    other = replace(vocabulary, schema=schema, values=vocabulary.values | {"why": pa.array([str(i) for i in range(9)])})
    unlike, _ = network_of(other, "NextItem()", 'MultiClass(label="why")', seed=3)
    before = {name: p.clone() for name, p in unlike.named_parameters() if "why" in name}
    warm_start(unlike, other, tmp_path)
    assert before and all(torch.equal(p, before[name]) for name, p in unlike.named_parameters() if name in before)


def test_saved_heads_answer_the_same(world: tuple, tmp_path: Path) -> None:
    histories, dictionary, vocabulary = world
    heads = ("NextItem()", 'Binary(label="bought")', 'Regression(label="spent")', 'MultiClass(label="reason", pooling=Attention())')
    network, model = network_of(vocabulary, *heads)
    saving.save(tmp_path, network, model, vocabulary, "user")
    again, loaded = saving.load(tmp_path)
    reader = network.reader(histories, dictionary, vocabulary)
    spans = reader.spans(histories.offsets[:-1], histories.offsets[1:])
    hidden, said = read(network, reader, spans)
    hidden_again, said_again = read(again, again.reader(histories, dictionary, loaded, labels=False), spans)
    assert torch.equal(hidden, hidden_again) and torch.equal(hidden, encode(network, reader, spans))
    for name, answers in said.items():
        torch.testing.assert_close(answers, said_again[name], equal_nan=True, rtol=0, atol=0)


def test_labels_alone_are_trained_by_their_skill(tmp_path: Path) -> None:
    """A network without lists is trained and evaluated from Python; the epoch with the most skill is kept."""
    as_of, store = parse_as_of("2025-06-01"), Store(tmp_path)
    data = prepare(Data(demo=Shop(n_users=120, n_items=60)), as_of, tmp_path / "shop")
    sequences = build_sequences(store, as_of, Sequences(), build_features(store, as_of, data, Features(min_day_volume=0)))
    cut = holdout(as_of, "3d")
    model = Model(width=16, max_events=20, heads=('Binary(label="purchased", of="event")', 'Regression(label="hours_until_return")'))
    trained = train(store, as_of, model, Training(max_epochs=3, learning_rate=0.01), 1, sequences, cut, key="user")
    rows = pq.read_table(trained.path / "epochs.parquet").to_pylist()
    assert [row["ndcg_at_10"] for row in rows] == [None] * len(rows)
    assert trained.metrics["best_epoch"] == 1 + max(range(len(rows)), key=lambda i: rows[i]["skill"])
    assert {"purchased/auroc", "hours_until_return/rmse"} <= rows[0].keys()

    network, vocabulary = saving.load(trained.path)
    histories, dictionary = Histories.load(sequences.path), Dictionary.load(sequences.path)
    ends = histories.cut(cut)
    for known, n_heads in ((histories, 2), (histories.as_known(cut), 0)):  # at the cut, nobody knows what follows the newest event
        reader = network.reader(known, dictionary, vocabulary)
        found = measure(network, reader, reader.spans(*histories.last_sequences(ends, "user")))
        assert len({name.partition("/")[0] for name in found} - {"skill"}) == n_heads
