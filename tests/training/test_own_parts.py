"""Own parts of a training: their code is in versions, and a notebook may hold them."""

import copy
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning.callbacks import Timer

from recsys import digest
from recsys.config import Model, Training
from recsys.errors import ConfigError
from recsys.model import own_parts, saving
from recsys.model.blocks import Blocks
from recsys.model.losses.softmax import CrossEntropy
from recsys.model.reader import Reader
from recsys.model.sample import sample
from recsys.model.vocabulary import Vocabulary
from recsys.parts import part
from recsys.recipes import resolve
from recsys.store import Artifact
from recsys.training.module import SequenceModule
from recsys.training.parts import Parts
from recsys.training.schedules import WarmupCosine

Fit = Callable[..., Artifact]


def test_a_version_has_the_code_of_the_parts_that_it_runs(code: Path) -> None:
    def modules(**model: Any) -> set[str]:
        named = {cls.__module__ for cls in Blocks.of(resolve(Model(code=str(code), **model))).classes()}
        return set().union(*map(digest._imported, named))

    encoders = {"recsys.model.encoders.preln", "recsys.model.encoders.sasrec", "recsys.model.encoders.hstu"}
    assert modules(encoder="PreLN()") & encoders == {"recsys.model.encoders.preln"}
    assert modules(encoder="SASRec()") & encoders == {"recsys.model.encoders.sasrec"}
    assert digest._imported("recsys.training.train") & encoders == set()
    nested = modules(heads=("NextItem(loss=SampledSoftmax())",)) - modules()
    assert any(name.startswith("recsys.model.losses.") for name in nested)


def test_own_code_of_every_kind_is_in_the_version(own: Fit, code: Path) -> None:
    options: dict[str, Any] = {"training": {"max_epochs": 1, "schedule": "team_training.Frozen(share=1.0)", "optimizer": "SGD()"}}
    first = own(**options)
    assert own(**options).reused
    (code / "team_training.py").write_text((code / "team_training.py").read_text().replace("step < self.share", "step > 99 + self.share"))
    edited = own(**options)
    assert not edited.reused and edited.content != first.content, "what runs is what is in the files now"
    (code / "team_training.py").write_text("from recsys.model.encoders.hstu import HSTU\n")
    assert own_parts.sources([], str(code))["recsys"] != own_parts.sources([], None)["recsys"], "and what they import of ours"


def test_evaluating_and_scoring_a_model_have_the_code_of_its_parts_in_their_version(own: Fit, code: Path) -> None:
    plain, damped = own(training={"max_epochs": 1}), own(model={"network": "team_training.Damped(damping=0.5)"}, training={"max_epochs": 1})
    before = saving.sources(damped.path)
    assert before["recsys"] == saving.sources(damped.path)["recsys"] and "team_training.py" in before
    hstu = own(model={"encoder": "HSTU(n_blocks=1, n_heads=2)"}, training={"max_epochs": 1})
    assert saving.sources(hstu.path)["recsys"] != saving.sources(plain.path)["recsys"]
    (code / "team_training.py").write_text((code / "team_training.py").read_text().replace("self.damping *", "2 * self.damping *"))
    assert saving.sources(damped.path)["team_training.py"] != before["team_training.py"]


def test_copying_a_training_copies_no_events() -> None:
    histories, dictionary = sample()
    reader = Reader(histories, dictionary, Vocabulary.fit(histories, dictionary, histories.offsets[1:]))
    assert copy.deepcopy({"module": reader})["module"] is reader


def test_a_class_of_this_process_is_in_the_version_by_its_source(own: Fit) -> None:
    sources = own_parts.sources([Cold], None)
    assert set(sources) == {f"{__name__}.Cold", "recsys"}


class Cold(CrossEntropy):
    """A loss that was written where it is used, as in a notebook."""

    def __init__(self, *, degrees: float = 0.5) -> None:
        super().__init__(temperature=degrees)


NOTEBOOK = """
    from recsys.config import Model
    from recsys.model.blocks import Blocks
    from recsys.model.losses.softmax import CrossEntropy
    from recsys.parts import part
    from recsys.recipes import resolve

    class Cold(CrossEntropy):
        def __init__(self, *, degrees: float = 0.5):
            super().__init__(temperature=degrees)

    model = Model.model_validate_json(Model(loss=part(Cold, degrees=0.25)).model_dump_json())
    (head,) = Blocks.of(resolve(model)).several["heads"]
    print(model.loss, head.arguments["loss"].build().temperature)
"""


def test_a_class_of_a_notebook_round_trips_in_its_process_and_says_elsewhere_what_to_do() -> None:
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(NOTEBOOK)], capture_output=True, text=True)
    assert done.stdout.strip() == "__main__.Cold(degrees=0.25) 0.25", done.stderr
    with pytest.raises(ConfigError, match="written in a notebook or a script: move it into a file, .* model.code"):
        Blocks.of(resolve(Model(loss="__main__.Cold(degrees=0.25)")))


def test_a_spec_in_python_and_its_text_are_one_training() -> None:
    in_python = Training(schedule=part(WarmupCosine, warmup=0.3), module=SequenceModule, callbacks=(part(Timer, duration="00:01:00:00"),))
    assert in_python.schedule == "WarmupCosine(warmup=0.3)"
    assert (
        Parts.of(in_python).in_canonical_text() == Parts.of(Training.model_validate_json(in_python.model_dump_json())).in_canonical_text()
    )
