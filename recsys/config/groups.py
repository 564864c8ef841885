"""What every group of the configuration is: frozen, strict, and sure of what can change a result."""

import os
import re
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from recsys import redaction
from recsys.errors import ConfigError

BLOCK = "block:"
_provided: dict[str, str] = {}

RESULT_FREE: dict[str, Any] = {"result_free": True}


def Free(default: Any = ..., **kwargs: Any) -> Any:  # reads like pydantic's Field
    """A field that cannot change a result."""
    return Field(default, json_schema_extra=RESULT_FREE, **kwargs)


class Group(BaseModel):
    """A part of the configuration: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def versioned(self) -> dict[str, Any]:
        """The fields that can change a result, as JSON values: what versions are made from."""
        chosen: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            if field.json_schema_extra == RESULT_FREE:
                continue
            value = getattr(self, name)
            if isinstance(value, Group):
                chosen[name] = value.versioned()
            elif isinstance(value, tuple) and any(isinstance(v, Group) for v in value):
                chosen[name] = [v.versioned() for v in value]
            else:
                chosen[name] = self.model_dump(mode="json", include={name})[name]
        return chosen


def provide(name: str, value: str) -> None:
    """What `${name}` stands for in this process: a secret that a flow has read from elsewhere."""
    _provided[name] = value


def expand(text: str, secret: bool = False) -> str:
    """`${NAME}` replaced from the environment, and `${block:name}` by the secret that was provided; one that is not there is an error.

    What it stands for is kept out of messages from then on, unless it is a path (see recsys.redaction). It is none, whatever it
    looks like, where the text is `secret`, and in an address before its `@` and behind its `?`.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name in _provided:
            found = _provided[name]
        elif name.startswith(BLOCK):
            raise ConfigError(
                f"{text!r} needs a Secret block of Prefect, which only a run of a flow reads, for what its groups name. "
                "The folder of a store is written out, or taken from the environment."
            )
        elif name in os.environ:
            found = os.environ[name]
        else:
            raise ConfigError(f"{text!r} needs the environment variable {name}, which is not set: export {name}=…")
        if secret or name.startswith(BLOCK) or _in_credentials(text, match) or not redaction.is_path(found):
            redaction.hide(name, found)
        return found

    return re.sub(rf"\$\{{((?:{BLOCK})?[\w-]+)\}}", value, text)


def _in_credentials(text: str, place: re.Match[str]) -> bool:
    """Whether a place in an address is its user, password or query, as in `https://user:${PW}@host/a?token=${TOKEN}`."""
    _, address, before = text[: place.start()].partition("://")
    in_query = "?" in before
    in_user = "/" not in before and "@" in text[place.end() :].partition("/")[0]
    return bool(address) and (in_query or in_user)
