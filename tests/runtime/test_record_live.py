"""`mdrun record` with cameras that run: over real RTSP, and at a live pace; cut short by Ctrl-C."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mdrun.cli import cli
from mdrun.command import run_command
from mdrun.frames import Clock, Modality, SourceState
from mdrun.record.index import read_events, read_index
from mdrun.record.plan import shots_of
from mdrun.record.recording import Recording
from tests.rtsp_server import SMALL, RtspServer, read_mark
from tests.rtsp_server import THERMAL as THERMAL_MOUNT

VISIBLE, THERMAL = Modality.VISIBLE, Modality.THERMAL
STREET = "test://street?width=160&height=128&thermal_width=40&thermal_height=32&fps=5&pace=live"
ROOT = Path(__file__).resolve().parents[2]


def test_a_paced_street_is_recorded_as_cameras(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    street = f"{STREET}&duration=1"
    assert run_command(cli, "mdrun", ["record", "--visible", street, "--thermal", street, "--output", str(folder)]) == 0
    assert "ended by end" in capsys.readouterr().out
    recording = Recording(folder)
    assert recording.header.live
    assert recording.scene().telemetry
    assert {shot.ffc for shot in shots_of(recording.plan, THERMAL)} != {None}
    for modality, count in ((VISIBLE, 5), (THERMAL, 9)):
        camera = recording.header.cameras[modality]
        assert (camera.frames, camera.dropped) == (count, {})
        entries = read_index(folder / camera.index)
        assert all(entry.wall_ns is not None and entry.arrived_ns >= entry.captured_ns for entry in entries)
    states = [change.state for _, change in read_events(folder / "events.jsonl") if change.modality is VISIBLE]
    assert states[:2] == [SourceState.CONNECTING, SourceState.LIVE]
    assert states[-1] is SourceState.ENDED  # between: a stall, where the machine is busy


def test_ctrl_c_finishes_the_recording(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    street = f"{STREET}&duration=600"
    command = [sys.executable, "-m", "mdrun", "record", "--visible", street, "--output", str(folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "runtime")}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while len(read_index(folder / "visible.jsonl")) < 3:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "ended by signal" in output
    recording = Recording(folder)
    assert recording.header.finished
    assert len(shots_of(recording.plan, VISIBLE)) == recording.header.cameras[VISIBLE].frames >= 3


def test_a_camera_that_is_not_there_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mdrun.record.run.FIRST_S", 1.0)
    arguments = ["record", "--visible", "rtsp://user:word@127.0.0.1:9/none", "--output", str(tmp_path / "run")]
    assert run_command(cli, "mdrun", arguments) == 4
    told = capsys.readouterr().err
    assert "without visible images nothing can be replayed [MDR-401]" in told
    assert "word" not in told
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("thermal", ["{silent}", f"{STREET}&duration=600"])
def test_a_signal_before_the_first_visible_image_leaves_nothing(tmp_path: Path, thermal: str) -> None:
    """Also where both cameras hang, and where thermal images have come."""
    folder = tmp_path / "run"
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts, and says nothing
        silent = f"rtsp://127.0.0.1:{server.getsockname()[1]}/x"
        command = [sys.executable, "-m", "mdrun", "record", "--visible", silent, "--output", str(folder)]
        command += ["--thermal", thermal.format(silent=silent)]
        environment = os.environ | {"PYTHONPATH": str(ROOT / "runtime")}
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        wanted = "visible.jsonl" if thermal == "{silent}" else "thermal.jsonl"
        while not (folder / wanted).exists() or (thermal != "{silent}" and not read_index(folder / wanted)):
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
        took_s = time.monotonic() - began
    assert process.returncode == 143, output
    assert output.strip() == f"{folder}: stopped before the first visible image; nothing is left of it"
    assert not folder.exists()
    assert took_s < 4  # two cameras that hang are waited for side by side: 1.7 s, on a machine with nothing else to do


@pytest.mark.slow
@pytest.mark.skipif(bool(RtspServer.missing()), reason=RtspServer.missing() or "runs here")
def test_two_rtsp_cameras_lose_no_frame(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with RtspServer(SMALL, THERMAL_MOUNT, login="ada:secret") as server:
        command = ["record", "--visible", server.url("visible", "ada:secret"), "--output", str(folder)]
        command += ["--thermal", server.url("thermal", "ada:secret"), "--seconds", "6"]
        assert run_command(cli, "mdrun", command) == 0
    recording = Recording(folder)
    assert recording.header.stopped_by == "max_seconds"
    assert "secret" not in (folder / "recording.json").read_text()
    for modality, fps, size in ((VISIBLE, 30, (320, 256)), (THERMAL, 9, (160, 120))):
        camera = recording.header.cameras[modality]
        assert (camera.width, camera.height, camera.dtype, camera.dropped) == (*size, "uint8", {})
        shots = shots_of(recording.plan, modality)
        marks = [read_mark(recording.frame(shot).image)[0] for shot in shots]
        assert np.diff(marks).tolist() == [1] * (len(marks) - 1)
        assert len(shots) > 3 * fps
        assert shots[-1].clock is Clock.SENDER
