"""Calibration files of other programs, written here by those programs' own writers where there are any."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from mdrun.calibrate.imports import Choice, import_calibration, import_lens
from mdrun.errors import CalibrationError
from mdrun.registration import Homography, Registration, Stereo
from tests.runtime.test_registration_model import THERMAL, VISIBLE, stereo, tilted

SIZES = Choice(visible_size=VISIBLE, thermal_size=THERMAL)
POINTS = np.array([[300.0, 200], [480, 300], [700, 400]])


def kalibr(registration: Registration, first: str = "visible", topics: bool = True) -> dict[str, Any]:
    """A camera chain as Kalibr writes it."""
    mapping = registration.mapping
    assert isinstance(mapping, Stereo)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = mapping.rotation, mapping.translation_m
    chain = {}
    order = ("visible", "thermal") if first == "visible" else ("thermal", "visible")
    for number, camera in enumerate(order):
        lens = getattr(mapping, camera)
        matrix = lens.matrix
        entry: dict[str, Any] = {
            "cam_overlaps": [1 - number],
            "camera_model": "pinhole",
            "distortion_coeffs": lens.distortion.tolist(),
            "distortion_model": lens.model,
            "intrinsics": [float(matrix[row, column]) for row, column in ((0, 0), (1, 1), (0, 2), (1, 2))],
            "resolution": list(getattr(registration, f"{camera}_size")),
            "rostopic": {"visible": "/eo/color/image_mono", "thermal": "/boson/thermal/image_8bit"}[camera],
        }
        if not topics:
            del entry["rostopic"]
        if number == 1:
            entry["T_cn_cnm1"] = (pose if first == "visible" else np.linalg.inv(pose)).tolist()
        chain[f"cam{number}"] = entry
    return chain


def write(path: Path, data: object) -> Path:
    path.write_text(yaml.safe_dump(data))
    return path


@pytest.mark.parametrize("first", ["visible", "thermal"])
def test_kalibr_in_either_order(first: str, tmp_path: Path) -> None:
    truth = stereo(20)
    found = import_calibration(write(tmp_path / "chain.yaml", kalibr(truth, first)), Choice(depth_m=20))
    assert np.allclose(found.thermal_to_visible(POINTS), truth.thermal_to_visible(POINTS), atol=1e-6)
    assert found.visible_size == truth.visible_size
    assert found.describe()["method"] == "import of chain.yaml"


def test_kalibr_without_topics_wants_to_be_told(tmp_path: Path) -> None:
    path = write(tmp_path / "chain.yaml", kalibr(stereo(), topics=False))
    with pytest.raises(CalibrationError, match=r"which of cam0, cam1.*--visible-camera"):
        import_calibration(path)
    with pytest.raises(CalibrationError, match="no camera cam7; it has cam0, cam1"):
        import_calibration(path, Choice(visible="cam7"))
    told = import_calibration(path, Choice(visible="cam0", depth_m=10))
    assert np.allclose(told.thermal_to_visible(POINTS), stereo().thermal_to_visible(POINTS), atol=1e-6)


def test_a_chain_of_three_multiplies_its_poses(tmp_path: Path) -> None:
    chain = kalibr(stereo())
    third = dict(chain["cam1"]) | {"T_cn_cnm1": np.linalg.inv(np.array(chain["cam1"]["T_cn_cnm1"])).tolist()}
    path = write(tmp_path / "chain.yaml", chain | {"cam2": third})
    found = import_calibration(path, Choice(visible="cam0", thermal="cam2"))
    assert isinstance(found.mapping, Stereo)
    assert found.mapping.baseline_m == pytest.approx(0, abs=1e-9)
    assert np.allclose(found.mapping.rotation, np.eye(3))


def test_kalibr_equidistant(tmp_path: Path) -> None:
    chain = kalibr(stereo())
    for entry in chain.values():
        entry |= {"distortion_model": "equidistant", "distortion_coeffs": [-0.02, 0.01, -0.005, 0.001]}
    found = import_calibration(write(tmp_path / "chain.yaml", chain))
    assert isinstance(found.mapping, Stereo)
    assert found.mapping.thermal.model == "equidistant"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"camera_model": "omni"}, "cam1 has the model omni"),
        ({"distortion_model": "fov"}, "distortion model fov"),
        ({"intrinsics": [1, 2, 3]}, "cam1: "),
        ({"intrinsics": [0, 0, 3, 4]}, "focal"),
        ({"T_cn_cnm1": [[1, 2], [3, 4]]}, "cam1: "),
        ({"T_cn_cnm1": (2 * np.eye(4)).tolist()}, "rotation"),
        ({"distortion_coeffs": [1, 2, 3]}, "3 distortion coefficients"),
    ],
)
def test_kalibr_with_mistakes(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    chain = kalibr(stereo())
    chain["cam1"] |= change
    with pytest.raises(CalibrationError, match=said):
        import_calibration(write(tmp_path / "chain.yaml", chain))


def test_sizes_that_cannot_be_those_of_the_file_are_refused(tmp_path: Path) -> None:
    chain = write(tmp_path / "chain.yaml", kalibr(stereo()))
    with pytest.raises(CalibrationError, match=r"says that the thermal image was .* of other proportions"):
        import_calibration(chain, Choice(visible="cam0", thermal_size=(100, 10)))
    exchanged = kalibr(stereo())
    exchanged["cam1"]["resolution"] = [160, 120]
    with pytest.raises(CalibrationError, match=r"not about the middle of an image of .*exchange"):
        import_calibration(write(tmp_path / "exchanged.yaml", exchanged), Choice(visible="cam0"))


def test_kalibr_with_something_missing(tmp_path: Path) -> None:
    for key in ("resolution", "T_cn_cnm1", "distortion_model"):
        chain = kalibr(stereo())
        del chain["cam1"][key]
        with pytest.raises(CalibrationError, match=f"cam1 has no {key}"):
            import_calibration(write(tmp_path / "chain.yaml", chain))


@pytest.mark.parametrize("suffix", ["yml", "xml", "json"])
@pytest.mark.parametrize("split", [False, True])
def test_opencv_stereo(suffix: str, split: bool, tmp_path: Path) -> None:
    """As OpenCV's sample stereo_calib writes it: one file here, or intrinsics and extrinsics."""
    truth = stereo(8)
    mapping = truth.mapping
    assert isinstance(mapping, Stereo)
    lenses = {"M1": mapping.visible.matrix, "D1": mapping.visible.distortion}
    lenses |= {"M2": mapping.thermal.matrix, "D2": np.pad(mapping.thermal.distortion, (0, 10))}
    poses = {"R": mapping.rotation, "T": mapping.translation_m.reshape(3, 1) * 1000}
    names = ("intrinsics", "extrinsics") if split else ("stereo",)
    for name, values in zip(names, (lenses, poses) if split else (lenses | poses,), strict=True):
        storage = cv2.FileStorage(str(tmp_path / f"{name}.{suffix}"), cv2.FILE_STORAGE_WRITE)
        for key, value in values.items():
            storage.write(key, value)
        storage.release()
    path = tmp_path / f"{names[-1]}.{suffix}"
    told = Choice(visible="camera1", visible_size=(960, 600), thermal_size=(960, 600), depth_m=8, metres=0.001)
    found = import_calibration(path, told)
    assert np.allclose(found.thermal_to_visible(POINTS), truth.thermal_to_visible(POINTS), atol=1e-6)
    with pytest.raises(CalibrationError, match=r"50 m apart.*--unit 0.001"):
        import_calibration(path, Choice(visible="camera1", visible_size=(960, 600), thermal_size=(960, 600)))
    with pytest.raises(CalibrationError, match="--visible-size"):
        import_calibration(path, Choice(visible="camera1", metres=0.001))


def test_opencv_that_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "stereo.yml"
    path.write_text("%YAML:1.0\n---\nM1: !!opencv-matrix\n   rows: 3\n   cols: [")
    with pytest.raises(CalibrationError, match=r"stereo\.yml"):
        import_calibration(path)


@pytest.mark.parametrize(
    "text",
    [
        "8 0 3.5\n0 8 3.5\n0 0 1\n",
        "# thermal to visible\n8, 0, 3.5\n0, 8, 3.5\n0, 0, 1",
        "[[8, 0, 3.5], [0, 8, 3.5], [0, 0, 1]]",
        '{"name": "FLIR_1", "H_full_to_crop": [[8, 0, 3.5], [0, 8, 3.5], [0, 0, 1]], "inliers": 30}',
        "[8, 0, 3.5, 0, 8, 3.5, 0, 0, 1]",
        "[8 0 3.5; 0 8 3.5; 0 0 1]",
    ],
)
def test_nine_numbers(text: str, tmp_path: Path) -> None:
    path = tmp_path / "homography.txt"
    path.write_text(text)
    found = import_calibration(path, SIZES)
    assert isinstance(found.mapping, Homography)
    assert np.allclose(found.thermal_to_visible([[0, 0], [10, 20]]), [[3.5, 3.5], [83.5, 163.5]])
    with pytest.raises(CalibrationError, match="--visible-size"):
        import_calibration(path)


def test_the_other_direction(tmp_path: Path) -> None:
    path = tmp_path / "homography.json"
    path.write_text(json.dumps(np.linalg.inv(tilted().homography).tolist()))
    told = Choice(visible_size=VISIBLE, thermal_size=THERMAL, direction="visible-to-thermal")
    found = import_calibration(path, told)
    assert np.allclose(found.homography, tilted().homography)
    path.write_text("0 0 0 0 0 0 0 0 0")
    with pytest.raises(CalibrationError, match=r"homography\.json"):
        import_calibration(path, told)


def test_our_own_file_for_another_depth(tmp_path: Path) -> None:
    stereo(8).save(tmp_path / "gate.yaml")
    assert import_calibration(tmp_path / "gate.yaml", Choice(depth_m=3)).depth_m == 3
    assert import_calibration(tmp_path / "gate.yaml").depth_m == 8
    tilted().save(tmp_path / "flat.yaml")
    with pytest.raises(CalibrationError, match="depth it was made at"):
        import_calibration(tmp_path / "flat.yaml", Choice(depth_m=3))


@pytest.mark.parametrize("text", ["", "a: 1\n", "[1, 2]", "1 2 3", "\0", "a: [", "cam0: 3\n"])
def test_something_else(text: str, tmp_path: Path) -> None:
    path = tmp_path / "what.yaml"
    path.write_text(text)
    with pytest.raises(CalibrationError, match=r"what\.yaml"):
        import_calibration(path, SIZES)
    with pytest.raises(CalibrationError, match=r"what\.yaml"):
        import_lens(path)
    with pytest.raises(CalibrationError, match=r"none\.yaml"):
        import_calibration(tmp_path / "none.yaml")


def test_lens_of_opencv(tmp_path: Path) -> None:
    path = tmp_path / "camera.yml"
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
    storage.write("image_width", 640)
    storage.write("image_height", 512)
    storage.write("camera_matrix", np.array([[500.0, 0, 320], [0, 501, 256], [0, 0, 1]]))
    storage.write("distortion_coefficients", np.array([[-0.3, 0.1, 0.0, 0.0, 0.0]]))
    storage.release()
    lens, size = import_lens(path)
    assert size == (640, 512)
    assert lens.focal_px == 500.5
    assert lens.distortion[:2].tolist() == [-0.3, 0.1]


@pytest.mark.realdata
def test_real_files(real_data: Path) -> None:
    folder = real_data / "rgbt" / "calibration"
    by_colour = import_calibration(folder / "cart" / "color_thermal_10x10_calib.yaml", Choice(depth_m=20))
    by_mono = import_calibration(folder / "cart" / "thermal_mono_10x10_calib.yaml", Choice(depth_m=20))
    for found, side in ((by_colour, 1), (by_mono, -1)):  # the two visible cameras stand on either side
        assert isinstance(found.mapping, Stereo)
        assert found.mapping.baseline_m == pytest.approx(0.025, abs=0.0005)
        assert np.sign(found.mapping.translation_m[0]) == side
        assert found.mapping.thermal.focal_px == pytest.approx(513, abs=1)
        assert found.holds_from_m == pytest.approx(1.55, abs=0.05)
        assert found.holds_to_m == float("inf")
    thermal, size = import_lens(folder / "cart" / "thermal.yaml")
    assert (size, round(thermal.focal_px)) == ((640, 512), 510)
    thermal, size = import_lens(folder / "cali_thermal_d435" / "thermal_intrinsic.txt")
    assert (size, round(thermal.focal_px), thermal.distortion[0]) == (None, 768, -0.50404)
    visible, _ = import_lens(folder / "cali_thermal_d435" / "rgb_intrinsic.txt")
    assert (round(visible.focal_px), visible.distortion.size) == (613, 0)
