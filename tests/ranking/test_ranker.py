"""What a model reads of a history is what it was trained on."""

from pathlib import Path

import numpy as np
import pytest
import torch

from recsys.config import Model
from recsys.histories import Histories
from recsys.model import saving
from recsys.model.blocks import build
from recsys.model.bucket import Bucket
from recsys.model.network import Network
from recsys.model.sample import sample
from recsys.model.vocabulary import Vocabulary
from recsys.ranking import alike
from recsys.ranking.alike import FEW
from recsys.ranking.ranker import Ranker
from recsys.recipes import resolve

MODEL = resolve(Model(width=16, max_events=8, encoder="PreLN(n_blocks=1, n_heads=2)"))


def test_of_sessions_it_reads_the_last(tmp_path: Path) -> None:
    histories, dictionary = sample()
    ends = histories.offsets[1:]
    vocabulary = Vocabulary.fit(histories, dictionary, ends)
    torch.manual_seed(0)
    network = build(MODEL, vocabulary)
    read = {}
    for key in ("user", "session"):
        (tmp_path / key).mkdir()
        saving.save(tmp_path / key, network, MODEL, vocabulary, key)
        read[key] = Ranker.load("model", tmp_path / key, dictionary).reading(histories, ends, None).lengths
    assert histories.session is not None
    assert read["user"].tolist() == np.diff(histories.offsets).tolist()
    last = [int((own == own[-1]).sum()) if len(own) else 0 for own in np.split(histories.session, histories.offsets[1:-1])]
    assert read["session"].tolist() == last
    assert (read["session"] < read["user"]).any()


def pairs(users: np.ndarray, histories: Histories) -> tuple[np.ndarray, np.ndarray]:
    """The oldest event's item of everybody who has one, to be kept from them."""
    begin, end = histories.offsets[users], histories.offsets[users + 1]
    rows = np.flatnonzero(begin < end)
    return rows, histories.item_code[begin[rows]].astype(np.int64)


def test_users_who_are_alike_share_a_list_that_is_the_same_as_without_sharing(monkeypatch: pytest.MonkeyPatch) -> None:
    histories, dictionary = sample()
    vocabulary = Vocabulary.fit(histories, dictionary, histories.offsets[1:])
    torch.manual_seed(0)
    ranker = Ranker("model", build(MODEL, vocabulary), vocabulary, dictionary)
    once = np.arange(histories.n_users)
    users = np.concatenate([once, once[::-1]])
    encoded: list[int] = []
    read = Network.read

    def counted(network: Network, bucket: Bucket) -> object:
        encoded.append(len(bucket))
        return read(network, bucket)

    monkeypatch.setattr(Network, "read", counted)
    rows, items = pairs(users, histories)
    found = {}
    for few in (alike.FEW, 0):
        monkeypatch.setattr(alike, "FEW", few)
        monkeypatch.setattr("recsys.ranking.ranker.FEW", few)
        reading = ranker.reading(histories, histories.offsets[1:], None)
        found[few] = reading.rank(users, 5, rows, items)[1], reading.notes["lists_shared"], sum(encoded)
        encoded.clear()
    (shared, n_shared, n_encoded), (alone, _, n_all) = found.values()
    assert np.array_equal(shared, alone)
    assert n_shared >= (np.diff(histories.offsets) <= FEW).sum() > 0
    assert n_encoded < n_all


@pytest.mark.parametrize("inputs", ["Inputs(embeddings=[UserId()])", "Inputs(features='all', aggregation=Concat())"])
def test_nobody_is_like_another_to_a_network_that_reads_more_of_users_than_events(inputs: str) -> None:
    histories, dictionary = sample()
    vocabulary = Vocabulary.fit(histories, dictionary, histories.offsets[1:], users=True)
    model = resolve(MODEL.model_copy(update={"inputs": inputs}))
    reading = Ranker("model", build(model, vocabulary), vocabulary, dictionary).reading(histories, histories.offsets[1:], None)
    users = np.repeat(np.arange(histories.n_users), 2)
    rows, items = pairs(users, histories)
    reading.rank(users, 5, rows, items)
    assert reading.notes["lists_shared"] == 0
