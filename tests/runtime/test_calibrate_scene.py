"""Alignment from scene structure: exact on made pairs, close on real ones, silent where there is nothing to say."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mdrun.calibrate.scene import align_scene, climb
from mdrun.calibrate.structure import Evidence, gather, grey_levels, orientation, scaling, shifted, transform
from mdrun.cli import cli
from mdrun.command import run_command
from mdrun.errors import CalibrationError
from mdrun.registration.model import Registration

Image = NDArray[np.uint8]
Matrix = NDArray[np.float64]


def _blocks(seed: int, width: int = 480, height: int = 360) -> tuple[Image, Image]:
    """One scene of rectangles: grey levels of both spectra have nothing to do with each other, the edges are shared."""
    random = np.random.default_rng(seed)
    visible, thermal = np.full((height, width), 90, np.uint8), np.full((height, width), 60, np.uint8)
    for _ in range(60):
        x, y = int(random.integers(0, width)), int(random.integers(0, height))
        w, h = (int(v) for v in random.integers(15, 90, 2))
        angle = float(random.uniform(0, 180))
        corners = cv2.boxPoints(((x, y), (w, h), angle)).astype(np.int32)
        cv2.fillConvexPoly(visible, corners, int(random.integers(20, 255)))
        cv2.fillConvexPoly(thermal, corners, int(random.integers(20, 255)))
    return cv2.cvtColor(visible, cv2.COLOR_GRAY2RGB).astype(np.uint8), thermal


def _seen(thermal: Image, homography: Matrix, size: tuple[int, int]) -> Image:
    """What a thermal camera with this homography to the visible image sees."""
    return np.asarray(cv2.warpPerspective(thermal, homography, size, flags=cv2.INTER_AREA | cv2.WARP_INVERSE_MAP))


def _errors(found: Matrix, truth: Matrix, size: tuple[int, int]) -> NDArray[np.float64]:
    """Distances in thermal pixels, over the thermal image."""
    grid = np.array([(x, y) for x in range(0, size[0], 20) for y in range(0, size[1], 20)], np.float64)
    thermal = transform(np.asarray(np.linalg.inv(truth), np.float64), transform(found, grid))
    return np.asarray(np.hypot(*(thermal - grid).T))


TRUTH = shifted(40, 30) @ np.array([[2.3, 0.08, 0], [-0.06, 2.25, 0], [1e-4, -8e-5, 1]])


def test_a_made_scene_is_found_to_a_fraction_of_a_pixel() -> None:
    visible, thermal = _blocks(1)
    found = align_scene([(visible, _seen(thermal, TRUTH, (160, 120)))])
    assert np.median(_errors(found.homography, TRUTH, (160, 120))) < 0.35
    assert found.score > 0.8
    assert found.residual_px < 1
    assert found.pairs_used == 1


def test_an_inverted_thermal_image_makes_no_difference() -> None:
    visible, thermal = _blocks(2)
    small = _seen(thermal, TRUTH, (160, 120))
    one, other = (
        align_scene([(visible, t)], initial=TRUTH).homography for t in (small, (255 - small).astype(np.uint8))
    )
    assert np.median(_errors(one, other, (160, 120))) < 0.3  # logarithmic grey levels are not quite symmetric


@pytest.mark.parametrize("model", ["similarity", "affine", "homography"])
def test_each_model_keeps_to_its_degrees_of_freedom(model: str) -> None:
    visible, thermal = _blocks(3)
    found = align_scene([(visible, _seen(thermal, TRUTH, (160, 120)))], initial=TRUTH, model=model).homography  # type: ignore[arg-type]
    change = np.linalg.inv(TRUTH) @ found
    change /= change[2, 2]
    if model != "homography":
        assert np.abs(change[2, :2]).max() < 1e-6
    if model == "similarity":
        assert abs(change[0, 0] - change[1, 1]) < 1e-3
        assert abs(change[0, 1] + change[1, 0]) < 1e-3


def test_several_scenes_decide_together() -> None:
    pairs = []
    for seed in (4, 5, 6):
        visible, thermal = _blocks(seed)
        hidden = _seen(thermal, TRUTH, (160, 120))
        hidden[:, :110] = np.roll(hidden, 50, axis=0)[:, :110] if seed == 4 else hidden[:, :110]  # one contradicts
        pairs.append((visible, hidden))
    found = align_scene(pairs, initial=TRUTH)
    assert found.pairs_used == 3
    assert np.median(_errors(found.homography, TRUTH, (160, 120))) < 0.5


def test_scenes_that_have_nothing_in_common_are_refused() -> None:
    visible, _ = _blocks(7)
    _, thermal = _blocks(8)
    with pytest.raises(CalibrationError, match="places with structure"):
        align_scene([(visible, _seen(thermal, TRUTH, (160, 120)))], initial=TRUTH)


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        ([], "no image pairs"),
        ([(np.zeros((64, 64), np.uint8), np.zeros((64, 64), np.uint8))], "wanted RGB"),
        ([(np.zeros((64, 64, 3), np.uint8), np.zeros((8, 8), np.uint8))], "32 px"),
        ([(np.zeros((64, 64, 3), np.uint8), np.zeros((64, n), np.uint8)) for n in (64, 65)], "2 different sizes"),
        ([(np.zeros((64, 64, 3), np.uint8), np.zeros((48, 64), np.uint8))], "places with structure"),
    ],
)
def test_what_cannot_be_aligned_is_refused(pairs: list[tuple[Image, Image]], says: str) -> None:
    with pytest.raises(CalibrationError, match=says):
        align_scene(pairs, initial=np.eye(3))


@given(x=st.integers(-6, 6), y=st.integers(-6, 6))
@settings(max_examples=8)
def test_evidence_of_an_image_and_itself_peaks_at_the_shift(x: int, y: int) -> None:
    grey = grey_levels(_blocks(9, 120, 96)[1])
    field = orientation(grey)
    moved = cv2.copyMakeBorder(np.roll(field, (y, x), (0, 1)), 8, 8, 8, 8, cv2.BORDER_CONSTANT)
    evidence = gather([np.asarray(moved, np.float32)], [field], 8, 40)
    at_shift = np.tile([float(x), float(y)], (len(evidence.centres), 1))
    distance, clear = evidence.own_optima(at_shift)
    assert np.median(distance[clear]) <= 1
    found, _ = climb(evidence, (120, 96), "similarity", shifted(x, y))
    assert np.abs(transform(found, evidence.centres) - evidence.centres - at_shift).max() < 1


def test_agreement_beyond_the_radius_counts_nothing() -> None:
    evidence = Evidence(np.array([[5.0, 5.0]]), np.ones((1, 5, 5), np.float32))
    assert evidence.agreement(np.array([[2.0, -2.0]])) == pytest.approx(1)
    assert evidence.agreement(np.array([[2.5, 0.0]])) == 0


@given(w=st.integers(8, 700), h=st.integers(8, 700), fx=st.floats(0.1, 8), fy=st.floats(0.1, 8))
def test_scaling_maps_edges_to_edges(w: int, h: int, fx: float, fy: float) -> None:
    edges = np.array([[-0.5, -0.5], [w - 0.5, h - 0.5]])
    assert np.allclose(transform(scaling(fx, fy), edges), (edges + 0.5) * [fx, fy] - 0.5, atol=1e-6)


def _read(path: Path) -> Image:
    image = cv2.imread(str(path))
    assert image is not None, path
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["VI_5", pytest.param("VI_8", marks=pytest.mark.slow)])
def test_real_landmarks_are_met(real_data: Path, name: str) -> None:
    import json

    folder = real_data / "rgbt" / "landmarks"
    truth = json.loads((folder / "landmarks.json").read_text())[name.replace("VI_", "VIS_IR_")]
    found = align_scene([(_read(folder / f"{name}_a.png"), _read(folder / f"{name}_b.png")[..., 0])])
    moving, fixed = (np.array(truth[f"landmarks_{which}"]) - 1 for which in ("moving", "fixed"))  # of MATLAB: from 1
    assert np.median(np.hypot(*(transform(found.homography, moving) - fixed).T)) < 2


@pytest.mark.realdata
def test_a_real_rig_of_lepton_size_is_found_from_several_pairs(real_data: Path) -> None:
    folder = real_data / "rgbt" / "stream_m3svd"
    truth = shifted(30, -12) @ np.array([[3.7, 0.1, 0], [-0.1, 3.7, 0], [0, 0, 1]])
    pairs = []
    for clip in sorted(path for path in folder.iterdir() if path.is_dir()):
        thermal = _read(clip / "ir" / "0005.jpg")[..., 0]
        thermal = np.asarray(cv2.GaussianBlur(thermal, (0, 0), 1.8), np.uint8)  # as coarse as the pixels to come
        pairs.append((_read(clip / "vi" / "0005.jpg"), _seen(thermal, truth, (160, 120))))
    found = align_scene(pairs, initial=truth @ shifted(7, -5))
    assert np.median(_errors(found.homography, truth, (160, 120))) < 1


@pytest.mark.slow
@pytest.mark.realdata
def test_the_command_measures_on_the_pixels_as_they_are(real_data: Path, tmp_path: Path) -> None:
    """A stretched contrast gives other edges: of this pair too few would agree."""
    folder = real_data / "rgbt" / "misregistered_msrs"
    visible, thermal = folder / "vi" / "00028N.jpg", folder / "ir_warp" / "00028N.png"
    output = tmp_path / "gate.yaml"
    arguments = ["calibrate", "registration", "--scene", "--visible", str(visible), "--thermal", str(thermal)]
    assert run_command(cli, "mdrun", [*arguments, "--output", str(output)]) == 0
    found = align_scene([(_read(visible), _read(thermal)[..., 0])])
    corners = np.array([[0, 0], [639, 0], [639, 479], [0, 479]], np.float64)
    one, other = (
        transform(homography, corners) for homography in (Registration.load(output).homography, found.homography)
    )
    assert np.abs(one - other).max() < 1
