"""Streams that are not what they say, and bad pixels: found in what is wrong, not in what is real."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mdrun.errors import DataError
from mdrun.thermal.check import LOOKS, StartCheck, image_problems
from mdrun.thermal.pixels import LEAST_FRAMES, PixelRepair, find_bad_pixels

REAL = ["Flir_B60", "Flir_E40", "T640_2", "ax8", "flir_example", "zenmuse_xtr"]


def sensor(seed: int = 0, noise: float = 12.0, size: tuple[int, int] = (40, 56)) -> NDArray[np.uint16]:
    """Counts of a smooth scene with a warm thing and noise, as a 14-bit camera gives them; `size` is (h, w)."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(size)
    counts = 7600 + 3 * x + 200 * ((x - 20) ** 2 + (y - 20) ** 2 < 60) + rng.normal(0, noise, size)
    return np.rint(counts).astype(np.uint16)


def to_8_bits(counts: NDArray[np.uint16]) -> NDArray[np.uint16]:
    least, most = int(counts.min()), int(counts.max())
    return ((counts - least) * (255 / (most - least))).astype(np.uint16)


DISGUISES: dict[str, Any] = {
    "low byte": lambda grey: grey,
    "high byte": lambda grey: grey << 8,
    "both bytes": lambda grey: grey * 257,
    "14 bits at the top": lambda grey: grey << 6,
    "stretched": lambda grey: np.rint(grey * 40.3).astype(np.uint16) + 2000,
}


@pytest.mark.parametrize("name", list(DISGUISES))
def test_8_bits_sent_as_16_are_told(name: str) -> None:
    (problem,) = image_problems(DISGUISES[name](to_8_bits(sensor(size=(120, 160)))))
    assert problem.startswith("8-bit output sent as 16 bits: ")
    assert "switch the camera's gain control" in problem
    assert "\n" not in problem


def test_swapped_bytes_are_told() -> None:
    (problem,) = image_problems(sensor(noise=30).byteswap())
    assert problem.startswith("swapped bytes: ")
    assert "other byte order" in problem


@pytest.mark.parametrize("image", [np.zeros((8, 8), np.uint8), np.full((8, 8), 9000, np.uint16)])
def test_images_of_one_value_are_told(image: NDArray[Any]) -> None:
    (problem,) = image_problems(image)
    assert problem.startswith(f"constant image: every pixel is {image[0, 0]}")


@settings(max_examples=40)
@given(st.integers(0, 1000), st.floats(2, 60))
def test_sound_images_pass(seed: int, noise: float) -> None:
    counts = sensor(seed, noise)
    assert image_problems(counts) == []
    assert image_problems(counts << 2) == []  # 14 bits at the top of 16
    assert image_problems(to_8_bits(counts).astype(np.uint8)) == []


@pytest.mark.realdata
@pytest.mark.parametrize("name", REAL)
def test_real_images_pass_and_are_told_when_disguised(name: str, real_data: Path) -> None:
    path = real_data / "rgbt" / "raw_thermal" / "flir_rjpeg" / f"{name}_raw16.png"
    counts: Any = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image_problems(counts) == []
    assert image_problems(counts.byteswap())[0].startswith("swapped bytes")
    for disguise in DISGUISES.values():
        assert image_problems(disguise(to_8_bits(counts)))[0].startswith("8-bit output")


def test_a_problem_must_be_in_every_one_of_the_first_images() -> None:
    check = StartCheck()
    for _ in range(LOOKS):
        assert check.problems == []
        check.see(to_8_bits(sensor()))
    assert check.done
    (problem,) = check.problems
    assert problem.startswith("8-bit output")
    check.see(sensor())  # later images are not looked at
    assert check.problems == [problem]


def test_one_sound_image_clears_a_camera() -> None:
    check = StartCheck()
    check.see(np.zeros((40, 56), np.uint16))  # many cameras start with a black image
    check.see(sensor())
    assert check.done
    assert check.problems == []


def test_two_kinds_of_problem_are_none_that_lasts() -> None:
    check = StartCheck(2)
    check.see(np.zeros((40, 56), np.uint16))
    check.see(to_8_bits(sensor()))
    assert (check.done, check.problems) == (True, [])


places = st.tuples(st.integers(0, 15), st.integers(0, 11))


@settings(max_examples=60)
@given(st.lists(places, max_size=30), st.integers(0, 99), st.sampled_from([np.uint8, np.uint16]))
def test_only_bad_pixels_change_and_lie_within_their_neighbours(
    bad: list[tuple[int, int]], seed: int, dtype: Any
) -> None:
    image = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, (12, 16)).astype(dtype)
    before = image.copy()
    repaired = PixelRepair(bad, (16, 12))(image)
    np.testing.assert_array_equal(image, before)
    assert repaired.dtype == dtype
    good = np.ones(image.shape, bool)
    for x, y in bad:
        good[y, x] = False
    np.testing.assert_array_equal(repaired[good], image[good])
    other = image.copy()
    other[~good] ^= 1  # what a bad pixel says does not matter
    np.testing.assert_array_equal(PixelRepair(bad, (16, 12))(other), repaired)
    for x, y in bad:
        around = image[max(y - 8, 0) : y + 9, max(x - 8, 0) : x + 9]
        assert around.min() <= repaired[y, x] <= around.max()


def test_a_bad_pixel_gets_the_median_of_its_eight_neighbours() -> None:
    image = np.arange(25, dtype=np.uint16).reshape(5, 5) ** 2
    image[2, 2] = 65535
    around = np.delete(image[1:4, 1:4].ravel(), 4)
    assert PixelRepair([(2, 2)], (5, 5))(image)[2, 2] == round(float(np.median(around)))
    assert PixelRepair([(0, 0)], (5, 5))(image)[0, 0] == round(
        float(np.median([image[0, 1], image[1, 0], image[1, 1]]))
    )


def test_on_a_slope_a_column_of_bad_pixels_is_filled_from_both_sides() -> None:
    image = np.tile(np.arange(0, 160, 10, dtype=np.uint8), (12, 1))
    repaired = PixelRepair([(7, y) for y in range(12)], (16, 12))(image)
    np.testing.assert_array_equal(repaired, image)


@pytest.mark.parametrize("place", [(16, 0), (0, 12), (-1, 0), (5, -3)])
def test_bad_pixels_outside_of_the_image_are_refused(place: tuple[int, int]) -> None:
    with pytest.raises(DataError, match=r"bad_pixels names \(.*\), and the thermal image is 16x12"):
        PixelRepair([place], (16, 12))


def test_a_hole_without_neighbours_is_refused() -> None:
    with pytest.raises(DataError, match="leave no good one within 8 pixels"):
        PixelRepair([(x, y) for x in range(20) for y in range(20)], (40, 20))


def test_no_bad_pixels_cost_no_copy() -> None:
    image = sensor()
    assert PixelRepair([], (56, 40))(image) is image


def faulty(frames: NDArray[np.uint16]) -> tuple[NDArray[np.uint16], list[tuple[int, int]]]:
    """A dead pixel at a plausible value, two dark and bright ones, one that lies high but follows the scene."""
    made = frames.copy()
    made[:, 3, 4] = made[0, 3, 4]
    made[:, 10, 20] = 0
    made[:, 20, 9] = 16383
    made[:, 30, 41] += 900
    return made, [(4, 3), (20, 10), (9, 20), (41, 30)]


def test_faults_are_found_and_nothing_else() -> None:
    frames = np.stack([np.roll(sensor(seed), seed, axis=1) for seed in range(24)])
    assert find_bad_pixels(frames) == []
    made, wanted = faulty(frames)
    assert find_bad_pixels(made) == wanted
    repair = PixelRepair(wanted, (56, 40))
    assert find_bad_pixels(np.stack([repair(frame) for frame in made])) == []


def test_a_still_scene_has_no_dead_pixels() -> None:
    """Where nothing changes at all, as in a compressed or synthetic stream, that says nothing about a pixel."""
    assert find_bad_pixels(np.stack([sensor()] * LEAST_FRAMES)) == []


@pytest.mark.parametrize(
    "frames",
    [np.zeros((LEAST_FRAMES - 1, 4, 4), np.uint16), np.zeros((20, 4, 4), np.float32), np.zeros((4, 4), np.uint8)],
)
def test_too_little_to_find_bad_pixels_in(frames: NDArray[Any]) -> None:
    with pytest.raises(DataError, match="wanted at least 16 images"):
        find_bad_pixels(frames)


@pytest.mark.realdata
def test_a_real_lepton_has_none_but_the_ones_put_in(real_data: Path) -> None:
    frames = np.load(real_data / "rgbt/raw_thermal/lepton3_cptv/possum_first90.npz")["frames"][1:]
    assert find_bad_pixels(frames) == []
    made, wanted = faulty(frames)
    assert find_bad_pixels(made) == wanted
