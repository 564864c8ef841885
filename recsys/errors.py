"""Errors that are answers: what was found, where, and what to do. The command line prints them without a traceback."""

from recsys.redaction import redacted


class RecsysError(Exception):
    """Anything that a person can put right: retrying it unchanged would fail again. It tells no secrets."""

    def __init__(self, message: str) -> None:
        super().__init__(redacted(message))


class ConfigError(RecsysError):
    """A setting, a building block or a combination of them that cannot work."""


class Diverged(ConfigError):
    """A training whose loss is no longer finite."""


class SourceError(RecsysError):
    """A source table that is missing, unreadable, or not what the configuration says."""


class ContractError(RecsysError):
    """Data that breaks a rule; the message names the rule, the count and sample rows."""


class StoreError(RecsysError):
    """An artifact that is missing, altered on disk, or of another kind than asked for."""


class ExportError(RecsysError):
    """A copy of the published lists that could not be written; the lists are published all the same.

    `may_pass`: another try may find it otherwise, as where a server was down or a disk was full.
    """

    def __init__(self, message: str, may_pass: bool = False):
        super().__init__(message)
        self.may_pass = may_pass
