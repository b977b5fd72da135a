"""One labelled pair. Images are decoded when they are asked for, and kept as far as memory is granted.

Classes everywhere: 0 person, 1 bicycle, 2 car.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mdrun.errors import SourceError

CLASSES = ("person", "bicycle", "car")
MAX_WIDTH = 800  # twice the default network's width; larger files only cost memory and time


@dataclass
class ImageFile:
    """An 8-bit image on disk, or one in memory.

    Attributes:
        path: of the file.
        colour: read as RGB (H, W, 3), else as grey (H, W).
        kept: the decoded image, once it was read and `keep` is set.
        keep: hold on to the decoded image.
    """

    path: Path
    colour: bool
    kept: NDArray[np.uint8] | None = None
    keep: bool = False

    def read(self) -> NDArray[np.uint8]:
        """Decode, at most MAX_WIDTH pixels wide.

        Raises:
            SourceError: missing, not an image, or not 8-bit.
        """
        if self.kept is not None:
            return self.kept
        image = read_image(self.path, colour=self.colour)
        if self.keep:
            self.kept = image
        return image


@dataclass(frozen=True)
class Record:
    """One labelled pair of registered images.

    Attributes:
        name: unique within its set; MSRS names end in D (day) or N (night).
        visible_file: the visible image.
        thermal_file: the thermal one, the same field of view.
        boxes: (G, 4) float32 xyxy, fractions of the image in [0, 1].
        classes: (G,) int64.
        night: taken by night; None where the set does not say.
    """

    name: str
    visible_file: ImageFile
    thermal_file: ImageFile
    boxes: NDArray[np.float32]
    classes: NDArray[np.int64]
    night: bool | None = field(default=None)

    @property
    def visible(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB."""
        return self.visible_file.read()

    @property
    def thermal(self) -> NDArray[np.uint8]:
        """(h, w) uint8."""
        return self.thermal_file.read()


def make_record(
    name: str,
    files: tuple[Path, Path],
    boxes: NDArray[np.floating],
    classes: NDArray[np.integer],
    *,
    night: bool | None = None,
) -> Record:
    """A record of a visible and a thermal file; `boxes` (G, 4) xyxy in fractions of the image."""
    visible, thermal = ImageFile(files[0], colour=True), ImageFile(files[1], colour=False)
    unit = boxes.reshape(-1, 4).astype(np.float32).clip(0, 1)
    return Record(name, visible, thermal, unit, classes.astype(np.int64), night)


def read_image(path: Path, *, colour: bool) -> NDArray[np.uint8]:
    """RGB (H, W, 3) or grey (H, W), at most MAX_WIDTH wide.

    Raises:
        SourceError: missing, not an image, or not 8-bit.
    """
    image = cv2.imread(str(path), cv2.IMREAD_COLOR if colour else cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
    if image is None:
        raise SourceError(f"{path}: missing or not an image; every name of the list wants a visible and a thermal file")
    if image.dtype != np.uint8:
        raise SourceError(
            f"{path}: {image.dtype} values, wanted 8-bit thermal images with the camera's own gain control"
        )
    if image.shape[1] > MAX_WIDTH:
        factor = MAX_WIDTH / image.shape[1]
        image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    pixels = image[..., ::-1] if colour else image
    return np.ascontiguousarray(pixels, dtype=np.uint8)


def keep_images(records: Sequence[Record], budget_mb: int) -> None:
    """Let the first records keep their decoded images, until `budget_mb` MiB are spent; the rest is decoded each time.

    The size of the first pair stands for all.
    """
    if not records:
        return
    pair = records[0].visible.nbytes + records[0].thermal.nbytes
    for record in records[: budget_mb * 2**20 // pair]:
        record.visible_file.keep = record.thermal_file.keep = True


def check_files(records: Iterable[Record], where: Path) -> None:
    """Fail now, not in the middle of a training.

    Raises:
        SourceError: naming the first missing file and how many more there are.
    """
    missing = [f.path for r in records for f in (r.visible_file, r.thermal_file) if not f.path.is_file()]
    if missing:
        more = f" and {len(missing) - 1} more files are" if len(missing) > 1 else " is"
        raise SourceError(f"{missing[0]}{more} missing; `mdtrain data check {where}` lists all")
