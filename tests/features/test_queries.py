"""The connection that SQL runs on, and what becomes of its errors."""

import os
import signal
import threading
from pathlib import Path

import pytest

from recsys.config import Features
from recsys.errors import ConfigError, RecsysError
from recsys.features import queries
from recsys.sql import connect


def test_queries_by_name() -> None:
    assert [query.name for query in queries.collect().features] == ["item_activity", "events", "items", "users", "seen", "blocked"]
    assert {query.name for query in queries.collect().rules} == {"eligible_items", "blocked_pairs"}


@pytest.mark.parametrize(
    "query", [*queries.collect().features, *queries.collect().checks, *queries.collect().rules], ids=lambda query: query.name
)
def test_style_of_sql(query: queries.Query) -> None:
    lines = query.text.splitlines()
    assert lines[0].startswith("-- ") and lines[0].endswith("."), "the grain first"
    assert lines[-1] == f"select * from {query.name}", "the table last"
    assert query.text == query.path.read_text().rstrip("\n")
    code = "\n".join(line for line in lines if not line.lstrip().startswith("--"))
    assert code == code.lower() and max(map(len, lines)) <= 140


def test_limits_are_kept_and_explained() -> None:
    with connect(Features(memory_limit="123MB", threads=1)) as con:
        assert con.execute(
            "select current_setting('threads'), current_setting('memory_limit'), current_setting('timezone')"
        ).fetchall() == [(1, "117.3 MiB", "UTC")]
    with (
        pytest.raises(ConfigError, match="features.memory_limit='plenty', features.threads=None"),
        connect(Features(memory_limit="plenty")),
    ):
        pass
    with pytest.raises(RecsysError, match="DuckDB needs more than features.memory_limit=10MB, even with spilling.*Raise the limit"):
        with connect(Features(memory_limit="10MB", threads=1)) as con:
            con.execute("select list(i) from range(10000000) t (i)")


def test_control_c_is_no_other_error() -> None:
    with pytest.raises(KeyboardInterrupt), connect(Features(threads=1)) as con:
        threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        con.execute("select count(*) from range(1000000) a (i), range(1000000) b (j) where i % 7 = j % 13")


def test_a_mistake_in_sql_names_its_file() -> None:
    (query,) = (query for query in queries.collect().features if query.name == "items")
    with (
        connect(Features(threads=1)) as con,
        pytest.raises(RecsysError, match="30_items.sql: Catalog Error.*stg_items"),
        queries.named(query),
    ):
        con.execute(query.text)


def test_a_table_is_what_was_selected_wherever_it_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "env=prod" / "date=2024-03-11"
    folder.mkdir(parents=True)
    with connect(Features(threads=1)) as con:
        assert queries.write(con, "items", "select 1 as item_id, 'own' as env", folder) == 1
        assert con.execute("from items").to_arrow_table().to_pylist() == [{"item_id": 1, "env": "own"}]
