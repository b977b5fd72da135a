"""labels/: the label map of every result as a PNG whose pixel values are indices into the classes."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mdrun.files import PartialFolder
from mdrun.frames import Result
from mdrun.sinks.base import FileSink

LABELS = "labels/"
NAME = re.compile(r"\d{6,}\.png")
COMPRESSION = 3  # of zlib: a map of 640x480 takes 1 ms and 5 to 30 kB; more effort gains little
PNG_START = b"\x89PNG\r\n\x1a\n"
# bit depth, colour type palette, deflate, adaptive filters, not interlaced (PNG, section 11.2)
INDEXED = (8, 3, 0, 0, 0)


def label_map_name(sequence: int) -> str:
    """Path of a pair's label map, relative to the run's folder."""
    return f"{LABELS}{sequence:06d}.png"


class LabelSink(FileSink):
    """Writes one file a result; the folder gets its name when the run is complete."""

    def __init__(self, path: Path, classes: Sequence[str]) -> None:
        """Prepare the folder; the first result makes it.

        Args:
            path: final path of the folder.
            classes: names, in the order of the class index; they choose the colours.
        """
        super().__init__(path, PartialFolder)
        self._palette = class_palette(classes)
        self._made = False

    @property
    def name(self) -> str:
        """The folder's name, as results and summary show it."""
        return LABELS

    def write(self, result: Result) -> None:
        """Write the label map, if the result has one."""
        if result.segmentation is None:
            return
        folder = self._file.part
        if not self._made:
            folder.mkdir()
            self._made = True
        data = encode_png(result.segmentation.label_map, self._palette)
        (folder / Path(label_map_name(result.pair.sequence)).name).write_bytes(data)

    def finish(self) -> None:
        """Every file is complete already."""

    def abandon(self) -> None:
        """Nothing is open between two results."""


def class_palette(classes: Sequence[str]) -> NDArray[np.uint8]:
    """(N, 3) uint8 RGB, each class another colour: MFNet's for its nine classes, else PASCAL VOC's colour map."""
    from mdrun.street.config import LABEL_NAMES, LABEL_PALETTE

    if tuple(classes) == LABEL_NAMES:
        return np.array(LABEL_PALETTE, np.uint8)
    index = np.arange(len(classes))
    palette = np.zeros((len(classes), 3), np.uint8)
    for bit in range(8):  # VOC: the lowest bits of the index are the highest of red, green and blue in turn
        for channel in range(3):
            palette[:, channel] |= (((index >> channel) & 1) << (7 - bit)).astype(np.uint8)
        index >>= 3
    return palette


def encode_png(label_map: NDArray[np.uint8], palette: NDArray[np.uint8]) -> bytes:
    """A PNG with a palette, which OpenCV does not write.

    Args:
        label_map: (H, W), each value below N.
        palette: (N, 3) RGB, N at most 256.
    """
    height, width = label_map.shape
    rows = np.zeros((height, width + 1), np.uint8)  # each row begins with the number of its filter: none
    rows[:, 1:] = label_map
    chunks = (
        (b"IHDR", struct.pack(">2I5B", width, height, *INDEXED)),
        (b"PLTE", palette.tobytes()),
        (b"IDAT", zlib.compress(rows.data, COMPRESSION)),
        (b"IEND", b""),
    )
    parts = [PNG_START]
    for kind, data in chunks:
        parts += [struct.pack(">I", len(data)), kind, data, struct.pack(">I", zlib.crc32(kind + data))]
    return b"".join(parts)
