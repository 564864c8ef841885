import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from recsys.config import Model
from recsys.errors import ConfigError, StoreError
from recsys.model import saving
from recsys.model.blocks import Blocks, build
from recsys.model.encoders import Encoder, View
from recsys.model.encoders.preln import PreLN
from recsys.model.heads.next_item import NextItem
from recsys.model.inputs.features import Inputs
from recsys.model.items.ids import IdEmbedding
from recsys.model.network import Network
from recsys.model.objectives.causal import CausalLM
from recsys.model.positions import Learned
from recsys.model.sample import sample
from recsys.model.vocabulary import Vocabulary
from recsys.recipes import resolve

HISTORIES, DICTIONARY = sample()
VOCABULARY = Vocabulary.fit(HISTORIES, DICTIONARY, HISTORIES.offsets[1:])
SMALL = resolve(Model(width=16, max_events=8, encoder="PreLN(n_blocks=1)"))


class Both(Encoder):
    """Reads both sides only."""

    directions = frozenset({"both sides"})

    def forward(self, x: torch.Tensor, view: View) -> torch.Tensor:
        return x


class Counted(Encoder):
    """Has to know the vocabulary."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.n_items = vocabulary.n_items

    def forward(self, x: torch.Tensor, view: View) -> torch.Tensor:
        return x


def inputs(width: int = 16) -> Inputs:
    return Inputs.from_schema(VOCABULARY.schema, VOCABULARY, width=width)


def test_a_network_from_python_and_from_a_configuration_are_the_same() -> None:
    torch.manual_seed(1)
    configured = build(SMALL, VOCABULARY)
    torch.manual_seed(1)
    items = IdEmbedding(VOCABULARY.n_items, 16)
    written = Network(
        Inputs(items, VOCABULARY.schema, VOCABULARY, 16),
        CausalLM(),
        PreLN(16, n_blocks=1),
        [NextItem(VOCABULARY.n_items, 16)],
        positions=Learned(16, 8),
        max_events=8,
    )
    ours, theirs = configured.state_dict(), written.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_misfit_says_what_would_fit() -> None:
    with pytest.raises(ConfigError, match=r"^Both reads both sides; CausalLM needs left to right\. Use .*MaskedLM.*: .*PreLN.*SASRec"):
        Network(inputs(), CausalLM(), Both(), [NextItem(VOCABULARY.n_items, 16)], max_events=8)


@pytest.mark.parametrize(
    ("parts", "names"),
    [
        ({"encoder": "HSTU()"}, "HSTU"),
        ({"objective": "AllAction()"}, "AllAction"),
        ({"objective": "DenseAllAction()", "towers": ("Tower(name='t', inputs=Inputs(), encoder=HSTU())",)}, "DenseAllAction, HSTU"),
        ({"heads": ("NextItem(prior=Activity())",)}, "Activity"),
    ],
)
def test_who_reads_times_is_named_where_there_are_none(parts: dict[str, Any], names: str) -> None:
    network = build(SMALL.model_copy(update=parts), VOCABULARY)
    with pytest.raises(ConfigError, match=rf"are read by: {names}\. .*HSTU\(time_bias=false\)"):
        network.reader(replace(HISTORIES, event_at=None), DICTIONARY, VOCABULARY)


def test_a_tied_head_needs_items_of_its_width() -> None:
    with pytest.raises(ConfigError, match=r"item vectors of width 8, and hidden states have width 16. Use NextItem\(tied=false\)"):
        Network(inputs(8), CausalLM(), PreLN(16), [NextItem(VOCABULARY.n_items, 16)], max_events=8)
    untied = Network(inputs(8), CausalLM(), PreLN(16), [NextItem(VOCABULARY.n_items, 16, tied=False)], max_events=8)
    assert untied.catalogue().vectors.shape == (VOCABULARY.n_items, 16)


def test_no_head_and_no_recommending_head() -> None:
    with pytest.raises(ConfigError, match="needs a head"):
        Network(inputs(), CausalLM(), PreLN(16), [], max_events=8)


def test_heads_divide_the_width() -> None:
    with pytest.raises(ConfigError, match="width 16 cannot be divided among 3 attention heads"):
        PreLN(16, n_heads=3)


@pytest.mark.parametrize(
    ("field", "text", "message"),
    [
        ("encoder", "PreNL()", "model.encoder: .*Did you mean PreLN"),
        ("encoder", "PreLN(n_block=2)", "model.encoder: .*Did you mean n_blocks"),
        ("encoder", "os.system()", "model.encoder: .*os.system"),
        ("loss", "CrossEntropy(label_smoothing='a')", "model.heads: .*label_smoothing"),
        ("inputs", "Inputs(aggregation=Conat())", "model.inputs: .*Did you mean Concat"),
        ("objective", "CausalML()", "model.objective: .*Did you mean CausalLM"),
        ("positions", "Learned(width=3)", "model.positions: .*no argument 'width'"),
    ],
)
def test_blocks_are_checked_without_building_anything(field: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Blocks.of(resolve(Model(**{field: text})))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": 15}, "^model.encoder: width 15 cannot be divided among 4 .* Choose model.width as a multiple of 4, or another n_heads"),
        ({"encoder": f"{__name__}.Both()"}, "Both reads both sides; CausalLM needs left to right"),
        ({"towers": ("Tower(name='far', inputs=Inputs(), encoder=PreLN(causal=false))",)}, "PreLN reads both sides; CausalLM needs"),
        ({"encoder": "GRU()", "positions": "Rotary()"}, "Rotary"),
    ],
)
def test_what_cannot_be_built_is_known_without_data(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Blocks.of(resolve(Model(**fields))).check()


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        ({"encoder": "HSTU()"}, "HSTU"),
        ({"objective": "AllAction()"}, "AllAction"),
        ({"objective": "DenseAllAction()"}, "DenseAllAction"),
        ({"heads": ("NextItem(prior=Activity())",)}, "Activity"),
    ],
)
def test_what_reads_times_is_refused_for_data_without_any(parts: dict[str, Any], name: str) -> None:
    blocks = Blocks.of(resolve(Model(**parts, width=16)))
    blocks.check()
    with pytest.raises(ConfigError, match=f"order only.* are read by: {name}"):
        blocks.check(has_times=False)


def test_blocks_that_need_the_vocabulary_are_left_until_there_is_one() -> None:
    encoder = f"{__name__}.Counted()"
    Blocks.of(resolve(Model(encoder=encoder))).check()
    assert isinstance(build(SMALL.model_copy(update={"encoder": encoder}), VOCABULARY).encoder, Counted)


def test_an_unresolved_configuration_is_an_error() -> None:
    with pytest.raises(ConfigError, match="model.items is not given"):
        Blocks.of(Model())


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    saving.save(tmp_path, build(SMALL, VOCABULARY), SMALL, VOCABULARY)
    facts = json.loads((tmp_path / "model.json").read_text())
    facts["model"]["encoder"] = "PreLN(n_blocks=2)"
    (tmp_path / "model.json").write_text(json.dumps(facts))
    with pytest.raises(StoreError, match="tensors would not fit, as encoder.blocks.1"):
        saving.load(tmp_path)


def test_equal_networks_are_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        torch.manual_seed(0)
        saving.save(tmp_path / name, build(SMALL, VOCABULARY), SMALL, VOCABULARY)
    files = sorted(f.relative_to(tmp_path / "a") for f in (tmp_path / "a").rglob("*") if f.is_file())
    assert len(files) > 5
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)
