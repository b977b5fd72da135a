"""Video files through PyAV, with their own presentation timestamps."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mdrun.errors import SourceError, UsageError
from mdrun.frames import Frame, Modality
from mdrun.sources.base import NS_PER_MS, NS_PER_S, Source
from mdrun.sources.images import check_thermal, check_visible
from mdrun.sources.uri import SourceUri

if TYPE_CHECKING:
    import av
    import av.container
    from av.video.stream import VideoStream

FALLBACK_RATE = 25.0  # FFmpeg's own guess for streams without any times
# `tty` draws text files as video, `hls` and `concat` lists open other files.
NO_VIDEO = {"tty", "hls", "concat", "image2"}


class VideoSource(Source):
    """One video file. Times are those of the file; `fps=` replaces them by a steady rate."""

    def __init__(self, uri: SourceUri, path: Path, modality: Modality) -> None:
        """Options `fps` and `offset_ms`.

        Raises:
            UsageError: if `loop` is given.
        """
        if "loop" in uri.options:
            raise UsageError(f"{uri.path}: loop= is for images, a video is read once; drop it")
        super().__init__(path.name, modality, timed=True, offset_ns=round((uri.number("offset_ms") or 0.0) * NS_PER_MS))
        self._path = path
        self._rate = uri.number("fps")
        self._container: av.container.InputContainer | None = None
        self._pictures: Iterator[av.VideoFrame] = iter(())
        self._ahead: tuple[NDArray[Any], int] | None = None  # the first picture and its time, until it is read
        self._size: tuple[int, int] | None = None
        self._count: int | None = None
        self._zero = 0  # what the file's clock shows at our zero, in its time base
        self._starts_anywhere = False
        self._time_base = Fraction(0)
        self._last_ns: int | None = None
        self._step_ns = 0

    def open(self) -> None:
        """Open the file and decode the first picture, so that a pair that cannot work fails before any result."""
        if self._container is not None:
            return
        import av

        try:
            # `file:` and the whitelist: a file's name or content must not open a network connection
            self._container = av.open(f"file:{self._path}", options={"protocol_whitelist": "file"})
        except (av.FFmpegError, OSError, ValueError) as error:
            raise SourceError(f"{self._path}: not a readable video ({_words(error)}); copy it again") from error
        streams = self._container.streams.video
        if not streams or set(self._container.format.name.split(",")) & NO_VIDEO:
            raise SourceError(f"{self._path}: no video in it; wanted a folder of images or a video file")
        stream = streams[0]
        if not stream.codec_context.width:
            raise SourceError(f"{self._path}: the video holds no picture; it is empty or truncated, copy it again")
        self._size = (stream.codec_context.width, stream.codec_context.height)
        self._check_format(stream)
        self._count = stream.frames or None
        rate = self._rate or float(stream.average_rate or stream.guessed_rate or FALLBACK_RATE)
        self._step_ns = round(NS_PER_S / rate)
        self._time_base = stream.time_base or Fraction(0)
        self._starts_anywhere = "mpegts" in self._container.format.name
        self._pictures = self._decode(self._container, stream)
        self._ahead = self._next()

    @property
    def start_ns(self) -> int:
        """Capture time of the first frame; only before the first `read`."""
        return self._offset_ns + (self._ahead[1] if self._ahead else 0)

    def _check_format(self, stream: VideoStream) -> None:
        """Refuse a visible video in grey or with more than 8 bits before the first frame."""
        if self.modality is Modality.VISIBLE and (kind := stream.codec_context.format) is not None:
            check_visible(kind.components[0].bits, min(3, len(kind.components)), str(self._path))

    def read(self) -> Frame | None:
        """Next picture in presentation order."""
        dated, self._ahead = self._ahead or self._next(), None
        if dated is None:
            return None
        image, elapsed_ns = dated
        return self._frame(image, elapsed_ns, str(self._path), None)

    def close(self) -> None:
        """Close the file."""
        self._pictures = iter(())
        self._ahead = None
        if self._container is not None:
            self._container.close()
            self._container = None

    @property
    def size(self) -> tuple[int, int] | None:
        """(width, height) as the file's header says."""
        return self._size

    @property
    def frame_count(self) -> int | None:
        """Number of frames as the file's header says, None where it does not."""
        return self._count

    def _next(self) -> tuple[NDArray[Any], int] | None:
        picture = next(self._pictures, None)
        if picture is None:
            return None
        image = _colour(picture) if self.modality is Modality.VISIBLE else _grey(picture, str(self._path))
        return image, self._elapsed_ns(picture)

    def _elapsed_ns(self, picture: av.VideoFrame) -> int:
        """Time since the file's zero; where the file gives none or goes backwards, one frame after the last."""
        following = 0 if self._last_ns is None else self._last_ns + self._step_ns
        if self._rate is not None:
            elapsed = round(self._sequence * NS_PER_S / self._rate)
        elif picture.pts is None:
            elapsed = following
        else:
            if self._last_ns is None and self._starts_anywhere:  # a transport stream counts from its first frame
                self._zero = picture.pts
            elapsed = round((picture.pts - self._zero) * self._time_base * NS_PER_S)
            if self._last_ns is not None and elapsed <= self._last_ns:
                elapsed = following
        self._last_ns = elapsed
        return elapsed

    def _decode(self, container: av.container.InputContainer, stream: VideoStream) -> Iterator[av.VideoFrame]:
        """Pictures until the end, or until the damage and then a SourceError."""
        import av

        coverage = _Coverage(stream, self._step_ns / NS_PER_S)
        try:
            for packet in container.demux(stream):
                if packet.is_corrupt:
                    break
                for picture in packet.decode():
                    if picture.is_corrupt:
                        raise self._damaged(coverage.frames)
                    coverage.add(picture)
                    yield picture
                coverage.reach(packet)
            else:
                if coverage.complete:
                    return
        except (av.FFmpegError, OSError):
            pass  # what the decoder still holds comes first
        for picture in _flush(stream):
            coverage.add(picture)
            yield picture
        raise self._damaged(coverage.frames)

    def _damaged(self, frames: int) -> SourceError:
        of = f" of {self._count}" if self._count and self._count > frames else ""
        return SourceError(f"{self._path}: the video is truncated or damaged after {frames} frames{of}; copy it again")


class _Coverage:
    """How far the decoded part of a file reaches, against the end its header announces."""

    def __init__(self, stream: VideoStream, step_s: float) -> None:
        self.frames = 0
        self._announced_s = _announced_end_s(stream)
        self._step_s = step_s
        self._time_base = stream.time_base or Fraction(0)
        self._gap_s = 0.0  # longest time between two pictures, for files that do not say how long each lasts
        self._last_s: float | None = None
        self._end_s = 0.0

    def add(self, picture: av.VideoFrame) -> None:
        self.frames += 1
        if picture.pts is None:
            return
        time_s = float(picture.pts * self._time_base)  # pictures flushed from the decoder know no time base
        if self._last_s is not None:
            self._gap_s = max(self._gap_s, time_s - self._last_s)
        self._last_s = time_s

    def reach(self, packet: av.Packet[VideoStream]) -> None:
        if packet.pts is not None:
            length_s = float(packet.duration * self._time_base) if packet.duration else self._gap_s
            self._end_s = max(self._end_s, float(packet.pts * self._time_base) + length_s)

    @property
    def complete(self) -> bool:
        if self.frames == 0:
            return False
        return self._announced_s is None or self._end_s + 0.5 * self._step_s >= self._announced_s


def _announced_end_s(stream: VideoStream) -> float | None:
    """End of the last frame by the file's header, for the containers whose headers can be trusted."""
    kind = stream.container.format.name
    if "matroska" in kind and (found := re.match(r"(\d+):(\d+):([\d.]+)", stream.metadata.get("DURATION", ""))):
        return int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3])
    if "mov" in kind and stream.duration is not None and stream.time_base is not None:
        return float(((stream.start_time or 0) + stream.duration) * stream.time_base)
    if kind == "avi" and stream.frames and stream.average_rate:
        return float(stream.frames / stream.average_rate)
    return None


def _flush(stream: VideoStream) -> Iterator[av.VideoFrame]:
    """Sound pictures that the decoder still holds."""
    import av

    try:
        yield from (picture for picture in stream.codec_context.decode(None) if not picture.is_corrupt)
    except (av.FFmpegError, OSError):
        return


def _colour(picture: av.VideoFrame) -> NDArray[Any]:
    """(H, W, 3) uint8 RGB."""
    return picture.to_ndarray(format="rgb24")


def _grey(picture: av.VideoFrame, where: str) -> NDArray[Any]:
    """(H, W) uint8 or uint16; grey formats keep their counts, others must be free of colour."""
    found = re.fullmatch(r"gray(?:(?:9|10|12|14|16)(le|be))?", picture.format.name)
    if found is None:
        return check_thermal(picture.to_ndarray(format="rgb24"), where)
    dtype = np.dtype({None: "u1", "le": "<u2", "be": ">u2"}[found[1]])
    plane = picture.planes[0]
    rows = np.frombuffer(memoryview(plane), dtype).reshape(-1, plane.line_size // dtype.itemsize)
    return rows[: picture.height, : picture.width].astype(dtype.newbyteorder("="))  # a copy: the decoder reuses its own


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
