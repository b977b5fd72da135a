"""`--validate-config`: what a run would refuse, all of it at once, with the lines of the file."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

import mdrun
from mdrun.cli import cli
from mdrun.command import run_command
from mdrun.errors import CalibrationError, EngineError, RigError, UsageError
from mdrun.models import default_ladder
from mdrun.registration.model import Registration
from mdrun.rig.check import check_rigs
from mdrun.rig.config import read_rigs
from mdrun.rig.flags import rigs_of
from tests.runtime.engines import make_manifest, write_areas, write_blob, write_constant

GOOD = """\
rig: gate
cameras:
  cam0: {source: "test://street?frames=2", role: visible}
  cam1: {source: "test://street?frames=2", role: thermal}
ladder:
  engines:
    - fused.onnx
    - engine: visible.onnx
tracking:
  zones:
    road: {points: [[0, 0], [9, 0], [9, 9]], classes: [person]}
    kerb: {points: [[0, 0], [9, 0]]}
  alarms:
    - {on: enter, place: road}
    - {on: cross, place: kerb, classes: [car]}
outputs:
  - jsonl:a.jsonl
  - runs/gate
  - http://127.0.0.1:0
"""
# what is replaced, by what, the line, what is said there
MISTAKES = {
    "a class of a zone": ("[person]", "[truck]", 11, "zone road names the class truck; the engine knows person"),
    "a class of an alarm": ("[car]", "[cat]", 15, "alarm on cross at kerb names the class cat"),
    "cross at a zone": ("cross, place: kerb", "cross, place: road", 15, "it wants a line (two points), there is kerb"),
    "enter at a line": ("enter, place: road", "enter, place: kerb", 14, "it wants a zone (three points or more)"),
    "a line without length": ("[[0, 0], [9, 0]]", "[[9, 0], [9, 0]]", 12, "zone kerb is a line from (9.0, 0.0)"),
    "live and recorded": ('frames=2", role: v', 'pace=live", role: v', 2, "one camera is live and the other a rec"),
    "a folder that is not there": ('"test://street?frames=2", role: visible', "none, role: visible", 3, "none: "),
    "stills as a camera": ('"test://street?frames=2", role: visible', '"stills?pace=live", role: visible', 3, "fps"),
    "a recording that is none": ('"test://street?frames=2", role: visible', '"replay://no", role: visible', 3, "no"),
    "one slash": ('"test://street?frames=2", role: visible', '"rtsp:/h/x", role: visible', 3, "wanted rtsp://"),
    "a scheme of a source": ('"test://street?frames=2", role: visible', 'rstp://h, role: visible', 3, "did you mean"),
    "an engine that is not there": ("- fused.onnx\n", "- no.onnx\n", 7, "no.onnx: does not exist"),
    "a name that ships not": ("- fused.onnx\n", "- md-r50\n", 7, "'md-r50' is neither a file nor one that ships"),
    "a backend": ("visible.onnx\n", "visible.onnx\n      backend: openvine\n", 8, "backend is 'openvine'"),
    "a backend of plans": ("visible.onnx\n", "visible.onnx\n      backend: tensorrt\n", 8, "backend is 'tensorrt'"),
    "an engine twice": ("engine: visible.onnx", "engine: fused.onnx", 8, "is in the ladder twice"),
    "a calibration": ("ladder:", "calibration: c.yaml\nladder:", 5, "c.yaml: no such file"),
    "an output": ("jsonl:a.jsonl", "jsnl:a.jsonl", 17, "unknown output jsnl:, did you mean"),
    "an option of an output": ("jsonl:a.jsonl", "jsonl:a.jsonl?every=x", 17, "every"),
    "an option of the page": ("127.0.0.1:0", "127.0.0.1:0?fps=0", 19, "fps"),
    "a secret of a webhook": ("jsonl:a.jsonl", "webhook:https://h/x?secret=whsec_%25", 17, "no base64 follows"),
    "a file of a folder": ("jsonl:a.jsonl", "jsonl:runs/gate/results.jsonl", 18, "goes where jsonl:runs/gate/res"),
    "shares that are none": ("[person]", "[person], relative: true", 11, "relative points are shares"),
    "a library that lacks": ("visible.onnx\n", "visible.onnx\n      backend: onnxruntime-cuda\n", 8, "onnxruntime"),
    "a folder for a file": ("jsonl:a.jsonl", "coco:stills", 17, "stills: is a folder"),
    "a file for a folder": ("- runs/gate", "- stills/a.png", 18, "a.png: is a file"),
    "a file in a file": ("jsonl:a.jsonl", "video:stills/a.png/x.mp4", 17, "a.png is no folder"),
    "a variable": ("jsonl:a.jsonl", "mqtt://u:${NOT_THERE}@h", 17, "outputs: the environment has no NOT_THERE"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with stills and two engines in it."""
    monkeypatch.chdir(tmp_path)
    write_blob(tmp_path / "fused.onnx", "fused")
    none = np.zeros((1, 4), np.float32), np.zeros(1, np.float32), np.zeros(1, np.int32)
    write_constant(tmp_path / "visible.onnx", *none, manifest=make_manifest("visible", count=1))
    (tmp_path / "stills").mkdir()
    cv2.imwrite(str(tmp_path / "stills" / "a.png"), np.zeros((8, 8, 3), np.uint8))
    return tmp_path


# a run finds first that the two cameras do not go together
OTHERWISE = {"stills as a camera", "a recording that is none"}


def write(folder: Path, text: str, name: str = "gate.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def said(path: Path, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    """What the command says of a rig file that it refuses."""
    assert run_command(cli, "mdrun", ["--rig", str(path), *more]) in {2, 3, 4, 6}
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_the_file_of_these_tests_is_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(cli, "mdrun", ["--rig", str(write(tmp_path, GOOD)), "--validate-config"]) == 0
    assert capsys.readouterr().out == "gate: nothing wrong\n"
    assert not (tmp_path / "runs").exists()


def test_a_calibration_by_which_nothing_is_seen_is_refused(tmp_path: Path) -> None:
    away = np.array([[1.0, 0, 5000], [0, 1, 0], [0, 0, 1]])
    Registration.from_homography(away, (640, 480), (160, 120)).save(tmp_path / "away.yaml")
    path = write(tmp_path, GOOD.replace("ladder:", "calibration: away.yaml\nladder:"))
    with pytest.raises(CalibrationError, match=r":5: .*away\.yaml: by it the thermal camera sees nothing"):
        check_rigs(read_rigs(path), [path])


def test_outputs_of_the_file_that_a_flag_puts_off_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--rig", str(write(tmp_path, GOOD)), "--validate-config", "--output"]
    assert run_command(cli, "mdrun", [*command, "jsonl:a.jsonl"]) == 0
    assert "--output goes in the place of 2 in " in capsys.readouterr().err
    same = ["jsonl:a.jsonl", "--output", "runs/gate", "--output", "http://127.0.0.1:0"]
    assert run_command(cli, "mdrun", [*command, *same]) == 0
    assert not capsys.readouterr().err


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_with_its_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new, line, words = MISTAKES[name]
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new, 1))
    told = said(path, capsys, "--validate-config")
    assert told.startswith(f"mdrun: error: {path}:{line}: ")
    assert words in told


@pytest.mark.parametrize("name", sorted(MISTAKES.keys() - OTHERWISE))
def test_a_run_refuses_it_too_and_writes_nothing(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new, _, words = MISTAKES[name]
    path = write(tmp_path, GOOD.replace(old, new, 1))
    assert words in said(path, capsys)
    assert {path.name for path in tmp_path.iterdir()} == {"gate.yaml", "stills", "fused.onnx", "visible.onnx"}


def test_all_mistakes_are_told_at_once_in_the_order_of_the_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = GOOD
    for name in ("an output", "a class of a zone", "an engine that is not there", "live and recorded"):
        old, new, _, _ = MISTAKES[name]
        text = text.replace(old, new, 1)
    told = said(write(tmp_path, text), capsys)
    places = [told.index(words) for words in ("gate.yaml:2: ", "; line 7: ", "; line 11: ", "; line 17: ")]
    assert places == sorted(places)
    assert told.endswith("[MDR-200]")  # the first one's


def test_a_mistake_of_a_flag_has_no_line_of_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, GOOD)
    told = said(path, capsys, "--engine", "no.onnx", "--validate-config")
    assert told.startswith("mdrun: error: no.onnx: does not exist")
    assert said(path, capsys, "--output", "jsnl:x").startswith("mdrun: error: unknown output jsnl:")


def test_without_a_file_there_is_only_the_mistake() -> None:
    rigs = rigs_of([], {"visible": "test://street?pace=live", "thermal": "test://street"})
    with pytest.raises(UsageError, match=r"^rig local: one camera is live"):
        check_rigs(rigs)


def test_two_replays_have_no_common_clock(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = GOOD.replace("test://street?frames=2", "replay://a", 1).replace("test://street?frames=2", "replay://b", 1)
    told = said(write(tmp_path, text), capsys)
    assert ":2: rig gate: the cameras name different replays" in told


def test_an_engine_that_could_never_run_is_refused(tmp_path: Path) -> None:
    wrong = GOOD.replace("- fused.onnx\n", "- x\n").replace("visible.onnx", "fused.onnx")
    rigs = read_rigs(write(tmp_path, wrong.replace("- x\n", "- visible.onnx\n")))
    with pytest.raises(RigError, match="fused would never run, for visible before it"):
        check_rigs(rigs)


def test_engines_of_two_tasks_are_refused(tmp_path: Path) -> None:
    write_areas(tmp_path / "areas.onnx")
    rigs = read_rigs(write(tmp_path, GOOD.replace("visible.onnx", "areas.onnx")))
    with pytest.raises(EngineError, match="wanted engines of one task with the same classes"):
        check_rigs(rigs)


def test_zones_and_boxes_want_an_engine_that_detects(tmp_path: Path) -> None:
    write_areas(tmp_path / "areas.onnx")
    text = GOOD.replace("    - fused.onnx\n", "").replace("visible.onnx", "areas.onnx")
    path = write(tmp_path, text.replace("jsonl:a.jsonl", "coco:a.json"))
    with pytest.raises(RigError, match=r":9: zones want an .*; line 12: alarms want an .*; line 16: coco:a.json: COCO"):
        check_rigs(read_rigs(path), [path])


def test_a_wrong_zone_hides_no_mistake_of_other_alarms(tmp_path: Path) -> None:
    wrong = GOOD.replace("[person]", "[truck]").replace("classes: [car]", "classes: [cat]")
    path = write(tmp_path, wrong)
    with pytest.raises(
        RigError, match=r":11: zone road names the class truck[^;]*; [^;]*; line 15: alarm on cross at kerb"
    ):
        check_rigs(read_rigs(path), [path])
    path = write(tmp_path, GOOD.replace("[person]", "[truck]"))
    with pytest.raises(RigError) as caught:
        check_rigs(read_rigs(path), [path])
    assert "alarm" not in str(caught.value)  # on the zone that is told already


def test_two_rigs_of_one_file_have_their_own_lines(tmp_path: Path) -> None:
    rig = "  - rig: {}\n    cameras: {{cam0: {{source: 'test://street', role: visible}}}}\n    outputs: [{}]\n"
    ladder = "    ladder: {engines: [visible.onnx]}\n"
    text = "rigs:\n" + rig.format("a", "jsonl:x.jsonl") + ladder + rig.format("b", "jsonl:./x.jsonl") + ladder
    path = write(tmp_path, text)
    with pytest.raises(UsageError, match=r":8: output jsonl:./x.jsonl goes where jsonl:x.jsonl of rig a goes already"):
        check_rigs(read_rigs(path), [path])


def test_two_files_are_both_named(tmp_path: Path) -> None:
    one = write(tmp_path, GOOD.replace("[car]", "[cat]"))
    other = write(tmp_path, GOOD.replace("rig: gate", "rig: yard").replace("[person]", "[truck]"), "yard.yaml")
    files = [one, other]
    with pytest.raises(RigError) as caught:
        check_rigs([rig for path in files for rig in read_rigs(path)], files)
    text = str(caught.value)
    assert text.startswith(f"{one}:15: alarm on cross")
    assert f"; {other}:11: zone road names the class truck" in text
    assert "; line 17: output jsonl:a.jsonl goes where jsonl:a.jsonl of rig gate goes already" in text


def test_two_rigs_may_share_a_page_and_what_is_no_file(tmp_path: Path) -> None:
    text = GOOD.replace("jsonl:a.jsonl", "jsonl:/dev/null").replace("  - runs/gate\n", "")
    files = [write(tmp_path, text), write(tmp_path, text.replace("rig: gate", "rig: yard"), "yard.yaml")]
    check_rigs([rig for path in files for rig in read_rigs(path)], files, deep=True)


def test_the_python_interface_says_the_same(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD.replace("[person]", "[truck]"))
    with pytest.raises(RigError, match=r"gate.yaml:11: zone road names the class truck"):
        mdrun.open(path)


def test_engines_that_ship_may_be_given_by_name_and_by_path(tmp_path: Path) -> None:
    copied = Path(shutil.copy(default_ladder()[0], tmp_path / "mine.onnx"))
    text = GOOD.replace("fused.onnx", copied.name).replace("visible.onnx", "md-r18-slim-visible_int8")
    check_rigs(read_rigs(write(tmp_path, text)), deep=True)
