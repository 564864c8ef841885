"""What a model reads of a history is what it was trained on."""

from pathlib import Path

import numpy as np
import torch

from recsys.config import Model
from recsys.model import saving
from recsys.model.blocks import build
from recsys.model.sample import sample
from recsys.model.vocabulary import Vocabulary
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
