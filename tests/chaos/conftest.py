"""Nights that fail: a small shop, a Prefect server for all of them, and the table at the end."""

import os
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL
from prefect.testing.utilities import prefect_test_harness

pytest.register_assert_rewrite("tests.chaos.nights")

from tests.chaos.nights import Night  # noqa: E402


@pytest.fixture(scope="session")
def server() -> Iterator[None]:
    """Its address is in the environment of the nights."""
    with prefect_test_harness(server_startup_timeout=120):
        os.environ["PREFECT_API_URL"] = str(PREFECT_API_URL.value())
        yield
        del os.environ["PREFECT_API_URL"]


@pytest.fixture(scope="session")
def undisturbed(server: None, tmp_path_factory: pytest.TempPathFactory) -> Night:
    night = Night(tmp_path_factory.mktemp("undisturbed") / "store")
    assert night.run() == 0, night.said()
    return night


@pytest.fixture(autouse=True)
def row(request: pytest.FixtureRequest, record_property: Any) -> None:
    """A row of the table is what a test says of itself in the first line of its docstring."""
    record_property("row", str(request.function.__doc__).partition("\n")[0].rstrip("."))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Cases, survivals and losses, as markdown. A test with many cases records how many they were, and which were lost."""
    rows: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            told = dict(report.user_properties)
            if "row" in told:
                rows[told["row"]][0] += told.get("cases", 1)
                rows[told["row"]][1] += told.get("lost", outcome == "failed")
    if rows:
        terminalreporter.section("Nights that fail", sep="-")
        rows["all"] = [sum(counts) for counts in zip(*rows.values(), strict=True)]
        terminalreporter.write_line("| what happens | cases | survived | lost |\n|---|---:|---:|---:|")
        for what, (cases, lost) in rows.items():
            terminalreporter.write_line(f"| {what} | {cases} | {cases - lost} | {lost} |")
