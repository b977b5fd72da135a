"""Cameras that send JPEG after JPEG in one HTTP answer (`multipart/x-mixed-replace`)."""

from __future__ import annotations

import http.client
import re
import socket
import time
from contextlib import suppress
from urllib.parse import urlsplit

from mdrun.errors import SourceCodecError, SourceError
from mdrun.frames import Clock, Modality
from mdrun.sources.live.camera import Camera, CameraInfo, Grab
from mdrun.sources.live.failures import from_connection, from_status
from mdrun.sources.live.jpeg import END, decode_jpeg
from mdrun.sources.live.login import Login
from mdrun.sources.live.rtsp_session import AGENT, tls_context
from mdrun.sources.uri import SourceUri, redact

LARGEST_IMAGE = 64 << 20  # bytes: what claims more is no camera
LONGEST_LINE = 65_536
DAMAGED_IN_A_ROW = 30  # one second of a 30 Hz camera: then it is no JPEG that comes


class MjpegCamera(Camera):
    """One MJPEG stream over HTTP. It carries no capture times: those of arrival are taken."""

    def __init__(self, uri: SourceUri, modality: Modality, name: str, timeout_s: float) -> None:
        """`uri` of scheme `http` or `https`."""
        super().__init__(name, modality)
        self._uri = uri
        self._where = redact(uri.address)
        self._timeout_s = timeout_s
        self._login = Login(*uri.login) if uri.login else None
        self._connection: http.client.HTTPConnection | None = None
        self._socket: socket.socket | None = None
        self._body: http.client.HTTPResponse | None = None
        self._boundary = b""
        self._ahead: Grab | None = None
        self._interrupted = False

    def connect(self) -> CameraInfo:
        """Ask for the stream and wait for its first image."""
        self.disconnect()
        try:
            self._body = self._open()
            self._boundary = self._find_boundary(self._body)
            self._ahead = first = self._next()
        except Exception as error:
            self.disconnect()
            raise from_connection(self._where, error, self._timeout_s, connected=False) from error
        height, width = first.image.shape[:2]
        return CameraInfo(width, height, str(first.image.dtype), self._where, None, "JPEG over HTTP")

    def grab(self) -> Grab:
        """The next image."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            return ahead
        try:
            return self._next()
        except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: closed by another thread
            raise from_connection(self._where, error, self._timeout_s, connected=True) from error

    def disconnect(self) -> None:
        """Close the connection."""
        for part in (self._body, self._connection):
            with suppress(OSError):
                if part is not None:
                    part.close()
        self._body = self._connection = self._socket = self._ahead = None

    def interrupt(self) -> None:
        """Break the connection under a waiting read."""
        self._interrupted = True
        if (held := self._socket) is not None:
            with suppress(OSError):
                held.shutdown(socket.SHUT_RDWR)

    def _open(self) -> http.client.HTTPResponse:
        """The answer, once more with the password where the server wants one."""
        answer = self._ask()
        challenges = answer.headers.get_all("WWW-Authenticate") or []
        if answer.status == http.HTTPStatus.UNAUTHORIZED and self._login and self._login.challenge(challenges):
            self.disconnect()
            answer = self._ask()
        if answer.status != http.HTTPStatus.OK:
            raise from_status(self._where, answer.status, answer.reason, self._login is not None)
        return answer

    def _ask(self) -> http.client.HTTPResponse:
        address = urlsplit(self._uri.address)
        host, port = address.hostname or "", address.port
        connection = http.client.HTTPConnection(host, port, timeout=self._timeout_s)
        if self._uri.scheme == "https":
            context = tls_context(self._uri)
            connection = http.client.HTTPSConnection(host, port, timeout=self._timeout_s, context=context)
        self._connection = connection
        connection.connect()
        self._socket = connection.sock  # kept: http.client lets go of it where the answer has no end
        if self._interrupted:
            raise ConnectionAbortedError("closed")
        target = (address.path or "/") + (f"?{address.query}" if address.query else "")
        headers = {"User-Agent": AGENT, "Accept": "multipart/x-mixed-replace, image/jpeg"}
        if self._login and (login := self._login.header("GET", target)):
            headers["Authorization"] = login
        connection.request("GET", target, headers=headers)
        return connection.getresponse()

    def _find_boundary(self, answer: http.client.HTTPResponse) -> bytes:
        kind = answer.headers.get("Content-Type", "nothing")
        found = re.match(r"multipart/[\w.-]+\s*;.*?boundary\s*=\s*\"?([^\";\s]+)", kind, re.IGNORECASE)
        if found is None:
            raise SourceCodecError(
                f"{self._where}: the camera sends {redact(kind[:80])}; wanted multipart/x-mixed-replace (MJPEG), or an "
                "HLS address that ends in .m3u8"
            )
        return found[1].removeprefix("--").encode()

    def _next(self) -> Grab:
        """The next image that is whole; damaged ones are counted."""
        for _ in range(DAMAGED_IN_A_ROW):
            data = self._part()
            arrived_ns = time.monotonic_ns()
            image = decode_jpeg(data, self.modality, self._where)
            if image is not None:
                return Grab(image, arrived_ns, arrived_ns, Clock.ARRIVAL)
            self.damaged += 1
        raise SourceCodecError(f"{self._where}: {DAMAGED_IN_A_ROW} parts in a row are no JPEG images; wanted MJPEG")

    def _part(self) -> bytes:
        """The body of the next part; by its length where that is given, else up to the next boundary."""
        while self._boundary not in self._line():
            pass
        length = None
        while line := self._line().strip():
            name, _, value = line.partition(b":")
            if name.strip().lower() == b"content-length" and value.strip().isdigit():
                length = int(value)
        if length is None:
            return self._until_boundary()
        if length > LARGEST_IMAGE:
            raise SourceError(f"{self._where}: a part of {length} bytes; wanted images below {LARGEST_IMAGE}")
        data = self._answer.read(length)
        if len(data) < length:
            raise ConnectionResetError("closed by the camera")
        return data

    def _until_boundary(self) -> bytes:
        """Without a length the image ends with the JPEG's own end; the lines up to the next boundary are read later."""
        parts, size = [], 0
        while size < LARGEST_IMAGE:
            line = self._line()
            parts.append(line)
            size += len(line)
            if line.rstrip(b"\r\n").endswith(END):
                return b"".join(parts)
        raise SourceError(f"{self._where}: a part without an end; wanted JPEG images")

    def _line(self) -> bytes:
        line = self._answer.readline(LONGEST_LINE)
        if not line:
            raise ConnectionResetError("closed by the camera")
        return line

    @property
    def _answer(self) -> http.client.HTTPResponse:
        if self._body is None:
            raise ConnectionAbortedError("closed")
        return self._body
