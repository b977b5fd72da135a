"""Paired augmentation: geometry is shared by both sensors, photometry is each sensor's own.

All random numbers come from the generator that is handed in: a sample is a pure function of its seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from mdtrain.data.records import IGNORE_LABEL, Record

MIN_KEPT_AREA = 0.3  # a box cut by the border to less than this share is no target any more
MIN_SIDE_PX = 4.0
GREY = 114
Shrink = Literal["area", "bilinear"]
SHRINKING: dict[Shrink, int] = {"area": cv2.INTER_AREA, "bilinear": cv2.INTER_LINEAR}


@dataclass(frozen=True)
class Sizes:
    """Network sizes in pixels (width, height): visible, and the thermal sensor that is simulated.

    `coarser_share` of the training samples come from a still coarser sensor, `dropout` of them have one camera black.
    `shrink` is how thermal images are reduced to the sensor: the mean of what a pixel covers, or bilinear, which reads
    the four nearest pixels whatever the factor (paper section 4.2).
    """

    visible: tuple[int, int]
    thermal: tuple[int, int]
    coarser_share: float = 1 / 3
    dropout: float = 0.0
    shrink: Shrink = "area"


@dataclass(frozen=True)
class Sample:
    """One training sample.

    Attributes:
        visible: (H, W, 3) uint8 RGB.
        thermal_full: (H, W) uint8, the teacher's thermal, as large as visible.
        thermal_low: (h, w) uint8, the student's low-resolution thermal.
        boxes: (G, 4) float32 xyxy, pixels of `visible`.
        classes: (G,) int64.
        label_map: (H, W) uint8, indices into LABEL_CLASSES; IGNORE_LABEL outside of the picture and in tiles without
            labels; None where no record of the sample has one.
        class_name: of the whole pair; None for mosaics, and where its record says none.
    """

    visible: NDArray[np.uint8]
    thermal_full: NDArray[np.uint8]
    thermal_low: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    classes: NDArray[np.int64]
    label_map: NDArray[np.uint8] | None = None
    class_name: str | None = None


def plain_sample(record: Record, sizes: Sizes) -> Sample:
    """A record at network size without any augmentation: evaluation."""
    width, height = sizes.visible
    visible = cv2.resize(record.visible, (width, height), interpolation=cv2.INTER_AREA)
    full = cv2.resize(record.thermal, (width, height), interpolation=cv2.INTER_AREA)
    low = cv2.resize(record.thermal, sizes.thermal, interpolation=SHRINKING[sizes.shrink])
    boxes = record.boxes * np.array([width, height] * 2, np.float32)
    labels = record.label_map
    if labels is not None:
        labels = _u8(cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST_EXACT))
    return Sample(_u8(visible), _u8(full), _u8(low), boxes, record.classes, labels, record.class_name)


def augment(record: Record, sizes: Sizes, rng: np.random.Generator) -> Sample:
    """One random view of a record."""
    width, height = sizes.visible
    matrix = _random_affine(rng)
    visible, full = _warp_pair(record.visible, record.thermal, matrix, width, height)
    boxes, classes = _move_boxes(record.boxes, record.classes, matrix, width, height)
    labels = record.label_map
    if labels is not None:
        labels = _warp_labels(labels, matrix, width, height)
    return _finish(Sample(visible, full, full, boxes, classes, labels, record.class_name), sizes, rng)


def mosaic(records: list[Record], sizes: Sizes, rng: np.random.Generator) -> Sample:
    """Four records around a random centre: more objects and contexts an image (Bochkovskiy et al., YOLOv4, 2020)."""
    width, height = sizes.visible
    cx, cy = int(rng.uniform(0.3, 0.7) * width), int(rng.uniform(0.3, 0.7) * height)
    visible = np.empty((height, width, 3), np.uint8)
    full = np.empty((height, width), np.uint8)
    labelled = any(record.label_map_file is not None for record in records)
    labels = np.full((height, width), IGNORE_LABEL, np.uint8) if labelled else None
    all_boxes, all_classes = [], []
    for index, record in enumerate(records):
        left, top = (0, cx)[index % 2], (0, cy)[index // 2]
        tile_w, tile_h = (cx, width - cx)[index % 2], (cy, height - cy)[index // 2]
        tile = slice(top, top + tile_h), slice(left, left + tile_w)
        scale = rng.uniform(0.45, 1.0)  # share of the source picture a tile shows
        matrix = _tile_matrix(rng, scale, tile_w / width, tile_h / height)
        visible[tile], full[tile] = _warp_pair(record.visible, record.thermal, matrix, tile_w, tile_h)
        of_record = record.label_map
        if labels is not None and of_record is not None:
            labels[tile] = _warp_labels(of_record, matrix, tile_w, tile_h)
        boxes, classes = _move_boxes(record.boxes, record.classes, matrix, tile_w, tile_h)
        all_boxes.append(boxes + np.array([left, top] * 2, np.float32))
        all_classes.append(classes)
    boxes, classes = np.concatenate(all_boxes), np.concatenate(all_classes)
    return _finish(Sample(visible, full, full, boxes, classes, labels), sizes, rng)


def _random_affine(rng: np.random.Generator) -> NDArray[np.float64]:
    """(2, 3) map of unit coordinates: scale, aspect, shift, mirror."""
    scale = float(np.exp(rng.uniform(np.log(0.75), np.log(1.6))))
    aspect = float(np.exp(rng.uniform(-0.15, 0.15)))
    sx, sy = scale * aspect, scale / aspect
    tx = rng.uniform(min(0, 1 - sx), max(0, 1 - sx))
    ty = rng.uniform(min(0, 1 - sy), max(0, 1 - sy))
    return _mirror(np.array([[sx, 0, tx], [0, sy, ty]]), rng)


def _tile_matrix(rng: np.random.Generator, share: float, tile_w: float, tile_h: float) -> NDArray[np.float64]:
    """(2, 3) map that shows a window of the source in a tile, shapes kept: the window has the tile's proportions."""
    longest = max(tile_w, tile_h)
    win_w, win_h = share * tile_w / longest, share * tile_h / longest
    x, y = rng.uniform(0, 1 - win_w), rng.uniform(0, 1 - win_h)
    return _mirror(np.array([[1 / win_w, 0, -x / win_w], [0, 1 / win_h, -y / win_h]]), rng)


def _mirror(matrix: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    if rng.random() < 0.5:
        matrix[0] = np.array([0, 0, 1]) - matrix[0]
    return matrix


def _warp_pair(
    visible: NDArray[np.uint8], thermal: NDArray[np.uint8], matrix: NDArray[np.float64], width: int, height: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Both images by one map. OpenCV 5 warps four channels faster than three, or one: thermal is the fourth."""
    four = _u8(cv2.cvtColor(visible, cv2.COLOR_RGB2RGBA))
    together = visible.shape[:2] == thermal.shape
    if together:
        cv2.insertChannel(thermal, four, 3)
    warped = _warp(four, matrix, width, height)
    full = _u8(cv2.extractChannel(warped, 3)) if together else _warp(thermal, matrix, width, height)
    return _u8(cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB)), full


def _warp(image: NDArray[np.uint8], matrix: NDArray[np.float64], width: int, height: int) -> NDArray[np.uint8]:
    """Warp by a map of unit coordinates, from the image's pixels to width x height."""
    pixels = _of_pixels(image, matrix, width, height)
    shrink = image.shape[1] / width / abs(matrix[0, 0])
    if shrink > 1.6:  # bilinear alone would alias
        image = cv2.blur(image, (2, 2)).astype(np.uint8)
        pixels[:, 2] -= pixels[:, :2].sum(1) / 2  # an even kernel moves the picture by half a pixel
    return _u8(cv2.warpAffine(image, pixels, (width, height), flags=cv2.INTER_LINEAR, borderValue=(GREY,) * 4))


def _warp_labels(labels: NDArray[np.uint8], matrix: NDArray[np.float64], width: int, height: int) -> NDArray[np.uint8]:
    """The same warp without mixing classes."""
    pixels = _of_pixels(labels, matrix, width, height)
    return _u8(cv2.warpAffine(labels, pixels, (width, height), flags=cv2.INTER_NEAREST, borderValue=IGNORE_LABEL))


def _of_pixels(image: NDArray[np.uint8], matrix: NDArray[np.float64], width: int, height: int) -> NDArray[np.float64]:
    """(2, 3) map from pixel indices of the image to those of width x height; the centre of pixel 0 is at 0.5."""
    source = np.array([1 / image.shape[1], 1 / image.shape[0], 1.0])
    pixels: NDArray[np.float64] = matrix * source * np.array([[width], [height]])
    pixels[:, 2] += pixels[:, :2].sum(1) / 2 - 0.5
    return pixels


def _move_boxes(
    boxes: NDArray[np.float32], classes: NDArray[np.int64], matrix: NDArray[np.float64], width: int, height: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Unit boxes through the map to pixels, cut at the border; those mostly outside are dropped."""
    size = np.array([width, height], np.float64)
    corners = np.stack([boxes[:, :2], boxes[:, 2:]], 1) @ matrix[:, :2].T + matrix[:, 2]
    low, high = corners.min(1) * size, corners.max(1) * size
    cut_low, cut_high = low.clip(0, size), high.clip(0, size)
    area = (high - low).prod(1)
    kept = (cut_high - cut_low).prod(1) >= MIN_KEPT_AREA * area
    kept &= ((cut_high - cut_low) >= MIN_SIDE_PX).all(1)
    return np.concatenate([cut_low, cut_high], 1)[kept].astype(np.float32), classes[kept]


def _finish(warped: Sample, sizes: Sizes, rng: np.random.Generator) -> Sample:
    """Photometry, in place as new memory costs as much, and the low-resolution sensor, which `warped` lacks."""
    visible, full = _visible_photometry(warped.visible, rng), _thermal_photometry(warped.thermal_full, rng)
    if sizes.dropout and rng.random() < sizes.dropout:
        visible, full = _lose_a_camera(visible, full, rng)
    low = simulate_sensor(full, sizes.thermal, rng, sizes.coarser_share, sizes.shrink)
    return Sample(visible, full, low, warped.boxes, warped.classes, warped.label_map, warped.class_name)


def _lose_a_camera(
    visible: NDArray[np.uint8], full: NDArray[np.uint8], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """One of the two images black, each as often: a covered lens, a pulled cable. Boxes stay: the other camera sees."""
    if rng.random() < 0.5:
        return np.zeros_like(visible), full
    return visible, np.zeros_like(full)


def simulate_sensor(
    full: NDArray[np.uint8],
    size: tuple[int, int],
    rng: np.random.Generator,
    coarser_share: float = 1 / 3,
    shrink: Shrink = "area",
) -> NDArray[np.uint8]:
    """Low-resolution thermal image of `size`; `coarser_share` of them come from a still coarser sensor, scaled up.

    The paper's setting is 1/16 of the pixels of a 640x512 sensor (160x128); coarser ones down to 80x64 make the
    student usable with cheaper cameras. Under `area` three in ten of the others are bilinear, for variety.
    """
    if rng.random() < coarser_share:
        share = rng.uniform(0.5, 1.0)
        coarse = (round(size[0] * share), round(size[1] * share))
        full = _u8(cv2.resize(full, coarse, interpolation=SHRINKING[shrink]))
        return _u8(cv2.resize(full, size, interpolation=cv2.INTER_LINEAR))
    method = SHRINKING[shrink] if rng.random() < 0.7 else cv2.INTER_LINEAR
    return _u8(cv2.resize(full, size, interpolation=method))


def _visible_photometry(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Brightness, contrast, gamma, white balance, blur, noise; in place."""
    gain, offset, gamma = np.exp(rng.uniform(-0.4, 0.4)), rng.uniform(-0.1, 0.1), np.exp(rng.uniform(-0.35, 0.35))
    balance = np.exp(rng.uniform(-0.08, 0.08, 3))
    ramp = np.linspace(0, 1, 256)[:, None]
    table = ((ramp**gamma * gain * balance + offset) * 255).clip(0, 255).astype(np.uint8)
    cv2.LUT(image, table.reshape(1, 256, 3), dst=image)
    if rng.random() < 0.2:
        cv2.GaussianBlur(image, (3, 3), 0, dst=image)
    return _noisy(image, rng, 8.0) if rng.random() < 0.3 else image


def _thermal_photometry(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Automatic gain of another camera: contrast, level, gamma; sensor noise; in place."""
    gain, offset, gamma = np.exp(rng.uniform(-0.35, 0.35)), rng.uniform(-0.12, 0.12), np.exp(rng.uniform(-0.3, 0.3))
    ramp = np.linspace(0, 1, 256)
    table = ((ramp**gamma * gain + offset) * 255).clip(0, 255).astype(np.uint8)
    cv2.LUT(image, table, dst=image)
    return _noisy(image, rng, 6.0) if rng.random() < 0.3 else image


def _noisy(image: NDArray[np.uint8], rng: np.random.Generator, most: float) -> NDArray[np.uint8]:
    """Normal noise of up to `most` grey levels, cut out of one long row at a random place: drawing it costs 8 ms.

    In place.
    """
    row = _noise(1 << (2 * image.size).bit_length())
    start = int(rng.integers(row.size - image.size))
    noise = row[start : start + image.size].reshape(image.shape)
    return _u8(cv2.addWeighted(image, 1.0, noise, rng.uniform(0, most), 0.0, dst=image, dtype=cv2.CV_8U))


@cache
def _noise(values: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal(values, np.float32)


def _u8(image: NDArray[np.generic] | cv2.typing.MatLike) -> NDArray[np.uint8]:
    return np.asarray(image).astype(np.uint8, copy=False)
