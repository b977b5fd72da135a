"""overlay.mp4: both cameras side by side with the boxes, areas or classes, in the rhythm of the capture."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from mdrun.errors import OutputError
from mdrun.frames import Result
from mdrun.sinks.base import FileSink
from mdrun.sinks.scene import GAP, INK, MUTED, PAPER, Look, count_caption, draw_scene, pane_size
from mdrun.sinks.text import Image, draw_text, shorten, text_width

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

CODECS = ("libx264", "mpeg4")  # browsers play the first; the second is part of every FFmpeg
TICKS = 1000  # time base of the file, a second; MPEG-4 allows 65535 at most
PANE_WIDTH = (320, 640)  # least for readable text; most for a file that encodes in real time on two cores
BAR = 30  # caption below the panes
STILLS_FPS = 5  # images without capture times
LONGEST_STEP_S = 2.0  # a longer gap between frames is shortened to this


class VideoSink(FileSink):
    """Draws and encodes every result."""

    def __init__(self, path: Path, look: Look, timed: bool) -> None:
        """Prepare the file; the first result gives it its size.

        Args:
            path: final path.
            look: of the engine.
            timed: frames carry capture times; else they follow at `STILLS_FPS`.
        """
        super().__init__(path)
        self._look = look
        self._timed = timed
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._pane = (0, 0)
        self._pts = 0
        self._start_ns = 0
        self._last_ns: int | None = None

    def write(self, result: Result) -> None:
        """Encode one picture."""
        import av

        stream, container = self._open(result)
        frame = av.VideoFrame.from_ndarray(self._draw(result), format="rgb24")
        frame.pts, frame.time_base = self._time(result.pair.visible.captured_ns), Fraction(1, TICKS)
        for packet in stream.encode(frame):
            container.mux(packet)

    def finish(self) -> None:
        """Flush the encoder and close the file; without results there is none."""
        if self._stream is not None and self._container is not None:
            for packet in self._stream.encode():
                self._container.mux(packet)
        self.abandon()

    def abandon(self) -> None:
        """Close the file as it is."""
        if self._container is not None:
            self._container.close()
        self._container = self._stream = None

    def _open(self, result: Result) -> tuple[VideoStream, OutputContainer]:
        if self._stream is None or self._container is None:
            height, width = result.pair.visible.image.shape[:2]
            self._pane = pane_size((width, height), min(max(width, PANE_WIDTH[0]), PANE_WIDTH[1]))
            self._start_ns = result.pair.visible.captured_ns
            self._container = _open_container(self._file.part)
            self._stream = _add_stream(self._container, 2 * self._pane[0] + GAP, self._pane[1] + BAR)
        return self._stream, self._container

    def _time(self, captured_ns: int) -> int:
        """Presentation time in ticks, later than the last one by one tick at least."""
        if self._last_ns is not None:
            step_s = (captured_ns - self._last_ns) / 1e9 if self._timed else 1 / STILLS_FPS
            self._pts += max(1, round(min(step_s, LONGEST_STEP_S) * TICKS))
        self._last_ns = captured_ns
        return self._pts

    def _draw(self, result: Result) -> Image:
        scene = draw_scene(result, self._look, self._pane)
        bar: Image = np.full((BAR, scene.shape[1], 3), INK, np.uint8)
        seconds = (result.pair.visible.captured_ns - self._start_ns) / 1e9
        left = f"{result.engine} · frame {result.pair.visible.sequence}"
        if self._timed:
            left += f" · {int(seconds // 60):02d}:{seconds % 60:05.2f}"
        right = shorten(count_caption(result, self._look), 13, scene.shape[1] - text_width(left, 13) - 40)
        draw_text(bar, left, (10, 20), 13, MUTED)
        draw_text(bar, right, (scene.shape[1] - text_width(right, 13) - 10, 20), 13, PAPER)
        return np.concatenate([scene, bar])


def _open_container(path: Path) -> OutputContainer:
    import av

    # faststart: the index comes first, so that a browser plays while it still loads
    return av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})


def _add_stream(container: OutputContainer, width: int, height: int) -> VideoStream:
    """The first encoder that this FFmpeg has.

    Raises:
        OutputError: if it has none of them.
    """
    import av

    for codec in CODECS:
        if codec not in av.codecs_available:
            continue
        options = {"preset": "veryfast", "crf": "23"} if codec == "libx264" else {"qscale": "4"}
        stream = cast("VideoStream", container.add_stream(codec, rate=30, options=options))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, TICKS)
        stream.codec_context.thread_count = 1  # the engine needs the other cores
        return stream
    raise OutputError(
        f"no video encoder: PyAV {av.__version__} has neither {' nor '.join(CODECS)}; run with --no-overlay"
    )
