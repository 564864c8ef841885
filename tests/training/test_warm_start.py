"""Rows move by what they stand for: an item, a category's value, a user; for every table that has such rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recsys.config import Model
from recsys.model import saving
from recsys.model.blocks import build
from recsys.model.network import Network
from recsys.model.sample import sample
from recsys.model.vocabulary import USER, Vocabulary
from recsys.recipes import resolve
from recsys.training.warm_start import warm_start

HISTORIES, DICTIONARY = sample()
THEN = HISTORIES.offsets[:-1] + np.diff(HISTORIES.offsets) // 4  # the first quarter of everybody's history
MODEL = resolve(
    Model(
        width=16,
        max_events=8,
        items="Factorised(inner=IdPlusFeatures(embeddings=[Vector(columns=['text'], trained=true)]), inner_width=4)",
        inputs="Inputs(features='all', embeddings=[Category(columns=['brand', 'country'], shared=true), UserId(width=3)])",
    )
)


def network_of(vocabulary: Vocabulary, seed: int) -> Network:
    torch.manual_seed(seed)
    return build(MODEL, vocabulary)


@pytest.fixture(scope="module")
def warm(tmp_path_factory: Any) -> tuple[Network, Vocabulary, Network, Vocabulary]:
    """A network of some users and items, and one of more of them that starts from it."""
    old, new = (Vocabulary.fit(HISTORIES, DICTIONARY, ends, least, users=True) for ends, least in ((THEN, 3), (HISTORIES.offsets[1:], 1)))
    assert old.n_items < new.n_items and len(old.user_id) < len(new.user_id)
    source, network = network_of(old, 1), network_of(new, 2)
    folder: Path = tmp_path_factory.mktemp("old")
    saving.save(folder, source, MODEL, old)
    counts = warm_start(network, new, folder)
    assert counts["cold_tensors"] == 0 and counts["warm_tensors"] == len(list(network.parameters()))
    return source, old, network, new


def weights(network: Network, name: str) -> torch.Tensor:
    found = [parameter for key, parameter in network.named_parameters() if name in key]
    assert len(found) == 1, name
    return found[0].detach()


@pytest.mark.parametrize(
    ("name", "columns"),
    [("embeddings.of_user_id.weight", [USER]), ("of_brand+country.weight", ["brand", "country"]), ("of_device.weight", ["device"])],
)
def test_rows_of_values(warm: Any, name: str, columns: list[str]) -> None:
    source, old, network, new = warm
    before, after = weights(source, name), weights(network, name)
    known_before, known_after = (v.known(*columns).to_pylist() for v in (old, new))
    assert torch.equal(after[0], before[0])
    mean = before[[0, *(known_before.index(value) + 1 for value in known_after if value in known_before)]].mean(0)
    for row, value in enumerate(known_after, start=1):
        expected = before[known_before.index(value) + 1] if value in known_before else mean
        torch.testing.assert_close(after[row], expected)


@pytest.mark.parametrize("name", ["items.inner.blocks.0.weight", "items.inner.blocks.1.features.embeddings.of_text.tables.0.weight"])
def test_rows_of_items(warm: Any, name: str) -> None:
    source, old, network, new = warm
    before, after = weights(source, name), weights(network, name)
    known = old.item_id.to_pylist()
    for row, item in enumerate(new.item_id.to_pylist()):
        torch.testing.assert_close(after[row], before[known.index(item)] if item in known else before.mean(0))
