"""Writes what the cameras of a rig give, losslessly and without ever holding them up."""

from __future__ import annotations

import threading
import time
from array import array
from collections import Counter, deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdrun import __version__
from mdrun.errors import OutputError
from mdrun.feeds import Event
from mdrun.files import OutputFolder
from mdrun.frames import Frame, Modality, StateChange
from mdrun.record.growing import LineFile
from mdrun.record.header import EVENTS, HEADER, CameraHeader, Header, write_header
from mdrun.record.index import Entry, event_line
from mdrun.record.stream import StreamWriter
from mdrun.statistics import Distribution

QUEUE_BYTES = 64 << 20  # of each camera: half a second of 1280x1024 colour at 30 Hz; written in under 2 s at the end
SPARE = 16 << 10  # bytes for the header and a few lines; an image of pure noise codes to less than twice its size


@dataclass(frozen=True)
class RecordSummary:
    """A finished recording.

    Attributes:
        folder: where it is.
        header: as it stands in recording.json: frames, drops and bytes of each camera, and why it ended.
        seconds: from the first arrival to the last.
        fps: measured by capture times, None below two frames.
        skew_ms: `p50`, `p95`, `p99`, `max` of the distance to the nearest thermal frame, over the visible ones.
        failure: the system's words where the disk ended the recording, else empty.
    """

    folder: Path
    header: Header
    seconds: float
    fps: dict[Modality, float | None]
    skew_ms: dict[str, float] | None
    failure: str = ""

    @property
    def is_empty(self) -> bool:
        """Without a visible image nothing can be replayed: nothing is left of it."""
        return Modality.VISIBLE in self.header.cameras and not self.header.cameras[Modality.VISIBLE].frames


class Recorder:
    """One recording in the making. `put` may be called from any thread; one more thread writes.

    Attributes:
        stopped_by: None while it records, then `max_bytes`, `max_seconds` or `disk`: nothing more is taken.
    """

    def __init__(
        self,
        folder: Path,
        cameras: Mapping[Modality, CameraHeader],
        *,
        rig: str = "local",
        sources: Mapping[Modality, str] | None = None,
        live: bool = True,
        max_bytes: int | None = None,
        max_seconds: float | None = None,
    ) -> None:
        """Make the folder and start the writing thread.

        Args:
            folder: is made; must not hold a recording.
            cameras: by `describe_camera`; others are not taken.
            rig: name of the pair of cameras.
            sources: URIs that the frames come from, without credentials.
            live: a camera never waits: what cannot be written in time is dropped and counted. False: `put` waits.
            max_bytes: end before all files together are larger.
            max_seconds: end so long after the first frame.

        Raises:
            OutputError: the folder cannot be made, or holds a recording.
        """
        self.stopped_by: str | None = None
        self._folder = folder
        self._place = OutputFolder(folder)
        self._place.create()
        self._names = [HEADER, EVENTS, *(name for c in cameras.values() for name in (c.stream, c.index))]
        if taken := [name for name in self._names if (folder / name).exists()]:
            raise OutputError(f"{folder}: holds a recording already ({taken[0]}); choose another --output")
        self._place.lock()
        self._header = Header(
            rig=rig,
            program=f"mdrun {__version__}",
            sources=dict(sources or {}),
            monotonic_ns=time.monotonic_ns(),
            wall_ns=time.time_ns(),
            live=live,
            cameras=dict(cameras),
        )
        self._limits = (max_bytes, max_seconds)
        self._queue: deque[tuple[int, Event, int | None]] = deque()
        self._queued: Counter[Modality] = Counter()  # bytes
        self._ready = threading.Condition()
        self._order = 0
        self._closing = False
        self._span_ns: tuple[int, int] | None = None  # first and last arrival
        self._dropped: dict[Modality, Counter[str]] = {modality: Counter() for modality in cameras}
        self._captured = {modality: array("q") for modality in cameras}
        self._error: BaseException | None = None
        self._summary: RecordSummary | None = None
        write_header(folder, self._header)
        self._files = _Files(folder, list(cameras))
        self._thread = threading.Thread(target=self._work, name=f"record {folder.name}", daemon=True)
        self._thread.start()

    def put(self, event: Event) -> None:
        """Take one frame or change of state, as the camera gave it; never blocks a live camera."""
        with self._ready:
            if isinstance(event, Frame) and not self._has_room(event):
                return
            if self.stopped_by is not None or self._closing or event.modality not in self._dropped:
                return
            wall_ns = time.time_ns() if self._header.live else None
            self._queue.append((self._order, event, wall_ns))
            self._order += 1
            self._ready.notify_all()

    def describe(self, modality: Modality, **values: Any) -> None:
        """Add what a camera says about itself once it is connected: `identity`, `fps`, `ffc_telemetry`."""
        with self._ready:
            self._header.cameras[modality] = self._header.cameras[modality].model_copy(update=values)

    @property
    def progress(self) -> dict[Modality, tuple[int, int]]:
        """Frames written and dropped so far."""
        return {
            modality: (len(self._captured[modality]), self._dropped[modality].total()) for modality in self._dropped
        }

    def close(self, stopped_by: str = "end") -> RecordSummary:
        """Write what waits and finish the header; twice does no harm. An empty recording is removed.

        `stopped_by` is the reason where none is known yet.

        Raises:
            OutputError: there was no room for the header; the recording replays as one that was cut off.
        """
        if self._summary is not None:
            return self._summary
        with self._ready:
            self._closing = True
            self._ready.notify_all()
        self._thread.join()
        self._files.close()
        try:
            if self._error is not None and not isinstance(self._error, OSError):
                raise self._error
            self._finish(stopped_by)
        finally:
            self._place.unlock()
        self._summary = self._sum_up()
        if self._summary.is_empty:
            self._remove()
        return self._summary

    def _has_room(self, frame: Frame) -> bool:
        """Wait for a place in the queue, or count the drop; False: the frame is not taken."""
        size, modality = _raw(frame).nbytes, frame.modality
        arrived_ns = _arrived(frame)
        if self._past_end(arrived_ns):
            self.stopped_by = self.stopped_by or "max_seconds"
            return False
        while self._queued[modality] and self._queued[modality] + size > QUEUE_BYTES and self.stopped_by is None:
            if self._header.live:
                self._dropped[modality]["queue"] += 1
                return False
            self._ready.wait()
        self._queued[modality] += size
        return True

    def _past_end(self, arrived_ns: int) -> bool:
        first, last = self._span_ns or (arrived_ns, arrived_ns)
        limit_s = self._limits[1]
        if limit_s is not None and arrived_ns - first >= limit_s * 1e9:
            return True
        self._span_ns = (first, max(last, arrived_ns))
        return False

    def _work(self) -> None:
        while True:
            with self._ready:
                while not self._queue and not self._closing:
                    self._ready.wait()
                if not self._queue:
                    return
                order, event, wall_ns = self._queue.popleft()
            try:
                self._write(order, event, wall_ns)
            except BaseException as error:  # noqa: BLE001, RUF100  # told, or raised again, by `close`
                self._error = self._error or error
                self.stopped_by = self.stopped_by or "disk"
                if isinstance(event, Frame):
                    self._dropped[event.modality]["disk"] += 1
            with self._ready:
                if isinstance(event, Frame):
                    self._queued[event.modality] -= _raw(event).nbytes
                self._ready.notify_all()

    def _write(self, order: int, event: Event, wall_ns: int | None) -> None:
        if self._error is not None:
            raise self._error
        if isinstance(event, StateChange):
            self._files.events.write(event_line(order, event))
            return
        modality, image = event.modality, _raw(event)
        if not self._files.fits(modality, image):
            self._dropped[modality]["layout"] += 1
            return
        limit = self._limits[0]
        if limit is not None and self._files.size + 2 * image.nbytes + SPARE > limit:
            self.stopped_by = self.stopped_by or "max_bytes"
        if self.stopped_by == "max_bytes":
            return
        writer = self._files.writer(modality, image)
        position, length, crc32 = writer.write(image, event.captured_ns)
        if not self._captured[modality]:
            self._tell_layout(modality, writer)
        entry = Entry(
            order=order,
            sequence=event.sequence,
            captured_ns=event.captured_ns,
            arrived_ns=_arrived(event),
            wall_ns=wall_ns,
            clock=event.clock,
            shutter=event.shutter,
            ffc=event.ffc,
            name=event.name,
            position=position,
            length=length,
            crc32=crc32,
            kelvin=event.kelvin,
        )
        self._files.index[modality].write(entry.to_line())
        self._captured[modality].append(event.captured_ns)

    def _tell_layout(self, modality: Modality, writer: StreamWriter) -> None:
        """From here on the stream can be read, also if this process ends at once."""
        with self._ready:
            self._header.cameras[modality] = writer.describe(self._header.cameras[modality])
        try:
            write_header(self._folder, self._header)
        except OutputError as error:  # the disk, which ends the recording as it does anywhere else
            raise error.__cause__ or error from None

    def _finish(self, stopped_by: str) -> None:
        self.stopped_by = self.stopped_by or stopped_by
        cameras = {
            modality: camera.model_copy(
                update={
                    "frames": len(self._captured[modality]),
                    "bytes": self._files.bytes_of(modality),
                    "dropped": dict(self._dropped[modality]),
                }
            )
            for modality, camera in self._header.cameras.items()
        }
        update = {"finished": True, "stopped_by": self.stopped_by, "cameras": cameras}
        self._header = self._header.model_copy(update=update)
        write_header(self._folder, self._header)

    def _remove(self) -> None:
        for name in self._names:
            (self._folder / name).unlink(missing_ok=True)
        self._place.remove_if_empty()

    def _sum_up(self) -> RecordSummary:
        first, last = self._span_ns or (0, 0)
        failure = self._error.strerror or str(self._error) if isinstance(self._error, OSError) else ""
        fps = {modality: _rate(times) for modality, times in self._captured.items()}
        return RecordSummary(self._folder, self._header, (last - first) / 1e9, fps, _skew(self._captured), failure)


class _Files:
    """The files of one recording."""

    def __init__(self, folder: Path, cameras: list[Modality]) -> None:
        self._folder = folder
        self._writers: dict[Modality, StreamWriter] = {}
        self.events = LineFile(folder / EVENTS)
        self.index = {modality: LineFile(folder / f"{modality.value}.jsonl") for modality in cameras}

    @property
    def size(self) -> int:
        """Bytes of all files so far."""
        lines = self.events.size + sum(file.size for file in self.index.values())
        return lines + sum(writer.size for writer in self._writers.values())

    def bytes_of(self, modality: Modality) -> int:
        """Bytes of one camera's stream and index."""
        writer = self._writers.get(modality)
        return self.index[modality].size + (0 if writer is None else writer.size)

    def fits(self, modality: Modality, image: NDArray[Any]) -> bool:
        """The image has the size and depth of those before."""
        writer = self._writers.get(modality)
        return writer is None or (writer.shape, writer.dtype) == (image.shape, image.dtype)

    def writer(self, modality: Modality, image: NDArray[Any]) -> StreamWriter:
        """The camera's stream; the first image makes it."""
        if modality not in self._writers:
            self._writers[modality] = StreamWriter(self._folder / f"{modality.value}.nut", image)
        return self._writers[modality]

    def close(self) -> None:
        """Close all of them."""
        for writer in self._writers.values():
            writer.close()
        for file in (self.events, *self.index.values()):
            with suppress(OSError):
                file.close()


def _raw(frame: Frame) -> NDArray[Any]:
    """What the camera gave, before any normalisation."""
    return frame.image if frame.counts is None else frame.counts


def _arrived(frame: Frame) -> int:
    return frame.captured_ns if frame.arrived_ns is None else frame.arrived_ns


def _rate(times: array[int]) -> float | None:
    if len(times) < 2 or times[-1] <= times[0]:
        return None
    return (len(times) - 1) * 1e9 / (times[-1] - times[0])


def _skew(captured: Mapping[Modality, array[int]]) -> dict[str, float] | None:
    """Distance of each visible frame to the nearest thermal one."""
    visible = np.asarray(captured.get(Modality.VISIBLE, ()), np.int64)
    thermal = np.sort(np.asarray(captured.get(Modality.THERMAL, ()), np.int64))
    if not len(visible) or not len(thermal):
        return None
    after = np.searchsorted(thermal, visible).clip(0, len(thermal) - 1)
    before = (after - 1).clip(0)
    nearest = np.minimum(np.abs(thermal[after] - visible), np.abs(thermal[before] - visible))
    distribution = Distribution()
    for value in (nearest / 1e6).tolist():
        distribution.add(value)
    return distribution.to_dict()
