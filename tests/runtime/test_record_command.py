"""`mdrun record`: cameras, folders and replays become recordings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mdrun.cli import cli
from mdrun.command import run_command
from mdrun.frames import Frame, Modality, SourceState, StateChange
from mdrun.record.header import describe_camera, read_header
from mdrun.record.options import parse_options
from mdrun.record.plan import Shot, shots_of
from mdrun.record.recorder import Recorder
from mdrun.record.recording import Recording
from mdrun.record.replay import ReplayFeed
from mdrun.sources import open_source
from tests.recordings import street_recording

VISIBLE, THERMAL = Modality.VISIBLE, Modality.THERMAL
STREET = "test://street?width=160&height=128&thermal_width=40&thermal_height=32&duration=0.5"


def run(*arguments: str) -> int:
    return run_command(cli, "mdrun", ["record", *arguments])


def test_the_street_is_recorded_bit_for_bit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    assert run("--visible", STREET, "--thermal", STREET, "--output", str(folder)) == 0
    shown = capsys.readouterr().out
    assert "visible cam0" in shown
    assert "ended by end" in shown
    recording = Recording(folder)
    assert recording.header.sources == {VISIBLE: STREET, THERMAL: STREET}
    assert not recording.header.live
    assert recording.scene().telemetry  # the street tells its shutter
    for modality in (VISIBLE, THERMAL):
        with open_source(STREET, modality) as source:
            for shot in shots_of(recording.plan, modality):
                frame = source.read()
                assert frame is not None
                assert shot.captured_ns == frame.captured_ns
                np.testing.assert_array_equal(recording.frame(shot).image, frame.image)
            assert source.read() is None


def test_a_replay_with_faults_becomes_a_recording(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    query = "kill_thermal=2s-3s&skew=40ms&from=1s&to=4s"
    assert run("--visible", f"replay://{street_recording()}?{query}", "--output", str(folder)) == 0
    options = dict(part.split("=") for part in query.split("&"))
    with ReplayFeed(street_recording(), parse_options(options)) as first, ReplayFeed(folder) as again:
        while not first.ended:
            one, other = first.next(0.1), again.next(0.1)
            if isinstance(one, Frame):
                assert isinstance(other, Frame)
                np.testing.assert_array_equal(one.image, other.image)
                assert (one.captured_ns, one.arrived_ns) == (other.captured_ns, other.arrived_ns)
            else:
                assert one == other
        assert again.ended


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--thermal", STREET], 2, "--visible is missing"),
        (["--visible", STREET, "--seconds", "0"], 2, "--seconds"),
        (["--visible", STREET, "--seconds", "nan"], 2, "nan is not a finite number"),
        (["--visible", STREET, "--max-bytes", "20"], 2, "20G"),
        (["--visible", "nowhere"], 4, "nowhere"),
        (["--rig", "nowhere.yaml"], 2, "no such file"),
    ],
)
def test_mistakes_leave_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, words: str
) -> None:
    assert run(*arguments, "--output", str(tmp_path / "run")) == code
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_help_loads_nothing_heavy() -> None:
    import subprocess
    import sys

    code = (
        "import sys, mdrun.record.commands; print([m for m in ('numpy', 'av', 'cv2', 'pydantic') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.realdata
def test_real_streams_become_a_recording(real_data: Path, tmp_path: Path) -> None:
    stream = real_data / "rgbt" / "stream_vtuav"
    folder = tmp_path / "run"
    visible, thermal = f"{stream / 'visible'}?fps=30", f"{stream / 'thermal'}?fps=9"
    assert run("--visible", visible, "--thermal", thermal, "--seconds", "1", "--output", str(folder)) == 0
    recording = Recording(folder)
    assert recording.header.stopped_by == "max_seconds"
    shots = {modality: shots_of(recording.plan, modality) for modality in (VISIBLE, THERMAL)}
    assert (len(shots[VISIBLE]), len(shots[THERMAL])) == (30, 9)
    for modality, text in ((VISIBLE, visible), (THERMAL, thermal)):
        with open_source(text, modality) as source:
            for shot in shots[modality]:
                frame = source.read()
                assert frame is not None
                assert shot.name == frame.name
                np.testing.assert_array_equal(recording.frame(shot).image, frame.image)


@pytest.mark.realdata
def test_real_counts_with_their_shutter_times_become_a_recording(real_data: Path, tmp_path: Path) -> None:
    """A Lepton 3: 160x120 counts, and when its shutter closed."""
    with np.load(real_data / "rgbt" / "raw_thermal" / "lepton3_cptv" / "possum_first90.npz") as data:
        images, times, closed = (data[key][1:] for key in ("frames", "time_on_ms", "last_ffc_ms"))  # 0: a background
    recorder = Recorder(tmp_path / "run", {THERMAL: describe_camera(THERMAL, "lepton", fps=9.0)}, live=False)
    recorder.put(StateChange(THERMAL, "lepton", SourceState.LIVE, int(times[0]) * 1_000_000))
    for sequence, (image, time_ms, ffc_ms) in enumerate(zip(images, times, closed, strict=True)):
        shut = 0 <= int(time_ms) - int(ffc_ms) < 1000
        recorder.put(Frame(image, THERMAL, int(time_ms) * 1_000_000, sequence, "lepton", shutter=bool(shut)))
    summary = recorder.close()
    camera = read_header(tmp_path / "run").cameras[THERMAL]
    assert (camera.width, camera.height, camera.dtype, camera.frames) == (160, 120, "uint16", 89)
    assert summary.fps[THERMAL] == pytest.approx(8.77, abs=0.05)  # 114 ms a frame
    recording = Recording(tmp_path / "run")
    shots = [step for step in recording.plan if isinstance(step, Shot)]
    for shot, image in zip(shots, images, strict=True):
        np.testing.assert_array_equal(recording.frame(shot).image, image)
    assert camera.bytes < images.nbytes / 2
