"""Synthetic street scenes as a training set: the MSRS layout with label maps, thermal at the visible resolution."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mdrun.errors import OutputError
from mdrun.files import OutputFolder
from mdrun.street import Labels, Street, StreetConfig, random_config
from mdtrain.data.sets.street import LABEL_MAPS

SIZE = (640, 480)  # width, height: as MSRS
MOST_HIDDEN = 0.7  # objects hidden by more are no targets
LATEST_S = 30.0  # a scene is drawn at a random moment of its first half minute


def write_street_set(folder: Path, scenes: int, seed: int, validation: int = 0) -> Iterator[str]:
    """Draw scenes one by one; yields each name when its files are there, the lists of names come last.

    Validation scenes are numbered from 99999 downwards: the same ones for any number of training scenes.

    Raises:
        OutputError: the folder holds a set already, or a file cannot be written.
    """
    if (folder / "train.txt").exists():
        raise OutputError(f"{folder}: holds a set already; name another folder or remove it")
    for part in ("vi", "ir", "labels/fusion", LABEL_MAPS):
        OutputFolder(folder / part).create()
    numbers = {"val": range(99_999, 99_999 - validation, -1), "train": range(scenes)}
    names: dict[str, list[str]] = {"val": [], "train": []}
    for split, of_split in numbers.items():
        for index in of_split:
            name = _write_scene(folder, seed, index)
            names[split].append(name)
            yield name
    for split, of_list in names.items():
        if of_list:
            (folder / f"{split}.txt").write_text("".join(f"{name}\n" for name in of_list))


def is_night(config: StreetConfig) -> bool:
    """Whether a scene counts as taken by night: dusk does, for its lamps are on, and sets know no third time."""
    return config.time != "day"


def _write_scene(folder: Path, seed: int, index: int) -> str:
    """The files of one scene; gives its name."""
    config = random_config(seed * 100_003 + index, *SIZE)
    street = Street(config)
    time_s = float(np.random.default_rng((seed, index)).uniform(0, LATEST_S))
    name = f"{index:05d}{'N' if is_night(config) else 'D'}"
    labels = street.labels(time_s)
    jpeg = cv2.IMWRITE_JPEG_QUALITY
    _write_image(folder / "vi" / f"{name}.jpg", street.visible(time_s)[..., ::-1], [jpeg, 92])
    _write_image(folder / "ir" / f"{name}.jpg", street.thermal_at(time_s, *SIZE, config.noise), [jpeg, 95])
    _write_image(folder / LABEL_MAPS / f"{name}.png", labels.label_map, [])
    (folder / "labels" / "fusion" / f"{name}.txt").write_text(yolo_lines(labels))
    return name


def _write_image(path: Path, image: NDArray[np.uint8], flags: list[int]) -> None:
    """OpenCV only says no; an unfinished set has no `train.txt` and is not taken for one."""
    if not cv2.imwrite(str(path), image, flags):
        raise OutputError(f"{path}: cannot be written; is the disk full?")


def yolo_lines(labels: Labels) -> str:
    """Label file of one scene: `class cx cy w h` in fractions of the image, a line an object that can be seen."""
    lines = []
    for box, label, hidden in zip(
        labels.boxes_xyxy / np.array(SIZE * 2), labels.classes, labels.occlusion, strict=True
    ):
        if hidden <= MOST_HIDDEN:
            centre, size = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
            lines.append(f"{label} {centre[0]:.6f} {centre[1]:.6f} {size[0]:.6f} {size[1]:.6f}\n")
    return "".join(lines)
