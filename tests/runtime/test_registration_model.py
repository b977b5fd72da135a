"""Geometry of registrations: identities and limits first."""

from __future__ import annotations

import json
import math
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mdrun.errors import CalibrationError, DataError
from mdrun.preprocess import resize_into
from mdrun.registration import Homography, Registration, Stereo
from mdrun.registration.geometry import as_homography, corners, pixel_grid, scale_matrix, transform
from mdrun.registration.lens import Lens, Model

VISIBLE, THERMAL = (1280, 1024), (160, 120)
# As in CART: a FLIR Boson beside a colour camera.
MATRIX = np.array([[512.0, 0, 475], [0, 512, 303], [0, 0, 1]])
RADTAN = np.array([-0.43, 0.178, -0.0002, 0.0001])


def noise(size: tuple[int, int], seed: int = 0, dtype: str = "uint8") -> NDArray[Any]:
    high = 65535 if dtype == "uint16" else 255
    return np.random.default_rng(seed).integers(0, high, (size[1], size[0])).astype(dtype)


def tilted(scale: float = 1.0) -> Registration:
    matrix = np.array([[8.1, 0.1, 20], [-0.05, 8.4, -30], [1e-4 * scale, -2e-4 * scale, 1]])
    return Registration.from_homography(matrix, VISIBLE, THERMAL)


def stereo(
    plane_m: float = 10.0, angles: tuple[float, float, float] = (0.01, -0.02, 0.03), baseline_m: float = 0.05
) -> Registration:
    seen = Lens(np.array([[680.0, 0, 487], [0, 678, 305], [0, 0, 1]]), np.array([-0.145, 0.083, 0.0016, 0.00045]))
    turn = np.asarray(cv2.Rodrigues(np.array(angles))[0], np.float64)
    mapping = Stereo(seen, Lens(MATRIX, RADTAN), turn, np.array([baseline_m, 0, 0]), plane_m)
    return Registration((960, 600), (960, 600), mapping)


@pytest.mark.parametrize("target", [(160, 128), (160, 120), (320, 256), (97, 61)])
def test_identity_is_a_plain_resize(target: tuple[int, int]) -> None:
    image = noise(THERMAL)
    aligned = Registration.identity(VISIBLE, THERMAL).align(image, target)
    plain = cv2.resize(image, target, interpolation=cv2.INTER_LINEAR)
    # OpenCV remaps with 1/32 of a pixel and resizes with 1/2048: of noise, an error of up to 255/64 and a rounding.
    assert np.abs(aligned.astype(int) - plain).max() <= 5
    assert aligned.dtype == image.dtype


@pytest.mark.parametrize("target", [(160, 128), (80, 64), (128, 64)])
def test_identity_shrinks_without_aliasing(target: tuple[int, int]) -> None:
    image = np.asarray(noise((640, 512)), np.uint8)
    wanted = np.empty((target[1], target[0]), np.uint8)
    resize_into(image, wanted)
    assert np.array_equal(Registration.identity(VISIBLE, (640, 512)).align(image, target), wanted)


def test_a_side_without_factors_still_does_not_alias() -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (509, 512))[:, :1021]  # 1021 and 509 are prime
    aligned = Registration.identity((1021, 509), (1021, 509)).align(stripes, (100, 50))
    assert abs(float(aligned.mean()) - 127.5) < 3
    assert aligned.std() < 40


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
def test_every_depth_keeps_its_type(dtype: str) -> None:
    image = noise(THERMAL, dtype=dtype)
    aligned = tilted().align(image, (160, 128))
    assert (aligned.dtype, aligned.shape) == (np.dtype(dtype), (128, 160))
    assert image.min() <= aligned.min() <= aligned.max() <= image.max()


@pytest.mark.parametrize("image", [np.zeros((0, 0), np.uint8), np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9), bool)])
def test_what_is_no_thermal_image_is_refused(image: NDArray[Any]) -> None:
    with pytest.raises(DataError, match="wanted"):
        tilted().align(image, (160, 128))


def test_a_hot_pixel_lands_where_the_mapping_says() -> None:
    image = np.zeros((120, 160), np.uint8)
    image[40:43, 100:103] = 200  # its middle is pixel (101, 41)
    registration = tilted()
    aligned = registration.align(image, (640, 512))
    rows, columns = np.nonzero(aligned > 100)
    found = transform(scale_matrix((640, 512), VISIBLE), np.array([[columns.mean(), rows.mean()]]))
    wanted = registration.thermal_to_visible([[101, 41]])
    assert np.abs(found - wanted).max() < 1.5  # visible pixels, of which one of the result has two


@given(st.floats(-1, 1), st.floats(0, 159), st.floats(0, 119))
def test_there_and_back(scale: float, x: float, y: float) -> None:
    registration = tilted(scale)
    there = registration.thermal_to_visible([[x, y]])
    assert np.allclose(registration.visible_to_thermal(there), [[x, y]], atol=1e-6)


@settings(max_examples=40)
@given(st.tuples(*[st.floats(-0.15, 0.15)] * 3), st.floats(0.5, 1e4), st.floats(100, 860), st.floats(80, 520))
def test_there_and_back_with_lenses(angles: tuple[float, float, float], plane_m: float, x: float, y: float) -> None:
    registration = stereo(plane_m, angles)
    there = registration.thermal_to_visible([[x, y]])
    back = registration.visible_to_thermal(there)
    assert np.isnan(there).any() or np.allclose(back, [[x, y]], atol=1e-4)


def test_stereo_is_what_opencv_projects() -> None:
    registration = stereo()
    assert isinstance(registration.mapping, Stereo)
    visible = pixel_grid((10, 6)) * 90 + 50
    rays = cv2.undistortPoints(
        visible.reshape(-1, 1, 2), registration.mapping.visible.matrix, registration.mapping.visible.distortion
    ).reshape(-1, 2)
    space = np.column_stack([rays, np.ones(len(rays))]) * 10
    turn = cv2.Rodrigues(registration.mapping.rotation)[0]
    wanted, _ = cv2.projectPoints(space, turn, registration.mapping.translation_m, MATRIX, RADTAN)
    assert np.abs(registration.visible_to_thermal(visible) - wanted[:, 0]).max() < 0.01  # OpenCV undistorts in 5 steps


@pytest.mark.parametrize(
    ("model", "distortion"),
    [
        ("radtan", []),
        ("radtan", [-0.43, 0.178, -0.0002, 0.0001]),
        ("radtan", [-0.5, 0.27, 0.003, -0.0007, 0.01]),
        ("radtan", [0.3, 0.02, 0.001, 0.0, 0.01, 0.5, 0.05, 0.01]),
        ("equidistant", []),
        ("equidistant", [-0.02, 0.01, -0.005, 0.001]),
    ],
)
def test_lenses_invert_themselves(model: Model, distortion: list[float]) -> None:
    lens = Lens(MATRIX, np.array(distortion), model)
    rays = (pixel_grid((21, 15)) / [20, 14] - 0.5) * [1.8, 1.2]
    assert np.allclose(lens.to_rays(lens.to_pixels(rays)), rays, atol=1e-7)


def test_equidistant_is_opencvs_fisheye() -> None:
    distortion = np.array([-0.02, 0.01, -0.005, 0.001])
    rays = (pixel_grid((9, 7)) / [8, 6] - 0.5) * 2
    wanted = cv2.fisheye.distortPoints(rays.reshape(-1, 1, 2), MATRIX, distortion).reshape(-1, 2)
    assert np.allclose(Lens(MATRIX, distortion, "equidistant").to_pixels(rays), wanted, atol=1e-6)


def test_beyond_where_a_lens_folds_nothing_is_seen() -> None:
    lens = Lens(MATRIX, np.array([-0.5, 0.0, 0.0, 0.0]))  # grows up to a ray of sqrt(1 / 1.5)
    assert lens.widest == pytest.approx(math.sqrt(1 / 1.5), abs=0.01)
    wide = Lens(np.array([[150.0, 0, 480], [0, 150, 300], [0, 0, 1]]))
    registration = Registration((960, 600), (960, 600), Stereo(wide, lens, np.eye(3), np.zeros(3)))
    assert np.isnan(registration.visible_to_thermal([[0, 0]])).all()
    assert not registration.coverage_mask((96, 60))[0, 0]
    assert np.isfinite(registration.align(noise((960, 600), dtype="float32"), (96, 60))).all()


@given(st.sampled_from([0.25, 0.5, 2.0, 4.0]), st.sampled_from([0.5, 2.0]), st.booleans())
def test_another_resolution_of_the_same_view(visible: float, thermal: float, lenses: bool) -> None:
    registration = stereo() if lenses else tilted()
    sizes = [
        (round(size[0] * scale), round(size[1] * scale))
        for size, scale in ((registration.visible_size, visible), (registration.thermal_size, thermal))
    ]
    other = registration.at(visible_size=sizes[0], thermal_size=sizes[1])
    points = pixel_grid((7, 5)) * [registration.thermal_size[0] / 8, registration.thermal_size[1] / 6] + 5
    moved = transform(scale_matrix(registration.thermal_size, sizes[1]), points)
    wanted = transform(scale_matrix(registration.visible_size, sizes[0]), registration.thermal_to_visible(points))
    assert np.allclose(other.thermal_to_visible(moved), wanted, atol=1e-3)
    assert registration.at(visible_size=sizes[0], thermal_size=sizes[1]) is other


def test_align_takes_another_resolution_and_refuses_another_view() -> None:
    registration = tilted()
    small = cv2.GaussianBlur(np.asarray(noise(THERMAL), np.uint8), (0, 0), 4)
    large = cv2.resize(small, (320, 240), interpolation=cv2.INTER_LINEAR)
    same = np.abs(registration.align(small, (160, 128)).astype(int) - registration.align(large, (160, 128)))
    assert same.max() <= 4
    with pytest.raises(CalibrationError, match=r"160x128.*160x120"):
        registration.align(noise((160, 128)), (160, 128))
    with pytest.raises(CalibrationError, match="visible image is 1920x1080"):
        registration.at(visible_size=(1920, 1080))


def test_coverage_and_the_repeated_border() -> None:
    half = scale_matrix(THERMAL, (640, 1024))  # the thermal camera sees the left half of the visible view
    registration = Registration.from_homography(half, VISIBLE, THERMAL)
    mask = registration.coverage_mask((160, 128))
    assert mask[:, :80].all()
    assert not mask[:, 80:].any()
    assert registration.coverage == pytest.approx(0.5)
    image = noise(THERMAL)
    aligned = registration.align(image, (320, 120))  # pixel for pixel
    assert np.array_equal(aligned[:, :160], image)
    assert (aligned[:, 160:] == image[:, -1:]).all()


def test_parallax_of_cameras_side_by_side() -> None:
    lens = Lens(np.array([[200.0, 0, 80], [0, 200, 60], [0, 0, 1]]))
    pair = Registration(THERMAL, THERMAL, Stereo(lens, lens, np.eye(3), np.array([0.1, 0, 0]), 10.0))
    assert pair.parallax_px(10) == pytest.approx(0)
    assert pair.parallax_px(5) == pytest.approx(200 * 0.1 * (1 / 5 - 1 / 10))
    flat = Registration.from_homography(
        scale_matrix(THERMAL, VISIBLE), VISIBLE, THERMAL, depth_m=10, baseline_m=0.1, focal_px=200
    )
    for depth in (2, 5, 20, 1e6):
        assert flat.parallax_px(depth) == pytest.approx(pair.parallax_px(depth))
    # f B |1 / d - 1 / 10| = 1 at 1 / d = 0.1 + 1 / 20 and 0.1 - 1 / 20
    assert pair.holds_from_m == pytest.approx(1 / 0.15)
    assert pair.holds_to_m == pytest.approx(20)
    assert pair.at_depth(None).holds_from_m == pytest.approx(20)
    assert pair.at_depth(None).holds_to_m == math.inf


def test_parallax_is_measured_in_the_camera_that_runs() -> None:
    small, large = stereo(), stereo().at(thermal_size=(1920, 1200))
    assert large.parallax_px(3) == pytest.approx(2 * (small.parallax_px(3) or 0), rel=1e-6)
    assert large.holds_from_m == pytest.approx(small.holds_from_m, rel=1e-6)


def test_a_homography_cannot_be_moved_to_another_depth() -> None:
    assert tilted().parallax_px(3) is None
    assert tilted().holds_from_m is None
    with pytest.raises(CalibrationError, match="depth it was made at"):
        tilted().at_depth(3)


def test_the_homography_nearest_to_two_lenses() -> None:
    registration = stereo()
    points = np.array([[475.0, 303], [300, 200], [650, 400]])
    off = transform(registration.homography, points) - registration.thermal_to_visible(points)
    assert np.linalg.norm(off, axis=1).max() < 40  # of 960; barrel distortion is what it leaves aside
    assert np.array_equal(tilted().homography, tilted().mapping.matrix)  # type: ignore[union-attr]


def test_description_is_json() -> None:
    for registration in (tilted(), stereo(), stereo(math.inf)):
        told = json.loads(json.dumps(registration.describe(), allow_nan=False))
        assert told["kind"] in {"homography", "stereo"}
        assert set(told) >= {"residual_px", "coverage", "depth_m", "holds_from_m", "parallax_px"}


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((3, 3)),
        np.full((3, 3), np.nan),
        np.eye(2),
        [[1, 0, 0], [0, 1, 0], [-0.01, 0, 1]],  # its horizon is at x = 100
        [[1, 1, 0], [1, 1, 0], [0, 0, 1]],
    ],
)
def test_what_is_no_homography_is_refused(values: object) -> None:
    with pytest.raises(CalibrationError, match="homography"):
        as_homography(values, THERMAL)


def test_a_homography_may_be_written_with_any_sign() -> None:
    plus, minus = tilted(), Registration.from_homography(-3 * tilted().homography, VISIBLE, THERMAL)
    assert np.allclose(plus.thermal_to_visible(corners(THERMAL)), minus.thermal_to_visible(corners(THERMAL)))


@pytest.mark.parametrize("rotation", [np.eye(3) * 2, -np.eye(3), np.full((3, 3), np.nan)])
def test_what_is_no_rotation_is_refused(rotation: NDArray[np.float64]) -> None:
    lens = Lens(MATRIX)
    with pytest.raises(CalibrationError, match="rotation"):
        Stereo(lens, lens, rotation, np.zeros(3))


def test_what_is_no_lens_size_or_depth_is_refused() -> None:
    with pytest.raises(CalibrationError, match="focal"):
        Lens(np.zeros((3, 3)))
    with pytest.raises(CalibrationError, match="coefficients"):
        Lens(MATRIX, np.zeros(3))
    with pytest.raises(CalibrationError, match="size"):
        Registration(VISIBLE, (160, 0), Homography(np.eye(3)))
    with pytest.raises(CalibrationError, match="depth"):
        Registration(VISIBLE, THERMAL, Homography(np.eye(3), plane_m=-1))


def test_kept_sizes_are_bounded() -> None:
    registration = tilted()
    for width in range(20, 60):
        registration.align(noise(THERMAL), (width, 30))
    assert len(registration._aligners) <= 8
