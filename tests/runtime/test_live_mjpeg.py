"""MJPEG over HTTP, from a real server of the standard library."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest

from mdrun.errors import (
    DataError,
    SourceAuthError,
    SourceCodecError,
    SourceError,
    SourceLostError,
    SourceNotFoundError,
    SourceTimeoutError,
)
from mdrun.frames import Clock, Modality
from mdrun.sources.live import open_camera
from mdrun.sources.live.mjpeg import MjpegCamera
from mdrun.sources.uri import parse_uri

WAIT_S = 20.0


def jpeg(number: int, colour: bool = True) -> bytes:
    """An image whose brightness is its number."""
    shape = (48, 64, 3) if colour else (48, 64)
    return cv2.imencode(".jpg", np.full(shape, 40 + 10 * number, np.uint8))[1].tobytes()


class Handler(BaseHTTPRequestHandler):
    """Paths say what is sent."""

    done: ClassVar[threading.Event]

    def do_GET(self) -> None:
        login = base64.b64encode(b"viewer:pass@word").decode()
        if self.path == "/private" and self.headers.get("Authorization") != f"Basic {login}":
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.end_headers()
            return
        if self.path in ("/404", "/403", "/500"):
            self.send_error(int(self.path[1:]))
            return
        self.send_response(200)
        kind = "text/html" if self.path == "/page" else "multipart/x-mixed-replace; boundary=--frame"
        self.send_header("Content-Type", kind)
        self.end_headers()
        with suppress(OSError):  # the client may go
            self._stream()

    def _stream(self) -> None:
        if self.path in ("/silent", "/page"):
            self.done.wait(WAIT_S)
            return
        for number in range(10):
            data = jpeg(number, colour=self.path != "/grey")
            if self.path == "/damaged" and number in (1, 2):
                data = data[: len(data) // 2]
            if self.path == "/rubbish":
                data = b"no image"
            length = b"" if self.path == "/lengthless" else b"Content-Length: %d\r\n" % len(data)
            self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\n" + length + b"\r\n" + data + b"\r\n")
        if self.path == "/rubbish":
            for _ in range(50):
                self.wfile.write(b"--frame\r\nContent-Length: 2\r\n\r\nno\r\n")
        if self.path == "/hangs":
            self.done.wait(WAIT_S)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving() -> Iterator[str]:
    Handler.done = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        Handler.done.set()
        server.shutdown()
        server.server_close()
        thread.join(WAIT_S)


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    with serving() as address:
        yield address


def camera(text: str, modality: Modality = Modality.VISIBLE, timeout_s: float = 10.0) -> MjpegCamera:
    found = open_camera(parse_uri(text), modality, timeout_s=timeout_s)
    assert isinstance(found, MjpegCamera)
    return found


@pytest.mark.parametrize("path", ["plain", "lengthless"])
def test_every_image_comes_with_its_arrival_time(host: str, path: str) -> None:
    found = camera(f"http://{host}/{path}")
    assert found.name == f"127.0.0.1/{path}"
    info = found.connect()
    assert (info.width, info.height, info.dtype) == (64, 48, "uint8")
    assert info.identity == f"http://{host}/{path}"
    last = 0
    for number in range(10):
        grab = found.grab()
        assert grab.image.shape == (48, 64, 3)
        assert abs(int(grab.image[20, 20, 0]) - (40 + 10 * number)) <= 2
        assert last <= grab.captured_ns == grab.arrived_ns <= time.monotonic_ns()
        assert grab.clock is Clock.ARRIVAL
        last = grab.arrived_ns
    with pytest.raises(SourceLostError):
        found.grab()
    found.disconnect()
    found.disconnect()


def test_thermal_images_are_grey(host: str) -> None:
    found = camera(f"http://{host}/grey", Modality.THERMAL)
    found.connect()
    assert found.grab().image.shape == (48, 64)
    found.disconnect()
    with pytest.raises(DataError):
        camera(f"http://{host}/grey").connect()


def test_damaged_images_are_left_out_and_counted(host: str) -> None:
    found = camera(f"http://{host}/damaged")
    found.connect()
    levels = [round((int(found.grab().image[0, 0, 0]) - 40) / 10) for _ in range(8)]
    assert levels == [0, 3, 4, 5, 6, 7, 8, 9]
    assert found.damaged == 2
    found.disconnect()


def test_password(host: str) -> None:
    found = camera(f"http://viewer:pass%40word@{host}/private")
    found.connect()
    found.disconnect()
    with pytest.raises(SourceAuthError, match="check user and password") as caught:
        camera(f"http://viewer:wrong@{host}/private").connect()
    assert "wrong" not in str(caught.value)
    with pytest.raises(SourceAuthError, match="give user and password"):
        camera(f"http://{host}/private").connect()


@pytest.mark.parametrize(
    ("path", "kind", "told"),
    [
        ("404", SourceNotFoundError, "404"),
        ("403", SourceAuthError, "403"),
        ("500", SourceError, "500"),
        ("page", SourceCodecError, "text/html"),
        ("rubbish", SourceCodecError, "no JPEG"),
    ],
)
def test_refusals(host: str, path: str, kind: type[Exception], told: str) -> None:
    with pytest.raises(kind, match=told) as caught:
        camera(f"http://{host}/{path}").connect()
    assert "\n" not in str(caught.value)


def test_silence_ends_in_a_timeout(host: str) -> None:
    with pytest.raises(SourceTimeoutError, match=r"within 0\.3 s"):
        camera(f"http://{host}/silent?timeout=0.3").connect()


def test_nothing_there() -> None:
    with serving() as gone:
        pass
    with pytest.raises(SourceNotFoundError, match="nothing listens"):
        camera(f"http://{gone}/plain").connect()
    with pytest.raises(SourceNotFoundError, match="no host of this name"):
        camera("http://no.such.host.invalid/plain").connect()


def test_interrupt_ends_a_waiting_read(host: str) -> None:
    found = camera(f"http://{host}/hangs", timeout_s=60.0)
    found.connect()
    for _ in range(10):
        found.grab()
    timer = threading.Timer(0.2, found.interrupt)
    timer.start()
    begun = time.monotonic()
    with pytest.raises(SourceLostError):
        found.grab()
    assert time.monotonic() - begun < WAIT_S
    found.disconnect()
