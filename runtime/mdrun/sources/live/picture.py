"""From a decoded picture to the image of a camera: colour conversion once, thermal luma without a way through RGB."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mdrun.frames import Modality
from mdrun.sources.images import check_thermal, check_visible

if TYPE_CHECKING:
    import av

# Codes of FFmpeg's AVColorRange; luma of the limited range runs from 16 to 235 (ITU-R BT.601, section 2.5.3).
FULL_RANGE = 2
LIMITED_BLACK, LIMITED_SPAN = 16, 219
_GREY = re.compile(r"gray(?:(?:9|10|12|14|16)(le|be))?")  # whole counts, every code is used
_PLANAR = re.compile(r"(yuv4\d\dp|yuvj4\d\dp|nv12|nv21|nv16)")  # 8-bit luma in a plane of its own


def check_picture(picture: av.VideoFrame, modality: Modality, where: str) -> None:
    """Refuse a stream whose pictures the other camera of a rig gives; for the first picture of a connection.

    Raises:
        DataError: a visible picture without colour planes or of another depth; a thermal one with colours.
    """
    kind = picture.format
    if modality is Modality.VISIBLE:
        check_visible(kind.components[0].bits, min(3, len(kind.components)), where)
    elif _GREY.fullmatch(kind.name) is None:
        check_thermal(picture.to_ndarray(format="rgb24"), where)


def picture_image(picture: av.VideoFrame, modality: Modality) -> NDArray[Any]:
    """A copy of the picture, as frames hold it.

    Returns:
        Visible: (H, W, 3) uint8 RGB. Thermal: (H, W) uint8, luma of the full range 0 to 255 whatever the stream's range
        is; uint16 counts of grey formats with 9 to 16 bits.
    """
    if modality is Modality.VISIBLE:
        return _colour(picture)
    if found := _GREY.fullmatch(picture.format.name):
        dtype = np.dtype({None: "u1", "le": "<u2", "be": ">u2"}[found[1]])
        return _plane(picture, dtype).astype(dtype.newbyteorder("="))
    if _PLANAR.fullmatch(picture.format.name) is None:
        return np.ascontiguousarray(picture.to_ndarray(format="rgb24")[:, :, 1])
    luma = _plane(picture, np.dtype("u1"))
    if picture.color_range == FULL_RANGE or picture.format.name.startswith("yuvj"):
        return luma.copy()
    return expand_luma(luma)


def _colour(picture: av.VideoFrame) -> NDArray[Any]:
    """(H, W, 3) uint8 RGB."""
    import av

    # PyAV 17 began to spread this over all cores, which costs three times the processor time and more wall time.
    threads: dict[str, Any] = {"threads": 1} if int(av.__version__.split(".")[0]) >= 17 else {}
    image: NDArray[Any] = picture.reformat(format="rgb24", **threads).to_ndarray()
    return image


def expand_luma(luma: NDArray[np.uint8]) -> NDArray[Any]:
    """Limited-range luma (16 to 235) on the range 0 to 255, so that thermal bytes mean the same as in image files."""
    import cv2

    return np.asarray(cv2.LUT(luma, _expansion()))


@lru_cache
def _expansion() -> NDArray[np.uint8]:
    codes = (np.arange(256) - LIMITED_BLACK) * (255 / LIMITED_SPAN)
    table: NDArray[np.uint8] = np.clip(np.rint(codes), 0, 255).astype(np.uint8)
    return table


def _plane(picture: av.VideoFrame, dtype: np.dtype[Any]) -> NDArray[Any]:
    """A view of the first plane without its padding; the decoder reuses the memory."""
    plane = picture.planes[0]
    rows = np.frombuffer(memoryview(plane), dtype).reshape(-1, plane.line_size // dtype.itemsize)
    return rows[: picture.height, : picture.width]
