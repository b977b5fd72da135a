from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mdtrain.data.augment import MIN_SIDE_PX, Sample, Sizes, augment, mosaic, plain_sample, simulate_sensor
from mdtrain.data.records import ImageFile, Record

SIZES = Sizes((192, 160), (80, 64))


def record_with_marker() -> Record:
    """A grey pair with a bright square on both images, under its box."""
    visible, thermal = np.full((240, 320, 3), 60, np.uint8), np.full((120, 160), 60, np.uint8)
    visible[80:160, 120:200] = 250
    thermal[40:80, 60:100] = 250
    box = np.array([[120 / 320, 80 / 240, 200 / 320, 160 / 240]], np.float32)
    files = ImageFile(Path("m.jpg"), True, visible), ImageFile(Path("m.jpg"), False, thermal)
    return Record("m", *files, box, np.array([2]))


def bright_box(image: np.ndarray) -> np.ndarray:
    """Xyxy around the brightest region, in fractions of the image."""
    grey = image.mean(2) if image.ndim == 3 else image
    ys, xs = np.nonzero(grey > grey.max() - 0.25 * (grey.max() - grey.min()))
    box: np.ndarray = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]) / np.array([*grey.shape[::-1]] * 2)
    return box


@given(st.integers(0, 2000))
@settings(max_examples=40, deadline=None)
def test_geometry_is_shared_by_both_sensors_and_the_boxes(seed: int) -> None:
    sample = augment(record_with_marker(), SIZES, np.random.default_rng(seed))
    if len(sample.boxes) == 0:
        return
    wanted = sample.boxes[0] / np.array([192, 160] * 2)
    seen, warm = bright_box(sample.visible), bright_box(sample.thermal_full)
    np.testing.assert_allclose(seen, wanted, atol=0.04)
    np.testing.assert_allclose(warm, wanted, atol=0.06)


@given(st.integers(0, 2000))
@settings(max_examples=40, deadline=None)
def test_samples_have_the_network_sizes_and_boxes_inside(seed: int) -> None:
    rng = np.random.default_rng(seed)
    records = [record_with_marker()] * 4
    for sample in (augment(records[0], SIZES, rng), mosaic(records, SIZES, rng)):
        assert sample.visible.shape == (160, 192, 3)
        assert sample.thermal_full.shape == (160, 192)
        assert sample.thermal_low.shape == (64, 80)
        assert sample.visible.dtype == sample.thermal_low.dtype == np.uint8
        assert len(sample.boxes) == len(sample.classes)
        assert (sample.boxes >= 0).all()
        assert (sample.boxes <= np.array([192, 160] * 2)).all()
        assert ((sample.boxes[:, 2:] - sample.boxes[:, :2]) >= MIN_SIDE_PX - 1e-3).all()


def test_a_sample_is_a_function_of_its_seed() -> None:
    first, second, other = (augment(record_with_marker(), SIZES, np.random.default_rng(s)) for s in (1, 1, 2))
    for field in fields(Sample):
        np.testing.assert_array_equal(getattr(first, field.name), getattr(second, field.name))
    assert (first.visible != other.visible).any()


def test_modality_dropout_blacks_one_camera_and_keeps_the_boxes() -> None:
    lost = Sizes((192, 160), (80, 64), dropout=1.0)
    seen = set()
    for seed in range(30):
        sample = augment(record_with_marker(), lost, np.random.default_rng(seed))
        whole = augment(record_with_marker(), SIZES, np.random.default_rng(seed))
        np.testing.assert_array_equal(sample.boxes, whole.boxes)
        dark = (not sample.visible.any(), not sample.thermal_full.any(), not sample.thermal_low.any())
        assert dark in {(True, False, False), (False, True, True)}
        seen.add(dark)
    assert len(seen) == 2


def test_evaluation_changes_nothing_but_the_size() -> None:
    sample = plain_sample(record_with_marker(), SIZES)
    np.testing.assert_allclose(sample.boxes[0], record_with_marker().boxes[0] * [192, 160, 192, 160])
    assert sample.visible[100, 96].tolist() == [250, 250, 250]


@given(st.integers(0, 500))
@settings(max_examples=20, deadline=None)
def test_the_simulated_sensor_keeps_the_mean(seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 255, (160, 192), dtype=np.uint8)
    low = simulate_sensor(image, (40, 32), np.random.default_rng(seed))
    assert low.shape == (32, 40)
    assert abs(float(low.mean()) - float(image.mean())) < 4
