"""Recordings in real time, and which camera a URI means."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from mdrun.errors import SourceError, SourceLostError, UsageError
from mdrun.frames import Clock, FfcState, Frame, Modality, SourceState, StateChange
from mdrun.sources.base import open_source
from mdrun.sources.live import EndOfRecording, LiveReader, Pace, open_camera
from mdrun.sources.uri import parse_uri

STREET = "test://street?pace=live&width=64&height=48&thermal_width=32&thermal_height=24&frames=8"

STREET_FFC = f"{STREET}&ffc_every=0.1&ffc=0.07&thermal_fps=30"


def folder(path: Path, count: int) -> Path:
    for number in range(count):
        cv2.imwrite(str(path / f"{number}.png"), np.full((8, 8), number, np.uint8))
    return path


def test_images_come_when_they_are_due(tmp_path: Path) -> None:
    camera = open_camera(parse_uri(f"{folder(tmp_path, 5)}?fps=50&pace=live&offset_ms=7"), Modality.THERMAL)
    assert camera.offset_ns == 7_000_000
    begun = time.monotonic_ns()
    info = camera.connect()
    assert (info.width, info.height, info.dtype, info.timed_by) == (8, 8, "uint8", Clock.FILE)
    grabs = [camera.grab() for _ in range(5)]
    assert [int(grab.image[0, 0]) for grab in grabs] == [0, 1, 2, 3, 4]
    assert [grab.name for grab in grabs] == [f"{number}.png" for number in range(5)]
    first = grabs[0].captured_ns
    assert first >= begun
    assert [grab.captured_ns - first for grab in grabs] == [number * 20_000_000 for number in range(5)]
    assert all(grab.captured_ns <= grab.arrived_ns <= time.monotonic_ns() for grab in grabs)
    with pytest.raises(EndOfRecording):
        camera.grab()
    camera.disconnect()
    with pytest.raises(EndOfRecording):  # a reconnect does not play it again
        camera.connect()


def test_both_cameras_of_a_rig_share_one_clock() -> None:
    pace = Pace()
    cameras = [open_camera(parse_uri(STREET), modality, pace=pace) for modality in Modality]
    for camera in cameras:
        camera.connect()
        time.sleep(0.05)  # the second one is ready later
    live = [camera.grab() for camera in cameras]
    recorded = STREET.replace("pace=live&", "")
    with open_source(recorded, Modality.VISIBLE) as visible, open_source(recorded, Modality.THERMAL) as thermal:
        frames = visible.read(), thermal.read()
    for grab, frame in zip(live, frames, strict=True):
        assert frame is not None
        np.testing.assert_array_equal(grab.image, frame.image)
    recorded_ns = [frame.captured_ns for frame in frames if frame is not None]
    assert live[1].captured_ns - live[0].captured_ns == recorded_ns[1] - recorded_ns[0]
    for camera in cameras:
        camera.disconnect()


def test_the_shutter_is_told() -> None:
    uri = parse_uri(STREET_FFC)
    camera = open_camera(uri, Modality.THERMAL)
    assert camera.connect().ffc_telemetry
    with open_source(STREET_FFC.replace("pace=live&", ""), Modality.THERMAL) as thermal:
        shutters = [frame.shutter for _ in range(6) if (frame := thermal.read()) is not None]
    told = [camera.grab().ffc for _ in shutters]
    assert told == [FfcState.RUNNING if shutter else FfcState.NORMAL for shutter in shutters]
    assert set(told) == {FfcState.RUNNING, FfcState.NORMAL}
    visible = open_camera(uri, Modality.VISIBLE)
    assert not visible.connect().ffc_telemetry
    assert visible.grab().ffc is None


def test_a_recording_ends(tmp_path: Path) -> None:
    events: list[Frame | StateChange] = []
    camera = open_camera(parse_uri(f"{folder(tmp_path, 3)}?fps=100&pace=live&loop=2"), Modality.THERMAL, name="cam1")
    reader = LiveReader(camera, events.append, stall_s=60.0)
    reader.start()
    end = time.monotonic() + 20
    while reader.state is not SourceState.ENDED and time.monotonic() < end:
        time.sleep(0.01)
    reader.close()
    states = [event.state for event in events if isinstance(event, StateChange)]
    assert states == [SourceState.CONNECTING, SourceState.LIVE, SourceState.ENDED]
    assert [event.sequence for event in events if isinstance(event, Frame)] == list(range(6))


def test_interrupt(tmp_path: Path) -> None:
    camera = open_camera(parse_uri(f"{folder(tmp_path, 3)}?fps=0.01&pace=live"), Modality.THERMAL)
    camera.connect()
    camera.grab()
    threading.Timer(0.1, camera.interrupt).start()
    with pytest.raises(SourceLostError):
        camera.grab()


def test_what_cannot_be_played(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="add fps="):
        open_camera(parse_uri(f"{folder(tmp_path, 1)}?pace=live"), Modality.THERMAL).connect()
    with pytest.raises(SourceError):
        open_camera(parse_uri(f"{tmp_path}/none?fps=9&pace=live"), Modality.THERMAL).connect()
    with pytest.raises(UsageError, match="no live camera; add pace=live"):
        open_camera(parse_uri("frames?fps=9"), Modality.THERMAL)
    for live in ("rtsp://a:b@cam/x", "frames?fps=9&pace=live", "replay://x"):
        with pytest.raises(UsageError, match="wanted a recording here") as caught:
            open_source(live, Modality.VISIBLE)
        assert "a:b" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("rtsp://a:b@cam:554/live/1?x=y", "RtspCamera", "cam/live/1"),
        ("rtsp://cam/live?transport=udp", "FfmpegCamera", "cam/live"),
        ("http://cam/hls/index.m3u8?t=1", "FfmpegCamera", "cam/hls/index.m3u8"),
        ("https://cam/", "MjpegCamera", "cam"),
        ("/dev/v4l/by-id/usb-x", "V4l2Camera", "usb-x"),
        ("csi://1", "GstCamera", "csi1"),
        ("gst:videotestsrc", "GstCamera", "gst"),
        ("a/b.mp4?pace=live", "PacedCamera", "b.mp4"),
    ],
)
def test_which_camera(text: str, kind: str, name: str) -> None:
    camera = open_camera(parse_uri(text), Modality.VISIBLE)
    assert (type(camera).__name__, camera.name) == (kind, name)
    assert open_camera(parse_uri(text), Modality.VISIBLE, name="cam0").name == "cam0"
