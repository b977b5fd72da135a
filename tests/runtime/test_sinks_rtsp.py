"""The overlay pushed to an RTSP server: what arrives there, and what one that is slow, silent or away costs."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np
import pytest

from mdrun.errors import SinkError
from mdrun.sinks import dispatch, push, rtsp
from mdrun.sinks.dispatch import Dispatch
from mdrun.sinks.rtsp import RtspSink
from mdrun.sinks.uri import parse_output
from tests.broker import PATIENCE_S, free_port, wait_for
from tests.runtime.live import make_context, make_live
from tests.runtime.test_sinks_stream import DEBIAN_PYTHON, SIZE

SERVER = """
import sys
import gi
gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
server = GstRtspServer.RTSPServer.new()
server.set_address("127.0.0.1")
server.set_service(sys.argv[1])
factory = GstRtspServer.RTSPMediaFactory.new()
factory.set_transport_mode(GstRtspServer.RTSPTransportMode.RECORD)
factory.set_launch(
    "( rtph264depay name=depay0 ! h264parse config-interval=-1 ! video/x-h264,stream-format=byte-stream "
    f"! filesink sync=false async=false buffer-mode=unbuffered append=true location={sys.argv[2]} )"
)
server.get_mount_points().add_factory("/live", factory)
assert server.attach(None)
print("ready", flush=True)
GLib.MainLoop().run()
"""


@dataclass
class Recorder:
    """A real RTSP server that records what is pushed to it.

    Attributes:
        port: where it listens.
        path: raw H.264 of everything received.
    """

    port: int
    path: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            [DEBIAN_PYTHON, "-c", SERVER, str(self.port), str(self.path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def pictures(self) -> int:
        if not self.path.exists() or not self.path.stat().st_size:
            return 0
        with av.open(str(self.path), format="h264") as container:
            return sum((frame.width, frame.height) == SIZE for frame in container.decode(video=0))


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    check = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    if not Path(DEBIAN_PYTHON).exists() or subprocess.run([DEBIAN_PYTHON, "-c", check], capture_output=True).returncode:  # noqa: PLW1510  # looked at here
        pytest.skip("no GstRtspServer: apt-get install python3-gi gir1.2-gst-rtsp-server-1.0")
    server = Recorder(free_port(), tmp_path / "received.h264")
    yield server
    server.stop()


@pytest.mark.slow
def test_rtsp_is_recorded_by_a_server_and_comes_back_after_an_outage(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "PAUSE_S", (0.1, 0.2))
    context = make_context()
    sink = RtspSink(parse_output(f"rtsp://127.0.0.1:{recorder.port}/live?width=160&fps=30"), context)
    made = Dispatch([sink], context.monitor)
    made.start()  # nobody there yet: no end
    offered = 0

    def offer(count: int) -> None:
        nonlocal offered
        for _ in range(count):
            made.offer(make_live(offered))
            offered += 1
            time.sleep(0.02)

    def offer_until_alive(alive: bool) -> None:
        end = time.monotonic() + PATIENCE_S
        while context.monitor.sinks[sink.name].alive is not alive:
            assert time.monotonic() < end
            offer(1)

    offer_until_alive(alive=False)
    assert "Connection refused" in context.monitor.sinks[sink.name].message
    offer(50)  # more attempts
    assert [notice["alive"] for notice in context.monitor.notices] == [False]  # told once
    for _ in range(2):  # the second time after a loss
        recorder.start()
        offer_until_alive(alive=True)
        before, end = recorder.pictures(), time.monotonic() + PATIENCE_S
        while recorder.pictures() < before + 10:
            assert time.monotonic() < end
            offer(10)
        recorder.stop()
        offer_until_alive(alive=False)
    made.finish()
    status = context.monitor.sinks[sink.name]
    assert status.written + status.dropped + status.errors <= offered  # it wants 30 a second at most


@pytest.mark.slow
def test_every_picture_of_a_recording_that_is_written_is_at_the_server(recorder: Recorder) -> None:
    """However quick the recording is: it waits for the server."""
    recorder.start()
    context = make_context()
    sink = RtspSink(parse_output(f"rtsp://127.0.0.1:{recorder.port}/live?width=160&fps=60"), context)
    made = Dispatch([sink], context.monitor, wait_s=PATIENCE_S)
    made.start()
    rng = np.random.default_rng(1)
    for sequence in range(100):
        result = make_live(sequence)
        noise = rng.integers(0, 255, (72, 96, 3), np.uint8)
        made.offer(replace(result, pair=replace(result.pair, visible=replace(result.pair.visible, image=noise))))
    made.finish()
    status = context.monitor.sinks[sink.name]
    assert status.written + status.dropped + status.errors == 100
    assert status.written >= 90  # what is under way at the end has not long
    wait_for(lambda: recorder.pictures() >= status.written, "the pictures")


def _throttled(far: int, bytes_a_second: int) -> int:
    """A port behind which the server is as slow as a bad link."""
    door = socket.create_server(("127.0.0.1", 0))
    door.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

    def pump(source: socket.socket, target: socket.socket, rate: int) -> None:
        with suppress(OSError):
            while data := source.recv(1024):
                time.sleep(len(data) / rate)
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        near, _ = door.accept()
        server = socket.create_connection(("127.0.0.1", far))
        threading.Thread(target=pump, args=(near, server, bytes_a_second), daemon=True).start()
        threading.Thread(target=pump, args=(server, near, 10**9), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return int(door.getsockname()[1])


@pytest.mark.slow
def test_a_slow_server_is_told_and_gets_the_present(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written is there, not in the buffers of the kernel, and little is on its way."""
    monkeypatch.setattr(rtsp, "SLOW_S", 0.5)
    recorder.start()
    context = make_context()
    port = _throttled(recorder.port, 20_000)
    sink = RtspSink(parse_output(f"rtsp://127.0.0.1:{port}/live?width=160&fps=60"), context)
    made = Dispatch([sink], context.monitor)
    made.start()
    rng = np.random.default_rng(1)
    end, offered = time.monotonic() + PATIENCE_S, 0
    while "too slow" not in context.monitor.sinks[sink.name].message or sink.delivered < 20:
        assert time.monotonic() < end
        result = make_live(offered)
        noise = rng.integers(0, 255, (72, 96, 3), np.uint8)
        made.offer(replace(result, pair=replace(result.pair, visible=replace(result.pair.visible, image=noise))))
        offered += 1
        time.sleep(0.02)
    made.finish()
    status = context.monitor.sinks[sink.name]
    assert status.written + status.dropped + status.errors == offered
    assert status.dropped > status.written
    assert [notice["alive"] for notice in context.monitor.notices] == [False]
    wait_for(lambda: recorder.pictures() >= status.written, "the pictures")


def test_a_picture_has_arrived_when_the_other_end_has_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Not when the kernel has taken it; and a connection that breaks meanwhile is noticed."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        near = socket.create_connection(door.getsockname())
        far, _ = door.accept()
    arrivals = push.Arrivals()
    arrivals._socket = near  # noqa: SLF001, RUF100
    near.sendall(bytes(100))
    arrivals.sent()
    wait_for(lambda: not arrivals.look(), "the small one")
    near.sendall(bytes(100_000))  # more than the other end has room for
    arrivals.sent()
    time.sleep(0.1)
    assert arrivals.look()
    assert capsys.readouterr().out == "+\n"
    left = 100_100
    while left:
        left -= len(far.recv(left))
    wait_for(lambda: not arrivals.look(), "the large one")
    assert capsys.readouterr().out == "+\n"
    near.sendall(bytes(100_000))
    arrivals.sent()
    far.close()  # with something unread

    def broken() -> bool:
        try:
            return not arrivals.look()
        except OSError:
            return True

    wait_for(broken, "the end")
    assert capsys.readouterr().out == ""
    near.close()


def test_without_a_connection_that_tells_a_picture_has_arrived_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    arrivals = push.Arrivals()
    arrivals.sent()
    assert capsys.readouterr().out == "+\n"


def test_rtsp_to_nobody_tells_no_password() -> None:
    sink = RtspSink(parse_output(f"rtsp://user:hunter2@127.0.0.1:{free_port()}/live"), make_context())
    end = time.monotonic() + PATIENCE_S
    with pytest.raises(SinkError, match=r"rtsp://127\.0\.0\.1:\d+/live: .*Connection refused") as caught:
        _write_until(sink, end)
    assert "hunter2" not in str(caught.value)
    sink.abandon()


def test_ctrl_c_in_a_terminal_does_not_reach_the_process_that_pushes() -> None:
    pusher = rtsp.Pusher(b"")
    try:
        assert os.getpgid(pusher._process.pid) != os.getpgid(0)  # noqa: SLF001, RUF100  # the group that it is sent to
    finally:
        pusher.close(0.0)


def _write_until(sink: RtspSink, end: float) -> None:
    sequence = 0
    while time.monotonic() < end:
        if sink.wants(result := make_live(sequence)):
            sink.write(result)
        sequence += 1
        time.sleep(0.02)


def test_a_server_that_says_nothing_costs_nobody_else_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """The handshake hangs: this interpreter goes on, the sink gives up in time, and the end comes."""
    monkeypatch.setattr(rtsp, "STALL_S", 0.3)
    context = make_context()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sink = RtspSink(parse_output(f"rtsp://127.0.0.1:{silent.getsockname()[1]}/live?fps=60"), context)
        made = Dispatch([sink], context.monitor)
        made.start()
        made.offer(make_live())
        connection, _ = silent.accept()
        assert connection.recv(7) == b"OPTIONS"  # and no answer
        rng = np.random.default_rng(1)
        end, offered = time.monotonic() + PATIENCE_S, 1
        while "nothing taken" not in context.monitor.sinks[sink.name].message:  # the pipe is full
            assert time.monotonic() < end
            result = make_live(offered)
            noise = rng.integers(0, 255, (72, 96, 3), np.uint8)
            made.offer(replace(result, pair=replace(result.pair, visible=replace(result.pair.visible, image=noise))))
            offered += 1
            time.sleep(0.005)
        began = time.monotonic()
        made.finish()
        assert time.monotonic() - began < PATIENCE_S
        connection.close()
