"""PNG files whose numbers matter: label maps of class indices, and MFNet's pairs of four channels.

OpenCV alone would do neither: it turns a palette into colours, and fills a truncated file or refuses it by version.
"""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mdrun.errors import DataError, SourceError

START = b"\x89PNG\r\n\x1a\n"
GREY, PALETTE = 0, 3  # colour types of IHDR (PNG specification, section 11.2.2)
# the four-channel file that a thread read last: both halves of a pair are asked for in turn
_last = threading.local()


def read_label_map(path: Path, classes: int, ignored: int) -> NDArray[np.uint8]:
    """(H, W) class indices of an 8-bit PNG, grey or palette: each is less than `classes`, or `ignored`.

    Raises:
        SourceError: missing, truncated or no PNG.
        DataError: more than one channel, or a value that is no class.
    """
    image = _decode(path)
    if image.ndim != 2 or image.dtype != np.uint8:
        raise DataError(
            f"{path}: label map is {_kind(image)}, wanted one channel of 8-bit class indices; "
            "a coloured map is only a picture of one"
        )
    wrong = image[(image >= classes) & (image != ignored)]
    if wrong.size:
        raise DataError(
            f"{path}: label map holds the value {wrong[0]} ({wrong.size} pixels are no class), "
            f"wanted 0 to {classes - 1} or {ignored} for ignored"
        )
    return image


def read_four_channels(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """RGB (H, W, 3) and thermal (H, W) of an 8-bit PNG that holds the pair: thermal is the fourth channel.

    Raises:
        SourceError: missing, truncated or no PNG.
        DataError: other than four channels of 8 bits.
    """
    try:
        state = path.stat()
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror}); wanted a pair in a PNG of 4 channels") from error
    key = (path, state.st_mtime_ns, state.st_size)
    if getattr(_last, "key", None) != key:
        image = _decode(path)
        if image.ndim != 3 or image.shape[2] != 4 or image.dtype != np.uint8:
            raise DataError(f"{path}: image is {_kind(image)}, wanted 8-bit RGB and thermal in 4 channels, as MFNet's")
        visible = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGRA2RGB), np.uint8)
        _last.key, _last.pair = key, (visible, np.ascontiguousarray(image[:, :, 3]))
    pair: tuple[NDArray[np.uint8], NDArray[np.uint8]] = _last.pair
    return pair


def _decode(path: Path) -> NDArray[Any]:
    """Pixels in OpenCV's order of channels; those of a palette are its indices."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror}); wanted a PNG") from error
    if not data.startswith(START):
        raise SourceError(f"{path}: begins with {data[:8]!r}, wanted a PNG; copy it again or convert it without loss")
    chunks = list(_chunks(data))
    if not chunks or chunks[0][0] != b"IHDR" or len(chunks[0][1]) != 13 or chunks[-1][0] != b"IEND":
        raise SourceError(f"{path}: the PNG is truncated or damaged; copy it again or remove it")
    bits, kind = chunks[0][1][8:10]
    if kind == PALETTE:
        data = _as_grey(chunks)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        image = None
    if image is None:
        raise SourceError(f"{path}: the PNG cannot be decoded; copy it again or remove it")
    if kind == PALETTE and bits < 8:
        return np.asarray(image // (255 // (2**bits - 1)), np.uint8)  # grey of few bits was spread over 0 to 255
    return np.asarray(image)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and content of every chunk up to IEND; ends early where a checksum is wrong or bytes are missing."""
    position = len(START)
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        body, end = data[position + 4 : position + 8 + length], position + 12 + length
        if end > len(data) or zlib.crc32(body) != struct.unpack_from(">I", data, end - 4)[0]:
            return
        yield body[:4], body[4:]
        if body[:4] == b"IEND":
            return
        position = end


def _as_grey(chunks: list[tuple[bytes, bytes]]) -> bytes:
    """The same pixels without their palette: the indices become grey values."""
    header = chunks[0][1]
    kept = [(b"IHDR", header[:9] + bytes([GREY]) + header[10:])]
    kept += [chunk for chunk in chunks[1:] if chunk[0] in {b"IDAT", b"IEND"}]
    parts = [START]
    for name, content in kept:
        parts += [struct.pack(">I", len(content)), name, content, struct.pack(">I", zlib.crc32(name + content))]
    return b"".join(parts)


def _kind(image: NDArray[Any]) -> str:
    channels = image.shape[2] if image.ndim == 3 else 1
    return f"{image.dtype.itemsize * 8}-bit with {channels} channel{'s' if channels > 1 else ''}"
