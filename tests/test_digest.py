"""A digest of code changes with what runs, and only with that."""

import textwrap

import pytest

from recsys import digest

SOURCE = '''
    """A module."""
    import os

    def f(x):
        """Doubles."""
        return 2 * x  # twice
'''


@pytest.mark.parametrize(
    "old, new, same",
    [
        ("# twice", "# two times", True),
        ('"""Doubles."""', '"""Twice."""', True),
        ("import os", "import os\n\n", True),
        ("2 * x", "3 * x", False),
        ("f(x)", "g(x)", False),
    ],
)
def test_comments_and_docstrings_are_no_code(tmp_path, old, new, same):
    digests = []
    for name, source in [("a", SOURCE), ("b", SOURCE.replace(old, new))]:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "part.py").write_text(textwrap.dedent(source))
        digests.append(digest.of_code("recsys.windows", [folder / "part.py"]))
    assert (digests[0] == digests[1]) is same


def test_a_sql_comment_is_no_code(tmp_path):
    path = tmp_path / "10_x.sql"
    digests = []
    for text in ["-- One row.\nselect 1\n", "-- One row per thing.\n\n   select 1\n", "select 2\n"]:
        path.write_text(text)
        digests.append(digest.of_code("recsys.windows", [path]))
    assert digests[0] == digests[1] != digests[2]


def test_what_a_module_imports_is_part_of_it():
    assert "recsys.errors" not in digest._imported("recsys.windows")  # plumbing


def test_a_faster_ranking_trains_no_model_again() -> None:
    assert not [module for module in digest._imported("recsys.training.train") if module.startswith("recsys.ranking")]
    assert {"recsys.sequences.build", "recsys.schema"} <= digest._imported("recsys.sequences.build")
    assert not any(name.startswith("recsys.training") for name in digest._imported("recsys.sequences.build"))
    assert "recsys.recipes" not in digest._imported("recsys.training.train"), "a new recipe trains nothing again"


@pytest.mark.parametrize("step", ["training.train", "evaluation.evaluate", "promotion.refit"])
def test_what_decides_by_lists_of_another_length_is_made_anew(step: str) -> None:
    assert "recsys.cutoff" in digest._imported(f"recsys.{step}")


def test_values_are_compared_regardless_of_order():
    assert digest.of_value({"a": 1, "b": [1, 2]}) == digest.of_value({"b": [1, 2], "a": 1}) != digest.of_value({"a": 1, "b": [2, 1]})
