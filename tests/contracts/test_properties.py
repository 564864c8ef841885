"""Every part has the properties of its slot, as `recsys check` runs them; broken ones are found out and said."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from flows.cli import app
from recsys.errors import ConfigError, ContractError
from recsys.model import properties
from recsys.slots import choices

NEEDY = {  # what cannot be built without arguments
    "Binary": 'Binary(label="bought")',
    "Category": 'Category(columns=["device", "genres"])',
    "Combined": "Combined(blocks=[IdEmbedding(), Features()])",
    "Factorised": "Factorised(inner_width=5)",
    "HuggingFace": 'HuggingFace(name="gpt2")',
    "JointMLP": 'JointMLP(columns=["price", "age"])',
    "Module": "Module(module=torch.nn.Linear(in_features=16, out_features=16), causal=true)",
    "MultiClass": 'MultiClass(label="reason")',
    "Number": 'Number(columns=["gap_seconds"])',
    "Regression": 'Regression(label="spent")',
    "Scalar": 'Scalar(columns=["age"])',
    "SoftOneHot": 'SoftOneHot(columns=["price"])',
    "Tower": 'Tower(name="near", inputs=Inputs(), encoder=PreLN(n_blocks=1, n_heads=2))',
    "UserFeatures": 'UserFeatures(features="all")',
    "Vector": 'Vector(columns=["picture", "text"])',
    "WeightedSum": "WeightedSum(losses=[CrossEntropy(), BPR()])",
}
TEXTS = [(slot, NEEDY.get(name, f"{name}()")) for slot in properties.slots() for name in choices(slot)]
NOT_CAUSAL = {"LearnedInverse()"}  # under causal training at all positions it breaks the rule, and says so


@pytest.mark.parametrize(("slot", "text"), TEXTS, ids=[text for _, text in TEXTS])
def test_every_part_has_the_properties_of_its_slot(slot: type, text: str) -> None:
    found, spec = properties.find(text)
    assert found is slot
    checked = []
    for name, check in properties.properties(found, spec):
        if text in NOT_CAUSAL and ("earlier positions" in name or "future" in name):
            continue
        check()
        checked.append(name)
    assert len(checked) == len(set(checked)) >= 1


TEAM = """
import torch
from recsys.model.encoders import Encoder
from recsys.model.heads.multi_class import MultiClass
from recsys.model.heads.regression import Regression
from recsys.model.losses import Loss
from recsys.model.losses.softmax import CrossEntropy


class Focal(CrossEntropy):
    '''A loss that holds.'''

    def __init__(self, *, gamma: float = 2.0) -> None:
        super().__init__()


class Summed(Loss):
    '''A sum, not a mean.'''

    def forward(self, hidden, target, catalogue, weight):
        return -((hidden * catalogue.vectors[target]).sum(1) * weight).sum()


class Peeking(Encoder):
    def forward(self, x, view):
        return x + x.roll(-1, dims=1)


class Crashing(Loss):
    def forward(self, hidden, target, catalogue, weight):
        raise IndexError("out of range")


class Relative(Regression):
    '''Answers by the mean of the batch.'''

    def output(self, hidden):
        said = super().output(hidden)
        return said / (1 + said.abs().mean())


class Why(MultiClass):
    '''A head with a label of its own.'''

    def __init__(self, width, vocabulary, *, label: str = "why_returned"):
        super().__init__(width, vocabulary, label=label)


class Unrelated(torch.nn.Module):
    pass
"""


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with own parts, good and bad."""
    (tmp_path / "teamparts.py").write_text(TEAM)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("teamparts", None)


def check(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["check", *map(str, arguments)], env={"COLUMNS": "200"})
    return done.exit_code, done.output


def test_a_part_of_ones_own_that_holds(team: Path) -> None:
    code, said = check("teamparts.Focal(gamma=1.5)", "--code", team)
    assert code == 0, said
    assert "teamparts.Focal(gamma=1.5), Loss" in said and "broken" not in said
    assert "rewards the target" in said and "All 7 properties hold." in said


def test_a_part_of_ones_own_that_is_broken(team: Path) -> None:
    code, said = check("teamparts.Summed", "--code", team)
    assert code == 1
    assert "is mean over weights: Summed: weights that are seven times as large change it" in said
    assert "Broken: 1 of 7 properties." in said
    code, said = check("teamparts.Peeking", "--code", team)
    assert code == 1 and "looks back only: Peeking: replacing the events after position 3" in said


def test_a_head_whose_answers_depend_on_the_batch_is_broken(team: Path) -> None:
    code, said = check('teamparts.Relative(label="hours_until_return")', "--code", team)
    assert code == 1 and "Broken: 1 of 6 properties." in said
    assert "answers each sequence alone: Relative: an answer depends on the other sequences" in " ".join(said.split())


HEADS = [
    'Binary(label="purchased", of="sequence", weight=0.5)',  # as the README has it
    'Regression(label="hours_until_return")',
    'MultiClass(label="why_returned")',
    'Binary(label="reason")',  # what is text among the sample's own
    'Regression(label="device")',  # and what is no label
    'MultiClass(label="brand")',
    "teamparts.Why",
]


@pytest.mark.parametrize("head", HEADS)
def test_a_head_is_checked_with_a_label_of_any_name(team: Path, head: str) -> None:
    code, said = check(head, "--code", team)
    assert code == 0 and "All 6 properties hold." in said, said


def test_a_part_that_crashes_is_broken(team: Path) -> None:
    code, said = check("teamparts.Crashing", "--code", team)
    assert code == 1 and "IndexError: out of range" in said and "Traceback" not in said


def test_what_is_no_part_is_said(team: Path) -> None:
    code, said = check("teamparts.Unrelated", "--code", team)
    assert code == 1 and "derives from none of the contracts of a slot" in said and "recsys.model.losses.Loss" in said
    code, said = check("CrosEntropy")
    assert code == 1 and "there is no part 'CrosEntropy'. Did you mean CrossEntropy" in said
    code, said = check("Albert(n_hiden_groups=2)")
    assert code == 1 and "no argument 'n_hiden_groups'. Did you mean n_hidden_groups" in said
    with pytest.raises(ConfigError, match="derives from none"):
        properties.find("torch.nn.Linear")


def test_what_a_head_loses_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    slot, spec = properties.find('Regression(label="spent")')
    checks = dict(properties.properties(slot, spec))
    monkeypatch.setattr(spec.cls, "said", lambda self, output: output * self.__dict__.setdefault("drawn", torch.rand(1)))
    with pytest.raises(ContractError, match="is saved and loaded says something else"):
        checks["in a network: saved and loaded, it scores the same"]()


def test_a_buffer_that_is_lost_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Saved and loaded has to be the same network: what was drawn when it was built has to be among the weights."""
    slot, spec = properties.find("Sum")
    checks = dict(properties.properties(slot, spec))
    checks["in a network: saved and loaded, it scores the same"]()
    monkeypatch.setattr(spec.cls, "forward", lambda self, item, others: item * self.__dict__.setdefault("drawn", torch.rand(1)))
    with pytest.raises(Exception, match="is saved and loaded says something else"):
        checks["in a network: saved and loaded, it scores the same"]()
