"""Building blocks in a configuration: read, checked, built, written back; and nothing is ever evaluated."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from recsys.errors import ConfigError
from recsys.grammar import check_grammar
from recsys.parts import Spec, parse, part
from recsys.slots import choices


class Loss(ABC):
    @abstractmethod
    def value(self) -> float: ...


class CrossEntropy(Loss):
    def __init__(self, *, label_smoothing: float = 0.0, temperature: float = 1.0) -> None:
        self.label_smoothing, self.temperature = label_smoothing, temperature

    def value(self) -> float:
        return self.label_smoothing


class GBCE(Loss):
    def __init__(self, n_items: int, *, t: float, sampling: Literal["uniform", "popular"] = "uniform") -> None:
        self.n_items, self.t, self.sampling = n_items, t, sampling

    def value(self) -> float:
        return self.t


class Weighted(Loss):
    """A sum of losses: takes other building blocks, one or many."""

    def __init__(self, *, losses: Sequence[Loss], extra: Loss | None = None, later: Spec[Loss] | None = None) -> None:
        self.losses, self.extra, self.later = losses, extra, later

    def value(self) -> float:
        return sum(loss.value() for loss in self.losses)


class Anything(Loss):
    """Takes every JSON value, so that each can be seen on its way through text."""

    def __init__(self, *, of: Any = None, numbers: Sequence[int] = (), whether: bool = False) -> None:
        self.of, self.numbers, self.whether = of, numbers, whether

    def value(self) -> float:
        return 0.0


class _Hidden(CrossEntropy):
    pass


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


# ---------------------------------------------------------------- reading and building


def test_a_call_with_keywords_is_an_object() -> None:
    built = parse("CrossEntropy(label_smoothing=0.1)", Loss).build()
    assert isinstance(built, CrossEntropy)
    assert (built.label_smoothing, built.temperature) == (0.1, 1.0)


def test_a_bare_name_is_a_call_without_arguments() -> None:
    assert parse("CrossEntropy", Loss) == parse("CrossEntropy()", Loss) == part(CrossEntropy)


def test_what_only_the_network_knows_is_supplied_when_it_is_built() -> None:
    built = parse("GBCE(t=0.75)", Loss).build(n_items=12, width=64)
    assert isinstance(built, GBCE)
    assert (built.n_items, built.t) == (12, 0.75)
    with pytest.raises(ConfigError, match="GBCE needs 'n_items'"):
        parse("GBCE(t=0.75)", Loss).build(width=64)


def test_calls_nest_where_the_annotation_takes_a_part() -> None:
    built = parse("Weighted(losses=[GBCE(t=0.5), CrossEntropy], extra=CrossEntropy(temperature=2.0))", Loss).build(n_items=3)
    assert isinstance(built, Weighted)
    assert [type(loss) for loss in built.losses] == [GBCE, CrossEntropy]
    assert isinstance(built.extra, CrossEntropy) and built.extra.temperature == 2.0


def test_a_parameter_that_asks_for_a_spec_gets_it_unbuilt() -> None:
    built = parse("Weighted(losses=[], later=GBCE(t=0.5))", Loss).build()
    assert isinstance(built, Weighted)
    assert built.later == part(GBCE, t=0.5)


def test_json_names_and_python_names_of_constants_are_the_same() -> None:
    assert parse("Anything(of=[true, false, null])", Loss) == parse("Anything(of=[True, False, None])", Loss)
    assert parse("Anything(of={'a': true})", Loss).arguments == {"of": {"a": True}}


def test_choices_are_the_public_concrete_classes_of_the_slots_module() -> None:
    assert set(choices(Loss)) == {"CrossEntropy", "GBCE", "Weighted", "Anything"}


# ---------------------------------------------------------------- text that reads back


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        (" CrossEntropy ( temperature = 2 ) ", "CrossEntropy(temperature=2)"),
        ("GBCE(t=.5, sampling='popular')", 'GBCE(t=0.5, sampling="popular")'),
        ("Weighted(losses=(CrossEntropy, GBCE(t=1)))", "Weighted(losses=[CrossEntropy(), GBCE(t=1)])"),
        ("Anything(of={'b': (1, 2), 'a': None})", 'Anything(of={"b": [1, 2], "a": null})'),
    ],
)
def test_one_way_to_write_it(text: str, canonical: str) -> None:
    # A part of ours is written by its name alone; these are the tests' own, so their module stands before it.
    assert str(parse(text, Loss)).replace(f"{__name__}.", "") == canonical


@given(json_values)
def test_canonical_text_reads_back_equal(value: Any) -> None:
    spec = part(Anything, of=value)
    again = parse(str(spec), Loss)
    assert again == spec and str(again) == str(spec) and hash(again) == hash(spec)


@given(
    st.recursive(st.just(part(CrossEntropy)), lambda inner: st.lists(inner, max_size=3).map(lambda losses: part(Weighted, losses=losses)))
)
def test_nested_canonical_text_reads_back_equal(spec: Spec[Loss]) -> None:
    assert parse(str(spec), Loss) == spec


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("CrosEntropy()", "there is no Loss 'CrosEntropy'. Did you mean CrossEntropy"),
        ("Qwxyz()", "There are: Anything, CrossEntropy, GBCE, Weighted"),
        ("_Hidden()", "there is no Loss '_Hidden'"),
        ("Loss()", "there is no Loss 'Loss'"),
        ("CrossEntropy(label_smooting=0.1)", "no argument 'label_smooting'. Did you mean label_smoothing"),
        ("CrossEntropy(qwxyz=0.1)", "There are: label_smoothing, temperature"),
        ("CrossEntropy(label_smoothing='0.1')", "label_smoothing='0.1' does not fit CrossEntropy"),
        ("CrossEntropy(label_smoothing=true)", "label_smoothing=True does not fit CrossEntropy"),
        ("Anything(whether=1)", "whether=1 does not fit Anything"),
        ("Anything(numbers=[1, '2'])", "does not fit Anything"),
        ("GBCE(t=0.5, sampling='often')", "sampling='often' does not fit GBCE: Input should be 'uniform' or 'popular'"),
        ("GBCE(n_items=3, t=0.5)", "GBCE has no argument 'n_items'"),
        ("Weighted(loses=[CrossEntropy()])", "Weighted has no argument 'loses'. Did you mean losses"),
        ("GBCE()", "GBCE needs t"),
        ("CrossEntropy(0.1)", "arguments are given by name"),
        ("CrossEntropy(**{'temperature': 2})", "given once and by name"),
        ("CrossEntropy(temperature=1, temperature=2)", "given once and by name"),
        ("CrossEntropy(temperature=CrossEntropy())", "stands where no building block is taken"),
        ("CrossEntropy(temperature=high)", "high is no JSON literal"),
        ("CrossEntropy(temperature=1 + 1)", "1 + 1 is no JSON literal"),
        ("CrossEntropy(temperature=1e999)", "is no JSON literal"),
        ("Anything(of={1: 2})", "have to be strings"),
        ("Anything(of={**{}})", "have to be strings"),
        ("Anything(of=b'x')", "is no JSON literal"),
        ("Anything(of={1, 2})", "is no JSON literal"),
        ("Anything(of=f'{1}')", "is no JSON literal"),
        ("Anything(of=[x for x in [1]])", "is no JSON literal"),
        ("Anything(of={'a': GBCE(t=1)})", "stands where no building block is taken"),
        ("Weighted(losses=[3])", "it takes a Loss, of Anything, CrossEntropy, GBCE, Weighted"),
        ("Weighted(losses=[], extra='CrossEntropy')", "it takes a Loss"),
        ("Weighted(losses=[CrossEntropi()])", "Did you mean CrossEntropy"),
        ("", "is no building block"),
        ("3", "is no building block"),
        ("lambda: 1", "is no building block"),
        ("CrossEntropy() or GBCE()", "is no building block"),
        ("CrossEntropy()()", "only names can be called"),
        ("CrossEntropy().value()", "only names can be called"),
        ("__import__('os').system(command='x')", "only names can be called"),
        ("CrossEntropy(); CrossEntropy()", "is no building block"),
    ],
)
def test_what_is_no_building_block_is_refused_with_a_reason(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, Loss)
    assert says in str(caught.value)
    assert repr(text) in str(caught.value)


def test_the_same_is_checked_from_python() -> None:
    with pytest.raises(ConfigError, match="no argument 'label_smooting'. Did you mean label_smoothing"):
        part(CrossEntropy, label_smooting=0.1)
    with pytest.raises(ConfigError, match="is no JSON value"):
        part(Anything, of=object())
    with pytest.raises(ConfigError, match="it takes a Loss"):
        part(Weighted, losses=[part(Path)])


# ---------------------------------------------------------------- dotted names


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of a user's own, with a part and with things that are none; `calls` counts what was ever called."""
    (tmp_path / "team_parts.py").write_text(
        f"""
import {__name__} as ours
from abc import abstractmethod

calls = []

class Focal(ours.Loss):
    def __init__(self, *, gamma: float = 1.0):
        self.gamma = gamma
    def value(self):
        return self.gamma

class Unfinished(ours.Loss):
    @abstractmethod
    def more(self): ...

class Stranger:
    def __init__(self, *, gamma: float = 1.0):
        calls.append("Stranger")

def function(gamma=1.0):
    calls.append("function")
"""
    )
    (tmp_path / "team_broken.py").write_text("raise RuntimeError('half-written')\n")
    (tmp_path / "team_leaving.py").write_text("import sys; sys.exit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "team_parts"
    for name in ("team_parts", "team_broken", "team_leaving"):
        sys.modules.pop(name, None)


def test_a_dotted_name_is_imported(team: str) -> None:
    spec = parse("team_parts.Focal(gamma=2.0)", Loss)
    assert spec.build().value() == 2.0
    assert str(spec) == "team_parts.Focal(gamma=2.0)"
    assert parse("Weighted(losses=[team_parts.Focal])", Loss).build().value() == 1.0


@pytest.mark.parametrize("name", ["Stranger", "function", "calls", "Unfinished", "Missing"])
def test_a_dotted_name_that_is_no_such_part_is_never_called(team: str, name: str) -> None:
    for text in (f"team_parts.{name}", f"team_parts.{name}(gamma=2.0)", f"Weighted(losses=[team_parts.{name}(gamma=2.0)])"):
        with pytest.raises(ConfigError, match=f"team_parts.{name}"):
            parse(text, Loss)
    assert sys.modules["team_parts"].calls == []


@pytest.mark.parametrize(
    "text", ["os.system(command='touch called')", "subprocess.Popen(args='touch called')", "builtins.exec(source='1/0')"]
)
def test_the_standard_library_is_no_building_block(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="is no .*Loss"):
        parse(text, Loss)
    assert not (tmp_path / "called").exists()


@pytest.mark.parametrize(
    ("module", "remedy"),
    [("team_broken", "author"), ("team_leaving", "author"), ("team_missing", "model.code"), ("team_parts.deeper", "model.code")],
)
def test_a_module_that_cannot_be_imported_says_so(team: str, module: str, remedy: str) -> None:
    with pytest.raises(ConfigError, match=f"{module}.Focal cannot be imported .*{remedy}"):
        parse(f"{module}.Focal()", Loss)


# ---------------------------------------------------------------- any text at all

tokens = st.sampled_from(
    ["CrossEntropy", "GBCE", "Weighted", "losses", "t", "=", "(", ")", "[", "]", "{", "}", ",", ".", ":", "'", '"', "-", "+", "*", "**"]
    + ["1", "0.5", "1e9", "true", "None", "lambda", "await", "yield", "__import__", "eval", "os", " ", "\n", "\\", "\0", "#", "f'", ":="]
)


@given(st.text(max_size=60) | st.lists(tokens, max_size=20).map("".join))
@example("f(a=" + "-" * 900 + "1)")
@example("a" + ".a" * 3000)
@example("f(a=0x" + "f" * 6000 + ")")
@example("f(a=" * 90 + "1" + ")" * 90)
@example("f(a=" * 5000)
@example("f(a=" + "+".join("1" * 3000) + ")")
@example("f(a='\ud800')")
@example(r"f(a='\ud800')")
@example("f(a=" + "9" * 5000 + ")")
def test_any_text_is_a_building_block_or_a_config_error(text: str) -> None:
    for read in (check_grammar, lambda given: parse(given, Loss)):
        try:
            read(text)
        except ConfigError as error:
            assert repr(text) in str(error)
