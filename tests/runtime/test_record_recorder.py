"""The recorder: what the cameras gave, nothing lost unseen, and whole frames after every way to die."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mdrun.errors import OutputError, SourceError
from mdrun.feeds import Event
from mdrun.frames import Clock, FfcState, Frame, Modality, SourceState, StateChange
from mdrun.record.header import HEADER, describe_camera, read_header
from mdrun.record.index import read_events, read_index
from mdrun.record.plan import Shot, shots_of
from mdrun.record.recorder import Recorder
from mdrun.record.recording import Recording

VISIBLE, THERMAL = Modality.VISIBLE, Modality.THERMAL
SHAPES = {VISIBLE: (48, 64, 3), THERMAL: (24, 32)}
STEP_NS = {VISIBLE: 33_333_333, THERMAL: 111_111_111}
CAMERAS = {VISIBLE: describe_camera(VISIBLE, "cam0"), THERMAL: describe_camera(THERMAL, "cam1")}


def frame(modality: Modality, sequence: int, **values: object) -> Frame:
    rng = np.random.default_rng(sequence)
    top, dtype = (65536, np.uint16) if modality is THERMAL else (256, np.uint8)
    image = rng.integers(0, top, SHAPES[modality]).astype(dtype)
    at_ns = sequence * STEP_NS[modality]
    made = Frame(image, modality, at_ns, sequence, CAMERAS[modality].source, arrived_ns=at_ns + 5_000_000)
    return replace(made, **values)  # type: ignore[arg-type]


def test_everything_a_frame_tells_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    recorder = Recorder(folder, CAMERAS, rig="gate", sources={VISIBLE: "rtsp://***@host/a"})
    frames = [
        frame(VISIBLE, 0, clock=Clock.SENDER, name="a.png"),
        frame(THERMAL, 0, clock=Clock.DEVICE, ffc=FfcState.IMMINENT),
        frame(VISIBLE, 1),
        frame(THERMAL, 1, shutter=True, ffc=FfcState.RUNNING),
    ]
    change = StateChange(THERMAL, "cam1", SourceState.LOST, 7, "MDR-405", "cam1: gone")
    before = time.time_ns()
    events: list[Event] = [*frames[:2], change, *frames[2:]]
    for event in events:
        recorder.put(event)
    recorder.describe(VISIBLE, identity="serial 7", fps=30.0)
    summary = recorder.close()
    assert recorder.close() is summary

    header = read_header(folder)
    assert header.finished
    assert (header.rig, header.stopped_by, header.live) == ("gate", "end", True)
    assert header.cameras[VISIBLE].identity == "serial 7"
    assert (header.cameras[THERMAL].width, header.cameras[THERMAL].dtype) == (32, "uint16")
    assert {modality: camera.frames for modality, camera in header.cameras.items()} == {VISIBLE: 2, THERMAL: 2}
    assert read_events(folder / "events.jsonl") == [(2, change)]
    walls = [entry.wall_ns for entry in read_index(folder / "visible.jsonl")]
    assert all(wall is not None and before <= wall <= time.time_ns() for wall in walls)

    recording = Recording(folder)
    shots = [step for step in recording.plan if isinstance(step, Shot)]
    for shot in shots:
        found = recording.frame(shot)
        given = next(f for f in frames if (f.modality, f.sequence) == (shot.modality, shot.sequence))
        np.testing.assert_array_equal(found.image, given.image)
        assert found.counts is (found.image if found.modality is THERMAL else None)  # as a live camera's frames
        assert replace(found, image=given.image, counts=None) == given
    recording.close()


def test_counts_are_recorded_not_what_was_made_of_them(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "run", CAMERAS)
    raw = frame(THERMAL, 0)
    recorder.put(frame(VISIBLE, 0))
    recorder.put(replace(raw, image=(raw.image >> 8).astype(np.uint8), counts=raw.image))
    recorder.close()
    recording = Recording(tmp_path / "run")
    (shot,) = shots_of(recording.plan, THERMAL)
    np.testing.assert_array_equal(recording.frame(shot).image, raw.image)


def test_what_cannot_be_written_in_time_is_a_counted_drop(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "run", CAMERAS)
    image = np.random.default_rng(0).integers(0, 256, (1024, 1280, 3)).astype(np.uint8)  # 16 of them fill the queue
    began = time.monotonic()
    for sequence in range(60):
        recorder.put(replace(frame(VISIBLE, sequence), image=image))
    put_s = time.monotonic() - began
    summary = recorder.close()
    camera = summary.header.cameras[VISIBLE]
    assert camera.dropped["queue"] > 0
    assert camera.frames + camera.dropped["queue"] == 60
    assert read_header(tmp_path / "run").cameras[VISIBLE].dropped == camera.dropped
    sequences = [entry.sequence for entry in read_index(tmp_path / "run" / "visible.jsonl")]
    assert len(sequences) == camera.frames
    assert len(set(range(60)) - set(sequences)) == camera.dropped["queue"]
    assert put_s < 60 * 0.02  # encoding 60 of them takes longer than that on any machine


def test_recorded_sources_wait_instead(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "run", CAMERAS, live=False)
    image = np.zeros((1024, 1280, 3), np.uint8)
    for sequence in range(24):
        recorder.put(replace(frame(VISIBLE, sequence), image=image))
    assert recorder.close().header.cameras[VISIBLE].frames == 24


def test_another_size_is_a_counted_drop(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "run", CAMERAS)
    recorder.put(frame(THERMAL, 0))
    recorder.put(replace(frame(THERMAL, 1), image=np.zeros((48, 64), np.uint16)))
    recorder.put(replace(frame(THERMAL, 2), image=np.zeros((24, 32), np.uint8)))
    recorder.put(frame(THERMAL, 3))
    camera = recorder.close().header.cameras[THERMAL]
    assert (camera.frames, camera.dropped) == (2, {"layout": 2})


def test_seconds_end_it(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "run", CAMERAS, max_seconds=1.0)
    for sequence in range(60):
        recorder.put(frame(VISIBLE, sequence))
    summary = recorder.close()
    assert summary.header.stopped_by == "max_seconds"
    assert summary.header.cameras[VISIBLE].frames == 31  # 0 to 30: the last one comes 0.99999999 s after the first
    assert summary.fps[VISIBLE] == pytest.approx(30, abs=0.01)


@pytest.mark.parametrize("budget", [100_000, 300_000])
def test_bytes_end_it_before_they_are_more(tmp_path: Path, budget: int) -> None:
    recorder = Recorder(tmp_path / "run", CAMERAS, live=False, max_bytes=budget)
    sequence = 0
    while recorder.stopped_by is None and sequence < 1000:
        recorder.put(frame(VISIBLE, sequence))
        recorder.put(frame(THERMAL, sequence))
        sequence += 1
    assert recorder.close().header.stopped_by == "max_bytes"
    size = sum(path.stat().st_size for path in (tmp_path / "run").iterdir())
    assert budget / 2 < size <= budget


def test_skew_is_the_distance_to_the_nearest(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "run", CAMERAS)
    for sequence in range(3):
        recorder.put(replace(frame(VISIBLE, sequence), captured_ns=sequence * 100_000_000))
        recorder.put(replace(frame(THERMAL, sequence), captured_ns=sequence * 100_000_000 + 7_000_000))
    assert recorder.close().skew_ms == {"p50": 7.0, "p95": 7.0, "p99": 7.0, "max": 7.0}


def test_a_folder_with_a_recording_is_refused(tmp_path: Path) -> None:
    first = Recorder(tmp_path / "run", CAMERAS)
    with pytest.raises(OutputError, match="holds a recording already"):
        Recorder(tmp_path / "run", CAMERAS)
    first.put(frame(VISIBLE, 0))
    first.close()
    with pytest.raises(OutputError, match="holds a recording already"):
        Recorder(tmp_path / "run", CAMERAS)


CHILD = """
import os, signal, sys
from pathlib import Path
from tests.runtime.test_record_recorder import CAMERAS, THERMAL, VISIBLE, frame
from mdrun.record.recorder import Recorder
recorder = Recorder(Path(sys.argv[1]), CAMERAS, live=False)
for sequence in range(100_000):
    recorder.put(frame(VISIBLE, sequence))
    recorder.put(frame(THERMAL, sequence))
    if recorder.stopped_by is not None:
        summary = recorder.close()
        print(summary.header.stopped_by, summary.failure, flush=True)
        break
    if sequence == 20:
        print("running", flush=True)
"""


def child(folder: Path, limit: int | None = None) -> subprocess.Popen[str]:
    root = Path(__file__).resolve().parents[2]

    def limit_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [sys.executable, "-c", CHILD, str(folder)]
    environment = os.environ | {"PYTHONPATH": f"{root}:{root / 'runtime'}"}
    return subprocess.Popen(
        command,
        cwd=root,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=limit_files,  # noqa: PLW1509
    )


def check_whole(folder: Path) -> dict[Modality, int]:
    """Every frame that the replay knows is the one that was given; returns how many there are."""
    recording = Recording(folder)
    counts = {}
    for modality in (VISIBLE, THERMAL):
        shots = shots_of(recording.plan, modality)
        assert [shot.sequence for shot in shots] == list(range(len(shots)))
        for shot in (*shots[:3], *shots[-3:]):
            np.testing.assert_array_equal(recording.frame(shot).image, frame(modality, shot.sequence).image)
        counts[modality] = len(shots)
    recording.close()
    return counts


def test_a_killed_recording_replays_up_to_the_last_whole_frame(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = child(folder)
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    while len(read_index(folder / "thermal.jsonl")) < 10:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    header = read_header(folder)
    assert not header.finished
    counts = check_whole(folder)
    assert counts[THERMAL] >= 10
    assert abs(counts[VISIBLE] - counts[THERMAL]) <= 1


def test_a_full_disk_ends_it_with_whole_frames(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = child(folder, limit=200_000)  # for each file: the stream of the visible camera gets there first
    output, _ = process.communicate(timeout=120)
    assert output.splitlines()[-1] == "disk File too large"
    header = read_header(folder)
    assert header.finished
    assert header.stopped_by == "disk"
    assert header.cameras[VISIBLE].dropped["disk"] >= 1
    counts = check_whole(folder)
    assert counts[VISIBLE] == header.cameras[VISIBLE].frames > 10
    assert (folder / "visible.nut").stat().st_size <= 200_000


FULL_DISKS = """
import subprocess, sys
from pathlib import Path
from tests.runtime.test_record_recorder import CAMERAS, THERMAL, VISIBLE, check_whole, frame
from mdrun.record.header import read_header
from mdrun.record.recorder import Recorder
for size in range(28, 120, 4):
    disk = Path(sys.argv[1])
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", disk], check=True)
    recorder = Recorder(disk / "run", CAMERAS, live=False)
    sequence = 0
    while recorder.stopped_by is None:
        recorder.put(frame(VISIBLE, sequence))
        recorder.put(frame(THERMAL, sequence))
        sequence += 1
    if not recorder.close().is_empty:
        header = read_header(disk / "run")
        assert (header.finished, header.stopped_by) == (True, "disk"), size
        assert check_whole(disk / "run") == {role: camera.frames for role, camera in header.cameras.items()}
        assert not (disk / "run" / "recording.json").read_bytes().endswith(b" ")
        print(size, flush=True)
    subprocess.run(["umount", disk], check=True)
"""


def test_however_full_the_disk_is_the_header_is_finished(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    space = ["unshare", "--map-root-user", "--mount"]  # disks of this test's own
    trial = [*space, "mount", "-t", "tmpfs", "none", str(tmp_path)]
    if shutil.which("unshare") is None or subprocess.run(trial, capture_output=True, check=False).returncode:
        pytest.skip("no disks may be made here")
    environment = os.environ | {"PYTHONPATH": f"{root}:{root / 'runtime'}"}
    command = [*space, sys.executable, "-c", FULL_DISKS, str(tmp_path)]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.split()) > 10


@pytest.mark.parametrize("cut", [1, 100, 3000, 9000])
def test_any_cut_of_the_tail_leaves_whole_frames(tmp_path: Path, cut: int) -> None:
    """What a power cut leaves: lines of the index whose images never reached the disk, and half lines."""
    folder = tmp_path / "run"
    recorder = Recorder(folder, CAMERAS, live=False)
    for sequence in range(5):
        recorder.put(frame(VISIBLE, sequence))
        recorder.put(frame(THERMAL, sequence))
    recorder.close()
    header = json.loads((folder / HEADER).read_text())
    (folder / HEADER).write_text(json.dumps(header | {"finished": False}))
    for name in ("visible.nut", "thermal.nut"):
        os.truncate(folder / name, (folder / name).stat().st_size - cut)
    os.truncate(folder / "thermal.jsonl", (folder / "thermal.jsonl").stat().st_size - 30)
    counts = check_whole(folder)
    assert 2 <= counts[VISIBLE] <= 5
    assert 0 <= counts[THERMAL] <= 4


def test_a_zeroed_tail_is_passed_over_and_a_damaged_middle_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    recorder = Recorder(folder, CAMERAS)
    for sequence in range(5):
        recorder.put(frame(VISIBLE, sequence))
    recorder.close()
    path = folder / "visible.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:4]) + b"\0" * 50 + b"\n")
    assert len(read_index(path)) == 4
    path.write_bytes(lines[0] + b"\0" * 50 + b"\n" + lines[2])
    with pytest.raises(SourceError, match=r"visible\.jsonl:2: no JSON object"):
        read_index(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "cannot be read"),
        ("[]", "valid dictionary"),
        ('{"schema_version": 2}', "schema version 2, this program reads 1"),
        ('{"schema_version": 1}', "rig: Field required"),
    ],
)
def test_a_damaged_header_is_a_source_error(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / HEADER).write_text(text)
    with pytest.raises(SourceError, match=words):
        read_header(tmp_path)


def test_a_header_cannot_name_files_elsewhere(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "run", CAMERAS)
    recorder.put(frame(VISIBLE, 0))
    recorder.close()
    path = tmp_path / "run" / HEADER
    path.write_text(path.read_text().replace("visible.nut", "../visible.nut"))
    with pytest.raises(SourceError, match="no plain file names"):
        read_header(tmp_path / "run")


def test_a_recording_without_frames_is_a_source_error(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    recorder = Recorder(folder, CAMERAS)  # and it is killed now
    with pytest.raises(SourceError, match="holds no frame"):
        Recording(folder)
    recorder.close()
    with pytest.raises(SourceError, match="no recording"):
        Recording(folder)


def test_of_a_recording_without_frames_nothing_stays_but_what_was_there(tmp_path: Path) -> None:
    Recorder(tmp_path / "new" / "run", CAMERAS).close()
    assert not (tmp_path / "new").exists()
    (tmp_path / "notes.txt").touch()
    Recorder(tmp_path, CAMERAS).close()
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    (tmp_path / "events.jsonl").touch()
    with pytest.raises(OutputError, match=r"events\.jsonl"):
        Recorder(tmp_path, CAMERAS)
