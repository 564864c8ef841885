"""The table at the end of `make chaos`: what was tried, what survived, what was lost, and what was not tried."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Row:
    """Cases of one kind. `at_least` is how many there have to be before anything can be said of them."""

    what: str
    at_least: int
    cases: int
    lost: int

    @property
    def not_run(self) -> int:
        return max(self.at_least - self.cases, 0)

    def __str__(self) -> str:
        return f"| {self.what} | {self.cases} | {self.cases - self.lost} | {self.lost} | {self.not_run} |"


def rows(reports: Iterable[pytest.TestReport]) -> list[Row]:
    """A row for each first line of a docstring, in order of the tests, from the reports of their setups, calls and teardowns.

    A test is a case, unless it records how many it made (`cases`, and which were `lost`). One that ends with an error anywhere is
    lost; one that was skipped is no case.
    """
    by_test: dict[str, list[pytest.TestReport]] = defaultdict(list)
    for report in reports:
        by_test[report.nodeid].append(report)
    found: dict[str, Row] = {}
    for _, of_test in sorted(by_test.items()):
        told = {name: value for report in of_test for name, value in report.user_properties}
        if "row" not in told:
            continue
        failed = any(report.failed for report in of_test)
        skipped = not failed and any(report.skipped for report in of_test)
        cases = 0 if skipped else told.get("cases", 1)
        lost = max(told.get("lost", 0), int(failed))
        before = found.get(told["row"], Row(told["row"], 0, 0, 0))
        found[told["row"]] = Row(before.what, max(before.at_least, told["at_least"]), before.cases + cases, before.lost + lost)
    return list(found.values())


def lines(found: Iterable[Row]) -> Iterator[str]:
    """The table as markdown, and what may be said of it."""
    by_row = list(found)
    whole = Row("all", sum(row.cases + row.not_run for row in by_row), sum(row.cases for row in by_row), sum(row.lost for row in by_row))
    yield "| what happens | cases | survived | lost | not run |\n|---|---:|---:|---:|---:|"
    yield from map(str, (*by_row, whole))
    yield f"\n{whole.lost} of {whole.cases} cases were lost" + (
        f", and {whole.not_run} were not run, of which nothing is known." if whole.not_run else "."
    )
