"""RTSP against a real server: every frame, its true time, what is refused, and what breaks."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from mdrun.errors import MdrunError, SourceAuthError, SourceNotFoundError, SourceTimeoutError
from mdrun.frames import Clock, Frame, Modality, SourceState, StateChange
from mdrun.sources.live import CameraInfo, Grab, LiveReader, open_camera, rtsp
from mdrun.sources.live.camera import Camera
from mdrun.sources.live.rtsp_session import RTCP_CHANNEL, RtspSession
from mdrun.sources.uri import parse_uri
from tests.rtsp_server import SMALL, THERMAL, VISIBLE, Mount, RtspServer, mark_ns, read_mark

OPENSSL = shutil.which("openssl") or ""
WAIT_S = 60.0  # for things that take a second on a machine that is not busy
MS = 1_000_000
LOGIN = "viewer:p%2Fss%40word"
# GStreamer's server tells a time that is later than the capture by the latency of its own pipeline, 20 ms.
SENDER_LATE_MS = 60
JPEG = Mount("jpeg", 320, 256, 30, "jpeg")
H265 = Mount("h265", 320, 256, 10, "h265")

pytestmark = pytest.mark.skipif(bool(RtspServer.missing()), reason=RtspServer.missing() or "there")


@pytest.fixture(scope="module")
def server() -> Iterator[RtspServer]:
    with RtspServer(SMALL, THERMAL, JPEG, H265, login="viewer:p/ss@word") as running:
        yield running


class Log:
    """What a reader put, and the number of each frame as its picture shows it."""

    def __init__(self) -> None:
        self.changes: list[StateChange] = []
        self.frames: list[Frame] = []
        self.numbers: list[int] = []
        self.errors_ns: list[int] = []  # capture time minus the true one
        self.changed = threading.Condition()

    def put(self, event: Frame | StateChange) -> None:
        with self.changed:
            if isinstance(event, Frame):
                number, micros = read_mark(event.image)
                self.numbers.append(number)
                self.errors_ns.append(event.captured_ns - mark_ns(micros))
                self.frames.append(event)
            else:
                self.changes.append(event)
            self.changed.notify_all()

    def wait(self, done: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(done, WAIT_S), self.states

    @property
    def states(self) -> list[str]:
        return [change.state.value for change in self.changes]

    def since(self, count: int) -> list[str]:
        return self.states[count:]


def read(url: str, log: Log, modality: Modality = Modality.VISIBLE, timeout_s: float = 20.0, **more: Any) -> LiveReader:
    camera = open_camera(parse_uri(url), modality, name="cam", timeout_s=timeout_s)
    reader = LiveReader(camera, log.put, **{"reconnect_s": 0.5} | more)
    reader.start()
    return reader


def grab(url: str, count: int, modality: Modality = Modality.VISIBLE) -> tuple[CameraInfo, list[Grab]]:
    camera = open_camera(parse_uri(url), modality, timeout_s=20.0)
    try:
        return camera.connect(), [camera.grab() for _ in range(count)]
    finally:
        camera.disconnect()


def assert_unbroken(images: list[Any]) -> None:
    numbers = [read_mark(image)[0] for image in images]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_every_frame_comes_and_none_from_the_future(server: RtspServer) -> None:
    info, grabs = grab(server.url("visible", LOGIN), 30)
    assert (info.width, info.height, info.dtype, info.fps) == (320, 256, "uint8", 30.0)
    assert info.identity == server.url("visible")  # without the password
    assert_unbroken([item.image for item in grabs])
    truths = [mark_ns(read_mark(item.image)[1]) for item in grabs]
    for item, truth in zip(grabs, truths, strict=True):
        assert item.captured_ns <= item.arrived_ns
        assert item.captured_ns - truth > -15 * MS  # not before it was made
    times = [item.captured_ns for item in grabs]
    assert times == sorted(times)


def test_refusals(server: RtspServer) -> None:
    for url, kind, told in (
        (server.url("visible"), SourceAuthError, "give user and password"),
        (server.url("visible", "viewer:hunter2"), SourceAuthError, "check user and password"),
        (server.url("nosuch", LOGIN), SourceNotFoundError, "404"),
        ("rtsp://no.such.host.invalid/x", SourceNotFoundError, "no host of this name"),
    ):
        with pytest.raises(kind, match=told) as caught:
            grab(url, 0)
        assert "hunter2" not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_connection_that_brings_no_picture_any_more_is_given_up(
    server: RtspServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sender reports go on, the encoder does not."""
    camera = open_camera(parse_uri(server.url("visible", LOGIN)), Modality.VISIBLE, timeout_s=WAIT_S)
    camera.connect()
    monkeypatch.setattr(rtsp, "FIRST_PICTURE_S", 0.2)
    monkeypatch.setattr(camera, "_timeout_s", 0.2)
    monkeypatch.setattr(RtspSession, "read", lambda _: (RTCP_CHANNEL, b"report"))
    with pytest.raises(SourceTimeoutError, match=r"no image within 0\.2 s"):
        _exhaust(camera)
    camera.disconnect()


def _exhaust(camera: Camera) -> None:
    """Take what the connection has brought already, and wait for more."""
    while True:
        camera.grab()


def test_a_server_of_another_kind_and_one_that_says_nothing() -> None:
    web = ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler)
    thread = threading.Thread(target=web.handle_request, daemon=True)
    thread.start()
    try:
        with pytest.raises(MdrunError) as caught:
            grab(f"rtsp://127.0.0.1:{web.server_address[1]}/x", 0)
        assert "\n" not in str(caught.value)
    finally:
        web.server_close()
    silent = ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler)  # listens, never accepts
    try:
        with pytest.raises(SourceTimeoutError, match=r"no answer within 0\.3 s"):
            grab(f"rtsp://127.0.0.1:{silent.server_address[1]}/x?timeout=0.3", 0)
    finally:
        silent.server_close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mount", "modality", "shape"),
    [
        ("jpeg", Modality.VISIBLE, (256, 320, 3)),
        ("h265", Modality.VISIBLE, (256, 320, 3)),
        ("thermal", Modality.THERMAL, (120, 160)),
        ("jpeg", Modality.THERMAL, (256, 320)),
    ],
)
def test_codecs(server: RtspServer, mount: str, modality: Modality, shape: tuple[int, ...]) -> None:
    info, grabs = grab(server.url(mount, LOGIN), 25, modality)
    assert {item.image.shape for item in grabs} == {shape}
    assert info.detail.split()[0] == {"jpeg": "JPEG", "h265": "H265", "thermal": "H264"}[mount]
    assert_unbroken([item.image for item in grabs])


@pytest.mark.slow
def test_udp_through_ffmpeg(server: RtspServer) -> None:
    info, grabs = grab(f"{server.url('visible', LOGIN)}?transport=udp", 60)
    assert info.detail == "h264 over RTSP, UDP"
    assert_unbroken([item.image for item in grabs])
    with pytest.raises(SourceAuthError):
        grab(f"{server.url('visible', 'viewer:hunter2')}?transport=udp", 0)
    with pytest.raises(SourceNotFoundError):
        grab(f"{server.url('nosuch', LOGIN)}?transport=udp", 0)


class TlsProxy:
    """Speaks TLS with a certificate of its own and passes everything on to a plain server."""

    def __init__(self, folder: Path, port: int) -> None:
        files = folder / "key.pem", folder / "certificate.pem"
        request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=camera"]
        command = [OPENSSL, *request, "-keyout", str(files[0]), "-out", str(files[1])]
        subprocess.run(command, check=True, capture_output=True)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(files[1], files[0])
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                plain, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        with (
            suppress(OSError),
            self._context.wrap_socket(plain, server_side=True) as client,
            socket.create_connection(("127.0.0.1", self._target)) as server,
        ):
            threading.Thread(target=self._pass, args=(client, server), daemon=True).start()
            self._pass(server, client)

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError, ValueError):
            while data := source.recv(65536):
                target.sendall(data)

    def close(self) -> None:
        self._listener.close()


@pytest.mark.slow
@pytest.mark.skipif(not OPENSSL, reason="no openssl")
def test_tls(server: RtspServer, tmp_path: Path) -> None:
    proxy = TlsProxy(tmp_path, server.port)
    url = f"rtsps://{LOGIN}@127.0.0.1:{proxy.port}/visible"
    try:
        with pytest.raises(SourceAuthError, match="add verify=no"):
            grab(url, 0)
        _, grabs = grab(f"{url}?verify=no", 30)
        assert_unbroken([item.image for item in grabs])
        with pytest.raises(MdrunError, match="does it speak TLS"):
            grab(f"rtsps://127.0.0.1:{server.port}/visible?timeout=3", 0)
    finally:
        proxy.close()


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_the_senders_clock_tells_the_time_of_capture(server: RtspServer, transport: str) -> None:
    log = Log()
    reader = read(f"{server.url('thermal', LOGIN)}?transport={transport}", log, Modality.THERMAL)
    try:
        log.wait(lambda: any(frame.clock is Clock.SENDER for frame in log.frames))
        settled = len(log.frames)
        log.wait(lambda: len(log.frames) > settled + 20)
    finally:
        reader.close()
    assert [frame.sequence for frame in log.frames] == list(range(len(log.frames)))
    assert log.numbers == list(range(log.numbers[0], log.numbers[0] + len(log.numbers)))
    for frame, error_ns in zip(log.frames[settled:], log.errors_ns[settled:], strict=True):
        assert frame.clock is Clock.SENDER
        assert -5 * MS <= error_ns <= SENDER_LATE_MS * MS
    times = [frame.captured_ns for frame in log.frames]
    assert times == sorted(times)


@pytest.mark.slow
def test_the_senders_clock_can_be_ignored(server: RtspServer) -> None:
    log = Log()
    reader = read(f"{server.url('thermal', LOGIN)}?clock=arrival", log, Modality.THERMAL)
    try:
        log.wait(lambda: len(log.frames) > 45)  # 5 s: reports have come
    finally:
        reader.close()
    assert {frame.clock for frame in log.frames} == {Clock.ARRIVAL}


@pytest.mark.slow
def test_two_cameras_lose_nothing() -> None:
    logs = {VISIBLE: Log(), THERMAL: Log()}
    with RtspServer(VISIBLE, THERMAL) as running:
        readers = [
            read(running.url(mount.name), log, Modality(mount.name), stall_s=30.0) for mount, log in logs.items()
        ]
        try:
            logs[THERMAL].wait(lambda: len(logs[THERMAL].frames) > 90)
        finally:
            for reader in readers:
                reader.close()
    for mount, log in logs.items():
        assert log.states == ["connecting", "live"]
        assert log.numbers == list(range(log.numbers[0], log.numbers[0] + len(log.numbers)))
        assert {frame.image.shape[:2] for frame in log.frames} == {(mount.height, mount.width)}


@pytest.mark.slow
def test_a_frozen_server_stalls_and_a_killed_one_is_lost_and_both_come_back() -> None:
    running = RtspServer(SMALL)
    running.start()
    log = Log()
    reader = read(running.url("visible"), log, timeout_s=2.0, reconnect_s=0.5)
    try:
        assert reader.first(WAIT_S)
        log.wait(lambda: len(log.frames) > 30)
        running.freeze()
        log.wait(lambda: log.states[-1] == "stalled")
        running.thaw()
        log.wait(lambda: log.states[-1] == "live")
        count = len(log.changes)
        running.freeze()
        log.wait(lambda: "lost" in log.since(count))  # after the timeout
        running.thaw()
        log.wait(lambda: log.states[-1] == "live")
        count, frames = len(log.changes), len(log.frames)
        running.kill()
        log.wait(lambda: "lost" in log.since(count))
        lost = next(change for change in log.changes[count:] if change.state is SourceState.LOST)
        assert lost.code == "MDR-405"
        running.start()
        log.wait(lambda: log.states[-1] == "live" and len(log.frames) > frames + 10)
        assert [frame.sequence for frame in log.frames] == list(range(len(log.frames)))
        running.freeze()
        begun = time.monotonic()
        reader.close()
        assert time.monotonic() - begun < 2.0
    finally:
        running.kill()
        reader.close()


@pytest.mark.slow
def test_first_frames_come_soon() -> None:
    with RtspServer(VISIBLE, THERMAL) as running:
        for mount in (VISIBLE, THERMAL):
            took = []
            for _ in range(3):  # a busy machine may spoil one
                log = Log()
                begun = time.monotonic()
                reader = read(running.url(mount.name), log, Modality(mount.name))
                assert reader.first(WAIT_S)
                took.append(time.monotonic() - begun)
                reader.close()
            assert min(took) < 1.5


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg")
def test_hls(tmp_path: Path) -> None:
    command = (
        "ffmpeg -v error -re -f lavfi -i testsrc=size=160x120:rate=10 -c:v libx264 -g 10 -t 60 -f hls "
        "-hls_time 1 -hls_list_size 4 live.m3u8"
    )
    encoder = subprocess.Popen(command.split(), cwd=tmp_path)

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(tmp_path))

        def log_message(self, *_: Any) -> None:
            pass

    web = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    try:
        end = time.monotonic() + WAIT_S
        while not (tmp_path / "live.m3u8").exists():
            assert time.monotonic() < end
            time.sleep(0.1)
        info, grabs = grab(f"http://127.0.0.1:{web.server_address[1]}/live.m3u8", 25)
        assert (info.width, info.height) == (160, 120)
        steps = [b.captured_ns - a.captured_ns for a, b in pairwise(grabs)]
        assert min(steps) >= 99 * MS  # in real time although they come in bursts
    finally:
        web.shutdown()
        web.server_close()
        encoder.kill()
        encoder.wait()
