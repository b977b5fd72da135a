"""Registrations from checkerboards, rendered through known lenses, and a real one."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mdrun.calibrate import board
from mdrun.calibrate.board import calibrate_board, find_board, find_views
from mdrun.errors import CalibrationError
from mdrun.registration import Homography, Registration, Stereo
from mdrun.registration.geometry import Size, pixel_grid
from mdrun.registration.lens import Lens

PATTERN, SQUARE_M = (7, 5), 0.06
VISIBLE: Size = (480, 360)
THERMAL: Size = (160, 120)
SEEN = Lens(np.array([[420.0, 0, 241], [0, 421, 177], [0, 0, 1]]), np.array([-0.12, 0.05, 0.0005, -0.0003]))
FELT = Lens(np.array([[150.0, 0, 81], [0, 151, 58.5], [0, 0, 1]]), np.array([-0.3, 0.09, 0.0004, 0.0002]))
TURN = np.asarray(cv2.Rodrigues(np.array([0.01, -0.03, 0.02]))[0], np.float64)
MOVE = np.array([0.06, -0.005, 0.002])


def pose(angles: tuple[float, float, float], middle: tuple[float, float, float]) -> NDArray[np.float64]:
    """(4, 4) board to visible camera; `middle` of the board, metres."""
    turn = cv2.Rodrigues(np.array(angles, np.float64))[0]
    half = np.array([(PATTERN[0] - 1) / 2, (PATTERN[1] - 1) / 2, 0]) * SQUARE_M
    found = np.eye(4)
    found[:3, :3], found[:3, 3] = turn, np.array(middle) - turn @ half
    return found


@cache
def rays_of(camera: str, fine: int) -> NDArray[np.float64]:
    """(N, 3) `fine` x `fine` rays of every pixel."""
    lens, size = (SEEN, VISIBLE) if camera == "visible" else (FELT, THERMAL)
    rays = lens.to_rays((pixel_grid((size[0] * fine, size[1] * fine)) + 0.5) / fine - 0.5)
    return np.column_stack([rays, np.ones(len(rays))])


def render(camera: str, placed: NDArray[np.float64], dark: int, light: int, fine: int) -> NDArray[np.uint8]:
    """What a camera sees of the board: every ray is followed to it."""
    size = VISIBLE if camera == "visible" else THERMAL
    to_board = np.linalg.inv(placed)
    through = rays_of(camera, fine) @ to_board[:3, :3].T
    on_board = to_board[:3, 3] - through * (to_board[2, 3] / through[:, 2:])
    columns, rows = np.floor(on_board[:, 0] / SQUARE_M), np.floor(on_board[:, 1] / SQUARE_M)
    inside = (columns >= -1) & (columns < PATTERN[0]) & (rows >= -1) & (rows < PATTERN[1])
    grey = np.where(inside, np.where((columns + rows) % 2 == 0, dark, light), (dark + light) // 2)
    large = grey.reshape(size[1] * fine, size[0] * fine).astype(np.float32)
    image = cv2.resize(large, size, interpolation=cv2.INTER_AREA)
    noise = np.random.default_rng(0).normal(0, 1.5, image.shape)
    return np.asarray(np.clip(image + noise, 0, 255), np.uint8)


def both(placed: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The board in both cameras; warm where it is dark."""
    to_thermal = np.eye(4)
    to_thermal[:3, :3], to_thermal[:3, 3] = TURN, MOVE
    seen = render("visible", placed, 30, 220, fine=2)
    return np.repeat(seen[..., None], 3, axis=2), render("thermal", to_thermal @ placed, 190, 90, fine=3)


@cache
def views(count: int) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    rng = np.random.default_rng(3)
    found = []
    for _ in range(count):
        angles = (rng.uniform(-0.6, 0.6), rng.uniform(-0.6, 0.6), rng.uniform(-0.3, 0.3))
        found.append(both(pose(angles, (rng.uniform(-0.15, 0.15), rng.uniform(-0.1, 0.1), rng.uniform(0.65, 0.95)))))
    return found


def truth(plane_m: float) -> Registration:
    return Registration(VISIBLE, THERMAL, Stereo(SEEN, FELT, TURN, MOVE, plane_m))


def test_corners_are_where_they_are() -> None:
    placed = pose((0.3, -0.2, 0.1), (0, 0, 0.8))
    seen, felt = both(placed)
    columns, rows = np.meshgrid(np.arange(PATTERN[0]), np.arange(PATTERN[1]))
    space = (
        np.column_stack([columns.ravel(), rows.ravel(), 0 * rows.ravel()]) * SQUARE_M @ placed[:3, :3].T + placed[:3, 3]
    )
    for image, lens, points in ((seen, SEEN, space), (felt, FELT, space @ TURN.T + MOVE)):
        grid = find_board(image, PATTERN)
        assert grid is not None
        wanted = lens.to_pixels(points[:, :2] / points[:, 2:])
        assert np.linalg.norm(grid.reshape(-1, 2) - wanted, axis=1).max() < 0.25


@pytest.mark.parametrize("roll", [0.0, 1.4, 2.4, -1.5])
def test_both_cameras_number_the_corners_alike(roll: float) -> None:
    """The board looks the other way round in heat, so its colours do not tell where it begins."""
    found, without = find_views([both(pose((0.2, 0.1, roll), (0, 0, 0.9)))], PATTERN)
    assert not without
    mapped = truth(0.9).visible_to_thermal(found[0].visible)
    assert np.linalg.norm(mapped - found[0].thermal, axis=1).max() < 4  # a board numbered backwards is 60 pixels off


def test_16_bits_and_dead_pixels() -> None:
    _, felt = both(pose((0.2, 0.1, 0), (0, 0, 0.8)))
    counts = felt.astype(np.uint16) * 4 + 29_000
    counts[5, 7] = 0
    assert find_board(counts, PATTERN) is not None


def test_no_board_is_no_board() -> None:
    noise = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (120, 160)).astype(np.uint8), (0, 0), 9)
    with pytest.raises(CalibrationError, match="none of 1 image pairs"):
        calibrate_board([(np.repeat(noise[..., None], 3, axis=2), noise)], PATTERN, SQUARE_M)
    with pytest.raises(CalibrationError, match="sizes none"):
        calibrate_board([], PATTERN, SQUARE_M)
    with pytest.raises(CalibrationError, match="one size a camera"):
        calibrate_board([(np.repeat(image[..., None], 3, axis=2), image) for image in (noise, noise[:100])], PATTERN, 1)


def test_one_view_gives_a_homography_for_its_distance() -> None:
    blank = (np.zeros((360, 480, 3), np.uint8), np.zeros((120, 160), np.uint8))
    fit = calibrate_board([both(pose((0, 0, 0), (0, 0, 0.8))), blank], PATTERN, SQUARE_M, depth_m=0.8)
    assert isinstance(fit.registration.mapping, Homography)
    assert fit.registration.depth_m == 0.8
    assert (fit.registration.residual_px or 9) < 0.2
    assert fit.notes[0] == "no board in pair 2"
    assert "distance of the board" in fit.notes[1]
    middle = np.array([[240.0, 180], [150, 150], [315, 225]])
    off = fit.registration.visible_to_thermal(middle) - truth(0.8).visible_to_thermal(middle)
    assert np.linalg.norm(off, axis=1).max() < 0.5


def test_known_lenses_give_stereo_from_two_views() -> None:
    fit = calibrate_board(views(2), PATTERN, SQUARE_M, depth_m=5, lenses=(SEEN, FELT))
    check_stereo(fit.registration, baseline=0.005, far_px=1.0)


def test_many_views_give_lenses_and_stereo() -> None:
    fit = calibrate_board(views(10), PATTERN, SQUARE_M, depth_m=5)
    assert isinstance(fit.registration.mapping, Stereo)
    assert fit.registration.mapping.visible.focal_px == pytest.approx(SEEN.focal_px, rel=0.01)
    assert fit.registration.mapping.thermal.focal_px == pytest.approx(FELT.focal_px, rel=0.02)
    check_stereo(fit.registration, baseline=0.006, far_px=1.0)


def check_stereo(registration: Registration, baseline: float, far_px: float) -> None:
    mapping = registration.mapping
    assert isinstance(mapping, Stereo)
    assert np.linalg.norm(mapping.translation_m - MOVE) < baseline
    assert (registration.residual_px or 9) < 0.2
    view = pixel_grid((7, 5)) * [52, 52] + [82, 75]
    for depth in (0.8, 5.0, None):
        off = registration.at_depth(depth).visible_to_thermal(view) - truth(depth or np.inf).visible_to_thermal(view)
        assert np.linalg.norm(off, axis=1).max() < far_px


def test_views_that_do_not_tell_the_lenses_give_a_homography(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "LEAST_VIEWS", 3)
    flat = [both(pose((0.001 * index, 0, 0), (0.01 * index, 0, 0.8))) for index in range(3)]
    fit = calibrate_board(flat, PATTERN, SQUARE_M)
    assert fit.registration.kind == "homography"
    assert any("focal length is known to" in note for note in fit.notes)


@pytest.mark.realdata
def test_a_real_board(real_data: Path) -> None:
    """cali_thermal_d435: a reflecting board of 6 x 5 inner corners, with dirt in its squares."""
    folder = real_data / "rgbt" / "calibration" / "cali_thermal_d435"
    pairs = [
        (
            np.asarray(cv2.imread(str(folder / f"rgb000{index}.jpg")))[..., ::-1].copy(),
            np.asarray(cv2.imread(str(folder / f"thermal000{index}.jpg"), cv2.IMREAD_GRAYSCALE)),
        )
        for index in (0, 1)
    ]
    fit = calibrate_board(pairs, (6, 5), 0.03)
    assert fit.registration.origin.pairs == 60
    assert (fit.registration.residual_px or 9) < 0.7  # of 640 pixels; measured: 0.50
    assert (fit.registration.origin.residual_p95_px or 9) < 2.5  # measured: 1.80
    # The board's upper left square lies there in the visible image, and a third of the way down in the thermal one.
    assert np.abs(fit.registration.visible_to_thermal([[281, 154]]) - [[190, 235]]).max() < 2
