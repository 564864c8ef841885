"""What every group of the configuration is: frozen, strict, and sure of what can change a result."""

import os
import re
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from recsys.errors import ConfigError

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


def expand(text: str) -> str:
    """`${NAME}` replaced from the environment; a name that is not set is an error."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise ConfigError(f"{text!r} needs the environment variable {match[1]}, which is not set: export {match[1]}=…")
        return os.environ[match[1]]

    return re.sub(r"\$\{(\w+)\}", value, text)
