"""A model's configuration as dictionaries, there and back."""

import inspect
import json
import sys
from types import UnionType
from typing import Any, Union, get_args, get_origin

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument
from torch import Tensor, nn

from recsys.config import Model, Part
from recsys.errors import ConfigError
from recsys.model.blocks import SEVERAL, Blocks, build
from recsys.model.encoders import Encoder
from recsys.model.encoders.preln import PreLN
from recsys.model.hyperparameters import SLOTS, from_flat, from_nested, to_flat, to_nested
from recsys.model.losses import Loss
from recsys.model.losses.softmax import CrossEntropy
from recsys.model.sample import sample
from recsys.model.vocabulary import Vocabulary
from recsys.parts import Spec, annotations, part, slot_of
from recsys.recipes import resolve
from recsys.slots import choices

TWO_HEADS = Model(width=64, encoder="PreLN(n_blocks=4)", heads=("NextItem(loss=CrossEntropy(temperature=0.5))", "NextItem"))


def test_nested_says_what_a_part_is_and_how_it_is_set() -> None:
    assert to_nested(TWO_HEADS) == {
        "recipe": "sasrec",
        "width": 64,
        "encoder": {"cls": "PreLN", "n_blocks": 4},
        "heads": [{"cls": "NextItem", "loss": {"cls": "CrossEntropy", "temperature": 0.5}}, {"cls": "NextItem"}],
    }


def test_flat_has_dotted_names_and_numbered_heads() -> None:
    assert to_flat(TWO_HEADS) == {
        "recipe": "sasrec",
        "width": 64,
        "encoder.cls": "PreLN",
        "encoder.n_blocks": 4,
        "heads.0.cls": "NextItem",
        "heads.0.loss.cls": "CrossEntropy",
        "heads.0.loss.temperature": 0.5,
        "heads.1.cls": "NextItem",
    }


@pytest.mark.parametrize(
    "flat",
    [
        {"encoder.cls": "PreLN", "encoder.n_blocks": 2},
        {"encoder": "PreLN", "encoder.n_blocks": 2},
        {"encoder.n_blocks": 2, "encoder": "PreLN"},
        {"encoder": "PreLN(n_blocks=2)"},
    ],
)
def test_flat_can_be_written_by_hand(flat: dict[str, Any]) -> None:
    assert from_flat(flat) == Model(encoder="PreLN(n_blocks=2)")


def test_lists_and_mappings_without_parts_are_values() -> None:
    model = Model(inputs='Inputs(features=["device", "age"], aggregation=Concat())')
    assert to_flat(model)["inputs.features"] == ["device", "age"]
    assert from_flat(to_flat(model)) == model


def arguments(annotation: Any) -> st.SearchStrategy[Any]:
    """Any value of a part's argument; types that are no JSON values are left out."""
    slot = slot_of(annotation)
    if get_origin(annotation) in (Union, UnionType):
        return st.one_of(*map(arguments, get_args(annotation)))
    if slot is nn.Module:  # of another library: any of its classes, with any of their arguments
        return st.builds(lambda n, bias: part(nn.Linear, in_features=n, out_features=n, bias=bias), st.integers(1, 99), st.booleans())
    if slot is not None and inspect.isabstract(slot):
        one = specs(slot)
        return st.lists(one, max_size=2) if get_origin(annotation) not in (None, Spec) else one
    return st.from_type(annotation)


def specs(slot: type) -> st.SearchStrategy[Spec[Any]]:
    """Any spec of a slot's members, whether it could be built or not."""
    return st.deferred(lambda: st.sampled_from(sorted(choices(slot).values(), key=lambda cls: cls.__name__)).flatmap(_settings))


@st.composite
def _settings(draw: st.DrawFn, cls: type) -> Spec[Any]:
    asked = annotations(cls)
    names = [n for n, p in inspect.signature(cls).parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY]
    needed = {n for n in names if inspect.signature(cls).parameters[n].default is inspect.Parameter.empty}
    chosen = {}
    for name in names:
        if name in needed or draw(st.booleans()):
            try:
                chosen[name] = draw(arguments(asked[name]))
            except InvalidArgument:
                continue
    try:
        return part(cls, **chosen)
    except ConfigError:  # a float that JSON does not know, say
        return part(cls, **{name: chosen[name] for name in needed})


models = st.builds(
    Model,
    width=st.none() | st.integers(1, 512),
    max_events=st.none() | st.integers(1, 512),
    **{name: st.none() | st.lists(specs(slot).map(str), max_size=3).map(tuple) for name, slot in SEVERAL.items()},
    **{name: st.none() | specs(slot).map(str) for name, slot in SLOTS.items() if name not in ("loss", *SEVERAL)},
)


@settings(max_examples=60)
@given(models)
def test_both_ways_are_inverse_and_survive_json(model: Model) -> None:
    assert from_nested(json.loads(json.dumps(to_nested(model)))) == model
    assert from_flat(json.loads(json.dumps(to_flat(model)))) == model
    assert to_nested(from_flat(to_flat(model))) == to_nested(model)
    assert to_flat(from_nested(to_nested(model))) == to_flat(model)


def test_every_part_of_a_model_has_a_slot_here() -> None:
    parts = [n for n, f in Model.model_fields.items() if any(Part in (kind, *get_args(kind)) for kind in get_args(f.annotation))]
    assert set(parts) == set(SLOTS) and "encoder" in parts


def test_the_same_model_is_rebuilt() -> None:
    histories, dictionary = sample()
    vocabulary = Vocabulary.fit(histories, dictionary, histories.offsets[1:])
    model = resolve(Model(width=16, max_events=8, encoder="PreLN(n_blocks=3, n_heads=2)", inputs='Inputs(features="all")'))

    def weights(of: Model) -> dict[str, Tensor]:
        torch.manual_seed(3)
        return build(of, vocabulary).state_dict()

    first, again = weights(model), weights(from_flat(json.loads(json.dumps(to_flat(model)))))
    assert first.keys() == again.keys() and all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize(
    ("flat", "says"),
    [
        ({"encodr": "PreLN"}, "encodr: the model has no such setting. Did you mean encoder"),
        ({"encoder": "PreLN", "encoder.n_block": 2}, "encoder: .*PreLN has no argument 'n_block'. Did you mean n_blocks"),
        ({"encoder": "PreL"}, "encoder: .*no Encoder 'PreL'. Did you mean PreLN"),
        ({"heads.0": "NextItem", "heads.0.loss": "CrosEntropy"}, "heads.0.loss: .*no Loss 'CrosEntropy'. Did you mean CrossEntropy"),
        ({"heads.1": "NextItem"}, "heads.0 is missing"),
        ({"heads": "NextItem"}, "heads is a list"),
        ({"encoder.n_blocks": 3}, "encoder: .*no building block"),
        ({"encoder": "PreLN", "encoder.cls": "SASRec"}, "'encoder' and 'encoder.cls' are both given"),
        ({"width": "wide"}, "width: .*valid integer.*'wide'"),
        ({"encoder": "PreLN", "encoder.n_blocks": "two"}, "encoder: .*n_blocks='two' does not fit PreLN"),
        ({"encoder": "PreLN", "encoder.dropout": torch.zeros(1)}, "encoder: .*dropout=.*no JSON value"),
    ],
)
def test_mistakes_are_named_with_their_place(flat: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=f"^{says}"):
        from_flat(flat)


class Focal(CrossEntropy):
    """A loss of a notebook's; `main` makes this module look like one."""

    def __init__(self, *, gamma: float = 2.0) -> None:
        super().__init__()
        self.gamma = gamma


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> type[Focal]:
    """A class that was written in a notebook's cell."""
    written = type("Focal", (Focal,), {"__module__": "__main__", "__qualname__": "Focal", "__init__": Focal.__init__})
    monkeypatch.setattr(sys.modules["__main__"], "Focal", written, raising=False)
    return written


def test_a_class_of_a_notebook_comes_back_in_its_process(notebook: type[Focal]) -> None:
    model = Model(loss=part(notebook, gamma=1.5))
    assert model.loss == "__main__.Focal(gamma=1.5)"
    again = from_flat(json.loads(json.dumps(to_flat(model))))
    assert again == model
    built = Blocks.of(resolve(again)).several["heads"][0].arguments["loss"].build()
    assert type(built) is notebook and built.gamma == 1.5


def test_elsewhere_a_class_of_a_notebook_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match="loss: .*__main__.Focal cannot be imported.*move it into a file.*model.code"):
        from_flat({"loss.cls": "__main__.Focal", "loss.gamma": 1.5})


def test_from_python_a_part_is_a_class_or_a_spec() -> None:
    assert Model(encoder=PreLN, heads=[part(choices(SLOTS["heads"])["NextItem"], tied=False)]) == Model(
        encoder="PreLN", heads=("NextItem(tied=false)",)
    )


def test_a_class_inside_a_function_cannot_be_named() -> None:
    class Local(Encoder):
        def forward(self, x: Tensor, view: Any) -> Tensor:
            return x

    with pytest.raises(ConfigError, match="Local is written inside a function"):
        Model(encoder=Local)


def test_an_argument_that_is_no_json_value_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="dropout=.*no JSON value"):
        part(PreLN, dropout=nn.ReLU())  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="weight=.*no JSON value"):
        part(nn.CrossEntropyLoss, weight=torch.ones(2))
    assert issubclass(choices(Loss)["CrossEntropy"], Loss)
