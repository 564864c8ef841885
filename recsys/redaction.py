"""What `${NAME}` stands for is used and not told: it may be a password, or an address with one in it.

It is written as the configuration writes it wherever something is said: in errors, and by whoever asks `redacted`. A variable
that holds a path of this machine (`/srv/data`, or what is there as `data`) is no secret, and messages need it; what somebody
has put into a Secret block always is one, and so is what stands where credentials do.
"""

import os
import re
from urllib.parse import quote

_hidden: dict[str, str] = {}  # value → how the configuration writes it


def hide(name: str, value: str) -> None:
    """From now on, the value is told as `${name}`."""
    if value:
        _hidden[value] = _hidden[quote(value, safe="")] = f"${{{name}}}"


def is_path(value: str) -> bool:
    """Whether the value looks like a path of this machine, or is one."""
    return value.startswith("/") or os.path.exists(value)


def redacted(text: str) -> str:
    """The text without what is hidden, also where that was written for an address.

    >>> hide("TOKEN", "5ec ret")
    >>> redacted("GET https://host/a?token=5ec%20ret: 403, for 5ec ret")
    'GET https://host/a?token=${TOKEN}: 403, for ${TOKEN}'
    """
    if not _hidden:
        return text
    longest_first = sorted(_hidden, key=len, reverse=True)  # one may be part of another
    no_part_of_a_word = rf"(?:(?<!\w)|(?!\w))({'|'.join(map(re.escape, longest_first))})(?:(?!\w)|(?<!\w))"
    return re.sub(no_part_of_a_word, lambda found: _hidden[found[1]], text)


def redact(error: BaseException) -> None:
    """Take what is hidden out of an error of another library, and of those that led to it: all of them are logged."""
    seen: list[BaseException] = []
    ahead: list[BaseException | None] = [error]
    while ahead:
        one = ahead.pop()
        if one is None or one in seen:
            continue
        seen.append(one)
        one.args = tuple(redacted(value) if isinstance(value, str) else value for value in one.args)
        if isinstance(one, OSError) and isinstance(one.filename, str):
            one.filename = redacted(one.filename)
        ahead += [one.__cause__, one.__context__]
