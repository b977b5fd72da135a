"""Recordings played as cameras, in real time: `clip.mp4?pace=live`, `test://street?pace=live`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from mdrun.errors import SourceLostError, SourceNotFoundError, UsageError
from mdrun.frames import Clock, FfcState, Frame, Modality
from mdrun.sources.base import Source
from mdrun.sources.live.camera import Camera, CameraInfo, EndOfRecording, Grab

SLOW_NS = 250_000_000  # later than that an image is no longer live: the recording goes slower instead


class Pace:
    """One clock for recordings that are played side by side: it starts with the first image that is ready.

    Where reading is too slow for real time the clock is set back for all of them: what is shown stays live and keeps
    step, in slow motion.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._origin_ns: int | None = None

    def start(self, first_ns: int) -> None:
        """The image captured at `first_ns` is due now; only the first call counts."""
        with self._lock:
            if self._origin_ns is None:
                self._origin_ns = time.monotonic_ns() - first_ns

    def due_ns(self, captured_ns: int) -> int:
        """`time.monotonic_ns` at which an image is due; one that is far too late sets the clock back."""
        with self._lock:
            origin_ns, now_ns = self._origin_ns or 0, time.monotonic_ns()
            if now_ns - origin_ns - captured_ns > SLOW_NS:
                self._origin_ns = origin_ns = now_ns - captured_ns
            return origin_ns + captured_ns


class PacedCamera(Camera):
    """A recording whose images come when they are due; none is left out."""

    def __init__(self, build: Callable[[], Source], modality: Modality, name: str, pace: Pace) -> None:
        """`build` makes the source; `pace` is shared by the cameras of a rig."""
        super().__init__(name, modality)
        self._build = build
        self._pace = pace
        self._source: Source | None = None
        self._ahead: Frame | None = None
        self._telemetry = False
        self._stop = threading.Event()
        self._begun = False

    def connect(self) -> CameraInfo:
        """Open the recording; it is played once."""
        if self._begun:
            raise EndOfRecording
        self.disconnect()
        self._source = source = self._build()
        if not source.timed:
            raise UsageError(f"{self.name}: stills have no times; add fps=, as in FOLDER?fps=30&pace=live")
        source.open()
        if (first := source.read()) is None:
            raise SourceNotFoundError(f"{self.name}: no image in it; wanted a recording")
        self._begun, self._ahead = True, first
        self._pace.start(first.captured_ns)
        self._telemetry = source.telemetry and self.modality is Modality.THERMAL
        height, width = first.image.shape[:2]
        return CameraInfo(
            width,
            height,
            str(first.image.dtype),
            detail="recording in real time",
            timed_by=Clock.FILE,
            ffc_telemetry=self._telemetry,
        )

    def grab(self) -> Grab:
        """The next image, when it is due."""
        frame, self._ahead = self._ahead, None
        if frame is None and self._source is not None:
            frame = self._source.read()
        if frame is None:
            raise EndOfRecording
        due_ns = self._pace.due_ns(frame.captured_ns)
        if self._stop.wait(max(0, due_ns - time.monotonic_ns()) / 1e9):
            raise SourceLostError(f"{self.name}: closed")
        ffc = (FfcState.RUNNING if frame.shutter else FfcState.NORMAL) if self._telemetry else None
        return Grab(frame.image, due_ns, max(due_ns, time.monotonic_ns()), Clock.FILE, frame.name, ffc)

    def disconnect(self) -> None:
        """Close the recording."""
        if self._source is not None:
            self._source.close()
        self._source = self._ahead = None

    def interrupt(self) -> None:
        """Wait no longer."""
        self._stop.set()
