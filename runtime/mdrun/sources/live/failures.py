"""What a failed connection means, as one of the project's errors."""

from __future__ import annotations

import errno
import socket
import ssl
from http import HTTPStatus

from mdrun.errors import (
    MdrunError,
    SourceAuthError,
    SourceCodecError,
    SourceError,
    SourceLostError,
    SourceNotFoundError,
    SourceTimeoutError,
)
from mdrun.sources.uri import redact

_REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_ABSENT = (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)
_LATE = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.GATEWAY_TIMEOUT)
_UNREACHABLE = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN, errno.EADDRNOTAVAIL)


def from_status(where: str, status: int, words: str, with_login: bool) -> SourceError:
    """The error of an RTSP or HTTP status that is no success."""
    answer = f"{where}: the camera answers {status} {redact(words)}".rstrip()
    if status in _REFUSED:
        # without `://`: redaction would take the example out
        way_out = (
            "check user and password" if with_login else "give user and password before HOST, as USER:PASSWORD@HOST"
        )
        return SourceAuthError(f"{answer}; {way_out}")
    if status in _ABSENT:
        return SourceNotFoundError(f"{answer}; wanted a stream of this name, check the path")
    if status in _LATE:
        return SourceTimeoutError(f"{answer}; is it overloaded?")
    return SourceError(f"{answer}; wanted 200 OK, look at the camera's own log")


def from_connection(where: str, error: Exception, timeout_s: float, connected: bool) -> MdrunError:
    """The error of a socket. `connected`: images have come over it."""
    if isinstance(error, MdrunError):
        return error
    words = redact(str(getattr(error, "strerror", None) or error or type(error).__name__))
    if isinstance(error, ssl.SSLCertVerificationError):
        return SourceAuthError(f"{where}: the certificate is not trusted ({words}); add verify=no to trust this camera")
    if isinstance(error, ssl.SSLError):
        return SourceError(f"{where}: no secure connection ({words}); does it speak TLS at this port?")
    if isinstance(error, socket.gaierror):
        return SourceNotFoundError(f"{where}: no host of this name ({words}); check the name, or give its address")
    if isinstance(error, TimeoutError):
        what = "no image" if connected else "no answer"
        return SourceTimeoutError(f"{where}: {what} within {timeout_s:g} s; is the camera on, and the network up?")
    if isinstance(error, ConnectionRefusedError):
        return SourceNotFoundError(f"{where}: nothing listens there ({words}); check the port, is the camera started?")
    if isinstance(error, OSError) and error.errno in _UNREACHABLE:
        return SourceNotFoundError(f"{where}: cannot be reached ({words}); check address and network")
    if isinstance(error, OSError) or connected:
        return SourceLostError(f"{where}: the connection has ended ({words})")
    return SourceError(f"{where}: cannot be opened ({words})")


def from_ffmpeg(where: str, error: Exception, timeout_s: float, connected: bool) -> MdrunError:
    """The error of PyAV."""
    import av

    if isinstance(error, av.error.HTTPError | av.error.HTTPClientError):
        kinds: dict[type[Exception], int] = {
            av.HTTPUnauthorizedError: HTTPStatus.UNAUTHORIZED,
            av.HTTPForbiddenError: HTTPStatus.FORBIDDEN,
            av.HTTPNotFoundError: HTTPStatus.NOT_FOUND,
        }
        if (status := kinds.get(type(error))) is not None:
            return from_status(where, status, "", with_login=False)
        return SourceError(f"{where}: the camera answers with an error ({error.strerror})")
    if isinstance(error, av.ExitError):  # our own time limit
        return from_connection(where, TimeoutError(), timeout_s, connected)
    if isinstance(error, av.DecoderNotFoundError | av.InvalidDataError | av.PatchWelcomeError):
        return SourceCodecError(
            f"{where}: no picture can be decoded ({error.strerror}); wanted H.264, H.265 or JPEG, set the camera to one"
        )
    if isinstance(error, OSError) and error.errno == errno.EIO and not connected:
        return SourceNotFoundError(f"{where}: cannot be reached; check the name, is there such a host?")
    return from_connection(where, error, timeout_s, connected)
