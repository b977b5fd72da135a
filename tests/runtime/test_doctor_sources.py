"""The doctor at cameras and rig files: real RTSP, real recordings, a real broker."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mdrun.command import run_command
from mdrun.doctor import commands, sources
from mdrun.doctor.base import Check, Status, exit_code
from mdrun.doctor.commands import doctor, examine_rig, examine_sources
from mdrun.doctor.sources import Look, check_roles
from mdrun.frames import Clock, Modality
from tests.broker import Broker, free_port
from tests.recordings import street_recording
from tests.rtsp_server import SMALL, THERMAL, RtspServer

STREET = "test://street?width=160&height=128&thermal_width=40&thermal_height=32&frames=12"


def named(checks: list[Check], part: str) -> Check:
    (found,) = [check for check in checks if part in check.name]
    return found


def write_images(folder: Path, images: list[NDArray[Any]]) -> str:
    folder.mkdir()
    for number, image in enumerate(images):
        cv2.imwrite(str(folder / f"{number:04d}.png"), image)
    return f"{folder}?fps=9"


def counts(seed: int, bad: tuple[int, int] | None = None) -> NDArray[np.uint16]:
    """A scene of a 16-bit camera that moves a little, with noise; `bad`: a pixel (x, y) that is stuck."""
    y, x = np.indices((40, 56))
    image = 7600 + 3 * x + 200 * ((x - 20 - seed % 5) ** 2 + (y - 20) ** 2 < 60)
    image = np.rint(image + np.random.default_rng(seed).normal(0, 12, image.shape)).astype(np.uint16)
    if bad is not None:
        image[bad[1], bad[0]] = 9999
    return image


def test_files_are_told_apart_by_looking(tmp_path: Path) -> None:
    colour = [np.random.default_rng(seed).integers(0, 255, (64, 80, 3), np.uint8) for seed in range(3)]
    thermal = write_images(tmp_path / "ir", [counts(seed) for seed in range(20)])
    checks = examine_sources((write_images(tmp_path / "rgb", colour), thermal))
    visible, grey = checks
    assert (visible.data["role"], visible.data["width"], visible.data["dtype"]) == ("visible", 80, "uint8")
    assert (grey.data["role"], grey.data["dtype"], grey.data["clock"]) == ("thermal", "uint16", "file")
    assert grey.data["fps"] == pytest.approx(9.0)
    assert exit_code(checks) == 0


def test_bad_pixels_come_as_the_rig_file_wants_them(tmp_path: Path) -> None:
    checks = examine_sources((write_images(tmp_path / "ir", [counts(seed, (7, 30)) for seed in range(20)]),))
    assert named(checks, ": pixels").mend == "bad_pixels: [[7, 30]]"
    assert named(checks, ": pixels").status is Status.WARNING


def test_8_bits_in_16_are_told(tmp_path: Path) -> None:
    images = [(counts(seed) - 7000) // 8 for seed in range(12)]
    checks = examine_sources((write_images(tmp_path / "ir", images),))
    assert "8-bit output sent as 16 bits" in named(checks, ": images").found


def test_the_street_and_a_recording_hold_both_cameras() -> None:
    checks = examine_sources((STREET, f"replay://{street_recording()}"))
    assert [check.data["role"] for check in checks] == ["visible", "thermal"] * 2
    assert [check.data["width"] for check in checks] == [160, 40] * 2
    assert checks[3].data["fps"] == pytest.approx(9.0, rel=0.01)


def test_live_pace_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "LOOK_S", 0.3)
    visible, thermal = examine_sources((f"{STREET}&pace=live",))
    assert visible.data["fps"] == pytest.approx(30.0, rel=0.01)
    assert thermal.data["detail"] == "recording in real time"


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("/nowhere/at/all", "MDR-4"),
        ("bad://x", "MDR-200"),
        ("rtsp://admin:hunter2@127.0.0.1:9/x", "MDR-401"),
        ("v4l2:///dev/video98", "MDR-401"),
        ("replay:///nowhere", "MDR-4"),
    ],
)
def test_what_cannot_be_opened_is_broken(source: str, code: str) -> None:
    (check,) = examine_sources((source,))
    assert check.status is Status.BROKEN
    assert check.code.startswith(code)
    assert "hunter2" not in json.dumps(check.to_dict())


@pytest.mark.skipif(bool(RtspServer.missing()), reason=RtspServer.missing() or "never")
def test_real_rtsp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "LOOK_S", 1.0)
    with RtspServer(SMALL, THERMAL, login="viewer:hunter2") as server:
        good = server.url("thermal", "viewer:hunter2")
        checks = examine_sources((good, server.url("visible", "viewer:wrong"), server.url("none", "viewer:hunter2")))
    thermal, refused, absent = checks
    assert (thermal.data["width"], thermal.data["height"], thermal.data["role"]) == (160, 120, "thermal")
    assert thermal.data["clock"] in {Clock.SENDER.value, Clock.ARRIVAL.value}
    assert thermal.data["frames"] >= 2
    assert (refused.code, absent.code) == ("MDR-402", "MDR-401")
    assert exit_code(checks) == 4
    assert "hunter2" not in json.dumps([check.to_dict() for check in checks])


def look(role: Modality, image: NDArray[Any]) -> Look:
    found = Look(role)
    found.see((image, 0, Clock.ARRIVAL))
    return found


COLOUR = np.random.default_rng(0).integers(0, 255, (128, 160, 3), np.uint8)
GREY = np.repeat(np.random.default_rng(0).integers(0, 255, (128, 160, 1), np.uint8), 3, axis=2)


@pytest.mark.parametrize(
    ("visible", "thermal", "told"),
    [
        (COLOUR, counts(0), []),
        (GREY, counts(0), ["gate: roles"]),
        (COLOUR, np.zeros((512, 640), np.uint16), ["gate: sizes"]),
    ],
)
def test_swapped_cameras(visible: NDArray[Any], thermal: NDArray[Any], told: list[str]) -> None:
    checks = check_roles("gate", [look(Modality.VISIBLE, visible), look(Modality.THERMAL, thermal)])
    assert [check.name for check in checks] == told
    assert all(check.status is Status.WARNING for check in checks)
    assert check_roles("gate", []) == []


def test_a_slow_camera_is_told() -> None:
    found = look(Modality.VISIBLE, COLOUR)
    found.promised, found.detail = 30.0, "H264"
    for number in range(1, 30):
        found.see((COLOUR, number * 100_000_000, Clock.ARRIVAL))
    rate = named(sources.describe(sources.Wanted("cam0", "x"), found), "rate")
    assert rate.found == "10.0 frames/s of the 30.0 it promises"


def write_rig(folder: Path, **changes: Any) -> Path:
    rig = {
        "rig": "gate",
        "cameras": {"cam0": {"source": STREET, "role": "visible"}, "cam1": {"source": STREET, "role": "thermal"}},
        "ladder": {"engines": ["md-r18-slim_int8"]},
    } | changes
    path = folder / "gate.yaml"
    path.write_text(json.dumps(rig))  # YAML holds JSON
    return path


def test_a_rig_that_works(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    broker.start()
    try:
        outputs = [f"mqtt://127.0.0.1:{broker.port}", f"http://127.0.0.1:{free_port()}", str(tmp_path / "run")]
        checks = examine_rig(write_rig(tmp_path, outputs=[*outputs, f"jsonl:{tmp_path}/gate.jsonl?rotate=1d"]))
    finally:
        broker.stop()
    assert exit_code(checks) == 0, [check for check in checks if check.code]
    assert {check.status for check in checks} == {Status.OK}
    assert named(checks, "engine md-r18-slim_int8").data["infer_ms"] > 0
    assert "answers" in named(checks, "output mqtt").found


def test_a_rig_where_everything_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_VARIABLE", raising=False)
    (tmp_path / "calibration.yaml").write_text("nonsense: 1\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        rig = write_rig(
            tmp_path,
            cameras={
                "cam0": {"source": "rtsp://u:${NO_SUCH_VARIABLE}@127.0.0.1/x", "role": "visible"},
                "cam1": {"source": "/nowhere", "role": "thermal"},
            },
            calibration="calibration.yaml",
            ladder={"engines": ["no-such-engine"]},
            outputs=[
                f"http://127.0.0.1:{port}",
                f"mqtt://u:hunter2@127.0.0.1:{free_port()}",
                "jsonl:/dev/null/a.jsonl",
            ],
        )
        checks = examine_rig(rig)
    codes = {check.name: check.code for check in checks if check.status is Status.BROKEN}
    assert codes["gate/cam0"] == "MDR-210"
    assert codes["gate/cam1"].startswith("MDR-4")
    assert codes["gate: engine no-such-engine"] == "MDR-300"
    assert codes["gate: calibration"] == "MDR-220"
    assert sorted(code for name, code in codes.items() if "output" in name) == ["MDR-600", "MDR-610", "MDR-610"]
    assert exit_code(checks) == 2  # the first in the table
    assert "hunter2" not in json.dumps([check.to_dict() for check in checks])


def test_a_rig_file_that_cannot_be_read(tmp_path: Path) -> None:
    (check,) = examine_rig(tmp_path / "none.yaml")
    assert (check.status, check.code) == (Status.BROKEN, "MDR-210")


@pytest.fixture(scope="module")
def machine() -> list[Check]:
    """Everything there is to say about this machine, once."""
    return commands.examine_machine()


@pytest.mark.slow
def test_this_machine_runs_the_engines_that_ship(machine: list[Check]) -> None:
    runs = [check for check in machine if "infer_ms" in check.data]
    assert {check.data["name"] for check in runs} == {"md-r18-slim", "md-r18-slim_int8", "md-r18-slim-visible_int8"}
    assert exit_code(machine) == 0, [check for check in machine if check.code]


@pytest.mark.slow
def test_json_has_stable_keys(
    machine: list[Check], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands, "examine_machine", lambda: list(machine))
    assert run_command(doctor, "mdrun", ["--json", "/nowhere"]) == 4
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["schema_version", "version", "exit_code", "checks"]
    assert found["exit_code"] == 4
    keys = ["area", "name", "status", "found", "means", "mend", "code", "data"]
    assert all(list(check) == keys for check in found["checks"])
    assert {check["status"] for check in found["checks"]} <= {"ok", "warning", "missing", "broken"}


@pytest.mark.slow
def test_the_table_tells_how_to_mend(
    machine: list[Check], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mend = 'pip install "mdrun[tensorrt]" && a command that is longer than a narrow terminal is wide'
    missing = Check("GPU", "made up", Status.MISSING, "not here", "never mind", mend)
    monkeypatch.setattr(commands, "examine_machine", lambda: [*machine, missing])
    monkeypatch.setenv("COLUMNS", "60")
    assert run_command(doctor, "mdrun", []) == 0
    text = capsys.readouterr().out
    for area in ("machine", "engine libraries", "GPU", "codecs", "permissions", "network"):
        assert area in text
    assert mend in text  # in one line, to be copied
    assert "broken 0" in text
