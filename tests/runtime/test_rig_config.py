"""The rig file and the flags over it: strict, every problem with its line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mdrun.errors import RigError, UsageError
from mdrun.frames import Modality
from mdrun.rig.cameras import open_feed
from mdrun.rig.check import check_rigs
from mdrun.rig.config import read_rigs
from mdrun.rig.environment import expand
from mdrun.rig.flags import rigs_of
from mdrun.rig.run import run_rigs

GATE = """\
rig: gate
cameras:
  cam0: {source: "rtsp://user:secret@10.0.0.5/visible", role: visible}
  cam1:
    source: /dev/v4l/by-id/usb-thermal
    role: thermal
    offset_ms: -42
    normalise: {rule: percentile, low_percent: 2}
pairing: {policy: lone, skew_ms: 40}
ladder:
  engines: [md-r18-slim_int8, {engine: visible.onnx, threshold: 0.3}]
outputs: ["http://127.0.0.1:8080"]
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "gate.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_rig_file_is_read_and_its_engines_lie_beside_it(tmp_path: Path) -> None:
    (tmp_path / "visible.onnx").touch()
    (rig,) = read_rigs(write(tmp_path, GATE))
    assert (rig.rig, rig.pairing.policy, rig.pairing.age_ms) == ("gate", "lone", 250)
    assert [rung.engine for rung in rig.ladder.engines] == ["md-r18-slim_int8", str(tmp_path / "visible.onnx")]
    found = rig.camera(Modality.THERMAL)
    assert found is not None
    assert (found[0], found[1].offset_ms) == ("cam1", -42)


def test_all_problems_come_in_one_line_with_their_lines(tmp_path: Path) -> None:
    text = GATE.replace("skew_ms: 40", "skew_ms: 400").replace("offset_ms: -42", "offset_ms: soon") + "colour: red\n"
    with pytest.raises(RigError) as caught:
        read_rigs(write(tmp_path, text))
    message = str(caught.value)
    assert "\n" not in message
    for wanted in ("gate.yaml:7: cameras.cam1.offset_ms", "line 9: pairing: age_ms is 250.0", "line 13: colour"):
        assert wanted in message
    assert caught.value.exit_code == 2
    assert caught.value.code == "MDR-210"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cameras: {a: {source: x, role: thermal}}", "wanted one visible"),
        ("cameras: {a: {source: x, role: visible, bad_pixels: [[1, 2]]}}", "only a thermal camera has bad_pixels"),
        ("cameras: {a: {source: x, role: visible}}\nrig: a/b", "gate.yaml:2: rig: 'a/b' is no name"),
        ("cameras: {a: {source: x, role: thermal, normalise: {rule: fixed}}}", "low below high"),
        ("rigs: []", "gate.yaml:1: rigs is []"),
        ("- 1", "holds a list"),
        ("a: [", "cannot be read as YAML"),
        ("? [a, b]\n: 1", "cannot be read as YAML"),
        ("rig: &a [*a]", "it holds itself, or far too many levels"),
        ("cameras: &a {v: *a}", "it holds itself, or far too many levels"),
        (f"rig: {'[' * 3000}{']' * 3000}", "it holds itself, or far too many levels"),
        ("cameras:\n  a: {source: x, role: thermal, bad_pixels: [[3, -1]]}", "bad_pixels.0.1"),
        ("rig: a\nrig: b\ncameras: {a: {source: x, role: visible}}", "the key rig is there twice"),
        ("cameras: {a: {source: x, role: visible}, a: {source: y, role: thermal}}", "the key a is there twice"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(RigError, match=re.escape(words)):
        read_rigs(write(tmp_path, text))
    with pytest.raises(RigError, match="no such file"):
        read_rigs(tmp_path / "other.yaml")


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    flags = {"thermal": "test://street?pace=live", "policy": "hold", "engine": ["md-r18-slim"], "threshold": 0.2}
    (rig,) = rigs_of([write(tmp_path, GATE)], flags)
    assert rig.cameras["cam1"].source == "test://street?pace=live"
    assert rig.cameras["cam1"].offset_ms == -42  # what the flag does not say stays
    assert (rig.pairing.policy, rig.pairing.skew_ms) == ("hold", 40)
    assert [(rung.engine, rung.threshold) for rung in rig.ladder.engines] == [("md-r18-slim", 0.2)]


def test_flags_alone_make_a_rig() -> None:
    (rig,) = rigs_of([], {"visible": "cam0", "thermal": "2", "output": ["runs/x"]})
    assert {name: camera.source for name, camera in rig.cameras.items()} == {
        "cam0": "/dev/video0",
        "cam1": "/dev/video2",
    }
    assert rig.outputs == ["runs/x"]


def test_a_name_of_the_file_chooses_its_camera(tmp_path: Path) -> None:
    text = "cameras:\n  front: {source: a, role: visible}\n  ir: {source: b, role: thermal}\n"
    (rig,) = rigs_of([write(tmp_path, text)], {"visible": "front", "thermal": "ir"})
    assert {name: camera.role for name, camera in rig.cameras.items()} == {"front": "visible", "ir": "thermal"}


def test_a_recording_named_once_is_both_cameras() -> None:
    (rig,) = rigs_of([], {"visible": "replay://run?ffc=2s"})
    assert [camera.source for camera in rig.cameras.values()] == ["replay://run?ffc=2s"] * 2


def test_two_rigs_want_two_names_and_no_cameras_from_flags(tmp_path: Path) -> None:
    one = write(tmp_path, GATE)
    with pytest.raises(UsageError, match="names that differ"):
        rigs_of([one, one], {})
    other = tmp_path / "other.yaml"
    other.write_text(GATE.replace("rig: gate", "rig: yard"))
    assert [rig.rig for rig in rigs_of([one, other], {})] == ["gate", "yard"]
    with pytest.raises(UsageError, match="--visible cannot belong to 2 rigs"):
        rigs_of([one, other], {"visible": "cam0"})


def test_secrets_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAM_PASSWORD", "s3cret")
    assert expand("rtsp://u:${CAM_PASSWORD}@h/x", "cam0") == "rtsp://u:s3cret@h/x"
    monkeypatch.setenv("ODD", "é&a=b@c/d%26")
    monkeypatch.setenv("BASE", "rtsp://u:p@h:8554/x?y=1")
    encoded = "%C3%A9%26a%3Db%40c%2Fd%26"
    assert expand("http://0.0.0.0:1?fps=2&token=${ODD}", "outputs") == f"http://0.0.0.0:1?fps=2&token={encoded}"
    assert expand("mqtt://${ODD}:x${ODD}@h/${ODD}", "outputs") == f"mqtt://{encoded}:x{encoded}@h/é&a=b@c/d%26"
    assert expand("${BASE}&z=1", "cam0") == "rtsp://u:p@h:8554/x?y=1&z=1"  # a whole source, as it is
    assert expand("gst:rtspsrc location=${BASE} ! x", "cam0") == "gst:rtspsrc location=rtsp://u:p@h:8554/x?y=1 ! x"
    with pytest.raises(RigError, match="cam0: the environment has no NOT_THERE"):
        expand("rtsp://${NOT_THERE}@h", "cam0")


def test_every_variable_that_is_missing_is_named_at_once(tmp_path: Path) -> None:
    text = """\
rig: gate
cameras:
  cam0: {source: "rtsp://u:${NOT_THERE}@h/x", role: visible}
  cam1: {source: "rtsp://${NO_USER}:${NOT_THERE}@h/y", role: thermal}
outputs: ["mqtt://u:${NO_TOKEN}@h", "${NO_FOLDER}"]
"""
    rigs = read_rigs(write(tmp_path, text))
    for command in (check_rigs, run_rigs):
        with pytest.raises(RigError, match=r"^cam0, cam1, outputs: .* no NOT_THERE, NO_USER, NO_TOKEN; "):
            command(rigs)
    with pytest.raises(RigError, match=r"^cam0, cam1: .* no NOT_THERE, NO_USER; "):
        open_feed(rigs[0])
