"""The overlay as HLS and live MP4: what a player gets."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdrun.errors import OutputError, SinkError
from mdrun.frames import Result
from mdrun.sinks import stream
from mdrun.sinks.encode import BAR, Rate
from mdrun.sinks.rotate import RotatingFile, Rotation
from mdrun.sinks.scene import GAP
from mdrun.sinks.stream import PLAYLIST, HlsSink, LiveVideoSink, StreamSink
from mdrun.sinks.uri import parse_output
from tests.runtime.live import make_context, make_live

FPS = 30.0
DEBIAN_PYTHON = "/usr/bin/python3"  # Debian builds python3-gi for this one
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


def test_an_older_video_is_set_aside_once_and_kept(tmp_path: Path) -> None:
    """Its age is no reason to rotate the file that takes its place: `keep=1` keeps it."""
    path = tmp_path / "overlay.mp4"
    path.write_bytes(b"of last year")
    os.utime(path, (time.time() - 400 * 86400,) * 2)
    sink = LiveVideoSink(path, parse_output(f"video:{path}?width=160&rotate=365d&keep=1"), make_context())
    sink.start()
    _write(sink, 150)
    sink.finish()
    assert [file.read_bytes() for file in RotatingFile(path, Rotation()).older()] == [b"of last year"]
    assert len(_times(path)) == 50


def test_no_rotated_video_holds_a_single_picture(tmp_path: Path) -> None:
    """A file begins where the one before was full, and takes whole fragments of two seconds."""
    path = tmp_path / "overlay.mp4"
    sink = LiveVideoSink(path, parse_output(f"video:{path}?width=160&rotate=1kB&fps=30"), make_context())
    sink.start()
    _write(sink, 300)
    sink.finish()
    counts = [len(_times(file)) for file in [*RotatingFile(path, Rotation()).older(), path]]
    assert sum(counts) == sink.delivered
    assert min(counts[:-1]) >= 60
    assert len(counts) >= 3


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


@pytest.mark.parametrize("fails", [b"#EXT-X-ENDLIST", b"#EXTM3U"])
def test_what_a_list_names_is_written_and_what_none_names_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bytes
) -> None:
    """The disk is full when the run ends, for the last list or for every list."""
    write = stream._HlsFile.write

    def full(file: stream._HlsFile, data: bytes) -> int:
        if file.path.name == PLAYLIST and fails in bytes(data):
            file._files.stop(OSError(errno.ENOSPC, "No space left on device"))
            return len(data)
        return write(file, data)

    monkeypatch.setattr(stream._HlsFile, "write", full)
    sink = HlsSink(tmp_path, parse_output(f"hls:{tmp_path}?segment=1s&width=160&fps=10"), make_context())
    sink.start()

    def run() -> None:
        for sequence in range(75):
            _offer(sink, make_live(sequence))
        sink.finish()

    with pytest.raises(SinkError, match="No space left"):
        run()
    sink.abandon()
    left = [path for path in tmp_path.iterdir() if path.suffix == ".ts"]
    assert sink.delivered == sum(len(_times(path)) for path in left)
    assert (sink.delivered > 0) == (fails == b"#EXT-X-ENDLIST")
    assert all(path.name in (tmp_path / PLAYLIST).read_text(encoding="utf-8") for path in left)
    assert sink.given_up > 0
