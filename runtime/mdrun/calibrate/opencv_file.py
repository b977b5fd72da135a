"""Files of cv2.FileStorage: YAML 1.0, XML or JSON with matrices of their own kind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdrun.errors import CalibrationError
from mdrun.registration.geometry import Size

Array = NDArray[np.float64]

MARKS = ("!!opencv-matrix", "<opencv_storage>", '"opencv-matrix"', "%YAML:1.0")
# Names that programs give the same matrix: OpenCV's samples and tutorials, its Java and MATLAB cousins, ours.
MATRICES = (("camera_matrix", "cameraMatrix", "Camera_Matrix", "K"),)
DISTORTIONS = (("distortion_coefficients", "distCoeffs", "Distortion_Coefficients", "D"),)
PAIR_MATRICES = (("M1", "K1", "cameraMatrix1", "camera_matrix_1"), ("M2", "K2", "cameraMatrix2", "camera_matrix_2"))
PAIR_DISTORTIONS = (("D1", "distCoeffs1", "distortion_1"), ("D2", "distCoeffs2", "distortion_2"))
WIDTHS, HEIGHTS = ("image_width", "image_Width", "width"), ("image_height", "image_Height", "height")
PAIR_SIZES = ("image_size", "imageSize", "size")


@dataclass(frozen=True, eq=False)
class OpenCvFile:
    """What a file holds.

    Attributes:
        lenses: camera matrix (3, 3) and distortion coefficients (K,) of one or two cameras.
        rotation, translation: (3, 3) and (3,) from the first camera to the second; None where there are none.
        size: (width, height) of the images, None where it does not say.
    """

    lenses: list[tuple[Array, Array]]
    rotation: Array | None
    translation: Array | None
    size: Size | None


def is_opencv(path: Path) -> bool:
    """Whether a file has one of the marks of cv2.FileStorage near its beginning."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            head = file.read(4096)
    except OSError:
        return False
    return any(mark in head for mark in MARKS)


def read_opencv(path: Path) -> OpenCvFile:
    """Read the matrices of one camera or two.

    OpenCV's stereo sample writes two files, `intrinsics.yml` and `extrinsics.yml`; of either the other is read too.

    Raises:
        CalibrationError: it cannot be read, or holds no camera.
    """
    found = _read_one(path)
    for other in ("intrinsics", "extrinsics"):
        beside = path.with_name(f"{other}{path.suffix}")
        if path.stem in ("intrinsics", "extrinsics") and beside != path and is_opencv(beside):
            found = _merge(found, _read_one(beside))
    if not found.lenses:
        raise CalibrationError(f"{path}: no camera matrix; wanted camera_matrix, or M1 and M2 of a stereo calibration")
    return found


def _read_one(path: Path) -> OpenCvFile:
    import cv2

    try:
        storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_READ)
    except (cv2.error, SystemError) as error:
        raise CalibrationError(f"{path}: OpenCV cannot read it; it may be cut off") from error
    try:
        lenses = _lenses(storage, PAIR_MATRICES, PAIR_DISTORTIONS) or _lenses(storage, MATRICES, DISTORTIONS)
        return OpenCvFile(lenses, _matrix(storage, ("R",), 9), _matrix(storage, ("T",), 3), _image_size(storage))
    finally:
        storage.release()


def _merge(first: OpenCvFile, second: OpenCvFile) -> OpenCvFile:
    return OpenCvFile(
        first.lenses or second.lenses,
        first.rotation if first.rotation is not None else second.rotation,
        first.translation if first.translation is not None else second.translation,
        first.size or second.size,
    )


def _lenses(storage: Any, matrices: Any, distortions: Any) -> list[tuple[Array, Array]]:
    found = [_matrix(storage, names, 9) for names in matrices]
    if any(matrix is None for matrix in found):
        return []
    coefficients = [_matrix(storage, names, None) for names in distortions]
    return [
        (matrix, _trimmed(distortion) if distortion is not None else np.zeros(0))
        for matrix, distortion in zip(found, coefficients, strict=True)
        if matrix is not None
    ]


def _trimmed(distortion: Array) -> Array:
    """Without the zeros that OpenCV puts behind the coefficients in use, up to 14 of them."""
    used = int(np.flatnonzero(distortion).max(initial=-1)) + 1
    length = next((length for length in (4, 5, 8) if used <= length), used)
    return np.pad(distortion, (0, max(0, length - len(distortion))))[:length]


def _matrix(storage: Any, names: tuple[str, ...], count: int | None) -> Array | None:
    """The first of these matrices that is there: (3, 3) of nine numbers, else flat."""
    for name in names:
        node = storage.getNode(name)
        if node.empty() or not node.isMap():
            continue
        value = node.mat()
        if value is not None and (count is None or value.size == count):
            array = np.asarray(value, np.float64)
            return array.reshape(3, 3) if count == 9 else array.ravel()
    return None


def _image_size(storage: Any) -> Size | None:
    numbers = [
        next((_whole(storage, name) for name in names if _whole(storage, name)), 0) for names in (WIDTHS, HEIGHTS)
    ]
    if all(numbers):
        return numbers[0], numbers[1]
    for name in PAIR_SIZES:
        node = storage.getNode(name)
        if not node.empty() and node.isSeq() and node.size() == 2:
            return int(node.at(0).real()), int(node.at(1).real())
    return None


def _whole(storage: Any, name: str) -> int:
    node = storage.getNode(name)
    return int(node.real()) if not node.empty() and (node.isInt() or node.isReal()) else 0
