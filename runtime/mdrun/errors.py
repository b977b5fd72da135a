"""Errors a user can meet, each with its exit code.

Every message is one line: what was got, what was wanted, the way out.
The table of exit codes stands in docs/errors.md.
"""

from __future__ import annotations


class MdrunError(Exception):
    """Base of every error this project raises on purpose."""

    exit_code = 1


class UsageError(MdrunError):
    """A flag, an argument or a configuration that cannot be meant."""

    exit_code = 2


class EngineError(MdrunError):
    """An engine that is missing, damaged, without a manifest or made for something else."""

    exit_code = 3


class SourceError(MdrunError):
    """A camera, file or folder that cannot be opened or read."""

    exit_code = 4


class DataError(MdrunError):
    """An image or a pair of streams that contradicts the engine's contract."""

    exit_code = 5


class OutputError(MdrunError):
    """A result that cannot be written."""

    exit_code = 6
