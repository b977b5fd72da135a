"""What a calibration looks at: seconds of real sources, recorded and live."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from mdrun.calibrate.collect import collect_motion, collect_pairs, read_boards, rig_of
from mdrun.errors import DataError, SourceError, UsageError
from mdrun.registration import Registration
from mdrun.registration.geometry import pixel_grid
from tests.runtime.test_calibrate_commands import run

STREET = "test://street?duration=2.5&width=160&height=128&thermal_width=40&thermal_height=32&fps=20&thermal_fps=10"


def still_folders(folder: Path, visible: int, thermal: int) -> tuple[str, str]:
    rng = np.random.default_rng(0)
    for name, count, shape in (("v", visible, (48, 64, 3)), ("t", thermal, (24, 32))):
        (folder / name).mkdir()
        for index in range(count):
            cv2.imwrite(str(folder / name / f"{index}.png"), rng.integers(0, 255, shape).astype(np.uint8))
    return str(folder / "v"), str(folder / "t")


def test_times_and_small_images_of_some_seconds() -> None:
    visible, thermal = collect_motion(rig_of(STREET, STREET, None), 1.0)
    assert 20 <= len(visible) <= 22
    assert 10 <= len(thermal) <= 12
    assert {image.shape for _, image in visible} == {(128, 160)}
    assert {image.shape for _, image in thermal} == {(32, 40)}
    times = [at_ns for at_ns, _ in visible]
    assert times == sorted(times)


@pytest.mark.parametrize("count", [1, 4])
def test_as_many_different_pairs_as_asked_for(count: int) -> None:
    pairs = collect_pairs(rig_of(STREET, STREET, None), 2.0, count)
    assert len(pairs) == count
    assert len({visible.tobytes() for visible, _ in pairs}) == count
    assert {(visible.shape, thermal.shape) for visible, thermal in pairs} == {((128, 160, 3), (32, 40))}


def test_stills_pair_by_position(tmp_path: Path) -> None:
    assert len(collect_pairs(rig_of(*still_folders(tmp_path, 5, 5), None), 10, 24)) == 5


def test_boards_need_numbers_that_agree(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="3 visible and 2 thermal"):
        read_boards(*still_folders(tmp_path, 3, 2))


def test_a_rig_file_names_the_cameras(tmp_path: Path) -> None:
    path = tmp_path / "gate.yaml"
    entries = "".join(f"  {role}: {{source: '{STREET}', role: {role}}}\n" for role in ("visible", "thermal"))
    path.write_text(f"cameras:\n{entries}")
    assert collect_pairs(rig_of(None, None, path), 1, 2)
    with pytest.raises(UsageError, match="names both cameras"):
        rig_of("v", None, path)
    path.write_text(f"cameras:\n  visible: {{source: '{STREET}', role: visible}}\n")
    with pytest.raises(UsageError, match="thermal camera"):
        rig_of(None, None, path)


def test_live_cameras_are_read_as_they_come() -> None:
    live = f"{STREET}&pace=live"
    visible, thermal = collect_motion(rig_of(live, live, None), 0.5)
    assert len(visible) >= 2
    assert len(thermal) >= 2


def test_cameras_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        collect_pairs(rig_of(str(tmp_path / "v.mp4"), str(tmp_path / "t.mp4"), None), 1, 1)


@pytest.mark.slow
def test_the_street_registers_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both its cameras have one view, so the truth is the identity."""
    source, output = "test://street?duration=4", tmp_path / "gate.yaml"
    flags = ["--seconds", "4", "--output", output, "--picture", tmp_path / "overlay.png"]
    assert run("registration", "--scene", "--visible", source, "--thermal", source, *flags) == 0
    found = Registration.load(output)
    truth = Registration.identity(found.visible_size, found.thermal_size)
    view = pixel_grid((9, 7)) * [75, 80] + 20
    off = np.linalg.norm(found.visible_to_thermal(view) - truth.visible_to_thermal(view), axis=1)
    assert np.median(off) < 0.5  # measured: 0.30
    assert off.max() < 2  # the corners of the image are extrapolated; measured: 1.2
    assert "for the rig file" in capsys.readouterr().out


@pytest.mark.slow
def test_the_offset_of_a_street(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The thermal camera is set 40 ms late; the rig file knows a part of it already."""
    source = "test://street?duration=22&width=160&height=128&thermal_width=80&thermal_height=64&fps=20&thermal_fps=10"
    path = tmp_path / "gate.yaml"
    path.write_text(
        f"cameras:\n  left: {{source: '{source}', role: visible}}\n"
        f"  right: {{source: '{source}&offset_ms=40', role: thermal, offset_ms: -15}}\n"
    )
    assert run("time", "--rig", path, "--seconds", 20, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert abs(told["offset_ms"] + 40) < 3 * told["spread_ms"]  # images are small here: it is the way that is tested
    assert told["offset_ms"] == pytest.approx(told["measured_ms"] - 15, abs=0.1)
    assert yaml.safe_load(told["rig"]) == {"cameras": {"right": {"offset_ms": told["offset_ms"]}}}
