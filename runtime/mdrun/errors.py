"""Errors a user can meet, each with its exit code and its own `MDR-` code.

Every message is one line: what was got, what was wanted, the way out. The first digit of a code is the exit code.
Both tables stand in docs/errors.md.
"""

from __future__ import annotations


class MdrunError(Exception):
    """Base of every error this project raises on purpose."""

    exit_code = 1
    code = "MDR-100"


class UsageError(MdrunError):
    """A flag, an argument or a configuration that cannot be meant."""

    exit_code = 2
    code = "MDR-200"


class RigError(UsageError):
    """A rig file that cannot be read, or says what cannot be meant."""

    code = "MDR-210"


class CalibrationError(UsageError):
    """A calibration file that cannot be read, or does not belong to these cameras."""

    code = "MDR-220"


class EngineError(MdrunError):
    """An engine that is missing, damaged, without a manifest or made for something else."""

    exit_code = 3
    code = "MDR-300"


class BackendError(EngineError):
    """An engine library that is missing, or does not run what was asked for where it was asked for."""

    code = "MDR-310"


class SourceError(MdrunError):
    """A camera, file or folder that cannot be opened or read."""

    exit_code = 4
    code = "MDR-400"


class SourceNotFoundError(SourceError):
    """No camera, host, stream or device of this name."""

    code = "MDR-401"


class SourceAuthError(SourceError):
    """The camera refuses the user, the password or the permission."""

    code = "MDR-402"


class SourceTimeoutError(SourceError):
    """The camera does not answer, or gives no image, in time."""

    code = "MDR-403"


class SourceCodecError(SourceError):
    """The camera gives a codec or pixel format that cannot be decoded here."""

    code = "MDR-404"


class SourceLostError(SourceError):
    """The connection to a camera that did give images has ended."""

    code = "MDR-405"


class SourceChangedError(SourceError):
    """Another camera, or another image size or depth, than before the reconnect."""

    code = "MDR-406"


class SourceSupportError(SourceError):
    """This machine lacks what such a source needs, for example GStreamer."""

    code = "MDR-407"


class DataError(MdrunError):
    """An image or a pair of streams that contradicts the engine's contract."""

    exit_code = 5
    code = "MDR-500"


class OutputError(MdrunError):
    """A result that cannot be written."""

    exit_code = 6
    code = "MDR-600"


class SinkError(OutputError):
    """A server that results are sent to, or a port that they are offered on, is not to be had."""

    code = "MDR-610"


class IncompleteError(MdrunError):
    """A result that was written without a part that could not be made."""

    exit_code = 7
    code = "MDR-700"


def from_code(code: str, message: str) -> MdrunError:
    """The error that a code stands for, with this message; of an unknown code the base class."""
    known: dict[str, type[MdrunError]] = {}
    kinds: list[type[MdrunError]] = [MdrunError]
    for kind in kinds:  # grows meanwhile; a subclass without a code of its own comes after the class it has it from
        known.setdefault(kind.code, kind)
        kinds += kind.__subclasses__()
    return known.get(code, MdrunError)(message)
