"""The commands, on real files and sources."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from mdrun.calibrate.commands import calibrate
from mdrun.calibrate.points import COLUMNS
from mdrun.calibrate.report import overlay_picture, registration_table, write_picture
from mdrun.command import run_command
from mdrun.errors import OutputError
from mdrun.registration import Registration
from mdrun.tables import make_console
from tests.runtime.test_calibrate_board import PATTERN, SQUARE_M, both, pose
from tests.runtime.test_calibrate_imports import kalibr
from tests.runtime.test_calibrate_points import pairs
from tests.runtime.test_registration_model import noise, stereo, tilted

SIZES = ["--visible-size", "1280x1024", "--thermal-size", "160x120"]


def run(*arguments: object) -> int:
    return run_command(calibrate, "mdrun calibrate", [str(argument) for argument in arguments])


def points_file(folder: Path) -> Path:
    path = folder / "pairs.csv"
    table = np.hstack(pairs(9, tilted(), 0.2))
    path.write_text("\n".join([",".join(COLUMNS), *(",".join(map(str, row)) for row in table.tolist())]))
    return path


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two folders with one view of a board each; names differ."""
    made = tmp_path / "v", tmp_path / "t"
    for folder, image, name in zip(made, both(pose((0.1, 0.1, 0), (0, 0, 0.8))), ("rgb_1", "ir_1"), strict=True):
        folder.mkdir()
        tinted = image if image.ndim == 2 else np.dstack([image[..., 0], image[..., 0] // 2, image[..., 0]])
        cv2.imwrite(str(folder / f"{name}.png"), tinted)
    return made


def test_points(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "gate.yaml"
    code = run("registration", "--points", points_file(tmp_path), *SIZES, "--depth", 12, "--output", output)
    out = capsys.readouterr().out
    assert code == 0
    assert f"wrote {output}" in out
    assert f"calibration: {output}" in out
    assert "12 m" in out
    off = Registration.load(output).thermal_to_visible([[80, 60]]) - tilted().thermal_to_visible([[80, 60]])
    assert np.abs(off).max() < 5


def test_points_as_json_with_parallax(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--depth", "10", "--baseline", "0.1", "--thermal-fov", "57", "--output", str(tmp_path / "gate.yaml")]
    assert run("registration", "--points", points_file(tmp_path), *SIZES, *flags, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    focal_px = 80 / np.tan(np.deg2rad(28.5))
    assert told["registration"]["parallax_px"]["5"] == pytest.approx(focal_px * 0.1 * 0.1)
    assert yaml.safe_load(told["rig"]) == {"calibration": told["output"]}


def test_board_with_picture(folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output, picture = tmp_path / "gate.yaml", tmp_path / "overlay.png"
    pattern = f"{PATTERN[0]}x{PATTERN[1]}"
    flags = ["--pattern", pattern, "--square", SQUARE_M, "--output", output, "--picture", picture]
    assert run("registration", "--board", *folders, *flags) == 0
    assert "tilted views" in capsys.readouterr().out
    assert Registration.load(output).kind == "homography"
    drawn = cv2.imread(str(picture))
    assert drawn is not None
    assert drawn.shape[1] == 2 * 640 + 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gate.yaml", "overlay.png", "t", "v"]


def test_import(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, output = tmp_path / "chain.yaml", tmp_path / "gate.yaml"
    path.write_text(yaml.safe_dump(kalibr(stereo())))
    assert run("registration", "--import", path, "--depth", 7, "--output", output) == 0
    assert "cameras apart" in capsys.readouterr().out
    assert Registration.load(output).depth_m == 7


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "no method given"),
        (["--scene", "--points", "x.csv"], 2, "--points and --scene given"),
        (["--scene"], 2, "give --visible and --thermal, or --rig"),
        (["--points", "none.csv", *SIZES], 2, "none.csv"),
        (["--points", "x.csv", "--baseline", "1"], 2, "--thermal-fov"),
        (["--points", "x.csv", "--depth", "nan"], 2, "finite"),
        (["--points", "x.csv", "--visible-size", "12"], 2, "640x512"),
        (["--board", "none", "none", "--pattern", "9"], 2, "640x512"),
        (["--board", "none", "none"], 4, "none"),
        (["--board", "none", "none", "--visible-lens", "x"], 2, "go together"),
        (["--import", "none.yaml"], 2, "cannot be read"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str],
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("registration", *arguments) == code
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_points_without_sizes_and_pictures_without_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "gate.yaml"
    path = points_file(tmp_path)
    assert run("registration", "--points", path, "--output", output) == 2
    assert run("registration", "--points", path, *SIZES, "--output", output, "--picture", tmp_path / "x.png") == 2
    assert "--picture wants images" in capsys.readouterr().err
    assert run("registration", "--points", path, *SIZES, "--output", tmp_path / "none" / "gate.yaml") == 6
    assert not output.exists()


def test_a_poor_registration_is_written_with_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "pairs.csv"
    table = np.hstack(pairs(9, tilted(), 3.0))
    path.write_text("\n".join([",".join(COLUMNS), *(",".join(map(str, row)) for row in table.tolist())]))
    assert run("registration", "--points", path, *SIZES, "--output", tmp_path / "gate.yaml") == 0
    assert "warning" in capsys.readouterr().err


def test_a_thermal_camera_that_sees_next_to_nothing_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    thermal = np.array([(x, y) for x in (5, 80, 150) for y in (5, 60, 120)], np.float64)
    rows = np.hstack([300 + thermal / 10, thermal]).tolist()
    path = tmp_path / "pairs.csv"
    path.write_text("\n".join([",".join(COLUMNS), *(",".join(map(str, row)) for row in rows)]))
    assert run("registration", "--points", path, *SIZES, "--output", tmp_path / "gate.yaml") == 0
    assert "warning: the thermal camera sees 0.0 % of the visible view" in capsys.readouterr().err


def test_an_offset_needs_motion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, shape in (("v", (48, 64, 3)), ("t", (24, 32))):
        (tmp_path / name).mkdir()
        image = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
        for index in range(70):
            cv2.imwrite(str(tmp_path / name / f"{index}.png"), image)
    sources = [f"{tmp_path / name}?fps=10" for name in ("v", "t")]
    assert run("time", "--visible", sources[0], "--thermal", sources[1], "--seconds", 7) == 2
    assert "MDR-220" in capsys.readouterr().err
    assert run("time") == 2


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from mdrun.calibrate.commands import calibrate; "
        "calibrate.main(['registration', '--help'], standalone_mode=False); "
        "sys.exit(bool({'numpy', 'cv2', 'yaml', 'pydantic'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0


def test_table_and_picture_of_every_kind(capsys: pytest.CaptureFixture[str]) -> None:
    for registration in (tilted(), stereo(float("inf"))):
        make_console().print(registration_table(registration, ("a note",)))
        seen = np.dstack([noise(registration.visible_size)] * 3)
        drawn = overlay_picture(seen, np.asarray(noise(registration.thermal_size)), registration)
        assert drawn.dtype == np.uint8
    out = capsys.readouterr().out
    assert "infinity" in out
    assert "not known" in out
    assert "a note" in out


def test_pictures_that_cannot_be_written(tmp_path: Path) -> None:
    picture = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(OutputError, match="no picture format"):
        write_picture(tmp_path / "overlay.what", picture)
    with pytest.raises(OutputError, match="cannot be written"):
        write_picture(tmp_path / "none" / "overlay.png", picture)
