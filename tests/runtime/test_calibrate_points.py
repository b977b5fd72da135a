"""Registrations from point pairs."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdrun.calibrate.points import COLUMNS, fit_homography, fit_json, read_points
from mdrun.errors import CalibrationError
from mdrun.registration import Registration
from mdrun.registration.geometry import Points, corners, pixel_grid, transform
from tests.runtime.test_registration_model import THERMAL, VISIBLE, tilted

AFFINE = np.array([[8.1, 0.1, 20], [-0.05, 8.4, -30], [0, 0, 1]])


def spread(count: int, seed: int = 0) -> Points:
    """Thermal points all over the image, none close to another."""
    grid = pixel_grid((5, 4)) * [36, 32] + [8, 12]
    return np.asarray(np.random.default_rng(seed).permutation(grid)[:count], np.float64)


def pairs(count: int, registration: Registration, noise_px: float = 0.0, seed: int = 0) -> tuple[Points, Points]:
    thermal = spread(count, seed)
    clicked = thermal + np.random.default_rng(seed).normal(0, noise_px, thermal.shape)
    return registration.thermal_to_visible(thermal), clicked


@pytest.mark.parametrize("count", [5, 6, 8, 20])
def test_exact_points_give_the_homography_back(count: int) -> None:
    truth = tilted()
    fit = fit_homography(*pairs(count, truth), VISIBLE, THERMAL)
    assert fit.registration.origin.method == "points (homography)"
    off = fit.registration.thermal_to_visible(corners(THERMAL)) - truth.thermal_to_visible(corners(THERMAL))
    assert np.abs(off).max() < 1e-3
    assert fit.inliers.all()
    assert fit.residuals_px.max() < 1e-4
    assert (fit.registration.residual_px or 0) < 1e-3


def test_four_points_fit_exactly_and_say_that_this_proves_nothing() -> None:
    thermal = np.array([[10.0, 10], [150, 12], [148, 110], [12, 108]])
    visible = tilted().thermal_to_visible(thermal)
    fit = fit_homography(visible, thermal, VISIBLE, THERMAL)
    assert fit.residuals_px.max() < 1e-4
    assert (fit.registration.residual_px or 0) > 0.1
    assert "four pairs" in fit.notes[0]


def test_three_points_give_an_affine_map() -> None:
    truth = Registration.from_homography(AFFINE, VISIBLE, THERMAL)
    thermal = np.array([[10.0, 10], [150, 12], [80, 110]])
    fit = fit_homography(truth.thermal_to_visible(thermal), thermal, VISIBLE, THERMAL)
    assert fit.registration.origin.method == "points (affine)"
    assert np.allclose(fit.registration.homography / fit.registration.homography[2, 2], AFFINE, atol=1e-6)
    assert np.isnan(fit.left_out_px).all()
    assert "unknown" in fit.notes[0]


def test_an_affine_truth_is_found_affine() -> None:
    truth = Registration.from_homography(AFFINE, VISIBLE, THERMAL)
    found = [fit_homography(*pairs(12, truth, 0.5, seed), VISIBLE, THERMAL) for seed in range(10)]
    assert sum(fit.registration.origin.method == "points (affine)" for fit in found) >= 8


@pytest.mark.parametrize("wrong", [1, 3])
def test_wrong_pairs_are_left_out_and_named(wrong: int) -> None:
    visible, thermal = pairs(14, tilted(), 0.3)
    thermal[:wrong] += [25, -20]
    fit = fit_homography(visible, thermal, VISIBLE, THERMAL)
    assert np.array_equal(fit.inliers, np.arange(14) >= wrong)
    assert np.isnan(fit.left_out_px[:wrong]).all()
    assert fit.residuals_px[:wrong].min() > 15
    assert "pair 1" in fit.notes[0]
    assert not fit_homography(visible, thermal, VISIBLE, THERMAL, ransac=False).notes


def test_the_stated_error_is_about_the_true_one() -> None:
    truth = Registration.from_homography(AFFINE, VISIBLE, THERMAL)
    view = pixel_grid((9, 7)) * [150, 150] + 20
    stated, true = [], []
    for seed in range(30):
        fit = fit_homography(*pairs(8, truth, 0.7, seed), VISIBLE, THERMAL, ransac=False)
        off = fit.registration.visible_to_thermal(view) - truth.visible_to_thermal(view)
        true.append(np.median(np.linalg.norm(off, axis=1)))
        stated.append(fit.registration.residual_px)
    # A left-out pair has its own click error on top of the map's, so it errs to the safe side.
    assert np.median(true) < np.median(np.array(stated, float)) < 4 * np.median(true)


def test_size_does_not_matter_to_many_points() -> None:
    visible, thermal = pairs(20, tilted(), 0.2)
    many = fit_homography(np.tile(visible, (10, 1)), np.tile(thermal, (10, 1)), VISIBLE, THERMAL, ransac=False)
    assert np.isfinite(many.left_out_px).all()


@pytest.mark.parametrize(
    ("thermal", "said"),
    [
        ([[10, 10], [20, 20]], "2 point pairs"),
        ([[10, 10], [20, 20], [30, 30]], "on a line"),
        ([[10, 10], [20, 20], [30, 30], [90, 20]], "three of the four"),
        ([[10, 10], [20, 20], [30, 30], [40, 40], [50, 50.1]], "on a line"),
        ([[50, 50]] * 5, "on a line"),
        ([[10, 10], [90, 20], [np.nan, 30]], "not finite"),
    ],
)
def test_points_that_tell_nothing(thermal: list[list[float]], said: str) -> None:
    points = np.array(thermal, float)
    with pytest.raises(CalibrationError, match=said):
        fit_homography(points * 8, points, VISIBLE, THERMAL)


def test_a_mirrored_image_is_refused() -> None:
    thermal = spread(8)
    with pytest.raises(CalibrationError, match="turn the image over"):
        fit_homography((160 - thermal) * [8, -8] + [0, 1024], thermal, VISIBLE, THERMAL)


def test_points_in_another_order_are_refused() -> None:
    visible, thermal = pairs(12, tilted())
    with pytest.raises(CalibrationError, match="fewer than half"):
        fit_homography(visible, np.roll(thermal, 5, axis=0), VISIBLE, THERMAL)


def test_shapes_that_do_not_belong_together() -> None:
    with pytest.raises(ValueError, match="wanted pairs"):
        fit_homography(np.zeros((4, 2)), np.zeros((5, 2)), VISIBLE, THERMAL)
    with pytest.raises(ValueError, match="wanted"):
        fit_homography(np.zeros((4, 3)), np.zeros((4, 3)), VISIBLE, THERMAL)


@settings(max_examples=60)
@given(st.lists(st.tuples(*[st.floats(-50, 1400)] * 4), min_size=3, max_size=9))
def test_clicks_anywhere_give_a_fit_or_one_line(rows: list[tuple[float, float, float, float]]) -> None:
    table = np.array(rows)
    with contextlib.suppress(CalibrationError):
        fit = fit_homography(table[:, :2], table[:, 2:], VISIBLE, THERMAL)
        assert np.isfinite(fit.registration.homography).all()


def test_points_file(tmp_path: Path) -> None:
    visible, thermal = pairs(9, tilted())
    path = tmp_path / "pairs.csv"
    rows = [",".join(f"{value:.6f}" for value in row) for row in np.hstack([visible, thermal])]
    path.write_text("\n".join([",".join(COLUMNS), *rows[:3], "", *rows[3:], ""]))
    read = read_points(path)
    assert np.allclose(read[0], visible, atol=1e-5)
    assert np.allclose(read[1], thermal, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "nothing, wanted the columns"),
        ("x,y\n", r"line 1\): x,y, wanted the columns"),
        (",".join(COLUMNS) + "\n1,2,3,4\n1,2,x,4\n1,2,3\n1,2,3,inf\n", "line 3, line 4, line 5: wanted four"),
    ],
)
def test_points_file_with_mistakes(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text(text)
    with pytest.raises(CalibrationError, match=said):
        read_points(path)
    with pytest.raises(CalibrationError, match="cannot be read"):
        read_points(tmp_path / "none.csv")


def test_json_in_and_out(tmp_path: Path) -> None:
    visible, thermal = pairs(9, tilted())
    request = {
        "visible_size": list(VISIBLE),
        "thermal_size": list(THERMAL),
        "pairs": np.hstack([visible, thermal]).tolist(),
        "depth_m": 12,
    }
    fit, answer = fit_json(json.loads(json.dumps(request)))
    told = json.loads(json.dumps(answer, allow_nan=False))
    assert len(told["residuals_px"]) == len(told["left_out_px"]) == len(told["inliers"]) == 9
    assert told["registration"]["depth_m"] == 12
    path = tmp_path / "gate.yaml"
    path.write_text(json.dumps(told["calibration"]))  # JSON is YAML
    assert np.allclose(Registration.load(path).homography, fit.registration.homography)


@pytest.mark.parametrize(
    "request_",
    [None, [], {}, {"visible_size": [0, 1], "thermal_size": [1, 1], "pairs": []}, {"pairs": [[1, 2, 3]]}],
)
def test_json_that_is_no_request(request_: object) -> None:
    with pytest.raises(CalibrationError):
        fit_json(request_)


@pytest.mark.realdata
def test_landmarks(real_data: Path) -> None:
    """Eleven real pairs. Their points follow from a map, see docs/registration.md, so clicks are added to them."""
    entries = json.loads((real_data / "rgbt" / "landmarks" / "landmarks.json").read_text())
    exact, off = [], []
    rng = np.random.default_rng(0)
    for entry in entries.values():
        visible, thermal = np.array(entry["landmarks_fixed"]), np.array(entry["landmarks_moving"])
        truth = fit_homography(visible, thermal, entry["size_a"], entry["size_b"]).registration
        exact.append(truth.residual_px or 0.0)
        pixel = entry["size_b"][0] / 160  # clicks as good as on a 160-pixel image, four times better on the visible one
        for _ in range(3):
            clicked = visible + rng.normal(0, pixel / 4, visible.shape), thermal + rng.normal(0, pixel, thermal.shape)
            fit = fit_homography(*clicked, entry["size_a"], entry["size_b"], ransac=False)
            moved = fit.registration.visible_to_thermal(visible) - transform(
                np.eye(3), truth.visible_to_thermal(visible)
            )
            off.append(np.median(np.linalg.norm(moved, axis=1)) / pixel)
    assert len(entries) == 11
    assert max(exact) < 0.01  # measured: 0.001
    assert np.median(off) < 0.7  # measured: 0.51 of a 160-pixel image
