"""One camera's images as a lossless NUT file: MagicYUV for colour, FFV1 for thermal.

Both codecs are FFmpeg's own, code every image by itself, and give back every bit. The file plays in FFmpeg's tools; a
replay reads it by the positions in the index, so it needs neither an end nor a table in the file.
docs/record.md has the measurements behind the choice.
"""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from mdrun.errors import OutputError, SourceError
from mdrun.record.growing import WholeFile
from mdrun.record.header import CameraHeader
from mdrun.record.index import Entry

if TYPE_CHECKING:
    import av
    from av.video.stream import VideoStream

MAGICYUV = ("magicyuv", "gbrp", {"pred": "median"})  # median: smallest, and here the fastest too
# level 3: slices and checksums; g 1: no image needs another; range coder, small context: half of the time
FFV1 = ("ffv1", {"level": "3", "g": "1", "coder": "1", "context": "0", "slices": "4"})
PLANES = (1, 2, 0)  # of gbrp: green, blue, red
TIME_BASE = Fraction(1, 1_000_000)


class StreamWriter:
    """Writes images of one size and depth. Used by one thread.

    Attributes:
        size: bytes in the file.
    """

    def __init__(self, path: Path, first: NDArray[Any]) -> None:
        """Make the file for images like `first`: (H, W, 3) uint8 RGB, (H, W) uint8 or uint16.

        Raises:
            OutputError: this PyAV has no such encoder.
        """
        import av

        self.shape, self.dtype = first.shape, first.dtype
        self.size = 0
        codec, self.pixels, options = _codec(first)
        self._file = WholeFile(path)
        # flush_packets: nothing waits in FFmpeg's buffer either
        self._container = av.open(self._file, "w", format="nut", options={"flush_packets": "1"})
        try:
            self._stream = cast("VideoStream", self._container.add_stream(codec, rate=30, options=options))
        except ValueError as error:
            raise OutputError(
                f"{path.name}: PyAV {av.__version__} has no encoder {codec}; install PyAV's wheel"
            ) from error
        self._stream.height, self._stream.width = first.shape[:2]
        self._stream.pix_fmt = self.pixels
        self._stream.codec_context.time_base = self._stream.time_base = TIME_BASE
        self._stream.codec_context.thread_count = 1  # the engine and the cameras need the other cores
        self._first_ns: int | None = None
        self._pts = -1

    def describe(self, camera: CameraHeader) -> CameraHeader:
        """The camera's header with what a decoder wants; after the first `write`."""
        extradata = self._stream.codec_context.extradata or b""
        values = {
            "width": self._stream.width,
            "height": self._stream.height,
            "dtype": str(self.dtype),
            "codec": self._stream.codec_context.name,
            "pixels": self.pixels,
            "extradata": b64encode(extradata).decode(),
        }
        return camera.model_copy(update=values)

    def write(self, image: NDArray[Any], captured_ns: int) -> tuple[int, int, int]:
        """Append one image; returns position, length and CRC-32 of its code in the file.

        Raises:
            OSError: the disk is full; the file then ends with the image before.
        """
        frame = _to_frame(image, self.pixels)
        if self._first_ns is None:
            self._first_ns = captured_ns
        self._pts = max(self._pts + 1, (captured_ns - self._first_ns) // 1000)  # players want rising times
        frame.pts, frame.time_base = self._pts, TIME_BASE
        (packet,) = self._stream.encode(frame)
        code = bytes(packet)
        try:
            self._container.mux(packet)
        except OSError:
            self._file.cut(self.size)
            raise
        self.size = self._file.tell()
        return self.size - len(code), len(code), zlib.crc32(code)

    def close(self) -> None:
        """Close the file; twice does no harm."""
        import av

        with suppress(OSError, ValueError, av.FFmpegError):  # a full disk has no room for the end mark either
            self._container.close()
            self.size = self._file.tell()
        self._file.close()


class StreamReader:
    """Reads images of a recorded stream in any order. Used by one thread."""

    def __init__(self, folder: Path, camera: CameraHeader) -> None:
        """Open the stream.

        Raises:
            SourceError: it is missing, or of a codec this PyAV does not have.
        """
        import av

        self._path = folder / camera.stream
        self._pixels = camera.pixels or ""
        self._last: tuple[int, NDArray[Any]] | None = None
        try:
            decoder = av.CodecContext.create(camera.codec or "", "r")
        except ValueError as error:
            raise SourceError(f"{self._path}: PyAV {av.__version__} has no decoder {camera.codec}") from error
        self._decoder = cast("av.VideoCodecContext", decoder)
        self._decoder.width, self._decoder.height = camera.width or 0, camera.height or 0
        self._decoder.pix_fmt = self._pixels
        self._decoder.thread_count = 1
        if camera.extradata:
            self._decoder.extradata = b64decode(camera.extradata)
        try:
            self._file = self._path.open("rb")
        except OSError as error:
            raise SourceError(f"{self._path}: cannot be read ({error.strerror}); copy the recording again") from error

    def holds(self, entry: Entry) -> bool:
        """The encoded image is there, bit for bit."""
        code = self._code(entry)
        return len(code) == entry.length and zlib.crc32(code) == entry.crc32

    def read(self, entry: Entry) -> NDArray[Any]:
        """The image of one entry, read-only; the same array again for the same entry.

        Raises:
            SourceError: the stream is damaged there.
        """
        import av

        if self._last is not None and self._last[0] == entry.position:
            return self._last[1]
        code = self._code(entry)
        if len(code) != entry.length or zlib.crc32(code) != entry.crc32:
            raise self._damaged(entry)
        try:
            (frame,) = self._decoder.decode(av.Packet(code))
        except (av.FFmpegError, ValueError) as error:
            raise self._damaged(entry) from error
        image = _from_frame(frame, self._pixels)
        image.flags.writeable = False
        self._last = (entry.position, image)
        return image

    def close(self) -> None:
        """Close the file; twice does no harm."""
        self._file.close()
        self._last = None

    def _code(self, entry: Entry) -> bytes:
        self._file.seek(entry.position)
        return self._file.read(entry.length)

    def _damaged(self, entry: Entry) -> SourceError:
        return SourceError(
            f"{self._path}: image {entry.sequence} is damaged (at byte {entry.position}); copy the recording again"
        )


def _codec(image: NDArray[Any]) -> tuple[str, str, dict[str, str]]:
    """Encoder, pixel format and options for images like this one."""
    if image.ndim == 3:
        return MAGICYUV
    codec, options = FFV1
    return codec, "gray16le" if image.dtype == np.uint16 else "gray", options


def _to_frame(image: NDArray[Any], pixels: str) -> av.VideoFrame:
    import av

    height, width = image.shape[:2]
    frame = av.VideoFrame(width, height, pixels)
    for index, plane in enumerate(frame.planes):
        rows = np.frombuffer(memoryview(plane), _dtype(pixels)).reshape(plane.height, -1)
        rows[:, :width] = image[..., PLANES[index]] if image.ndim == 3 else image
    return frame


def _from_frame(frame: av.VideoFrame, pixels: str) -> NDArray[Any]:
    height, width, dtype = frame.height, frame.width, _dtype(pixels)
    planes = [np.frombuffer(memoryview(plane), dtype).reshape(plane.height, -1)[:, :width] for plane in frame.planes]
    if len(planes) == 1:
        return planes[0].astype(dtype.newbyteorder("="))  # a copy: the decoder reuses its own
    image: NDArray[Any] = np.empty((height, width, 3), np.uint8)
    for index, plane in enumerate(planes):
        image[..., PLANES[index]] = plane
    return image


def _dtype(pixels: str) -> np.dtype[Any]:
    return np.dtype("<u2" if pixels == "gray16le" else "u1")
