"""The table of `make chaos` says what was tried: nothing that broke or was left out looks like a survival."""

from typing import Any, Literal

import pytest

from tests.chaos.table import Row, lines, rows

Outcome = Literal["passed", "failed", "skipped"]


def report(test: str, when: Literal["setup", "call", "teardown"], outcome: Outcome, **told: Any) -> pytest.TestReport:
    properties = list({"row": "Disk full", "at_least": 3, **told}.items())
    return pytest.TestReport(test, ("", 0, ""), {}, outcome, None, when, user_properties=properties)


def test_a_test_is_a_case_unless_it_says_how_many() -> None:
    one = report("one", "call", "passed")
    many = report("many", "call", "failed", row="Every file", at_least=9, cases=9, lost=2)
    assert rows([one, many]) == [Row("Every file", 9, 9, 2), Row("Disk full", 3, 1, 0)]


def test_what_breaks_before_or_after_a_test_is_lost_and_once() -> None:
    setup = report("one", "setup", "failed")
    after = [report("two", "call", "passed", cases=4, lost=0), report("two", "teardown", "failed", cases=4, lost=0)]
    assert rows([setup]) == [Row("Disk full", 3, 1, 1)]
    assert rows(after) == [Row("Disk full", 3, 4, 1)]


def test_what_is_skipped_is_not_run() -> None:
    (row,) = rows([report("one", "setup", "skipped"), report("two", "call", "skipped"), report("three", "call", "passed")])
    assert (row.cases, row.lost, row.not_run) == (1, 0, 2)
    said = list(lines([row, Row("Killed", 5, 6, 0)]))
    assert said[1:] == [
        "| Disk full | 1 | 1 | 0 | 2 |",
        "| Killed | 6 | 6 | 0 | 0 |",
        "| all | 7 | 7 | 0 | 2 |",
        "\n0 of 7 cases were lost, and 2 were not run, of which nothing is known.",
    ]


def test_no_losses_are_said_of_everything_only() -> None:
    assert list(lines([Row("Killed", 5, 5, 0)]))[-1] == "\n0 of 5 cases were lost."
