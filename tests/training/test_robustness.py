from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mdrun.command import run_command
from mdtrain.cli import mdtrain
from mdtrain.metrics.robustness import (
    BLACKOUTS,
    SHIFTS_PX,
    SKEWS_MS,
    black_side,
    black_surround,
    shifted,
    skewed_scenes,
)
from tests.training.test_evaluate_cli import write_engine
from tests.training.tree import write_msrs


def test_a_third_of_the_width_is_black() -> None:
    image = np.full((48, 60, 3), 200, np.uint8)
    left, right = black_side(image, left=True), black_side(image, left=False)
    assert (left[:, :20] == 0).all()
    assert (left[:, 20:] == 200).all()
    np.testing.assert_array_equal(right, left[:, ::-1])
    assert (image == 200).all()  # the original is left alone


def test_the_surround_is_that_of_the_published_code() -> None:
    """120 of 640 columns and 96 of 512 rows on each edge."""
    kept = black_surround(np.full((512, 640), 7, np.uint8))
    assert (kept[96:-96, 120:-120] == 7).all()
    assert kept.sum() == 7 * (512 - 2 * 96) * (640 - 2 * 120)


@pytest.mark.parametrize("condition", BLACKOUTS)
def test_sides_never_black_the_same_place_in_both_images(condition: str) -> None:
    visible, thermal = np.full((48, 60, 3), 9, np.uint8), np.full((24, 30), 9, np.uint8)
    seen, warm = BLACKOUTS[condition](visible, thermal)
    dark = (seen[::2, ::2, 0] == 0) & (warm == 0)
    assert not dark.any()
    assert (condition == "none") == bool((seen == 9).all() and (warm == 9).all())


def test_a_shift_moves_the_thermal_image_by_pixels_of_the_visible_one() -> None:
    """A dot in a thermal image of half the size moves by half as many of its own pixels."""
    visible, thermal = np.zeros((96, 128, 3), np.uint8), np.zeros((48, 64), np.uint8)
    thermal[24, 32] = 255
    alter = shifted(8.0)
    for _ in range(5):
        same, moved = alter(visible, thermal)
        assert same is visible
        weight = moved.astype(float)
        y, x = (float((weight * axis).sum() / weight.sum()) for axis in np.mgrid[:48, :64])
        assert np.hypot(y - 24, x - 32) == pytest.approx(4.0, abs=0.1)
    np.testing.assert_array_equal(shifted(0.0)(visible, thermal)[1], thermal)


def test_skewed_scenes_differ_in_the_thermal_image_alone() -> None:
    scenes = skewed_scenes(2, (0, 200))
    for now, late in zip(scenes[0], scenes[200], strict=True):
        assert now.visible is late.visible
        np.testing.assert_array_equal(now.boxes, late.boxes)
    assert any((now.thermal != late.thermal).any() for now, late in zip(scenes[0], scenes[200], strict=True))


def test_the_command_measures_every_condition_and_draws(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data, plot = write_msrs(tmp_path / "msrs"), tmp_path / "plots" / "loss.png"
    engine = write_engine(tmp_path / "hottest.onnx", ["car", "person"])
    arguments = ["eval", "robustness", "--data", str(data), "--engine", str(engine), "--scenes", "1", "--json"]
    assert run_command(mdtrain, "mdtrain", [*arguments, "--plot", str(plot)]) == 0
    outcomes = json.loads(capfd.readouterr().out)
    assert len(outcomes) == len(BLACKOUTS) + len(SHIFTS_PX) + len(SKEWS_MS)
    assert {outcome["group"] for outcome in outcomes} == {"blackout", "misalignment", "skew"}
    assert outcomes[0]["scores"]["all"]["images"] == 2
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert run_command(mdtrain, "mdtrain", [*arguments[:-2], "0"]) == 0
    assert "thermal black" in capfd.readouterr().out
    assert run_command(mdtrain, "mdtrain", ["eval", "robustness", "--data", str(data), "--engine", "none.onnx"]) == 3
