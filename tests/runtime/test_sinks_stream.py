"""The overlay as HLS, RTSP and live MP4: what a player gets."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdrun.errors import OutputError, SinkError
from mdrun.frames import Result
from mdrun.sinks import dispatch, rtsp
from mdrun.sinks.dispatch import Dispatch
from mdrun.sinks.encode import BAR, Rate
from mdrun.sinks.rotate import RotatingFile, Rotation
from mdrun.sinks.rtsp import RtspSink
from mdrun.sinks.scene import GAP
from mdrun.sinks.stream import PLAYLIST, HlsSink, LiveVideoSink, StreamSink
from mdrun.sinks.uri import parse_output
from tests.broker import PATIENCE_S, free_port, wait_for
from tests.runtime.live import make_context, make_live

FPS = 30.0
SIZE = (2 * 160 + GAP, 120 + BAR)  # width 160 a pane of a 4:3 camera


def _times(path: Path | str) -> list[float]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == SIZE
        return [float(frame.time) for frame in container.decode(stream) if frame.time is not None]


def _keys(path: Path | str) -> list[float]:
    """Times of the pictures that a player can begin with."""
    with av.open(str(path)) as container:
        return [
            float(packet.pts * packet.time_base)
            for packet in container.demux(video=0)
            if packet.is_keyframe and packet.pts is not None
        ]


def _even(times: list[float]) -> None:
    """Every third, at times every fourth, frame of a 33 ms camera: ten a second."""
    assert set(np.round(np.diff(times), 3)) <= {0.098, 0.099, 0.1, 0.132, 0.133}
    assert np.diff(times).mean() == pytest.approx(0.1, abs=0.003)


def _offer(sink: StreamSink, result: Result) -> None:
    """As a dispatch does."""
    if sink.wants(result):
        sink.write(result)


def _write(sink: LiveVideoSink, count: int) -> None:
    for sequence in range(count):
        _offer(sink, make_live(sequence))


# Rate


@given(st.lists(st.integers(1, 200_000_000), min_size=2, max_size=200), st.floats(0.5, 60))
def test_no_more_than_the_rate(steps: list[int], fps: float) -> None:
    rate = Rate(fps)
    times = np.cumsum(steps).tolist()
    shown = [at for at in times if rate.wants(at)]
    seconds = (times[-1] - times[0]) / 1e9
    assert shown[0] == times[0]
    assert len(shown) <= seconds * fps + 2
    assert len(shown) >= min(len(times), seconds * min(fps, 1e9 / max(steps)) / 2 - 1)  # the slower of camera and limit


@pytest.mark.parametrize(
    ("camera", "limit", "wanted"), [(30, 10, 10), (30, 30, 30), (9, 10, 9), (25, 10, 10), (30, 60, 30)]
)
def test_an_even_rate(camera: int, limit: int, wanted: int) -> None:
    rate = Rate(limit)
    shown = sum(rate.wants(frame * 10**9 // camera) for frame in range(10 * camera))
    assert shown == pytest.approx(10 * wanted, abs=1)


def test_a_clock_that_begins_again_stops_nothing() -> None:
    rate = Rate(10)
    assert rate.wants(10**12)
    assert rate.wants(0)
    assert not rate.wants(1)


# HLS


def test_hls_plays_and_keeps_a_rolling_list(tmp_path: Path) -> None:
    folder = tmp_path / "hls"
    folder.mkdir()
    (folder / "stream-17.ts").write_text("of an earlier run", encoding="utf-8")
    (folder / "index.html").write_text("not ours", encoding="utf-8")
    sink = HlsSink(folder, parse_output(f"hls:{folder}?segment=1s&list=3&width=160"), make_context())
    sink.start()
    assert (folder / "stream-17.ts").exists()  # the run may still be refused
    assert sink.commit() is None
    for sequence in range(240):  # 7.9 s
        _offer(sink, make_live(sequence))
    assert not (folder / "stream-17.ts").exists()
    running = (folder / PLAYLIST).read_text(encoding="utf-8")
    assert "#EXT-X-ENDLIST" not in running
    assert running.count("#EXTINF") == 3
    assert "#EXT-X-PROGRAM-DATE-TIME" in running
    named = [line for line in running.splitlines() if line.endswith(".ts")]
    assert all((folder / name).exists() for name in named)
    sink.finish()
    assert sink.commit() == folder / PLAYLIST
    assert "#EXT-X-ENDLIST" in (folder / PLAYLIST).read_text(encoding="utf-8")
    times = _times(folder / PLAYLIST)
    _even(times)
    assert 2 <= times[-1] - times[0] <= 4  # three segments
    assert all(_keys(folder / name) for name in named if (folder / name).exists())  # each can be the first
    left = sorted(path.name for path in folder.iterdir())
    assert (
        len([name for name in left if name.endswith(".ts")]) <= 3 + 2
    )  # one that a player may still read, and the last
    assert not [name for name in left if name.endswith(".tmp")]
    assert "index.html" in left


def test_the_list_is_whole_whenever_it_is_read(tmp_path: Path) -> None:
    sink = HlsSink(tmp_path, parse_output(f"hls:{tmp_path}?segment=1s&list=3&width=160&fps=5"), make_context())
    sink.start()
    done, broken = threading.Event(), list[str]()

    def read() -> None:
        while not done.is_set():
            path = tmp_path / PLAYLIST
            if path.exists():
                lines = path.read_text(encoding="utf-8").splitlines()
                if not lines or lines[0] != "#EXTM3U" or not lines[-1].endswith(".ts"):
                    broken.append("\n".join(lines))

    reader = threading.Thread(target=read)
    reader.start()
    for sequence in range(300):
        _offer(sink, make_live(sequence))
    done.set()
    reader.join()
    sink.finish()
    assert broken == []


def test_hls_needs_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    sink = HlsSink(tmp_path / "file" / "hls", parse_output("hls:x"), make_context())
    with pytest.raises(OutputError, match="cannot be written"):
        sink.start()


# MP4


def test_a_video_that_was_cut_off_plays_up_to_there(tmp_path: Path) -> None:
    path = tmp_path / "overlay.mp4"
    sink = LiveVideoSink(path, parse_output(f"video:{path}?width=160"), make_context())
    sink.start()
    for sequence in range(240):
        _offer(sink, make_live(sequence))
    shutil.copy(path, tmp_path / "cut.mp4")  # what a power cut leaves
    sink.finish()
    assert sink.commit() == path
    whole, cut = _times(path), _times(tmp_path / "cut.mp4")
    _even(whole)
    assert len(whole) == pytest.approx(79, abs=1)
    assert cut == whole[: len(cut)]
    assert whole[-1] - cut[-1] <= 2 * 2.0 + 0.2  # the fragment under way, and the one being written
    np.testing.assert_allclose(np.diff(_keys(path)), 2.0, atol=0.1)


def test_a_video_is_rotated_and_an_older_one_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "overlay.mp4"
    path.write_bytes(b"of an earlier run")
    sink = LiveVideoSink(path, parse_output(f"video:{path}?width=160&rotate=60kB"), make_context())
    sink.start()
    rng = np.random.default_rng(1)
    for sequence in range(150):
        result = make_live(sequence)
        noise = rng.integers(0, 255, (72, 96, 3), np.uint8)
        _offer(sink, replace(result, pair=replace(result.pair, visible=replace(result.pair.visible, image=noise))))
    sink.finish()
    older = RotatingFile(path, Rotation()).older()
    assert older[0].read_bytes() == b"of an earlier run"
    assert len(older) >= 3
    assert sum(len(_times(file)) for file in [*older[1:], path]) == 50  # every third result, none lost


@pytest.mark.parametrize("earlier", [None, b"", b"of an earlier run"])
def test_without_results_there_is_no_video(tmp_path: Path, earlier: bytes | None) -> None:
    path = tmp_path / "overlay.mp4"
    if earlier is not None:
        path.write_bytes(earlier)
    sink = LiveVideoSink(path, parse_output("video:overlay.mp4"), make_context())
    sink.start()
    sink.finish()
    assert sink.commit() is None
    assert [file.read_bytes() for file in tmp_path.iterdir()] == ([] if earlier is None else [earlier])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_told_and_tried_again() -> None:
    sink = LiveVideoSink(Path("/dev/full"), parse_output("video:/dev/full"), make_context())
    sink.start()
    for _ in range(2):
        with pytest.raises(OutputError, match="No space left"):
            _write(sink, 600)
    sink.abandon()


# RTSP

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
DEBIAN_PYTHON = "/usr/bin/python3"  # Debian builds python3-gi for this one


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
        _offer(sink, make_live(sequence))
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
