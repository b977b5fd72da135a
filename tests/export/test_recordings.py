"""Calibration on recordings of one's own cameras: which pairs are taken, what is refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from mdexport.cli import mdexport
from mdexport.int8 import Calibration, calibrate
from mdexport.pairs import FEWEST, parse_pairs
from mdexport.proof import Ready
from mdexport.recordings import Recording
from mdrun.command import run_command
from mdrun.manifest import Manifest
from mdrun.onnx_file import read_manifest
from tests.export.labelled import Made

STREET = "test://street?seed=3&duration=2"  # 60 pairs


@pytest.fixture
def folders(detector: Made, tmp_path: Path) -> tuple[Path, Path]:
    """The images of the labelled pairs that calibrate, and nothing else."""
    for name in (detector.pairs / "train.txt").read_text().split():
        for camera in ("vi", "ir"):
            (file,) = (detector.pairs / camera).glob(f"{name}.*")
            (tmp_path / "own" / camera).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, tmp_path / "own" / camera)
    return tmp_path / "own" / "vi", tmp_path / "own" / "ir"


def export(detector: Made, output: Path, *more: str | Path) -> int:
    return run_command(mdexport, "mdexport", ["int8", str(detector.engine), "--output", str(output), *map(str, more)])


def cameras(folders: tuple[Path, Path]) -> list[str | Path]:
    return ["--calibration-visible", folders[0], "--calibration-thermal", folders[1]]


def test_the_same_images_give_the_same_ranges_without_labels(
    ready: Ready, detector: Made, folders: tuple[Path, Path]
) -> None:
    manifest = ready.engine.manifest
    labelled = calibrate(ready, Calibration(parse_pairs(str(detector.pairs))).read(manifest)).ranges
    unlabelled = calibrate(ready, Calibration(Recording(*map(str, folders))).read(manifest)).ranges
    assert set(labelled.keys()) == set(unlabelled.keys())
    for name, data in labelled.items():
        np.testing.assert_array_equal(data.range_value, unlabelled[name].range_value)


def test_the_engine_says_what_it_was_calibrated_on(detector: Made, folders: tuple[Path, Path], tmp_path: Path) -> None:
    output = tmp_path / "int8.onnx"
    assert export(detector, output, *cameras(folders), "--pairs", detector.pairs) == 0
    manifest = read_manifest(output)
    assert manifest.origin.calibration == f"{FEWEST} pairs of own/vi + own/ir, for cpu"
    assert manifest.parity is not None
    assert manifest.parity.passed


def test_pairs_are_spread_over_the_whole_recording(ready: Ready) -> None:
    scenes = Recording(STREET, STREET).scenes(ready.engine.manifest, 16, 1000)
    numbers = [int(scene.record.name.partition(" ")[2]) for scene in scenes]
    assert len(numbers) == 16
    assert numbers == sorted(set(numbers))
    assert numbers[0] == 0
    assert numbers[-1] >= 56
    first = Recording(STREET, STREET).scenes(ready.engine.manifest, 16, 20)
    assert max(int(scene.record.name.partition(" ")[2]) for scene in first) < 20  # an endless source ends


def test_failing_cameras_are_made_of_recordings_too(ready: Ready) -> None:
    scenes = Calibration(Recording(STREET, STREET), number=16, degraded=True).read(ready.engine.manifest)
    assert {scene.condition for scene in scenes.scenes} >= {"intact", "visible black", "thermal black"}
    assert scenes.described == f"16 pairs of {STREET}, some also with a failing camera"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((), "got nothing to calibrate on, wanted real pairs"),
        (("--calibration-thermal", STREET), "got --calibration-thermal alone, wanted both cameras"),
        (("--calibration-visible", STREET, "--pairs", "PAIRS"), "alone, the engine takes both cameras; name both"),
        (("--calibration-visible", STREET, "--calibration-thermal", STREET), "without --pairs: recordings have no"),
        (("--calibration", "PAIRS", "--calibration-visible", STREET), "leave one out"),
        (
            (
                "--calibration-visible",
                "test://street?duration=0.3",
                "--calibration-thermal",
                STREET,
                "--pairs",
                "PAIRS",
            ),
            f"wanted at least {FEWEST}",
        ),
    ],
)
def test_what_does_not_go_together(
    given: tuple[str, ...], said: str, detector: Made, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(detector.pairs) if text == "PAIRS" else text for text in given]
    assert export(detector, tmp_path / "int8.onnx", *arguments) == 2
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert said in line
    assert not (tmp_path / "int8.onnx").exists()


def test_the_thermal_cameras_images_are_no_visible_ones(
    detector: Made, folders: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not even where they are stored in three channels, as videos have them; times and stills do not pair."""
    for file in folders[0].iterdir():
        grey = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
        assert grey is not None
        cv2.imwrite(str(file), cv2.merge([grey] * 3))
    assert export(detector, tmp_path / "int8.onnx", *cameras(folders), "--pairs", detector.pairs) == 5
    assert "none of its 16 images has colour, wanted those of the visible camera" in capfd.readouterr().err
    timed: list[str | Path] = [
        "--calibration-visible",
        STREET,
        "--calibration-thermal",
        folders[1],
        "--pairs",
        detector.pairs,
    ]
    assert export(detector, tmp_path / "int8.onnx", *timed) == 2
    assert "--calibration-visible" in (said := capfd.readouterr().err)
    assert "--visible" not in said


def test_an_engine_of_one_camera_needs_one_recording(visible_only: Manifest) -> None:
    scenes = Calibration(Recording(STREET, None), number=16).read(visible_only)
    assert len(scenes.scenes) == 16
    assert {tuple(scene.feeds) for scene in scenes.scenes} == {("visible",)}
    assert scenes.described == f"16 pairs of {STREET}"


@pytest.fixture
def visible_only(ready: Ready) -> Manifest:
    manifest = ready.engine.manifest
    return replace(manifest, inputs={"visible": manifest.inputs["visible"]}, needs=["visible"])


def test_a_dead_camera_calibrates_nothing(
    detector: Made, folders: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for file in folders[1].iterdir():
        cv2.imwrite(str(file), np.zeros((12, 16), np.uint8))
    assert export(detector, tmp_path / "int8.onnx", *cameras(folders), "--pairs", detector.pairs) == 5
    assert "has one value everywhere, as 16 of 16 thermal images have" in capfd.readouterr().err
