from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mdtrain.data.augment import (
    MIN_SIDE_PX,
    Sample,
    Sizes,
    _noisy,
    _warp,
    _warp_pair,
    augment,
    mosaic,
    plain_sample,
    simulate_sensor,
)
from mdtrain.data.records import IGNORE_LABEL, ImageFile, LabelFile, Record

SIZES = Sizes((192, 160), (80, 64))


def record_with_marker() -> Record:
    """A grey pair with a bright square on both images, under its box."""
    visible, thermal = np.full((240, 320, 3), 60, np.uint8), np.full((120, 160), 60, np.uint8)
    visible[80:160, 120:200] = 250
    thermal[40:80, 60:100] = 250
    box = np.array([[120 / 320, 80 / 240, 200 / 320, 160 / 240]], np.float32)
    files = ImageFile(Path("m.jpg"), True, visible), ImageFile(Path("m.jpg"), False, thermal)
    return Record("m", *files, box, np.array([2]))


def labelled_record(label_size: tuple[int, int] = (320, 240)) -> Record:
    """The same with a label map of another size: a car where the square is."""
    width, height = label_size
    labels = np.zeros((height, width), np.uint8)
    labels[height // 3 : height * 2 // 3, width * 3 // 8 : width * 5 // 8] = 1
    return replace(record_with_marker(), label_map_file=LabelFile(Path("m.png"), labels))


def bright_box(image: np.ndarray) -> np.ndarray:
    """Xyxy around the brightest region, in fractions of the image; single pixels of noise do not count."""
    grey = cv2.medianBlur(image.mean(2).astype(np.uint8) if image.ndim == 3 else image, 5).astype(np.float64)
    ys, xs = np.nonzero(grey > grey.max() - 0.15 * (grey.max() - grey.min()))
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
    np.testing.assert_allclose(seen, wanted, atol=0.02)
    np.testing.assert_allclose(warm, wanted, atol=0.02)


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


@given(st.integers(0, 2000), st.sampled_from([(320, 240), (640, 480), (160, 120)]))
@settings(max_examples=40)
def test_label_maps_move_with_the_images(seed: int, label_size: tuple[int, int]) -> None:
    """Inside of the labelled car all is bright, whatever size the label map has; no class appears by mixing."""
    sample = augment(labelled_record(label_size), SIZES, np.random.default_rng(seed))
    assert sample.label_map is not None
    assert sample.label_map.shape == (160, 192)
    assert sample.label_map.dtype == np.uint8
    assert set(np.unique(sample.label_map)) <= {0, 1, IGNORE_LABEL}
    car = sample.label_map == 1
    if car.sum() > 100 and np.ptp(sample.visible[sample.label_map != IGNORE_LABEL]) > 60:
        middle = cv2.erode(car.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        around = cv2.dilate(car.astype(np.uint8), np.ones((5, 5), np.uint8)) == 0
        seen = sample.visible.mean(2)
        assert np.median(seen[middle]) > np.median(seen[around & (sample.label_map == 0)]) + 20
    ys, xs = np.nonzero(car)
    if len(sample.boxes):
        box = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        np.testing.assert_allclose(box, sample.boxes[0], atol=0.51 + 2 * 192 / label_size[0])


def test_a_warp_puts_pixel_centres_where_boxes_say() -> None:
    """A picture of a quarter's size and one of twice the size land on the same place: centres at 0.5, not at 0."""
    offsets = []
    for seed in range(40):
        sample = augment(labelled_record((1280, 960)), SIZES, np.random.default_rng(seed))
        assert sample.label_map is not None
        if len(sample.boxes) and (sample.boxes[0] > 1).all() and (sample.boxes[0] < [191, 159, 191, 159]).all():
            ys, xs = np.nonzero(sample.label_map == 1)
            centre = np.array([xs.mean() + 0.5, ys.mean() + 0.5])
            offsets.append(centre - (sample.boxes[0, :2] + sample.boxes[0, 2:]) / 2)
    assert len(offsets) > 10
    np.testing.assert_allclose(np.mean(offsets, axis=0), 0, atol=0.1)


def test_a_strong_shrink_moves_nothing() -> None:
    """Blurring before it must not shift the picture against its labels: a ramp stays where area averaging puts it."""
    ramp = np.tile(np.linspace(0, 250, 640).astype(np.uint8), (480, 1))
    shrunk = _warp(ramp, np.array([[1.0, 0, 0], [0, 1.0, 0]]), 320, 240).astype(float)
    wanted = cv2.resize(ramp, (320, 240), interpolation=cv2.INTER_AREA).astype(float)
    per_pixel = 250 / 320
    assert abs((shrunk - wanted)[8:-8, 8:-8].mean()) / per_pixel < 0.08


@given(st.floats(0.2, 2.0), st.floats(-0.8, 0.8), st.booleans(), st.booleans())
@settings(max_examples=30)
def test_a_pair_is_warped_as_its_images_are_alone(scale: float, shift: float, mirrored: bool, equal: bool) -> None:
    """Thermal rides as the fourth channel where sizes agree; no channel may touch another."""
    rng = np.random.default_rng(3)
    visible = rng.integers(0, 256, (120, 160, 3), np.uint8)
    thermal = rng.integers(0, 256, (120, 160) if equal else (60, 80), np.uint8)
    matrix = np.array([[-scale if mirrored else scale, 0, shift + mirrored], [0, scale, shift]])
    colour, grey = _warp_pair(visible, thermal, matrix, 96, 80)
    assert np.abs(grey.astype(int) - _warp(thermal, matrix, 96, 80)).max() <= 1
    for channel in range(3):
        alone = _warp(np.ascontiguousarray(visible[..., channel]), matrix, 96, 80)
        assert np.abs(colour[..., channel].astype(int) - alone).max() <= 1


def test_what_a_record_keeps_is_not_changed() -> None:
    """Photometry works in place, on images of its own."""
    record = record_with_marker()
    before = record.visible.copy(), record.thermal.copy()
    for seed in range(8):
        augment(record, SIZES, np.random.default_rng(seed))
        mosaic([record] * 4, SIZES, np.random.default_rng(seed))
    np.testing.assert_array_equal(record.visible, before[0])
    np.testing.assert_array_equal(record.thermal, before[1])


def test_pixels_outside_of_the_picture_have_no_class() -> None:
    seen = 0
    for seed in range(40):
        sample = augment(labelled_record(), SIZES, np.random.default_rng(seed))
        assert sample.label_map is not None
        outside = sample.label_map == IGNORE_LABEL
        if outside.any():
            seen += 1
            grey = sample.thermal_full[outside]
            assert np.median(np.abs(grey - np.median(grey))) < 8  # the fill, noise apart
    assert seen > 5


def test_a_mosaic_labels_the_tiles_that_have_labels() -> None:
    plain, labelled = record_with_marker(), labelled_record()
    rng = np.random.default_rng
    assert mosaic([plain] * 4, SIZES, rng(1)).label_map is None
    whole = mosaic([labelled] * 4, SIZES, rng(1)).label_map
    first = mosaic([labelled, plain, plain, plain], SIZES, rng(1)).label_map
    assert whole is not None
    assert first is not None
    assert set(np.unique(whole)) == {0, 1}
    labels_y, labels_x = np.nonzero(first != IGNORE_LABEL)
    bottom, right = labels_y.max() + 1, labels_x.max() + 1
    assert 0.3 * 160 - 1 <= bottom <= 0.7 * 160
    assert 0.3 * 192 - 1 <= right <= 0.7 * 192
    assert (first[:bottom, :right] == whole[:bottom, :right]).all()
    assert len(labels_y) == bottom * right  # nothing else has a label


def test_labels_change_nothing_about_the_images() -> None:
    """The random numbers of a seed are the same with and without label maps."""
    for make in (augment, lambda record, sizes, rng: mosaic([record] * 4, sizes, rng)):
        plain, labelled = (
            make(record, SIZES, np.random.default_rng(7)) for record in (record_with_marker(), labelled_record())
        )
        np.testing.assert_array_equal(plain.visible, labelled.visible)
        np.testing.assert_array_equal(plain.thermal_low, labelled.thermal_low)


def test_evaluation_resizes_label_maps_by_pixel_centres() -> None:
    """A third of the size keeps the middle one of each three pixels."""
    labels = np.random.default_rng(0).integers(0, 9, (480, 576), dtype=np.uint8)
    record = replace(record_with_marker(), label_map_file=LabelFile(Path("m.png"), labels))
    sample = plain_sample(record, SIZES)
    assert sample.label_map is not None
    np.testing.assert_array_equal(sample.label_map, labels[1::3, 1::3])
    assert plain_sample(record_with_marker(), SIZES).label_map is None


@given(st.integers(0, 200))
@settings(max_examples=20)
def test_noise_is_a_function_of_the_seed_and_has_no_pattern(seed: int) -> None:
    flat = np.full((60, 80, 3), 128, np.uint8)
    noisy, again, other = (_noisy(flat.copy(), np.random.default_rng(s), 30.0) for s in (seed, seed, seed + 1))
    np.testing.assert_array_equal(noisy, again)
    deviation, of_other = noisy.astype(np.float64) - 128, other.astype(np.float64) - 128
    if deviation.std() > 3 and of_other.std() > 3:
        assert abs(deviation.mean()) < 0.05 * deviation.std() + 0.1
        assert abs(np.corrcoef(deviation.ravel(), of_other.ravel())[0, 1]) < 0.1
        assert abs(np.corrcoef(deviation[:, 1:, 0].ravel(), deviation[:, :-1, 0].ravel())[0, 1]) < 0.1


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
