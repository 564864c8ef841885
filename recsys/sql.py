"""DuckDB within its limits, and how names and texts are written in SQL. Values are bound, wherever a statement takes parameters."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys.config import Features
from recsys.errors import ConfigError, RecsysError
from recsys.redaction import redact

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def quoted(name: str) -> str:
    """An identifier, whatever is in it.

    >>> print(quoted('net "price" of'))
    "net ""price"" of"
    """
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A string.

    >>> print(literal("it's"))
    'it''s'
    """
    return "'" + text.replace("'", "''") + "'"


@contextmanager
def connect(features: Features, spill: Path | None = None, remote: bool = False) -> "Iterator[DuckDBPyConnection]":
    """A DuckDB in memory, with the configured limits. What does not fit goes into the folder `spill`."""
    import duckdb

    config: dict[str, Any] = {
        "memory_limit": features.memory_limit,
        "temp_directory": str(spill) if spill is not None else "",
        "autoinstall_known_extensions": remote,  # offline, an extension is not looked for
        "autoload_known_extensions": remote,
    }
    if features.threads is not None:
        config["threads"] = features.threads
    try:
        con = duckdb.connect(config=config)
    except duckdb.Error as error:
        raise ConfigError(f"features.memory_limit={features.memory_limit!r}, features.threads={features.threads}: {error}") from error
    try:
        con.execute("set timezone = 'UTC'")
        yield con
    except duckdb.OutOfMemoryException as error:
        raise RecsysError(
            f"DuckDB needs more than features.memory_limit={features.memory_limit}, even with spilling: {str(error).splitlines()[0]} "
            "Raise the limit, or lower features.threads."
        ) from error
    except RuntimeError as error:
        if "Query interrupted" in str(error):  # what DuckDB makes of Ctrl-C
            raise KeyboardInterrupt from None
        raise
    except Exception as error:
        redact(error)  # an address that is read may have a password in it
        raise
    finally:
        con.close()
