"""A model that knows its users by id: from the configuration's text to ranking, and no trace of them in other models."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from recsys.dictionary import Dictionary
from recsys.histories import Histories
from recsys.model.saving import load
from recsys.model.vocabulary import USER
from recsys.ranking.ranker import Ranker, misfit
from recsys.store import Artifact
from recsys.windows import Cut

BY_ID = {"inputs": "Inputs(features=['device'], embeddings=[UserId(width=4)])", "fusion": "UserFeatures(embeddings=[UserId()], how='sum')"}


def test_user_ids_are_learned_and_read_by_shard(fit: Callable[..., Artifact], sequences: Artifact, as_of: datetime) -> None:
    done = fit(sequences, model=BY_ID, training={"max_epochs": 1, "min_user_events": 3})
    network, vocabulary = load(done.path)
    assert network.user_columns == (USER,) and (done.path / "vocabulary" / "users.parquet").exists()
    assert vocabulary.known(USER).to_pylist() == list(range(600)), "every user with an event before the cut"
    assert misfit(done.path, sequences.path) is None
    ranker = Ranker("by id", network, vocabulary, Dictionary.load(sequences.path))
    assert ranker.columns == ("device",), "histories bring user ids unasked"
    histories = Histories.load(sequences.path, shards=[0], columns=ranker.columns)
    reading = ranker.reading(histories, histories.cut(Cut(at=as_of)), None)
    assert reading.reader.user_columns[USER].tolist() == [*range(1, 601)]
    scores, _ = reading.rank(np.arange(5), 3, np.array([], dtype=int), np.array([], dtype=int))
    assert np.isfinite(scores).all()


def test_a_model_that_does_not_ask_keeps_no_user_ids(fit: Callable[..., Artifact], sequences: Artifact) -> None:
    done = fit(sequences, training={"max_epochs": 1})
    files: list[Any] = [*(done.path / "vocabulary").rglob("*.parquet")]
    assert files and not any("user_id" in pq.read_schema(file).names for file in files)
