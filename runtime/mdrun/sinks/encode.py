"""Live pictures as H.264: drawn at a limited rate and size, encoded with the least delay and work."""

from __future__ import annotations

import time
from fractions import Fraction
from typing import TYPE_CHECKING, cast

import numpy as np

from mdrun.errors import OutputError
from mdrun.frames import Result
from mdrun.sinks.context import SinkContext
from mdrun.sinks.scene import INK, MUTED, PAPER, count_caption, draw_scene, pane_size
from mdrun.sinks.text import Image, draw_text, shorten, text_width

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

CODECS = ("libx264", "mpeg4")  # browsers play the first; the second is part of every FFmpeg
TICKS = 1000  # time base, a second; MPEG-4 allows 65535 at most
FPS = 10.0  # smooth enough to follow people; a third of a 30 Hz camera's encoding
WIDTH = 640  # of each of the two panes: 640x512 of a 1280x1024 camera
BAR = 30  # pixels, caption below the panes
QUALITY = {
    "libx264": {"preset": "ultrafast", "tune": "zerolatency", "crf": "25", "forced-idr": "1"},
    "mpeg4": {"qscale": "5"},
}


class Rate:
    """Lets through at most `fps` frames a second of a stream, as evenly as its frames allow."""

    def __init__(self, fps: float) -> None:
        self._period_ns = round(1e9 / fps)
        self._due_ns: int | None = None

    def wants(self, captured_ns: int) -> bool:
        """The frame captured then is one to show."""
        due = self._due_ns
        if due is not None and due - 2 * self._period_ns < captured_ns < due:
            return False
        late = None if due is None else captured_ns - due
        steady = due is not None and late is not None and 0 <= late < self._period_ns
        self._due_ns = (due if due is not None and steady else captured_ns) + self._period_ns
        return True


class Painter:
    """Draws results in one size, with a bar that tells when, which engine and what."""

    def __init__(self, context: SinkContext, width: int) -> None:
        """Prepare for a rig; `width` is that of each pane."""
        self._context = context
        self._width = width
        self._pane: tuple[int, int] | None = None
        self._start_ns = 0

    def draw(self, result: Result) -> Image:
        """(H, W, 3) uint8 RGB, both even and the same for every result."""
        if self._pane is None:
            height, width = result.pair.visible.image.shape[:2]
            self._pane = pane_size((width, height), self._width)
            self._start_ns = result.pair.visible.captured_ns
        scene = draw_scene(result, self._context.look, self._pane)
        bar: Image = np.full((BAR, scene.shape[1], 3), INK, np.uint8)
        left = " · ".join(filter(None, (self._context.rig, self._when(result), result.engine, result.rung_reason)))
        right = shorten(count_caption(result, self._context.look), 13, scene.shape[1] - text_width(left, 13) - 40)
        draw_text(bar, left, (10, 20), 13, MUTED)
        draw_text(bar, right, (scene.shape[1] - text_width(right, 13) - 10, 20), 13, PAPER)
        return np.concatenate([scene, bar])

    def _when(self, result: Result) -> str:
        """Of the capture: date and time, or since the first picture where nobody knows them."""
        if result.wall_ns is not None:
            return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(result.wall_ns // 10**9))
        seconds = (result.pair.visible.captured_ns - self._start_ns) / 1e9
        return f"{int(seconds // 60):02d}:{seconds % 60:05.2f}"


class Encoder:
    """One open container with one video stream."""

    def __init__(self, container: OutputContainer, picture: Image, key_s: float) -> None:
        """Add the stream.

        Args:
            container: open for writing; closed by `close`.
            picture: (H, W, 3), of the size of all that follow.
            key_s: seconds between two pictures that a player can begin with.
        """
        self._container = container
        self._stream = _add_stream(container, picture.shape[1], picture.shape[0])
        self._key_ns = round(key_s * 1e9)
        self._key_at: int | None = None
        self._start_ns: int | None = None
        self._pts = -1

    def write(self, picture: Image, captured_ns: int) -> bool:
        """Encode one picture, shown at its capture time; True where a player can begin with it."""
        import av
        from av.video.frame import PictureType

        if self._start_ns is None:
            self._start_ns = captured_ns
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        self._pts = max(self._pts + 1, (captured_ns - self._start_ns) * TICKS // 10**9)
        frame.pts, frame.time_base = self._pts, Fraction(1, TICKS)
        key = self._key_at is None or captured_ns >= self._key_at
        if key:
            frame.pict_type = PictureType.I
            self._key_at = captured_ns + self._key_ns
        for packet in self._stream.encode(frame):
            self._container.mux(packet)
        return key

    def close(self) -> None:
        """Write what the encoder holds back, and the end of the container."""
        for packet in self._stream.encode():
            self._container.mux(packet)
        self._container.close()

    def abandon(self) -> None:
        """Close the container as it is."""
        self._container.close()


def _add_stream(container: OutputContainer, width: int, height: int) -> VideoStream:
    """The first encoder that this FFmpeg has.

    Raises:
        OutputError: if it has none of them.
    """
    import av

    for codec in CODECS:
        if codec not in av.codecs_available:
            continue
        stream = cast("VideoStream", container.add_stream(codec, rate=30, options=dict(QUALITY[codec])))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, TICKS)
        stream.codec_context.gop_size = 10_000  # pictures: key frames are asked for by time
        stream.codec_context.thread_count = 1  # the engine needs the other cores
        return stream
    raise OutputError(f"no video encoder: PyAV {av.__version__} has neither {' nor '.join(CODECS)}")
