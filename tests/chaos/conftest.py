"""Nights that fail: a small shop, a Prefect server for all of them, and the table at the end."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL
from prefect.testing.utilities import prefect_test_harness

pytest.register_assert_rewrite("tests.chaos.nights")

from tests.chaos import table  # noqa: E402
from tests.chaos.nights import BACKFILL, Night  # noqa: E402


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


@pytest.fixture(scope="session")
def backfilled(undisturbed: Night, tmp_path_factory: pytest.TempPathFactory) -> Night:
    """Three published nights: the undisturbed one, and two that a backfill has made after it."""
    store = Path(shutil.copytree(undisturbed.store, tmp_path_factory.mktemp("backfilled") / "store"))
    backfill = Night(store, flow="backfill", given=BACKFILL)
    assert backfill.run() == 0, backfill.said()
    return backfill


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "cases(n): how many cases the row of this test has at least, in the table of `make chaos`")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What a test says of itself in the first line of its docstring is its row, also where it never begins."""
    for item in items:
        if isinstance(item, pytest.Function) and (cases := item.get_closest_marker("cases")):
            item.user_properties += [("row", str(item.function.__doc__).partition("\n")[0].rstrip(".")), ("at_least", cases.args[0])]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """As markdown, to be put into the documentation."""
    found = table.rows(report for outcome in ("passed", "failed", "error", "skipped") for report in terminalreporter.getreports(outcome))
    if found:
        terminalreporter.section("Nights that fail", sep="-")
        for line in table.lines(found):
            terminalreporter.write_line(line)
