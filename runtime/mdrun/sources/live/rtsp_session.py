"""The talk with an RTSP server, and the packets that come back on the same TCP connection (RFC 2326, section 10.12)."""

from __future__ import annotations

import re
import socket
import ssl
import time
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedReader
from urllib.parse import urlsplit

from mdrun.errors import SourceError
from mdrun.sources.live.failures import from_status
from mdrun.sources.live.login import Login
from mdrun.sources.live.sdp import Media, parse_sdp
from mdrun.sources.uri import SourceUri

PORTS = {"rtsp": 554, "rtsps": 322}
AGENT = "mdrun"
RTP_CHANNEL, RTCP_CHANNEL = 0, 1
BUFFER = 1 << 18  # bytes: a key picture of 4 Mbit/s video is below 100 kB
SESSION_TIMEOUT_S = 60.0  # of a server that names none (RFC 2326, section 12.37)
LONGEST_HEADER = 65_536  # bytes: anything longer is no RTSP
LONGEST_BODY = 1 << 20
_UNAUTHORIZED, _TRANSPORT = 401, 461


@dataclass
class _Answer:
    status: int
    words: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str:
        return next(iter(self.all(name)), "")

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name.lower()]


class RtspSession:
    """One connection that plays one video stream. OSError and its subclasses pass through: the camera words them."""

    def __init__(self, uri: SourceUri, where: str, timeout_s: float) -> None:
        """`where` names the camera in errors."""
        self._uri = uri
        self._where = where
        self._timeout_s = timeout_s
        self._login = Login(*uri.login) if uri.login else None
        self._socket: socket.socket | None = None
        self._input: BufferedReader | None = None
        self._sequence = 0
        self._session = ""
        self._base = uri.address
        self._alive_every_s = SESSION_TIMEOUT_S / 2
        self._alive_s = 0.0
        self._alive_method = "OPTIONS"
        self._channels = {RTP_CHANNEL: RTP_CHANNEL, RTCP_CHANNEL: RTCP_CHANNEL}
        self.interrupted = False

    def open(self) -> Media:
        """Connect, log in and start the stream.

        Raises:
            SourceError: by what the server refuses.
            OSError: the connection fails.
        """
        self._connect()
        options = self._request("OPTIONS", self._uri.address)
        if "GET_PARAMETER" in options.header("public"):
            self._alive_method = "GET_PARAMETER"
        described = self._request("DESCRIBE", self._uri.address, {"Accept": "application/sdp"})
        self._base = described.header("content-base") or described.header("content-location") or self._uri.address
        media = parse_sdp(described.body.decode("utf-8", "replace"), self._where)
        self._setup(media)
        self._request("PLAY", self._base, {"Range": "npt=0.000-"})
        self._alive_s = time.monotonic()
        return media

    def read(self) -> tuple[int, bytes]:
        """The next packet: RTP_CHANNEL or RTCP_CHANNEL, and its bytes.

        Raises:
            OSError: no packet in time, or the connection has ended.
        """
        while True:
            if time.monotonic() - self._alive_s > self._alive_every_s:
                self._alive_s = time.monotonic()
                self._send(self._alive_method, self._base, {})  # its answer comes between packets
            first = self._take(1)
            if first == b"$":
                header = self._take(3)
                data = self._take(int.from_bytes(header[1:], "big"))
                if header[0] in self._channels:
                    return self._channels[header[0]], data
            else:
                self._read_answer(first)

    def interrupt(self) -> None:
        """Make `read` fail now, from another thread."""
        self.interrupted = True
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Say goodbye where that goes at once, and close; twice does no harm."""
        if self._socket is None:
            return
        with suppress(OSError):
            self._socket.settimeout(0.1)
            if self._session:
                self._send("TEARDOWN", self._base, {})
        for part in (self._input, self._socket):
            with suppress(OSError):
                if part is not None:
                    part.close()
        self._socket = self._input = None

    def _connect(self) -> None:
        address = urlsplit(self._uri.address)
        host = address.hostname or ""
        port = address.port or PORTS[self._uri.scheme]
        plain = socket.create_connection((host, port), self._timeout_s)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self._socket = tls_context(self._uri).wrap_socket(plain, server_hostname=host) if self._secure else plain
        except BaseException:
            plain.close()
            raise
        self._input = BufferedReader(socket.SocketIO(self._socket, "r"), BUFFER)
        if self.interrupted:
            self.interrupt()

    @property
    def _secure(self) -> bool:
        return self._uri.scheme == "rtsps"

    def _setup(self, media: Media) -> None:
        control = media.control
        if not re.match(r"rtsps?://", control, re.IGNORECASE):
            control = f"{self._base.rstrip('/')}/{control.lstrip('/')}" if control else self._base
        answer = self._request("SETUP", control, {"Transport": "RTP/AVP/TCP;unicast;interleaved=0-1"})
        self._session, _, rest = answer.header("session").partition(";")
        if found := re.search(r"timeout\s*=\s*(\d+)", rest):
            self._alive_every_s = max(1.0, int(found[1]) / 2)
        if found := re.search(r"interleaved\s*=\s*(\d+)(?:-(\d+))?", answer.header("transport")):
            first = int(found[1])
            self._channels = {first: RTP_CHANNEL, int(found[2] or first + 1): RTCP_CHANNEL}

    def _request(self, method: str, target: str, headers: dict[str, str] | None = None) -> _Answer:
        """Ask and wait; once more with the password where the server wants one."""
        answer = self._ask(method, target, headers or {})
        if answer.status == _UNAUTHORIZED and self._login and self._login.challenge(answer.all("www-authenticate")):
            answer = self._ask(method, target, headers or {})
        if answer.status == _TRANSPORT:
            raise SourceError(f"{self._where}: the camera does not stream over TCP; add transport=udp")
        if answer.status // 100 != 2 and not (method == "OPTIONS" and answer.status != _UNAUTHORIZED):
            raise from_status(self._where, answer.status, answer.words, self._login is not None)
        return answer

    def _ask(self, method: str, target: str, headers: dict[str, str]) -> _Answer:
        sequence = self._send(method, target, headers)
        end = time.monotonic() + self._timeout_s
        while time.monotonic() < end:
            first = self._take(1)
            if first == b"$":  # a server that already plays
                self._take(int.from_bytes(self._take(3)[1:], "big"))
                continue
            answer = self._read_answer(first)
            if answer.header("cseq") in ("", str(sequence)):
                return answer
        raise TimeoutError

    def _send(self, method: str, target: str, headers: dict[str, str]) -> int:
        self._sequence += 1
        lines = [f"{method} {target} RTSP/1.0", f"CSeq: {self._sequence}", f"User-Agent: {AGENT}"]
        if self._session:
            lines.append(f"Session: {self._session}")
        if self._login and (answer := self._login.header(method, target)):
            lines.append(f"Authorization: {answer}")
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if self._socket is None:
            raise ConnectionError("closed")
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode())
        return self._sequence

    def _read_answer(self, first: bytes) -> _Answer:
        """One answer, or one of the server's own requests, whose status is then 0."""
        assert self._input is not None  # noqa: S101  # read only while connected
        lines, length = [], 0
        while line := (first + self._input.readline(LONGEST_HEADER)).strip():
            first = b""
            lines.append(line.decode("latin-1"))
            length += len(line)
            if length > LONGEST_HEADER:
                raise SourceError(f"{self._where}: what answers there is no RTSP server; check the port")
        if not lines:
            raise ConnectionResetError("closed by the camera")
        found = re.match(r"RTSP/\d\.\d\s+(\d{3})\s*(.*)", lines[0])
        if found is None and not re.fullmatch(r"[A-Z_]+ \S+ RTSP/\d\.\d", lines[0]):
            raise SourceError(f"{self._where}: what answers there is no RTSP server; check the port")
        pairs = (line.partition(":") for line in lines[1:])
        headers = [(name.strip().lower(), value.strip()) for name, _, value in pairs]
        answer = _Answer(int(found[1]) if found else 0, found[2] if found else "", headers, b"")
        size = answer.header("content-length")
        if size.isascii() and size.isdigit() and 0 < int(size) <= LONGEST_BODY:
            answer.body = self._take(int(size))
        return answer

    def _take(self, count: int) -> bytes:
        if self._input is None:
            raise ConnectionError("closed")
        data = self._input.read(count)
        if len(data) < count:
            raise ConnectionResetError("closed by the camera")
        return data


def tls_context(uri: SourceUri) -> ssl.SSLContext:
    """For `rtsps` and `https`; with `verify=no` any certificate will do, as cameras sign their own."""
    context = ssl.create_default_context()
    if uri.options.get("verify") == "no":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
