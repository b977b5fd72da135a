"""Reading one image file strictly, and the rules of what each camera may give.

OpenCV fills the missing part of a truncated file with grey in some versions and refuses it in others, so the
formats that carry their own proof of completeness are checked before decoding.
"""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdrun.errors import DataError, SourceError
from mdrun.frames import Modality
from mdrun.sources.uri import IMAGE_SUFFIXES

# Difference of two channels over an image. Video codecs give grey a small even cast (neutral chroma rounded, up to 3)
# and JPEG a little chroma noise; false-colour palettes and colour cameras vary by 20 and more.
COLOUR_CAST = 6.0  # mean
COLOUR_SPREAD = 4.0  # standard deviation

_PNG_START = b"\x89PNG\r\n\x1a\n"
_JPEG_START = b"\xff\xd8"
_BMP_START = b"BM"
_BMP_UNPACKED = (0, 3)  # BI_RGB, BI_BITFIELDS: the compressions whose size follows from the header
# A marker is 0xFF and a code. 00 and D0 to D7 stand inside of compressed data, FF is padding (ITU T.81, B.1.1.2).
# One FF alone, not FF+: the literal start lets the search run at the speed of memchr, 15 times as fast.
_JPEG_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
_JPEG_ALONE = (0x01, 0xD8)  # TEM, SOI: markers without a length behind them
_JPEG_END = 0xD9

_quiet = False


def read_image(path: Path, modality: Modality) -> NDArray[Any]:
    """Read one image file as its camera's frame.

    Pixels stay as stored: an EXIF orientation is not applied.

    Returns:
        Visible: (H, W, 3) uint8 RGB; thermal: (H, W) uint8 or uint16.

    Raises:
        SourceError: if the file is missing, empty, truncated or no image.
        DataError: if the image cannot belong to this modality.
    """
    import cv2

    try:
        data = path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror}); wanted an image") from error
    if not data:
        raise SourceError(f"{path}: the file is empty, wanted an image; copy it again or remove it")
    if not _is_complete(data):
        raise SourceError(f"{path}: the image is truncated or damaged; copy it again or remove it")
    _hush_opencv()
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        image = None
    if image is None:
        raise SourceError(f"{path}: not a readable image; wanted {', '.join(s[1:] for s in IMAGE_SUFFIXES)}")
    if image.ndim == 3 and image.shape[2] == 4:
        image = image[:, :, :3]  # transparency means nothing here
    if modality is Modality.THERMAL:
        return check_thermal(image, str(path))
    check_visible(image.dtype.itemsize * 8, image.shape[2] if image.ndim == 3 else 1, str(path))
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def check_visible(bits: int, channels: int, where: str) -> None:
    """Refuse what no colour camera gives.

    Args:
        bits: of one channel.
        channels: of the image.
        where: the file, for the error.

    Raises:
        DataError: unless it is 8-bit colour.
    """
    if bits != 8 or channels != 3:
        kind = "colour" if channels == 3 else "single-channel grey"
        raise DataError(
            f"{where}: visible image is {bits}-bit {kind}, wanted 8-bit colour; are --visible and --thermal swapped? "
            "If not, convert it to 8-bit colour"
        )


def check_thermal(image: NDArray[Any], where: str) -> NDArray[Any]:
    """Reduce an image to the one channel that a thermal camera measures.

    Args:
        image: (H, W) or (H, W, 3), any channel order.
        where: the file, for the error.

    Returns:
        (H, W) uint8 or uint16, contiguous.

    Raises:
        DataError: if it is coloured or of another depth.
    """
    if image.dtype not in (np.uint8, np.uint16):
        raise DataError(f"{where}: thermal image is {image.dtype}, wanted 8 or 16 bits of whole numbers; convert it")
    if image.ndim == 2:
        return np.ascontiguousarray(image)
    refuse_colour(image, where)
    return np.ascontiguousarray(image[:, :, 1])  # green: the nearest to luma where JPEG left chroma noise


def refuse_colour(image: NDArray[Any], where: str) -> None:
    """Refuse a thermal image whose channels differ.

    Args:
        image: (H, W, 3), any channel order.
        where: the file, for the error.

    Raises:
        DataError: if the difference of two channels has a mean above COLOUR_CAST or spreads by COLOUR_SPREAD.
    """
    import cv2

    first, second, third = cv2.split(image)
    found = [cv2.meanStdDev(cv2.subtract(*pair, dtype=cv2.CV_32F)) for pair in ((first, second), (second, third))]
    cast, spread = (max(abs(float(part[kind][0, 0])) for part in found) for kind in (0, 1))
    if cast > COLOUR_CAST or spread > COLOUR_SPREAD:
        raise DataError(
            f"{where}: thermal image is coloured (channels differ by {cast:.0f} ± {spread:.0f}), wanted one channel; "
            "are --visible and --thermal swapped? False-colour palettes are not measurements: record in white-hot"
        )


def _is_complete(data: bytes) -> bool:
    """False where the format itself proves that bytes are missing or changed."""
    if data.startswith(_PNG_START):
        return _png_is_complete(data)
    if data.startswith(_JPEG_START):
        return _jpeg_is_complete(data)
    if data.startswith(_BMP_START):
        return _bmp_is_complete(data)
    return True  # TIFF: the decoder refuses offsets behind the end


def _png_is_complete(data: bytes) -> bool:
    """Every chunk is there with its checksum, up to IEND (PNG specification, section 5.3)."""
    position = len(_PNG_START)
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        body = data[position + 4 : position + 8 + length]
        checksum = data[position + 8 + length : position + 12 + length]
        if zlib.crc32(body).to_bytes(4, "big") != checksum:
            return False
        if body[:4] == b"IEND":
            return True
        position += 12 + length
    return False


def _jpeg_is_complete(data: bytes) -> bool:
    """The end marker of the image itself is there; one of an embedded thumbnail does not count."""
    position = 0
    while found := _JPEG_MARKER.search(data, position):
        code, position = found[1][0], found.end()
        if code == _JPEG_END:
            return True
        if code not in _JPEG_ALONE:
            position += int.from_bytes(data[position : position + 2], "big")
    return False


def _bmp_is_complete(data: bytes) -> bool:
    """All rows are there (BITMAPFILEHEADER and BITMAPINFOHEADER); their size field itself is often wrong."""
    if len(data) < 34:
        return False
    start, header = struct.unpack_from("<II", data, 10)
    width, height, _, bits, packing = struct.unpack_from("<iiHHI", data, 18)
    if header < 40 or packing not in _BMP_UNPACKED:  # OS/2 headers, run lengths: left to the decoder
        return True
    end: int = start + (width * bits + 31) // 32 * 4 * abs(height)  # rows fill whole words
    return len(data) >= end


def _hush_opencv() -> None:
    """Damaged files are reported once, by us: OpenCV's own lines on stderr are switched off."""
    global _quiet  # noqa: PLW0603  # OpenCV's log level is global as well
    if not _quiet:
        import cv2

        # OpenCV 4 has the function at the top, OpenCV 5 in a module of its own
        silence = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel
        silence(0)
        _quiet = True
