"""Secrets of a configuration: `${block:name}` is the value of Prefect's Secret block of that name, read when a run begins.

The configuration, and so parameters, versions and the UI, have the name only. recsys gets the value, and does not tell it.
"""

import logging
import re
from contextlib import suppress
from typing import Any

from flows import local
from recsys.config import Group, provide
from recsys.config.groups import BLOCK
from recsys.errors import ConfigError
from recsys.redaction import redacted


def provide_blocks(group: Group) -> None:
    """Read the blocks that a configuration names. ConfigError for one that is not there, or without a server that keeps any."""
    names = sorted(set(re.findall(rf"\$\{{{BLOCK}([\w-]+)\}}", group.model_dump_json())))
    if not names:
        return
    from prefect.blocks.system import Secret
    from prefect.settings import PREFECT_API_URL

    local.check_server(f" {names[0]!r} is a Secret block that it keeps.")
    for name in names:
        written = f"${{{BLOCK}{name}}}"
        if not PREFECT_API_URL.value():
            raise ConfigError(f"{written} is a Secret block of a Prefect server: say with PREFECT_API_URL where it is.")
        try:
            block = Secret.load(name)
        except ValueError:
            raise ConfigError(f"{written}: the Prefect server has no Secret block {name!r}. Make it in the UI, or name another.") from None
        assert isinstance(block, Secret)
        provide(f"{BLOCK}{name}", str(block.get()))


def keep_out_of_logs() -> None:
    """Log records of this process, and their tracebacks, say `${NAME}` for what it stands for; Prefect's own, too, which go to the UI."""
    make = logging.getLogRecordFactory()
    if getattr(make, "__module__", "") == __name__:
        return

    def record(*args: Any, **kwargs: Any) -> logging.LogRecord:
        made = make(*args, **kwargs)
        with suppress(Exception):  # a call whose arguments do not fit its message: logging says so when it writes the record
            said = made.getMessage()
            if (kept := redacted(said)) != said:
                made.msg, made.args = kept, ()
        if made.exc_info and made.exc_info[0] is not None:
            told = logging.Formatter().formatException(made.exc_info)
            if (kept := redacted(told)) != told:
                made.exc_text = kept  # which formatters take as it is
        return made

    logging.setLogRecordFactory(record)
